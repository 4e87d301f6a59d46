"""Lines, masks and plates on a picture (uint8 RGB [height, width, 3], changed in place)."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from pixelis_pipeline.verify.metrics import box_iou

Array = np.ndarray[Any, Any]
Colour = tuple[int, int, int]
Plate = tuple[int, int, int, int]  # left, top, right, bottom in pixels

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
FACE, LETTERS = cv2.FONT_HERSHEY_SIMPLEX, 0.4
TINT = 0.35
DASH = 4  # pixels


def lay(canvas: Array, mask: Array, over: Plate, colour: Colour | None) -> None:
    """A mask [h, w] over the pixels `over` (inclusive): translucent with a line around it, or, without a
    colour, dashed only."""
    left, top, right, bottom = over
    window = canvas[top : bottom + 1, left : right + 1]
    small = cv2.resize(mask.astype(np.uint8), window.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if colour is None:
        for outline in outlines:
            closed = np.vstack([outline[:, 0], outline[:1, 0]]) + np.array((left, top))
            line(canvas, closed, True, WHITE)
        return
    inside = small.astype(bool)
    window[inside] = (window[inside] * (1 - TINT) + np.array(colour) * TINT).astype(np.uint8)
    cv2.drawContours(canvas, outlines, -1, colour, 1, cv2.LINE_AA, offset=(left, top))


def line(canvas: Array, points: Array, dashed: bool, colour: Colour) -> None:
    """The line through points [N, 2]: whole in its colour, or in dashes of white and black, which are seen
    on any ground and on the other kind of line."""
    if not dashed:
        cv2.polylines(canvas, [points.astype(np.int32)], False, colour, 1, cv2.LINE_AA)
        return
    legs = np.hypot(*np.diff(points, axis=0).T.astype(float))
    along = np.concatenate([[0.0], np.cumsum(legs)])
    stops = np.arange(0.0, along[-1] + DASH, DASH)
    x, y = (np.interp(stops, along, points[:, axis]).round().astype(int) for axis in (0, 1))
    for k in range(len(stops) - 1):
        ends = (int(x[k]), int(y[k])), (int(x[k + 1]), int(y[k + 1]))
        cv2.line(canvas, *ends, BLACK if k % 2 else WHITE, 1)


def room(text: str) -> tuple[int, int]:
    """(width, height) in pixels of a plate that holds the text."""
    (width, height), _ = cv2.getTextSize(text, FACE, LETTERS, 1)
    return width + 4, height + 6


def place(size: tuple[int, int], box: Plate, canvas: Array, taken: Sequence[Plate]) -> Plate:
    """Where a plate of `size` (width, height) goes: at the first corner of the box where no other plate
    lies, above or below it, else over what is there."""
    width, height = size
    most_x, most_y = max(0, canvas.shape[1] - width), max(0, canvas.shape[0] - height)
    plates = []
    for y in (box[1] - height, box[3], box[1]):
        for x in (box[0], box[2] - width):
            left, top = max(0, min(x, most_x)), max(0, min(y, most_y))
            plates.append((left, top, left + width, top + height))
    return next((plate for plate in plates if not any(box_iou(plate, other) for other in taken)), plates[0])


def tag(canvas: Array, text: str, plate: Plate, colour: Colour) -> None:
    """White text on a plate of the step's colour."""
    cv2.rectangle(canvas, plate[:2], (plate[2] - 1, plate[3] - 1), colour, -1)
    foot = (plate[0] + 2, plate[3] - 4)
    cv2.putText(canvas, text, foot, FACE, LETTERS, WHITE, 1, cv2.LINE_AA)
