"""Intervals and tests for the numbers of a report.

The unit of every resampling is one question. Numbers of several seeds are averaged per question first:
seeds of one question are not independent evidence about other questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its submodules load at first use, and `stats` takes most of a second
from numpy.typing import ArrayLike

Array = np.ndarray[Any, np.dtype[np.float64]]
_BLOCK = 2_000_000  # numbers held at once by a resampling


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate and its two-sided confidence interval, from `n` units."""

    value: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def _vector(values: ArrayLike, name: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers [n] with n >= 1, got shape {array.shape}")
    return array


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Exact interval of a proportion, by inverting the binomial's tails (Clopper & Pearson 1934)."""
    result = scipy.stats.binomtest(successes, n)
    bounds = result.proportion_ci(confidence, method="exact")
    return Interval(successes / n, float(bounds.low), float(bounds.high), n)


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Score interval of a proportion, without continuity correction (Wilson 1927)."""
    result = scipy.stats.binomtest(successes, n)
    bounds = result.proportion_ci(confidence, method="wilson")
    return Interval(successes / n, float(bounds.low), float(bounds.high), n)


def _all_equal(value: float, n: int, confidence: float, support: tuple[float, float] | None) -> Interval:
    """The interval of a mean where all `n` observations equal `value`: resampling knows no spread there.

    With a known support [a, b], "equals `value`" was seen n times of n, so its probability is at least
    p = (alpha/2)^(1/n) (Clopper & Pearson), and the mean lies in p·value + (1 - p)·[a, b]. For 0/1
    data this is exactly their interval. Without a support nothing is known: the interval is the point.
    """
    if support is None:
        return Interval(value, value, value, n)
    p = clopper_pearson(n, n, confidence).low
    low, high = (p * value + (1 - p) * end for end in support)
    return Interval(value, low, high, n)


def bca(
    values: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    support: tuple[float, float] | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval (Efron 1987, JASA 82:171) of sum(values) /
    sum(weights); with weights of 1 (the default) that is the mean.

    `values` and `weights` are [n], a pair per question, resampled together; weights must be positive.
    `support` holds the smallest and largest possible ratio of one pair and serves only data without
    spread (see `_all_equal`). The same seed gives the same bounds.
    """
    top = _vector(values, "values")
    bottom = np.ones_like(top) if weights is None else _vector(weights, "weights")
    if bottom.shape != top.shape or (bottom <= 0).any():
        raise ValueError(f"weights: expected {top.size} positive numbers")
    estimate, n = float(top.sum() / bottom.sum()), top.size
    if np.ptp(top / bottom) == 0:
        return _all_equal(float(top[0] / bottom[0]), n, confidence, support)

    def ratio(x: Array, y: Array, axis: int) -> Array:
        return x.sum(axis=axis) / y.sum(axis=axis)

    result = scipy.stats.bootstrap(
        (top, bottom),
        ratio,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _BLOCK // n),
        confidence_level=confidence,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    bounds = result.confidence_interval
    return Interval(estimate, float(bounds.low), float(bounds.high), n)


def paired_difference(
    ours: ArrayLike,
    theirs: ArrayLike,
    *,
    support: tuple[float, float] | None = (-1.0, 1.0),
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """BCa interval of mean(ours - theirs), both [n] in the same order of questions."""
    differences = _differences(ours, theirs)
    return bca(differences, support=support, confidence=confidence, resamples=resamples, seed=seed)


def _differences(ours: ArrayLike, theirs: ArrayLike) -> Array:
    a, b = _vector(ours, "ours"), _vector(theirs, "theirs")
    if a.shape != b.shape:
        raise ValueError(f"paired values differ in number: {a.size} and {b.size}")
    return a - b


def sign_flip_test(ours: ArrayLike, theirs: ArrayLike, *, permutations: int = 10_000, seed: int = 0) -> float:
    """Two-sided p of the paired permutation test on the mean difference (Fisher 1935; Good 2005, §3.7).

    Under the null each difference is as likely with the other sign. All sign vectors are counted where
    there are no more than `permutations` of them; else p = (1 + hits) / (1 + permutations), which
    is never 0 (Phipson & Smyth 2010). Zero differences carry no sign and are left out.
    """
    differences = _differences(ours, theirs)
    differences = differences[differences != 0]
    m = differences.size
    if m == 0:
        return 1.0
    # Sums that are equal in exact arithmetic may differ in their last bits.
    bar = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()
    if m < 60 and 2**m <= permutations:
        codes = np.arange(2**m)[:, None] >> np.arange(m)
        return float((np.abs((1 - 2 * (codes & 1)) @ differences) >= bar).mean())
    generator, hits, block = np.random.default_rng(seed), 0, max(1, _BLOCK // m)
    for start in range(0, permutations, block):
        rows = min(block, permutations - start)
        signs = 1 - 2 * generator.integers(0, 2, size=(rows, m), dtype=np.int8)
        hits += int((np.abs(signs @ differences) >= bar).sum())
    return (1 + hits) / (1 + permutations)


def benjamini_hochberg(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values (q) in the order given: rejecting q <= a keeps the expected share of false
    discoveries at most a under independence or positive dependence (Benjamini & Hochberg 1995)."""
    if not p_values:
        return ()
    return tuple(float(q) for q in scipy.stats.false_discovery_control(np.asarray(p_values), method="bh"))
