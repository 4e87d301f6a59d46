"""A picture as the nano policy sees it: 128 x 128, cut into the patch rows that Qwen-VL models read.

The stock processor needs torchvision; this is the same layout in NumPy (a test compares the two). Full-size
policies keep a picture's proportions; how many tokens that makes is counted here too.
"""

import math
from typing import Any

import cv2
import numpy as np

from pixelis_pipeline.records import Json

SIDE, PATCH, MERGE = 128, 8, 2
GRID = SIDE // (PATCH * MERGE)
TOKENS = GRID * GRID
MEAN, DEVIATION = 0.5, 0.25
NARROW = 200
FRAMES = 2  # of a video that are shown: a picture's tokens each

Image = np.ndarray[Any, Any]


def describe() -> Json:
    """The pixel bounds of the render contract."""
    return {
        "side": SIDE,
        "patch": PATCH,
        "merge": MERGE,
        "tokens": TOKENS,
        "mean": MEAN,
        "deviation": DEVIATION,
        "resize": "aspect ratio not kept; area average down, bilinear up",
    }


def patches(image: Image) -> Image:
    """uint8 RGB [height, width, 3] -> float32 [256, 192]: 8 x 8 patches, the four of a merged token
    together, channel before row before column. ValueError for anything that is not an RGB picture."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"expected uint8 [height, width, 3], got {image.dtype} {image.shape}")
    shrinks = image.shape[0] * image.shape[1] > SIDE * SIDE
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    scaled = (small.astype(np.float32) / 255 - MEAN) / DEVIATION
    cut = scaled.reshape(GRID, MERGE, PATCH, GRID, MERGE, PATCH, 3)
    return np.ascontiguousarray(cut.transpose(0, 3, 1, 4, 6, 2, 5)).reshape(-1, 3 * PATCH * PATCH)


def merged(height: int, width: int, unit: int, least: int, most: int) -> tuple[int, int]:
    """Rows and columns of merged tokens, each `unit` pixels square, that a Qwen-VL makes of a picture whose
    proportions it keeps: between `least` and `most` of them in all. The rule of transformers' smart_resize
    (models/qwen2_vl; a test compares the two). (0, 0) for a picture that is over NARROW times as long as it
    is wide, which they refuse."""
    if max(height, width) > NARROW * min(height, width):
        return 0, 0
    rows, columns = round(height / unit), round(width / unit)
    if rows * columns > most:
        shrink = math.sqrt(height * width / (most * unit**2))
        rows, columns = (max(1, math.floor(side / shrink / unit)) for side in (height, width))
    elif rows * columns < least:
        grow = math.sqrt(least * unit**2 / (height * width))
        rows, columns = (math.ceil(side * grow / unit) for side in (height, width))
    return rows, columns
