"""How hard each trace is for a policy that was taught it: the predictor of the next curriculum.

A trace's error is 1 - exp(-L), L the loss of what is learned of it, not smoothed and nothing hidden: 1 minus
the geometric mean of the probabilities that the policy gives to those tokens, by their weights.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: TID253

from pixelis_pipeline.agent import policy
from pixelis_pipeline.records import Trajectory
from pixelis_pipeline.settings import PolicySettings, SftSettings
from pixelis_pipeline.tools.opening import Open
from training.sft.objective import lesson, told
from training.sft.pool import pool_for


def errors(
    folder: Path,
    trajectories: Sequence[Trajectory],
    settings: SftSettings,
    open_media: Open,
    advance: Callable[[int], None] = lambda done: None,
    limits: PolicySettings | None = None,
) -> Iterator[tuple[Trajectory, float]]:
    """(trace, its error from 0 to 1 for the policy in `folder`), in the order of the traces; those that hold
    nothing to learn are left out. `advance` is told of each part that is done; `limits` name the kind of
    policy, nano by default."""
    scorer = policy.opened(folder, limits or PolicySettings())
    model: Any = scorer.model
    measured = pool_for(scorer, trajectories, open_media, settings.action_weight)
    torch.set_num_threads(settings.threads)
    for part in measured.parts(settings.rows):
        given = lesson(part, model.device)
        with torch.inference_mode():
            said, _ = told(model, given)
        surprise = -said.scores.gather(1, said.ids[:, None])[:, 0] * said.weights
        ends = (given["weights"] > 0).sum(1).cumsum(0)[:-1].cpu().numpy()
        rows = zip(
            np.split(surprise.double().cpu().numpy(), ends),
            np.split(said.weights.double().cpu().numpy(), ends),
            strict=True,
        )
        for trace, (lost, weight) in zip(part.trajectories, rows, strict=True):
            yield trace, float(-np.expm1(-lost.sum() / weight.sum()))
        advance(len(part.examples))
