"""Lines of text: in which order they are read, and what a call to OCR returns for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelis_pipeline.records import Json
from pixelis_pipeline.tools.contract import (
    Observation,
    OcrArguments,
    Workspace,
    pixels_of,
    spoken,
    to_pixels,
    to_wire,
)

Array = np.ndarray[Any, Any]

SAME_ROW = 0.5  # of the smaller height: nearer centres stand in one row
COLUMN_ROWS = 3  # a column of text has at least so many rows
COLUMN_ASPECT = 4.0  # and its middling row is so many heights wide: a list of labels or prices is none
GUTTER = 0.6  # of the middling height: the least gap between two columns
ORDER = f"row={SAME_ROW} columns={COLUMN_ROWS},{COLUMN_ASPECT},{GUTTER}"  # for versions


@dataclass(frozen=True, slots=True)
class Line:
    """A piece of text: `corners` [4, 2] px around it, and how many quarter turns to the left the picture
    needs for it to stand upright."""

    text: str
    score: float
    corners: Array
    turn: int = 0


def looked_at(workspace: Workspace, arguments: OcrArguments) -> tuple[Array, int, int, tuple[int, int]]:
    """(pixels of the box that a call names, its left, its top, (width, height) of the whole picture)."""
    image = pixels_of(workspace, arguments)
    size = (image.shape[1], image.shape[0])
    if arguments.box is None:
        return image, 0, 0, size
    left, top, right, bottom = to_pixels(arguments.box, *size)
    return image[top:bottom, left:right], left, top, size


def told(lines: Sequence[Line], left: int, top: int, size: tuple[int, int], version: str) -> Observation:
    """What a call returns: the text in reading order and, where there is any, each line with its wire box
    over the whole picture of `size` (width, height). As sure as its least sure line."""
    read = in_reading_order(lines)
    output: Json = {"text": " ".join(line.text for line in read)}
    if read:
        output["lines"] = [_stored(line, left, top, size) for line in read]
    confidence = min((line.score for line in read), default=0.0)
    return Observation(output, spoken("OCR", output), confidence=confidence, version=version)


def _stored(line: Line, left: int, top: int, size: tuple[int, int]) -> Json:
    x0, y0, x1, y1 = (float(v) for v in (*line.corners.min(0), *line.corners.max(0)))
    box = to_wire((x0 + left, y0 + top, x1 + left, y1 + top), *size)
    return {"text": line.text, "box": list(box), "confidence": round(line.score, 2)}


def in_reading_order(lines: Sequence[Line]) -> list[Line]:
    """Row by row as the page stands upright, left to right; columns of running text one after the other."""
    if not lines:
        return []
    boxes = _upright(lines)
    return [lines[i] for i in _ordered(boxes, list(range(len(lines))))]


def _upright(lines: Sequence[Line]) -> Array:
    """Boxes [N, 4] (left, top, right, bottom) after the turn that most letters ask for, and unskewed."""
    letters = [sum(len(line.text) for line in lines if line.turn == turn) for turn in range(4)]
    corners = np.stack([line.corners for line in lines]).astype(float)
    for _ in range(int(np.argmax(letters))):
        corners = np.stack([corners[..., 1], -corners[..., 0]], axis=-1)
    sides = corners - np.roll(corners, 1, axis=1)
    lengths = np.linalg.norm(sides, axis=2)
    rows = np.arange(len(lines))
    longest = sides[rows, lengths.argmax(1)]
    flat = (lengths.max(1) > 3 * lengths.min(1)) & (abs(longest[:, 0]) > abs(longest[:, 1]))
    if flat.any():
        skew = float(np.median(np.arctan(longest[flat, 1] / longest[flat, 0])))
        cos, sin = np.cos(skew), np.sin(skew)
        corners = corners @ np.array([[cos, -sin], [sin, cos]])
    return np.concatenate([corners.min(1), corners.max(1)], axis=1)


def _rows(boxes: Array, members: list[int]) -> list[list[int]]:
    """Members in rows from top to bottom, each from left to right."""
    middles, heights = (boxes[:, 1] + boxes[:, 3]) / 2, boxes[:, 3] - boxes[:, 1]
    rows: list[list[int]] = []
    for index in sorted(members, key=lambda i: (middles[i], boxes[i, 0])):
        row = rows[-1] if rows else []
        if row and abs(middles[index] - np.mean(middles[row])) < SAME_ROW * min(
            heights[index], np.median(heights[row])
        ):
            row.append(index)
        else:
            rows.append([index])
    return [sorted(row, key=lambda i: float(boxes[i, 0])) for row in rows]


def _ordered(boxes: Array, members: list[int]) -> list[int]:
    """A page is rows, of which some that follow each other stand in columns: the longest such run of rows
    is read column by column, what stands above before it and what stands below after it."""
    rows = _rows(boxes, members)
    order: list[int] = []
    start = 0
    while start < len(rows):
        for end in range(len(rows), start + COLUMN_ROWS - 1, -1):
            block = [i for row in rows[start:end] for i in row]
            if columns := _columns(boxes, block):
                order += [i for column in columns for i in _ordered(boxes, column)]
                start = end
                break
        else:
            order += rows[start]
            start += 1
    return order


def _columns(boxes: Array, members: list[int]) -> list[list[int]] | None:
    """The members left and right of the widest gap that runs from top to bottom between two columns of
    running text; None where there is none."""
    by_left = sorted(members, key=lambda i: float(boxes[i, 0]))
    reach = np.maximum.accumulate(boxes[by_left, 2])
    gaps = boxes[by_left[1:], 0] - reach[:-1]
    least = GUTTER * float(np.median(boxes[members, 3] - boxes[members, 1]))
    for cut in np.argsort(-gaps, kind="stable"):
        if gaps[cut] < least:
            return None
        left, right = by_left[: cut + 1], by_left[cut + 1 :]
        if _running(boxes, left) and _running(boxes, right):
            return [left, right]
    return None


def _running(boxes: Array, members: list[int]) -> bool:
    rows = _rows(boxes, members)
    if len(rows) < COLUMN_ROWS:
        return False
    widths = [max(boxes[row, 2]) - min(boxes[row, 0]) for row in rows]
    heights = boxes[members, 3] - boxes[members, 1]
    return float(np.median(widths)) >= COLUMN_ASPECT * float(np.median(heights))
