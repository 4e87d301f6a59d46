"""Windows of time from a curve of evidence, their scores, and temporal non-maximum suppression.

A curve is sampled: cell i lasts from `edges[i]` to `edges[i + 1]` seconds and has evidence `curve[i]` in
0-1. Where the evidence comes from (pixels, image-text similarity) is no concern of this module.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from pixelis_pipeline.records import Json

Array = np.ndarray[Any, Any]
Scored = tuple[float, float, float]  # start, end in seconds, score 0-1

LEVELS = (0.15, 0.25, 0.35, 0.5, 0.65, 0.8)  # of the curve's height over its floor, at which runs are cut
GAPS = (0, 2)  # cells: dips as short as this are also bridged
SCALES = (0.125, 0.25, 0.5)  # of the whole, for windows that no run suggests
MARGIN = 0.5  # of a window's length, on each side: what it is contrasted with
DROPPED = 0.1  # of a window that fills everything, what may be without evidence
OVERLAP = 0.4  # tIoU above which the lower-scored of two windows goes
KEPT = 5
LEAST = 0.02  # lower scores are no find

PARAMETERS = (
    f"levels={LEVELS} gaps={GAPS} scales={SCALES} margin={MARGIN}/{DROPPED} nms={OVERLAP}/{KEPT}/{LEAST}"
)


def windows(curve: Array) -> list[tuple[int, int]]:
    """Candidate windows as cells [first, last), sorted, each once: the runs in which the curve stands above
    one of several levels, with short dips bridged, and sliding windows of several scales."""
    n = len(curve)
    if not n:
        return []
    low, high = float(curve.min()), float(curve.max())
    found = {(0, n)}
    for level in LEVELS:
        above = curve > low + level * (high - low)
        for gap in GAPS:
            found.update(_runs(above, gap))
    for scale in SCALES:
        length = max(1, round(scale * n))
        step = max(1, length // 2)
        found.update((first, first + length) for first in range(0, n - length + 1, step))
    return sorted(found)


def _runs(above: Array, gap: int) -> list[tuple[int, int]]:
    """The runs of a bool array as [first, last), those not more than `gap` apart joined."""
    turns = np.flatnonzero(np.diff(np.concatenate(([0], above.astype(np.int8), [0]))))
    runs: list[tuple[int, int]] = []
    for first, last in turns.reshape(-1, 2).tolist():
        if runs and first - runs[-1][1] <= gap:
            runs[-1] = (runs[-1][0], last)
        else:
            runs.append((first, last))
    return runs


def contrast(curve: Array, edges: Array, first: int, last: int) -> float:
    """How much more evidence stands inside cells [first, last) than beside them, 0-1: the mean inside,
    less the mean over `MARGIN` of the window's length on either side, each weighted by time. A window that
    fills everything has nothing to contrast with; it loses by how far the curve falls inside it, but for the
    lowest tenth."""
    lengths = np.diff(edges)
    inside = float(np.average(curve[first:last], weights=lengths[first:last]))
    room = MARGIN * float(edges[last] - edges[first])
    near = (edges[1:] > edges[first] - room) & (edges[:-1] < edges[last] + room)
    near[max(first - 1, 0) : last + 1] = True  # at least one cell on either side
    near[first:last] = False
    if near.any():
        outside = float(np.average(curve[near], weights=lengths[near]))
    else:
        outside = float(curve.max() - np.quantile(curve, DROPPED))
    return min(1.0, max(0.0, inside - outside))


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """tIoU of two windows (start, end, ...) in seconds."""
    inner = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    outer = (one[1] - one[0]) + (other[1] - other[0]) - inner
    return inner / outer if outer > 0 else 0.0


def suppressed(scored: Sequence[Scored], most: int = KEPT) -> list[Scored]:
    """Greedy NMS: the best windows, best first, no two overlapping by more than `OVERLAP`. Of equal scores
    the earlier, then the shorter window comes first."""
    kept: list[Scored] = []
    for candidate in sorted(scored, key=lambda w: (-w[2], w[0], w[1])):
        if len(kept) == most:
            break
        if all(overlap(candidate, other) <= OVERLAP for other in kept):
            kept.append(candidate)
    return kept


def proposals(curve: Array, edges: Array) -> list[Scored]:
    """The best windows of a curve (float [n], 0-1) over cells with `edges` (seconds [n + 1], increasing).
    None where no window has more evidence than what is beside it. ValueError for other lengths."""
    if len(edges) != len(curve) + 1 or any(a >= b for a, b in pairwise(edges.tolist())):
        raise ValueError(f"{len(curve)} cells need {len(curve) + 1} increasing edges")
    scored = [
        (float(edges[first]), float(edges[last]), contrast(curve, edges, first, last))
        for first, last in windows(curve)
    ]
    return suppressed([window for window in scored if window[2] >= LEAST])


def told(found: Sequence[Scored]) -> Json:
    """TEMP's wire output for windows, best first. ValueError for none."""
    if not found:
        raise ValueError("no window to tell of")
    spans = [[round(start, 3), round(end, 3), round(score, 3)] for start, end, score in found]
    return {"start": spans[0][0], "end": spans[0][1], "spans": spans}
