"""Soft-DTW between the footprints of two traces: what each step looked at, in order.

Cuturi & Blondel, "Soft-DTW: a differentiable loss function for time-series", ICML 2017.
"""

import math
from collections.abc import Sequence

from pixelis_pipeline.verify.metrics import anls, box_iou, span_iou

Footprint = str | Sequence[float]  # a text read, a box [left, top, right, bottom], a span [start, end]
TEMPERATURE = 0.2


def soft_dtw(cost: Sequence[Sequence[float]], temperature: float = TEMPERATURE) -> float:
    """-t log of the sum over all monotone alignments of exp(-cost of the alignment / t).

    `cost[i][j]` is what it costs to align step i with step j. The value lies below the cheapest alignment's
    cost, at most by t times the log of the number of alignments, and may be negative; at a temperature of 0
    it is plain DTW. A table without rows costs 0, rows without columns are infinite. ValueError for a
    negative temperature.
    """
    if not temperature >= 0:
        raise ValueError(f"the temperature is {temperature}")
    width = len(cost[0]) if cost else 0
    row = [0.0] + [math.inf] * width
    for costs in cost:
        above, row = row, [math.inf]
        for j, here in enumerate(costs):
            row.append(here + _softmin(above[j], above[j + 1], row[j], temperature))
    return row[-1] if width or not cost else math.inf


def _softmin(a: float, b: float, c: float, temperature: float) -> float:
    least = min(a, b, c)
    if not temperature or math.isinf(least):
        return least
    total = sum(math.exp((least - x) / temperature) for x in (a, b, c))
    return least - temperature * math.log(total)


def footprint_cost(a: Footprint, b: Footprint) -> float:
    """From 0, the same, to 1: 1 - IoU of two boxes or two spans, 1 - ANLS of two texts; different kinds
    have nothing in common (1). ValueError for numbers that are neither a box nor a span."""
    if isinstance(a, str) and isinstance(b, str):
        # Neither text is the truth, and ANLS gives two empty ones 1.
        return 1.0 - anls([a], b)
    if isinstance(a, str) or isinstance(b, str):
        return 1.0
    if {len(a), len(b)} - {2, 4}:
        raise ValueError("a footprint is a text, a box of four numbers or a span of two")
    if len(a) != len(b):
        return 1.0
    return 1.0 - (box_iou(a, b) if len(a) == 4 else span_iou(a, b))


def footprint_distance(
    a: Sequence[Footprint], b: Sequence[Footprint], temperature: float = TEMPERATURE
) -> float:
    """`soft_dtw` of two sequences of footprints; symmetric. No steps against some is infinite."""
    if not a or not b:
        return math.inf if a or b else 0.0
    return soft_dtw([[footprint_cost(x, y) for y in b] for x in a], temperature)
