"""How well the outlines of two masks agree: DAVIS' Boundary-F."""

import math
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]
TOLERANCE = 0.008  # of the image's diagonal


def boundary_f(truth: Array, said: Array, tolerance: float = TOLERANCE) -> float:
    """F of two bool masks [height, width] (Perazzi et al., CVPR 2016; davis2017-evaluation, `f_measure`).

    Precision is the share of the said outline that lies within ceil(tolerance * diagonal) pixels of the true
    one, recall the other way round; F is their harmonic mean, from 0 to 1. As in DAVIS' own code this is
    dilation by a disc, in place of the paper's bipartite matching: pixels may share a partner.

    An outline against none scores 0. Where neither mask has one (empty, or the whole image) DAVIS says 1
    whatever they are; here that takes equal masks. ValueError for different shapes.
    """
    if truth.shape != said.shape:
        raise ValueError(f"masks of different size: {truth.shape} and {said.shape}")
    lines = outline(truth), outline(said)
    counts = [int(line.sum()) for line in lines]
    if not all(counts):
        return float(not any(counts) and np.array_equal(truth, said))
    radius = math.ceil(tolerance * math.hypot(*truth.shape))
    here = _around(lines[0] | lines[1])  # nothing outside changes a distance between the two
    true_line, said_line = (line[here] for line in lines)
    precision = int((said_line & _near(true_line, radius)).sum()) / counts[1]
    recall = int((true_line & _near(said_line, radius)).sum()) / counts[0]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def outline(mask: Array) -> Array:
    """The pixels of a bool mask whose right, lower or lower right neighbour is of the other kind: a line one
    pixel wide, half a pixel up and left of the edge (Martin's `seg2bmap`). The image's border is no edge."""
    mask = mask.astype(bool)
    line = np.zeros_like(mask)
    line[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    line[:-1] |= mask[:-1] ^ mask[1:]
    line[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return line


def _around(line: Array) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(line.any(axis=1)), np.flatnonzero(line.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _near(line: Array, radius: int) -> Array:
    """The pixels no further than `radius` from the line. Squared distances are whole numbers, so half a unit
    above radius squared is clear of rounding."""
    away = cv2.distanceTransform((~line).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(away) <= math.sqrt(radius * radius + 0.5)
