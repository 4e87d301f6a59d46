"""How good a cut looks: its outline's sharpness, its fit in a box; and a mask without noise."""

from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]
Pixels = tuple[int, int, int, int]

SPECK = 0.03  # of the largest piece: smaller ones are noise
HOLE = 0.1  # of the mask: smaller holes are noise
SLACK = 0.15  # of the box's side: how far from it a thing may end and still count as touching it
STEP = 30.0  # Lab distance across an outline that leaves no doubt


def tidy(mask: Array) -> Array:
    """The mask without specks and small holes. A large hole is no noise: ground between several things."""
    kernel = np.ones((2, 2), np.uint8)  # even-sized: opposite anchors keep the mask in its place
    opened = cv2.dilate(cv2.erode(mask.astype(np.uint8), kernel, anchor=(0, 0)), kernel, anchor=(1, 1))
    empty = np.pad(1 - opened, 1, constant_values=1)  # what reaches the edge is no hole: one with the border
    _, labels, stats, _ = cv2.connectedComponentsWithStats(empty, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < HOLE * opened.sum()
    small[[0, labels[0, 0]]] = False
    opened[small[labels[1:-1, 1:-1]]] = 1
    _, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA]
    areas[0] = 0
    return np.asarray((areas >= max(1.0, SPECK * areas.max()))[labels])


def sharpness(lab: Array, mask: Array, known: Array | None = None) -> float:
    """How much the colour (float Lab) changes across the outline of a mask: the mean over the outline of
    the distance between the means of the 5x5 neighbourhood's two sides, 1 for `STEP` or more. Where the
    mask is more than a `known` one, only the part of its outline that is new counts."""
    rim = _rim(mask)
    weight = mask.astype(np.float32)
    near, far = (cv2.boxFilter(each, -1, (5, 5), normalize=False) for each in (weight, 1 - weight))
    rim &= far >= 3
    if known is not None:
        new = rim & ~cv2.dilate(_rim(known).astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
        rim = new if new.any() else rim
    if not rim.any():
        return 0.0
    within = cv2.boxFilter(lab * weight[..., None], -1, (5, 5), normalize=False)[rim]
    without = cv2.boxFilter(lab, -1, (5, 5), normalize=False)[rim] - within
    steps = within / near[rim][:, None] - without / far[rim][:, None]
    return float(np.minimum(np.sqrt((steps**2).sum(1)) / STEP, 1).mean())


def _rim(mask: Array) -> Array:
    return mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1).astype(bool)


def tightness(mask: Array, box: Pixels) -> float:
    """How well a mask fills a box: the mean over the sides of 1 where it touches one, 0 where it ends
    `SLACK` of the box's side or more away."""
    if not mask.any():
        return 0.0
    (x0, y0, x1, y1), (left, top, right, bottom) = box, extent(mask)
    wide, high = SLACK * (x1 - x0), SLACK * (y1 - y0)
    gaps = ((left - x0) / wide, (x1 - right) / wide, (top - y0) / high, (y1 - bottom) / high)
    return float(np.mean([max(0.0, 1 - abs(gap)) for gap in gaps]))


def extent(mask: Array) -> Pixels:
    """The tight pixel box of a mask with at least one pixel (exclusive right and bottom)."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
