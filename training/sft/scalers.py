"""What each tool's curiosity and invalid calls count in reinforcement: fixed numbers that SFT measures.

The paper names them and gives no formula (§3.2.1: "fixed per-tool scalers that reweight curiosity and penalty
terms in CC-RFT/TTRL"). Here a tool's scaler is the mean surprise of all call tokens over that of its own
calls, within bounds: a call that is hard to write is more often a surprise and more often invalid by itself,
and neither is to be counted twice.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pixelis_pipeline.records import Json
from pixelis_pipeline.tools.contract import ARGUMENTS
from training import frozen

FILE = "scalers.json"
LEAST, MOST = 0.5, 2.0  # bounds of a scaler


def scalers(calls: Mapping[str, tuple[int, float]]) -> Json:
    """For each action its `scale`, and what it follows from: of its calls the mean `surprise` in nats and the
    count of `tokens`, which `calls` gives as (tokens, surprise). Without a call the scale is 1."""
    count = sum(tokens for tokens, _ in calls.values())
    overall = sum(tokens * surprise for tokens, surprise in calls.values()) / max(count, 1)
    made: Json = {}
    for action in ARGUMENTS:
        tokens, surprise = calls.get(action, (0, 0.0))
        scale = float(np.clip(overall / surprise, LEAST, MOST)) if surprise > 0 else 1.0
        made[action] = {"scale": scale, "surprise": surprise, "tokens": tokens}
    return made


def read(folder: Path) -> dict[str, float]:
    """The scale of each action, as SFT exported it to `folder`. Raises `frozen.Changed`, and OSError where
    there is none."""
    return {action: told["scale"] for action, told in frozen.read(folder / FILE).items()}
