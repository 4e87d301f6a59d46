"""What a picture looks like as vectors, without learned weights, so that a part of it can be found again.

A picture is described by where its edges stand: the strength of the colour gradient, which a change of
brightness, contrast, white balance or hue leaves alone, averaged coarsely and reduced to its lowest DCT
frequencies. One vector describes the whole picture, and one each of its windows of 90 and 80 % of a side
that lie on a grid of 5 %. A copy cut out of another picture then agrees, as a whole, with one of that
picture's windows, wherever it was cut; and so does a picture whose copy was given a border. Flipped and
turned copies agree with nothing.

A cosine here is a candidate's, never a verdict: `alignment` looks at the pixels.
"""

from functools import cache
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]
Window = tuple[float, float, float, float]

SIDE = 256  # pixels: pictures are brought to this size first
SIGMA = 1.5  # pixels of blur before the gradient, so that a re-encoded copy has the same edges
SCALES = (0.9, 0.8)  # sides of the windows, as shares of the picture's
STEP = 0.05  # between two windows; a cut anywhere is at most half of it away from one
CELLS = 32  # a window is averaged down to so many cells a side
FREQUENCIES = 9  # DCT frequencies kept on each axis: a shift of 2.5 % turns the next ones by a quarter wave
EMPHASIS = 0.5  # power of the frequency by which coefficients grow: pictures differ least in the lowest ones
DIMENSION = FREQUENCIES**2 - 1
NAME = "edges-1"


@cache
def windows() -> tuple[Window, ...]:
    """(left, top, right, bottom) as shares of the picture: the whole one first, then the others by size,
    row and column."""
    found: list[Window] = [(0.0, 0.0, 1.0, 1.0)]
    for scale in SCALES:
        count = round((1.0 - scale) / STEP) + 1
        starts = [round(k * STEP, 6) for k in range(count)]
        found += [(x, y, round(x + scale, 6), round(y + scale, 6)) for y in starts for x in starts]
    return tuple(found)


def edges(picture: Array) -> Array:
    """float32 [SIDE, SIDE]: the root of the colour gradient's length, of `picture` (uint8 [H, W, 3])."""
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(small, (0, 0), SIGMA)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    return np.sqrt(np.sqrt(np.square(across).sum(axis=2) + np.square(down).sum(axis=2)))


def describe(picture: Array) -> Array:
    """float32 [windows, DIMENSION], unit rows, in the order of `windows`; a row of zeros where a window holds
    no edge, which agrees with nothing."""
    map_ = edges(picture)
    rows = np.stack([_spectrum(map_, window) for window in windows()])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > _nothing())


def _spectrum(map_: Array, window: Window) -> Array:
    left, top, right, bottom = (round(share * SIDE) for share in window)
    cells = cv2.resize(map_[top:bottom, left:right], (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    low = cv2.dct(cells)[:FREQUENCIES, :FREQUENCIES] * _emphasis()
    return low.ravel()[1:]


@cache
def _emphasis() -> Array:
    down, across = np.indices((FREQUENCIES, FREQUENCIES))
    return (np.hypot(down, across) ** EMPHASIS).astype(np.float32)


def _nothing() -> float:
    """The length of a row below which it is noise: a wave of a tenth of a grey level's edge."""
    return 0.1 * CELLS
