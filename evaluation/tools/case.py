"""One call as a policy makes it, with its exact truth.

Boxes are the truth's, each edge moved by up to `JITTER` of the side: a policy points well, but not exactly.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelis_pipeline.records import Action, Json
from pixelis_pipeline.tools.contract import Workspace

Array = np.ndarray[Any, Any]
PixelBox = tuple[float, float, float, float]

JITTER = 0.03  # of a box's side


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Calls in a fresh workspace, of which the last is judged, and what it should return. `kind` says what
    may make it hard: aspect -> value."""

    tool: str
    calls: tuple[Action, ...]
    truth: Json
    kind: Mapping[str, str]
    workspace: Callable[[], Workspace]


def jittered(rng: np.random.Generator, box: PixelBox) -> PixelBox:
    """The box (pixels), its edges moved."""
    x0, y0, x1, y1 = box
    across, down = x1 - x0, y1 - y0
    moved = np.array(box) + rng.uniform(-JITTER, JITTER, 4) * (across, down, across, down)
    return float(moved[0]), float(moved[1]), float(moved[2]), float(moved[3])
