"""What each step of a rollout looked at: which of the picture's visual tokens, and whether it looked before.

Places are those of `verify.marks`. What a place on a later frame of a video shows is looked up in the first
frame, which every policy sees.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pixelis_pipeline.agent.pixels import GRID, SIDE, TOKENS
from pixelis_pipeline.records import Step, canonical
from pixelis_pipeline.verify.marks import Mark, Region, marks
from pixelis_pipeline.verify.metrics import box_iou

Array = np.ndarray[Any, Any]
_AROUND = np.eye(GRID) + np.eye(GRID, k=1) + np.eye(GRID, k=-1)


def looks(steps: Sequence[Step]) -> list[Mark | None]:
    """The place of each step: what its call names or its output gives; of a call that names an earlier step,
    that step's. None where there is no place."""
    found: dict[int, Mark] = {}
    for mark in marks(steps):
        if not mark.claimed and mark.frames:
            found.setdefault(mark.step, mark)
    places: list[Mark | None] = []
    for index, step in enumerate(steps):
        named = step.action.arguments.get("step") if isinstance(step.action.arguments, dict) else None
        inherited = places[named] if type(named) is int and 0 <= named < index else None
        places.append(found.get(index, inherited))
    return places


def footprints(places: Sequence[Mark | None], tiny: float) -> Array:
    """float32 [places, TOKENS]: how much each visual token counts, a row's sum being 1.

    A token counts by the share of its cell that the place covers: a mask before the lines that were read,
    these before points, these before the box. A place of fewer than `tiny` cells is dilated by one cell, and
    no place is the whole picture.
    """
    rows = [np.ones((GRID, GRID)) if place is None else _dilated(_cover(place), tiny) for place in places]
    flat = np.array(rows).reshape(len(rows), TOKENS)
    return (flat / flat.sum(1, keepdims=True)).astype(np.float32)


def regions(boxes: Array, tiny: float) -> Array:
    """float32 [boxes, TOKENS]: the footprints of boxes [boxes, 4], as shares of the picture."""
    return footprints([Mark(0, {0: tuple(box)}) for box in boxes.tolist()], tiny)


def calls(steps: Sequence[Step], places: Sequence[Mark | None], same: float) -> list[str]:
    """Each step's call as canonical text, or that of the first valid call that it makes again: of the same
    action, at a place whose box has an IoU of `same` or more with its. A box moved by a hair is no other."""
    told: list[str] = []
    for k, (step, place) in enumerate(zip(steps, places, strict=True)):
        text = canonical([step.action.name, step.action.arguments]).decode()
        if step.valid and place is not None:
            earlier = (j for j in range(k) if steps[j].valid and steps[j].action.name == step.action.name)
            again = (j for j in earlier if _iou(places[j], place) >= same)
            text = next((told[j] for j in again), text)
        told.append(text)
    return told


def boxes(places: Sequence[Mark | None]) -> Array:
    """float32 [places, 4], as shares of the picture: each place's box, all of it where there is no place."""
    found = [(0.0, 0.0, 1.0, 1.0) if place is None else _box(place) for place in places]
    return np.array(found, np.float32).reshape(-1, 4)


def _iou(one: Mark | None, other: Mark) -> float:
    """IoU of two places' boxes; 0 on different frames."""
    if one is None or min(one.frames) != min(other.frames):
        return 0.0
    return box_iou(_box(one), _box(other))


def _box(place: Mark) -> Region:
    return place.frames[min(place.frames)]


def _cover(place: Mark) -> Array:
    """The share [GRID, GRID] of each cell that a place covers."""
    if place.mask is not None:
        return _share(place.mask, place.over)
    spots = place.parts or [(x, y, x, y) for x, y in place.points] or [_box(place)]
    return np.minimum(1.0, sum(_share(np.ones((1, 1)), spot) for spot in spots))


def _share(mask: Array, over: Region) -> Array:
    """The share [GRID, GRID] of each cell that a mask [height, width], laid over a region, covers."""
    (left, right), (top, bottom) = (_lengthened(over[k], over[k + 2]) for k in (0, 1))
    height, width = mask.shape
    return _overlap(top, bottom, height) @ mask.astype(np.float64) @ _overlap(left, right, width).T


def _lengthened(start: float, stop: float) -> tuple[float, float]:
    """A point, made one pixel of what the policy sees."""
    start = min(start, 1 - 1 / SIDE)
    return start, max(stop, start + 1 / SIDE)


def _overlap(start: float, stop: float, parts: int) -> Array:
    """[GRID, parts]: the share of each of GRID cells of [0, 1] that each part of [start, stop] covers."""
    edges = np.linspace(start, stop, parts + 1) * GRID
    cells = np.arange(GRID)[:, None]
    return np.clip(np.minimum(edges[1:], cells + 1) - np.maximum(edges[:-1], cells), 0, None)


def _dilated(cover: Array, tiny: float) -> Array:
    if not cover.any():
        return np.ones_like(cover)
    return _AROUND @ cover @ _AROUND if cover.sum() < tiny else cover
