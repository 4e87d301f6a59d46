"""Whether one picture is a cut-out of the other, place by place.

A descriptor says roughly which window of one picture the other fills. From there the two edge maps are laid
over each other (ECC, Evangelidis and Psarakis 2008, which a change of gain or offset leaves alone), and what
overlaps is compared tile by tile (`patches`). Only sizes and shifts are followed: a copy that was turned or
flipped is another picture.
"""

from typing import Any

import cv2
import numpy as np

from pixelis_pipeline.curation import descriptor
from pixelis_pipeline.curation.descriptor import Window
from pixelis_pipeline.curation.patches import FEW, SIDE, overlap

Array = np.ndarray[Any, Any]

ROUNDS, ENOUGH = 40, 1e-4  # iterations of ECC, and the gain below which it ends
SMOOTH = (9, 3)  # pixels: the blur that ECC works under, coarse first, then so fine that print meets print
TURN = 0.035  # turn or shear beyond which two pictures do not count as laid over each other
SMALLEST = 0.6  # of a side: what a cut must leave to be looked for
_ALL = np.full((SIDE, SIDE), 255, np.uint8)  # no pixel is left out
OFF = 0.12  # how far the window may be moved or stretched, as a share of a side


def aligned(whole: Array, part: Array, window: Window) -> Array | None:
    """float32 [2, 3], the map (sizes and shifts) from pixels of `part` to pixels of `whole`, two thumbnails
    (uint8 [SIDE, SIDE, 3]), found from the guess that `part` is `window` of `whole`; None where the two
    cannot be laid over each other. The shift is found before the sizes: with few edges to hold on to, both at
    once run away, and then the shift alone stands."""
    left, top, right, bottom = window
    guess = np.array([[right - left, 0, left * SIDE], [0, bottom - top, top * SIDE]], np.float32)
    edges = descriptor.edges(part), descriptor.edges(whole)
    best = _climbed(*edges, guess, guess, cv2.MOTION_TRANSLATION, SMOOTH[0])
    for smooth in SMOOTH:
        start = guess if best is None else best
        found = _climbed(*edges, start, guess, cv2.MOTION_AFFINE, smooth)
        best = best if found is None else found
    return best


def _climbed(part: Array, whole: Array, start: Array, guess: Array, motion: int, smooth: int) -> Array | None:
    """Where ECC gets to from `start` on two edge maps; None where it gets lost or too far from `guess`."""
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ROUNDS, ENOUGH)
    if motion == cv2.MOTION_TRANSLATION:  # it knows no sizes: the window is cut out and brought to size first
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        whole = cv2.warpAffine(whole, start, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        by = np.eye(2, 3, dtype=np.float32)
    else:
        by = start.copy()
    try:
        _, found = cv2.findTransformECC(part, whole, by, motion, stop, _ALL, smooth)
    except cv2.error:  # nothing in common to climb along
        return None
    if motion == cv2.MOTION_TRANSLATION:
        moved = start[:, :2] @ found[:, 2] + start[:, 2]
        found = np.column_stack([start[:, :2], moved]).astype(np.float32)
    return _upright(found) if _near(found, guess) else None


def _near(found: Array, guess: Array) -> bool:
    moved = np.abs(_centre(found) - _centre(guess)).max() / SIDE
    stretched = np.abs(np.diag(found[:, :2]) - np.diag(guess[:, :2])).max()
    turned = max(abs(found[0, 1]), abs(found[1, 0]))
    smallest = np.diag(found[:, :2]).min()
    return bool(turned <= TURN and max(moved, stretched) <= OFF and smallest >= SMALLEST)


def _centre(found: Array) -> Array:
    """Where the middle of the part comes to lie in the whole."""
    return found[:, :2] @ np.full(2, SIDE / 2, np.float32) + found[:, 2]


def _upright(found: Array) -> Array:
    """The map without its turn and shear, about the middle of the picture."""
    sizes = np.diag(np.diag(found[:, :2]))
    shift = _centre(found) - sizes @ np.full(2, SIDE / 2, np.float32)
    return np.column_stack([sizes, shift]).astype(np.float32)


def agreement(whole: Array, part: Array, window: Window) -> tuple[float, float]:
    """How well `part` agrees with the cut of `whole` that it fills (two thumbnails): `patches.agreement` over
    the tiles where they overlap, and the correlation of the worst of these, -1 to 1. (0, 0) where too little
    stands in them, (-1, -1) where the two cannot be laid over each other."""
    found = aligned(whole, part, window)
    if found is None:
        return -1.0, -1.0
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(whole, found, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones((SIDE, SIDE), np.uint8), found, (SIDE, SIDE), flags=flags) > 0
    return overlap(seen, part, inside, FEW), overlap(seen, part, inside, FEW, percentile=0.0)
