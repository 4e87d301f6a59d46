"""The name and the orientation of one outline, by its distance from its centroid at equal angles."""

import functools
import math
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]

ANGLES = 120
OTHER = 0.17  # root mean square distance of radial profiles beyond which a shape has no name
# Degrees after which a shape looks the same again. A circle always does.
SYMMETRY = {"circle": 1, "square": 90, "triangle": 120, "star": 72, "cross": 90, "hexagon": 60}


def longer_axis(mask: Array) -> int:
    """The direction of the longer axis in degrees 0-179, from second moments (Hu 1962)."""
    moments = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    angle = 0.5 * math.atan2(2 * moments["mu11"], moments["mu20"] - moments["mu02"])
    return round(math.degrees(-angle)) % 180


def radial_profile(mask: Array) -> Array:
    """Distance of the outline from the centroid at `ANGLES` equal angles, over its mean."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(outlines, key=len)[:, 0].astype(float)
    rows, columns = np.nonzero(mask)
    x, y = outline[:, 0] - columns.mean(), outline[:, 1] - rows.mean()
    angle, radius = np.arctan2(y, x), np.hypot(x, y) + 0.5
    bins = np.round((angle + math.pi) / (2 * math.pi) * ANGLES).astype(int) % ANGLES
    total, hits = np.bincount(bins, radius, ANGLES), np.bincount(bins, minlength=ANGLES)
    known = np.flatnonzero(hits)
    profile = np.interp(np.arange(ANGLES), known, total[known] / hits[known], period=ANGLES)
    return np.asarray(profile / profile.mean())


def _polygon(radii: list[float], turn: float = 0.0) -> Array:
    angles = turn + np.arange(len(radii)) * 2 * math.pi / len(radii)
    points = 128 + 100 * np.stack([np.cos(angles) * radii, np.sin(angles) * radii], 1)
    mask = np.zeros((256, 256), np.uint8)
    return cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1).astype(bool)


@functools.cache
def _ideals() -> dict[str, Array]:
    cross = np.zeros((256, 256), bool)
    cross[28:228, 95:161] = cross[95:161, 28:228] = True
    outlines = {
        "circle": _polygon([1.0] * 90),
        "square": _polygon([1.0] * 4),
        "triangle": _polygon([1.0] * 3),
        "star": _polygon([1.0, 0.45] * 5),
        "cross": cross,
        "hexagon": _polygon([1.0] * 6),
    }
    return {name: radial_profile(mask) for name, mask in outlines.items()}


def outline_of(mask: Array) -> tuple[str, int, float]:
    """(shape, orientation in degrees, clearness 0-1) of a bool mask [height, width] with an empty border.

    The shape is the ideal outline nearest in radial profile over all rotations, the orientation how far it
    is turned; "other" and its longer axis where no ideal is near. A regular shape has no longer axis: its
    orientation is the direction of its first corner (of a cross: arm) counter-clockwise from the x axis, so
    it lies below the shape's `SYMMETRY`, and a circle's is 0. Clear is what is much nearer to its name than
    to the next: 1 - nearest / next, where "other" lies at the distance `OTHER`.
    """
    profile = radial_profile(mask)
    spectrum, energy = np.fft.rfft(profile), float((profile**2).sum())
    away, turns = {"other": OTHER}, {}
    for name, ideal in _ideals().items():
        # |p - rotated q|^2 = |p|^2 + |q|^2 - 2 * their circular correlation
        turns[name] = np.fft.irfft(spectrum * np.conj(np.fft.rfft(ideal)), ANGLES)
        square = energy + float((ideal**2).sum()) - 2 * float(turns[name].max())
        away[name] = math.sqrt(max(0.0, square) / ANGLES)
    nearest, following = sorted(away, key=lambda name: away[name])[:2]
    clear = 1.0 - away[nearest] / away[following]
    if nearest == "other":
        return nearest, longer_axis(mask), clear
    return nearest, round(-_peak(turns[nearest]) * 360 / ANGLES) % SYMMETRY[nearest], clear


def _peak(values: Array) -> float:
    """Where a circular sequence is highest, between its entries too: the top of the parabola through the
    highest one and its neighbours."""
    top = int(values.argmax())
    before, here, after = (float(values[(top + step) % len(values)]) for step in (-1, 0, 1))
    bend = before - 2 * here + after
    return top + (0.5 * (before - after) / bend if bend < 0 else 0.0)
