"""Structural similarity of two small pictures (Wang, Bovik, Sheikh and Simoncelli 2004)."""

from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]

SIGMA, RADIUS = 1.5, 5  # pixels: the paper's Gaussian window of 11 x 11
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(a: Array, b: Array) -> float:
    """Mean SSIM of two pictures (uint8 [H, W, 3] of one size) in grey, -1 to 1, over the places where the
    whole window lies inside. ValueError for two sizes."""
    if a.shape != b.shape:
        raise ValueError(f"pictures of {a.shape} and {b.shape} cannot be laid over each other")
    x, y = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY).astype(np.float64) for each in (a, b))
    mean_x, mean_y = _mean(x), _mean(y)
    var_x, var_y = _mean(x * x) - mean_x**2, _mean(y * y) - mean_y**2
    shared = _mean(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + C1) * (2 * shared + C2)
    bottom = (mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2)
    return float((top / bottom)[RADIUS:-RADIUS, RADIUS:-RADIUS].mean())


def _mean(picture: Array) -> Array:
    side = 2 * RADIUS + 1
    return cv2.GaussianBlur(picture, (side, side), SIGMA, borderType=cv2.BORDER_REFLECT)
