"""What stands still behind the things of a clip: how the camera drifts, and the ground it drifts over."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]

# Edges and grain count alike: a picture's high pass is cut off at so few grey levels that the outlines of
# the things, which do not drift, cannot outvote a faint texture.
BLUR, CLIPPED = 3.0, 1.0
SURE = (
    0.15  # least height of the correlation's peak; unrelated pictures reach .14, drifting ones .18 and more
)
RENEWED = 0.1  # of the side: so far from the reference, the next frame becomes it. Fewer links, less error
DEEP = 15  # frames that the ground is the median of
WIDEST = 3.0  # sides that the ground may be wide or high; a camera that pans farther is held back there

PARAMETERS = f"camera={BLUR}/{CLIPPED}/{SURE}/{RENEWED} ground={DEEP}/{WIDEST}"


def drift(frames: Sequence[Array]) -> tuple[Array, Array]:
    """Where the picture's corner stands over the ground in each frame of uint8 RGB [height, width, 3] (int
    [n, 2], x and y in px, least 0), and which frames continue the one before them (bool [n]).

    Phase correlation (Kuglin and Hines 1975) with a reference frame, from where the last frames lead to
    expect. A frame that goes with nothing before it, as after a cut, is laid where the last one stood.
    """
    height, width = frames[0].shape[:2]
    if min(height, width) < 2:  # a line of pixels has no phase to correlate
        return np.zeros((len(frames), 2), int), np.ones(len(frames), bool)
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    grain = [_grain(frame) for frame in frames]
    places, continues = np.zeros((len(frames), 2)), np.ones(len(frames), bool)
    reference, step = 0, np.zeros(2)
    for t in range(1, len(frames)):
        guess = np.round(places[t - 1] + step - places[reference])
        shift = np.array([[1, 0, guess[0]], [0, 1, guess[1]]])
        moved = cv2.warpAffine(grain[t], shift, (width, height), flags=cv2.INTER_NEAREST)
        # OpenCV 5 would apply a window that it is given to the caller's own arrays.
        (dx, dy), peak = cv2.phaseCorrelate(grain[reference] * window, moved * window)
        away = guess - (dx, dy)
        if peak < SURE or np.abs(away / (width, height)).max() > 0.5:
            continues[t], reference, step[:] = False, t, 0
            places[t] = places[t - 1]
            continue
        places[t] = places[reference] + away
        step = places[t] - places[t - 1]
        if np.abs(away).max() > RENEWED * max(width, height):
            reference = t
    limit = (np.array([width, height]) * (WIDEST - 1)).astype(int)
    return np.minimum(np.round(places - places.min(0)).astype(int), limit), continues


def _grain(frame: Array) -> Array:
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.clip(grey - cv2.GaussianBlur(grey, (0, 0), BLUR), -CLIPPED, CLIPPED)


def ground(frames: Sequence[Array], places: Array) -> Array:
    """The ground that the frames (uint8 [height, width, 3]) were taken over, uint8 [H, W, 3]: the median of
    at most `DEEP` evenly spread frames, each laid where its corner stands."""
    height, width = frames[0].shape[:2]
    spread = np.unique(np.linspace(0, len(frames) - 1, min(DEEP, len(frames))).round().astype(int))
    room = (height + int(places[:, 1].max()), width + int(places[:, 0].max()), 3)
    layers = []
    for n, t in enumerate(spread.tolist()):
        # Where a frame does not reach, it votes alternately for the least and the greatest value, which
        # leaves the median to the frames that do.
        layer = np.full(room, 255 * (n % 2), np.uint8)
        x, y = places[t].tolist()
        layer[y : y + height, x : x + width] = frames[t]
        layers.append(layer)
    return _median(layers)


def _median(layers: list[Array]) -> Array:
    """The lower median, by carrying the greatest of what is left to the end until the middle is reached:
    minima and maxima of whole pictures are many times faster than sorting each pixel."""
    rows = list(layers)
    middle = (len(rows) - 1) // 2
    for end in range(len(rows) - 1, middle - 1, -1):
        for k in range(end):
            rows[k], rows[k + 1] = cv2.min(rows[k], rows[k + 1]), cv2.max(rows[k], rows[k + 1])
    return np.asarray(rows[middle])


def under(base: Array, place: Array, frame: Array) -> Array:
    """The part of the ground that `frame`, with its corner at `place`, shows."""
    x, y = place.tolist()
    return np.ascontiguousarray(base[y : y + frame.shape[0], x : x + frame.shape[1]])


def stirred(before: Array, after: Array, step: Array, least: int) -> float:
    """The share of the picture (0-1) that changes by more than `least` grey levels from one frame to the
    next, whose corner has moved over the ground by `step`; edges one pixel wide do not count."""
    height, width = before.shape[:2]
    x, y = np.clip(step, (1 - width, 1 - height), (width - 1, height - 1)).tolist()
    past = before[max(0, y) : height + min(0, y), max(0, x) : width + min(0, x)]
    now = after[max(0, -y) : height + min(0, -y), max(0, -x) : width + min(0, -x)]
    red, green, blue = cv2.split(cv2.absdiff(np.ascontiguousarray(past), np.ascontiguousarray(now)))
    _, changed = cv2.threshold(cv2.max(cv2.max(red, green), blue), least, 1, cv2.THRESH_BINARY)
    solid = cv2.morphologyEx(changed, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return float(cv2.countNonZero(solid)) / (height * width)
