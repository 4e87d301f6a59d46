"""Whether a confidence means what it says: ECE, NLL, and the temperature that makes the NLL least.

Guo, Pleiss, Sun & Weinberger, "On calibration of modern neural networks", ICML 2017. Questions may have
any number of choices, the same for all; `logits` is [questions, choices], `truth` the index of the right one.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray[Any, Any]
BINS = 15
HALVINGS = 200  # of the search interval; 60 exhaust a float


def log_probabilities(logits: ArrayLike, temperature: float = 1.0) -> Array:
    """Log softmax of logits / temperature over the last axis."""
    scaled = np.asarray(logits, float) / temperature
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    return np.asarray(scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True)))


def ece(confidence: ArrayLike, right: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: |accuracy - mean confidence| per bin of equal width over (0, 1], weighted
    by how many answers lie in it. Bins are open on the left; a confidence of 0 counts in the first.

    ValueError without answers, for a different number of the two, or a confidence outside 0 to 1.
    """
    said, hits = np.asarray(confidence, float), np.asarray(right, float)
    if said.ndim != 1 or said.shape != hits.shape or not len(said):
        raise ValueError(f"confidences {said.shape} of answers {hits.shape}")
    if not ((said >= 0) & (said <= 1)).all():
        raise ValueError("a confidence lies outside 0 to 1")
    edges = np.linspace(0, 1, bins + 1)
    home = np.clip(np.searchsorted(edges, said, side="left") - 1, 0, bins - 1)
    gaps = np.bincount(home, weights=hits - said, minlength=bins)
    return float(np.abs(gaps).sum() / len(said))


def nll(logits: ArrayLike, truth: ArrayLike, temperature: float = 1.0) -> float:
    """Mean negative log likelihood of the right choices, in nats."""
    table = log_probabilities(logits, temperature)
    return float(-np.take_along_axis(table, np.asarray(truth, int)[:, None], axis=-1).mean())


def best_temperature(logits: ArrayLike, truth: ArrayLike, low: float = 1e-2, high: float = 1e2) -> float:
    """The temperature in [low, high] with the least NLL, by bisection on the slope.

    The NLL is convex in the inverse temperature; its slope there is the mean logit under the softmax less the
    right choice's. An end of the range comes back where the NLL falls towards it (all right, or worse than
    chance). ValueError without questions.
    """
    table, index = np.asarray(logits, float), np.asarray(truth, int)
    if table.ndim != 2 or len(table) != len(index) or not len(table):
        raise ValueError(f"logits {table.shape} of truths {index.shape}")
    chosen = np.take_along_axis(table, index[:, None], axis=-1).mean()

    def rising(inverse: float) -> bool:
        weights = np.exp(log_probabilities(table, 1 / inverse))
        return bool((weights * table).sum(axis=-1).mean() > chosen)

    cold, hot = 1 / high, 1 / low  # inverse temperatures
    if rising(cold):
        return high
    if not rising(hot):
        return low
    for _ in range(HALVINGS):
        middle = (cold + hot) / 2
        if middle in (cold, hot):
            break
        cold, hot = (cold, middle) if rising(middle) else (middle, hot)
    return 1 / cold
