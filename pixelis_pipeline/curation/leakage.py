"""The leakage audit: every training item against every evaluation item, and what stops a build.

`evaluation_twins` states what a leak is. The audit looks for it again in what is about to be learned
from, counts every combination of medium, question and answer that agrees, blocking or not, so that a reader
can judge the rule, and bounds what may be left.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
from scipy.special import betaincinv

from pixelis_pipeline.curation.evaluation_twins import NOTHING, LeakageHit, Look, Near, hits, keys, leaks
from pixelis_pipeline.records import Json, Trajectory, canonical
from pixelis_pipeline.settings import CurationSettings
from pixelis_pipeline.sources.whitelist import WhitelistEntry


@dataclass(frozen=True, slots=True)
class LeakageReport:
    """What the audit saw. `pairs` counts (training, evaluation) pairs by what agrees, "question+answer"
    for instance, whatever else does; `hits` are the leaks and `blocking` counts them by benchmark.
    `residual` is the exact interval of the share of leaking pairs, `found` of `checked` uniform draws;
    (0, 1), nothing known, where there was no pair to draw. `probe_hits` of `probed` benchmark pictures, put
    to an exact index over the training descriptors, found one that is theirs (`probes`). The digests are over
    the ids of both sides: the report holds for these and no others."""

    training: int
    evaluation: int
    training_digest: str
    evaluation_digest: str
    checked: int
    found: int
    residual: tuple[float, float]
    confidence: float
    pairs: Json = field(default_factory=dict)
    blocking: Json = field(default_factory=dict)
    hits: tuple[LeakageHit, ...] = ()
    probed: int = 0
    probe_hits: int = 0

    def require_clean(self) -> None:
        """Raises LeakageError if anything blocks."""
        if self.hits:
            raise LeakageError(self.hits)
        if self.probe_hits:
            raise ProbeError(
                f"{self.probe_hits} of {self.probed} probes with benchmark pictures found a training picture "
                "that is one of theirs, and no pair explains it: the descriptors are not those of these "
                "traces. Make media_fingerprints and evaluation_whitelist again"
            )


class LeakageError(RuntimeError):
    """Evaluation items stand in the training data; the message names both sides of the first."""

    def __init__(self, blocking: Sequence[LeakageHit]) -> None:
        first = blocking[0]
        super().__init__(
            f"{len(blocking)} leak(s): training item {first.of} holds {' and '.join(first.signals)} of "
            f"{first.benchmark} item {first.record} ({first.entry}) at {first.distance} bits. "
            "Remove the training item, or take the benchmark out of the evaluation"
        )
        self.hits = tuple(blocking)


class ProbeError(RuntimeError):
    """A probe found an evaluation picture in the index over the training data."""


def clopper_pearson(k: int, n: int, confidence: float) -> tuple[float, float]:
    """The exact two-sided interval of a binomial share, k of n (Clopper and Pearson, 1934): quantiles of
    Beta(k, n - k + 1) and Beta(k + 1, n - k). ValueError unless 0 <= k <= n and 0 < confidence < 1."""
    if not (0 <= k <= n and 0.0 < confidence < 1.0):
        raise ValueError(f"no interval for {k} of {n} at confidence {confidence}")
    tail = (1.0 - confidence) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k else 0.0
    high = float(betaincinv(k + 1, n - k, 1.0 - tail)) if k < n else 1.0
    return low, high


def audit(
    trajectories: Iterable[Trajectory],
    entries: Iterable[WhitelistEntry],
    settings: CurationSettings,
    look: Look,
    near: Near = NOTHING,
    probes: tuple[int, int] = (0, 0),
) -> LeakageReport:
    """Compare all training items with all evaluation items; independent of the order of either.

    The spot check draws `settings.spot_check` pairs uniformly, with replacement, and compares each
    directly, so that it also guards against the join missing something.
    """
    training = sorted(trajectories, key=lambda t: t.id)
    evaluation = sorted(entries, key=lambda e: e.id)
    met = hits(training, evaluation, settings, look, near)
    checked, found = _spot_check(training, evaluation, settings, look, near)
    return LeakageReport(
        training=len(training),
        evaluation=len(evaluation),
        training_digest=_digest(t.id for t in training),
        evaluation_digest=_digest(e.id for e in evaluation),
        checked=checked,
        found=found,
        residual=clopper_pearson(found, checked, settings.confidence) if checked else (0.0, 1.0),
        confidence=settings.confidence,
        probed=probes[0],
        probe_hits=probes[1],
        pairs=_agreeing(training, evaluation, met),
        blocking=dict(Counter(hit.benchmark for hit in met if hit.blocks)),
        hits=tuple(hit for hit in met if hit.blocks),
    )


def _spot_check(
    training: Sequence[Trajectory],
    evaluation: Sequence[WhitelistEntry],
    settings: CurationSettings,
    look: Look,
    near: Near,
) -> tuple[int, int]:
    """(pairs drawn, leaks among them). Nothing is drawn where one side is empty."""
    if not training or not evaluation:
        return 0, 0
    pairs = np.random.default_rng(settings.seed).integers(
        len(training) * len(evaluation), size=settings.spot_check
    )
    found = 0
    for pair, times in zip(*(column.tolist() for column in np.unique_counts(pairs)), strict=True):
        t, e = divmod(pair, len(evaluation))
        found += times * leaks(training[t], evaluation[e], settings, look, near)
    return settings.spot_check, found


def _agreeing(
    training: Sequence[Trajectory], evaluation: Sequence[WhitelistEntry], met: Sequence[LeakageHit]
) -> Json:
    """How many pairs agree in each combination of signals, counted without listing the pairs."""
    ours, theirs = [keys(t) for t in training], [(e.question_key, e.answer_key) for e in evaluation]
    counts = {
        "question": _product([q for q, _ in ours if q], [q for q, _ in theirs if q]),
        "answer": _product([a for _, a in ours if a], [a for _, a in theirs if a]),
        "question+answer": _product([k for k in ours if all(k)], [k for k in theirs if all(k)]),
    }
    for name in ("media", "media-like"):
        for others in ((), ("question",), ("answer",), ("question", "answer")):
            among = [hit for hit in met if hit.signals[0] == name and set(others) <= set(hit.signals)]
            counts["+".join((name, *others))] = len(among)
    return counts


def _product(ours: Sequence[object], theirs: Sequence[object]) -> int:
    right = Counter(theirs)
    return sum(count * right[key] for key, count in Counter(ours).items())


def _digest(ids: Iterable[str]) -> str:
    return sha256(canonical(sorted(ids))).hexdigest()
