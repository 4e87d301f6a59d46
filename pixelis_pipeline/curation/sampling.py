"""Which traces training draws how often: hard-negative mining, and the schedule of difficulty.

A trace's own weight is its recipe's `sampling_weight` (traps have more), and for a trap or an
outcome-negative whose question the pinned predictor expects to be missed up to `hard_negative` times that:
what a policy gets wrong anyway teaches most by being told apart. In the warm-up that is all; after it the
weight is multiplied by the share of the trace's difficulty (simple 0, medium 2, hard 1).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pixelis_pipeline.records import Trajectory
from pixelis_pipeline.settings import CurationSettings

Array = np.ndarray[Any, Any]
Phase = Literal["warm-up", "main"]
NEGATIVES = ("outcome-negative", "process-negative")


def own_weight(trajectory: Trajectory, error: float | None, settings: CurationSettings) -> float:
    """Recipe weight x (1 + (hard_negative - 1) x error) for negatives, else the recipe weight. `error`, 0 to
    1, is what a predictor expects of the question; None without one. ValueError where the recipe's weight
    is not a finite number above 0."""
    weight = trajectory.sampling_weight
    if not (np.isfinite(weight) and weight > 0):
        raise ValueError(f"trajectory {trajectory.id} has sampling_weight {weight}: it must be above 0")
    if error is not None and trajectory.kind in NEGATIVES:
        weight *= 1.0 + (settings.hard_negative - 1.0) * min(max(error, 0.0), 1.0)
    return float(weight)


def weights(trajectories: Iterable[Trajectory], phase: Phase, settings: CurationSettings) -> Array:
    """float64 [n]: how often each trace of the curriculum is drawn, relative to the others.

    Reads `scores["weight"]` and `difficulty`, which the curriculum wrote. ValueError for a trace without
    them, and where nothing is left to draw.
    """
    share = {"simple": settings.simple, "medium": settings.medium, "hard": settings.hard}
    found = []
    for trace in trajectories:
        if "weight" not in trace.scores or trace.difficulty not in share:
            raise ValueError(
                f"trajectory {trace.id} has no weight yet: it has not been through the curriculum"
            )
        found.append(trace.scores["weight"] * (1.0 if phase == "warm-up" else share[trace.difficulty]))
    made = np.array(found, dtype=np.float64)
    if not made.sum() > 0:
        raise ValueError(f"none of {len(made)} trajectories has a weight above 0 in the phase {phase!r}")
    return made


@dataclass(frozen=True)
class Sampler:
    """Draws indices by weight, the same ones for the same (weights, seed, epoch). `weights` float64 [n],
    finite, none below 0, one at least above; ValueError otherwise."""

    weights: Array
    seed: int

    def __post_init__(self) -> None:
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all() and self.weights.sum() > 0):
            raise ValueError("weights must be finite and not below 0, and one at least above 0")

    def once(self, epoch: int) -> Array:
        """Every index of positive weight once, int64, heavy ones early: any first k are a weighted sample
        without replacement. Keys log(u) / w, the largest first (Efraimidis and Spirakis 2006)."""
        drawable = np.flatnonzero(self.weights)
        with np.errstate(over="ignore"):  # -inf of a weight next to nothing: it comes last
            keys = np.log1p(-self._random(epoch).random(len(drawable))) / self.weights[drawable]
        return np.asarray(drawable[np.argsort(-keys, kind="stable")])

    def draws(self, count: int, epoch: int) -> Array:
        """`count` indices with replacement, int64, in random order. Systematic sampling: an index comes
        within one of count x its share of the weight, so that no epoch over- or under-draws by chance."""
        random = self._random(epoch)
        edges = np.cumsum(self.weights) / self.weights.sum()
        points = (random.random() + np.arange(count)) / max(count, 1)
        last = int(np.flatnonzero(self.weights)[-1])
        return random.permutation(np.minimum(np.searchsorted(edges, points, side="right"), last))

    def _random(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, epoch])
