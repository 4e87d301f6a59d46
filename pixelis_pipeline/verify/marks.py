"""Where on the question's media each step looked, and what it claims or found there.

Steps may be anything a teacher wrote: what cannot be placed is left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import ValidationError

from pixelis_pipeline.records import Json, Step
from pixelis_pipeline.tools.contract import (
    ARGUMENTS,
    WIRE,
    Arguments,
    Look,
    SegArguments,
    TempArguments,
    TrkArguments,
)
from pixelis_pipeline.tools.masks import decode

Array = np.ndarray[Any, Any]
Region = tuple[float, float, float, float]  # left, top, right, bottom as shares of the question's picture

WHOLE: Region = (0.0, 0.0, 1.0, 1.0)
FRAMES = 1_000_000  # a higher number is none of any video


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """One thing to draw for `step`: its box by frame (one on a picture or a frame, many for a tracklet,
    none for a span of time), and with it `parts` (the lines that OCR read), a mask over the region `over`,
    points (x, y as shares), or a span
    in seconds with the window that was searched. `claimed`: what the trace says beside what a re-run gave.
    """

    step: int
    frames: Mapping[int, Region] = field(default_factory=dict)
    mask: Array | None = None
    over: Region = WHOLE
    points: tuple[tuple[float, float], ...] = ()
    parts: tuple[Region, ...] = ()
    span: tuple[float, float] | None = None
    window: tuple[float, float] = (0.0, 0.0)
    claimed: bool = False


def marks(steps: Sequence[Step]) -> Iterator[Mark]:
    """What the steps point at, in their order; of a step that was run again both versions."""
    images = [(0, WHOLE)]  # where each image of the trace was taken: frame and region
    for index, step in enumerate(steps):
        arguments = _read(step)
        if isinstance(arguments, Look) and arguments.image < len(images):
            frame, whole = images[arguments.image]
            frame = arguments.frame or frame
            box = getattr(arguments, "box", None)
            region = whole if box is None else within(whole, box)
            if step.action.name == "ZOOM" and step.valid:
                images.append((frame, region))
            if frame < FRAMES:
                yield from _looks(index, step, arguments, frame, whole)
        elif isinstance(arguments, TrkArguments):
            yield from _tracks(index, step, arguments)
        elif isinstance(arguments, TempArguments):
            for output, claimed in _outputs(step):
                if (span := _span(output)) is not None:
                    yield Mark(index, span=span, window=(arguments.start, arguments.end), claimed=claimed)


def within(outer: Region, box: Sequence[float]) -> Region:
    """A wire box of the image that shows `outer`, as shares of the question's picture."""
    left, top, right, bottom = outer
    wide, high = (right - left) / WIRE, (bottom - top) / WIRE
    return left + box[0] * wide, top + box[1] * high, left + box[2] * wide, top + box[3] * high


def _read(step: Step) -> Arguments | None:
    try:
        return ARGUMENTS[step.action.name].model_validate(step.action.arguments)
    except (KeyError, TypeError, ValidationError, RecursionError):
        return None


def _outputs(step: Step) -> Iterator[tuple[Json, bool]]:
    """(output, whether the trace merely claims it): the re-run's first, where there is one."""
    if isinstance(step.replayed, dict) and step.replayed:
        yield step.replayed, False
        if isinstance(step.output, dict):
            yield step.output, True
    elif isinstance(step.output, dict):
        yield step.output, False


def _looks(index: int, step: Step, arguments: Look, frame: int, whole: Region) -> Iterator[Mark]:
    box = getattr(arguments, "box", None)
    at = {} if box is None else {frame: within(whole, box)}
    if not isinstance(arguments, SegArguments):
        if arguments.frame is not None and getattr(arguments, "step", None) is None:
            at = at or {frame: whole}  # the whole of a frame
        parts = tuple(
            within(whole, box) for output, claimed in _outputs(step) if not claimed for box in _lines(output)
        )
        if at or parts:
            yield Mark(index, at or {frame: whole}, parts=parts)
        return
    points = tuple(within(whole, (*point, *point))[:2] for point in arguments.points)
    found = [(_mask(output), output, claimed) for output, claimed in _outputs(step)]
    ours = next((mask for mask, _, claimed in found if mask is not None and not claimed), None)
    theirs = next(((mask, output) for mask, output, claimed in found if claimed and mask is not None), None)
    if not at and (seen := next((_box(output) for _, output, claimed in found if not claimed), None)):
        at = {frame: within(whole, seen)}
    if at or points:
        yield Mark(index, at or {frame: whole}, ours, whole, points)
    if theirs is not None:
        claim = _box(theirs[1]) or box
        yield Mark(index, {frame: within(whole, claim) if claim else whole}, theirs[0], whole, claimed=True)


def _tracks(index: int, step: Step, arguments: TrkArguments) -> Iterator[Mark]:
    drawn = False
    for output, claimed in _outputs(step):
        boxes = output.get("boxes")
        if not isinstance(boxes, list) or arguments.end >= FRAMES:
            continue
        numbered = zip(range(arguments.start, arguments.end + 1), boxes, strict=False)
        seen = {frame: within(WHOLE, box) for frame, each in numbered if (box := _wire(each)) is not None}
        if seen:
            drawn = drawn or not claimed
            yield Mark(index, seen, claimed=claimed)
    if not drawn and arguments.box is not None and arguments.start < FRAMES:
        yield Mark(index, {arguments.start: within(WHOLE, arguments.box)})


def _mask(output: Json) -> Array | None:
    try:
        return decode(output.get("mask"))
    except ValueError:
        return None


def _box(output: Json) -> tuple[int, ...] | None:
    return _wire(output.get("box"))


def _lines(output: Json) -> Iterator[tuple[int, ...]]:
    """The boxes of the lines that OCR read."""
    lines = output.get("lines")
    for line in lines if isinstance(lines, list) else ():
        if isinstance(line, dict) and (box := _box(line)) is not None:
            yield box


def _wire(box: Any) -> tuple[int, ...] | None:
    """A wire box, where it is one."""
    if (
        isinstance(box, list | tuple)
        and len(box) == 4
        and all(type(s) is int and 0 <= s <= WIRE for s in box)
    ):
        return tuple(box)
    return None


def _span(output: Json) -> tuple[float, float] | None:
    """(start, end) in seconds, where the output holds them."""
    start, end = output.get("start"), output.get("end")
    if not isinstance(start, int | float) or not isinstance(end, int | float):
        return None
    return (float(start), float(end)) if 0 <= start < end < FRAMES else None
