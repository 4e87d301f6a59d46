"""Whether two pictures agree place by place, for pairs where a perceptual hash cannot know.

A hash of a page or of a plain ground is mostly noise, and a mean similarity over the picture is mostly
empty ground: distinct pages reach the values of true copies. So the pictures are compared tile by tile,
over those tiles where something stands, and the *worst* decile of tiles decides: a copy agrees
everywhere, a twin by layout only here and there. Each tile is compared by correlation, so a copy may be
brighter, flatter or tinted. Both pictures are blurred first: otherwise a copy cut by one per cent on each
side, three pixels off at its edges, would agree nowhere that print stands.
"""

from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]

SIDE = 256  # pixels: both pictures are brought to this size, so a copy may be rescaled
TILE = 32
BLUR = 2.5  # pixels, standard deviation
STRUCTURE = 3.0**2  # grey levels squared: the least variance of a tile where something stands
STABILITY = 1.0  # grey levels squared: what re-encoding leaves of a tile's variance after the blur
CHROMA = 4.0  # grey levels: below this mean distance from its own grey, a picture has no colour to compare
WORST = 10.0  # percentile of the tiles
FEW = 12  # tiles that must stand for a cut to be told from a thing that merely lies elsewhere


def small(picture: Array) -> Array:
    """`picture` (uint8 [H, W, 3]) as uint8 [SIDE, SIDE, 3], averaged where it shrinks."""
    shrinks = max(picture.shape[:2]) > SIDE
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def thumbnail(picture: Array) -> Array:
    """`picture` (uint8 [H, W, 3]) blurred, as uint8 [SIDE, SIDE, 3]."""
    return cv2.GaussianBlur(small(picture), (0, 0), BLUR)


def agreement(a: Array, b: Array) -> float:
    """How well two thumbnails agree where they agree least, -1 to 1.

    Per tile: cov(a, b) / sqrt((var a + c)(var b + c)), the correlation over all its pixels and channels,
    each channel about its own mean in the tile (the structure term of SSIM, Wang et al. 2004). Only tiles
    where either picture has structure count; where one has it alone the tile is near 0. If either picture
    is grey both are compared in grey. Returns the 10th percentile over these tiles; 0, no evidence, where
    there are none.
    """
    return overlap(a, b, np.ones((SIDE, SIDE), bool))


def worst(a: Array, b: Array) -> float:
    """The correlation of the tile in which two thumbnails agree least, -1 to 1; 0 where there are none. Two
    pages of one layout, two screens of one program agree nearly everywhere and here not at all."""
    return overlap(a, b, np.ones((SIDE, SIDE), bool), percentile=0.0)


def middle(a: Array, b: Array) -> float:
    """The correlation of the middle tile, -1 to 1: what half of two thumbnails reaches; 0 where there are
    none. A copy that was turned a little or lies under a banner reaches it, two pictures of one hash do
    not."""
    return overlap(a, b, np.ones((SIDE, SIDE), bool), percentile=50.0)


def standing(thumbnail: Array) -> int:
    """How many tiles of a thumbnail hold anything. Where none does, nothing can be confirmed."""
    return int((np.square(_tiles(thumbnail)).mean(axis=1) >= STRUCTURE).sum())


def overlap(a: Array, b: Array, inside: Array, least: int = 1, percentile: float = WORST) -> float:
    """`agreement` over the tiles that lie wholly `inside` (bool [SIDE, SIDE]), where two thumbnails were laid
    over each other; 0 where fewer than `least` of them hold anything."""
    if min(_chroma(a), _chroma(b)) < CHROMA:
        a, b = _grey(a), _grey(b)
    x, y = _tiles(a), _tiles(b)
    spread_x, spread_y = np.square(x).mean(axis=1), np.square(y).mean(axis=1)
    stands = np.maximum(spread_x, spread_y) >= STRUCTURE
    stands &= _cut(inside[..., None]).all(axis=1)
    if stands.sum() < least:
        return 0.0
    shared = (x * y).mean(axis=1) / np.sqrt((spread_x + STABILITY) * (spread_y + STABILITY))
    return float(np.percentile(shared[stands], percentile))


def _grey(thumbnail: Array) -> Array:
    return cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY)[..., None]


def _chroma(thumbnail: Array) -> float:
    return float(np.abs(thumbnail.astype(np.float32) - _grey(thumbnail)).mean())


def _cut(picture: Array) -> Array:
    """[tiles, pixels x channels] of [SIDE, SIDE, channels]."""
    n, channels = SIDE // TILE, picture.shape[2]
    return picture.reshape(n, TILE, n, TILE, channels).swapaxes(1, 2).reshape(n * n, -1)


def _tiles(thumbnail: Array) -> Array:
    """float32 [tiles, pixels x channels]; every channel of a tile has mean 0."""
    tiles = _cut(thumbnail).astype(np.float32).reshape(-1, TILE * TILE, thumbnail.shape[2])
    return (tiles - tiles.mean(axis=1, keepdims=True)).reshape(len(tiles), -1)
