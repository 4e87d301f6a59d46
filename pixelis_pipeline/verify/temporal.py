"""Moments found in a video, as QVHighlights scores them (Lei et al., NeurIPS 2021).

Moment retrieval: R1 and mAP at temporal IoU, over all windows and by the length of the true ones.
Highlight detection: mAP and Hit@1 of clip saliency against the ratings of several annotators.
All scores are shares from 0 to 1; the authors print them times 100 and rounded to two decimals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelis_pipeline.verify.metrics import span_iou

Span = Sequence[float]  # start, end in seconds

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
# A true window belongs to a band when it is longer than the first figure and at most as long as the second.
BANDS: Mapping[str, tuple[float, float]] = {"short": (0, 10), "middle": (10, 30), "long": (30, 150)}
RATINGS: Mapping[str, int] = {"Fair": 2, "Good": 3, "VeryGood": 4}  # the least rating of a positive clip
CONSIDERED = 10  # windows per query that count for mAP, in the order given


@dataclass(frozen=True, slots=True)
class Query:
    """One query: its true windows, and those found with a score each, the best first."""

    truth: Sequence[Span]
    found: Sequence[Span]
    scores: Sequence[float]


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Shares over `queries` queries, by threshold of temporal IoU."""

    r1: Mapping[float, float]
    ap: Mapping[float, float]
    queries: int

    @property
    def mean_ap(self) -> float:
        return sum(self.ap.values()) / len(self.ap)


def boundary_offset(truth: Span, said: Span) -> tuple[float, float]:
    """How far the start and the end lie from the true ones, in seconds."""
    return abs(said[0] - truth[0]), abs(said[1] - truth[1])


def retrieval(queries: Sequence[Query], thresholds: Sequence[float] = THRESHOLDS) -> Retrieval:
    """R1 and mAP. A query for which nothing was found counts as a miss.

    ValueError without queries, for a query without a true window, or for windows without a score each.
    """
    if not queries or not all(query.truth for query in queries):
        raise ValueError("every query needs a true window, and there must be one query")
    best = np.array([max((span_iou(q.found[0], t) for t in q.truth), default=0.0) if q.found else 0.0
                     for q in queries])  # fmt: skip
    precision = np.array([_detection_ap(query, thresholds) for query in queries])
    return Retrieval(
        r1={level: float(np.mean(best >= level)) for level in thresholds},
        ap={level: float(value) for level, value in zip(thresholds, precision.mean(axis=0), strict=True)},
        queries=len(queries),
    )


def by_length(
    queries: Sequence[Query], bands: Mapping[str, tuple[float, float]] = BANDS
) -> dict[str, Retrieval]:
    """`retrieval` for the true windows of each band: the others are left out, and queries without any in it.
    A band that holds no window is missing from the answer."""
    parts = {}
    for name, (low, high) in bands.items():
        kept = [
            Query([t for t in query.truth if low < t[1] - t[0] <= high], query.found, query.scores)
            for query in queries
        ]
        if kept := [query for query in kept if query.truth]:
            parts[name] = retrieval(kept)
    return parts


def _detection_ap(query: Query, thresholds: Sequence[float]) -> list[float]:
    """ActivityNet's average precision of one query at each threshold: the found windows by falling score,
    each taking the best true window that is still free."""
    if len(query.found) != len(query.scores):
        raise ValueError(f"{len(query.found)} windows with {len(query.scores)} scores")
    found = list(zip(query.found, query.scores, strict=True))[:CONSIDERED]
    found.sort(key=lambda pair: -pair[1])
    ious = [[span_iou(window, truth) for truth in query.truth] for window, _ in found]
    orders = [[n for _, n in sorted(zip(row, range(len(row)), strict=True), reverse=True)] for row in ious]
    precisions = []
    for level in thresholds:
        free = set(range(len(query.truth)))
        hits = []
        for row, order in zip(ious, orders, strict=True):
            taken = next((n for n in order if n in free and row[n] >= level), None)
            free.discard(taken if taken is not None else -1)
            hits.append(taken is not None)
        precisions.append(_area(hits, len(query.truth)))
    return precisions


def _area(hits: Sequence[bool], positives: int) -> float:
    """Area under precision over recall, each precision raised to the best at a higher recall (VOC 2011)."""
    total, ceiling, right = 0.0, 0.0, sum(hits)
    for rank in range(len(hits), 0, -1):
        if hits[rank - 1]:
            ceiling = max(ceiling, right / rank)
            total += ceiling / positives
            right -= 1
    return total


def highlights(truth: Sequence[ArrayLike], said: Sequence[ArrayLike], least: int) -> tuple[float, float]:
    """mAP and Hit@1 over videos, with clips rated `least` or more by an annotator as that one's positives.

    `truth` holds a table of ratings [clips, annotators] per video, `said` a saliency per clip: too few are
    filled up with 0, too many cut. The mAP is over videos and annotators, and an annotator without a positive
    clip counts 0; Hit@1 asks whether any annotator calls the most salient clip positive. ValueError for no
    videos, or for a different number of them.
    """
    if not truth or len(truth) != len(said):
        raise ValueError(f"{len(truth)} rated videos and {len(said)} answers")
    precision, hits = [], []
    for ratings, answer in zip(truth, said, strict=True):
        positive = np.asarray(ratings) >= least
        given = np.asarray(answer, float)
        top = int(np.argmax(given))  # of all that was said: a clip past the end hits nothing
        hits.append(top < len(positive) and bool(positive[top].any()))
        saliency = np.zeros(len(positive))
        saliency[: len(given)] = given[: len(positive)]
        precision.append([ranking_ap(column, saliency) for column in positive.T])
    return float(np.mean(np.concatenate(precision))), float(np.mean(hits))


def ranking_ap(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Average precision of a ranking as the video2gif evaluation has it: the mean, over the scores that add
    to the recall, of the best precision at that recall or a higher one. Equal scores are one step, however
    many positives they hold. Without a positive 0, with nothing else 1."""
    if positive.all() or not positive.any():
        return float(positive.any())
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # the last of each run of equal scores
    right = np.cumsum(positive[order])[last]
    precision = right / (np.flatnonzero(last) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(precision[np.diff(right, prepend=0) > 0].mean())
