"""The question's media with what each step looked at drawn on them, for asset pages and the report.

Solid: what the tools returned, or what a trace says that was not run again. Dashed black and white: what
the trace claimed, beside the re-run. A tracklet is its first and last box and the way between.
"""

from collections.abc import Iterable, Sequence
from math import ceil

import cv2
import numpy as np

from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.records import Step
from pixelis_pipeline.tools.contract import Workspace
from pixelis_pipeline.verify.marks import Mark, Region, marks
from pixelis_pipeline.verify.metrics import box_iou
from pixelis_pipeline.verify.strokes import (
    BLACK,
    FACE,
    LETTERS,
    Array,
    Colour,
    Plate,
    lay,
    line,
    place,
    room,
    tag,
)

COLOURS: tuple[Colour, ...] = (
    *((230, 25, 75), (0, 130, 200), (245, 130, 48)),
    *((60, 180, 75), (145, 30, 180), (0, 160, 160)),
)
GROUND, SEARCHED = (245, 245, 245), (215, 215, 215)
LINE = 16  # pixels, of a line of text
NAMED = 256  # pixels: on smaller pictures a step is shown by its number alone
TILES, GAP = 6, 4


def draw_steps(pixels: Array, steps: Sequence[Step], max_side: int = 768) -> bytes:
    """PNG bytes of uint8 RGB `pixels` [height, width, 3], no side longer than `max_side`, with every
    step's box, mask, way or span and the step's number, counted from 0 as calls do. Of a video `pixels` is
    the first frame; what lies on another frame says so."""
    return _png(_painted(pixels, list(marks(steps)), steps, max_side, None))


def draw_trace(workspace: Workspace, steps: Sequence[Step], max_side: int = 768, tiles: int = TILES) -> bytes:
    """PNG bytes as `draw_steps`; of a video a sheet of at most `tiles` of the frames that its steps name,
    each with what was looked at there, over the spans of time that steps named. No side is longer than
    `max_side` but for those spans. MediaError where a frame does not decode."""
    if workspace.clip is None:
        return draw_steps(workspace.images[0], steps, max_side)
    clip, all_marks = workspace.clip, list(marks(steps))
    shown = named(clip, all_marks, tiles)
    columns = min(3, len(shown))
    side = max(32, max_side // columns - GAP)
    cells = []
    for frame, pixels in _decoded(clip, shown):
        cell = _painted(pixels, all_marks, steps, side, frame)
        seconds = f"  {frame / clip.fps:.1f} s" if clip.fps > 0 else ""
        cells.append(_under(cell, f"frame {frame}{seconds}"))
    sheet = _grid(cells, columns)
    strips = [_strip(clip, mark, steps, sheet.shape[1]) for mark in all_marks if mark.span is not None]
    return _png(np.vstack([sheet, *strips]))


def named(clip: Clip, all_marks: Iterable[Mark], tiles: int) -> list[int]:
    """The frames worth showing, in order: those that calls name first, then evenly those of tracklets and
    spans; the first frame where there are none."""
    calls: set[int] = set()
    spread: set[int] = set()
    for mark in all_marks:
        if mark.span is not None and clip.fps > 0:
            first, last = (int(end * clip.fps) for end in (max(mark.span[0], 0.0), mark.span[1]))
            spread |= set(range(first, min(last, clip.frames - 1) + 1))
        (calls if len(mark.frames) == 1 else spread).update(f for f in mark.frames if f < clip.frames)
    first_calls = sorted(calls)[:tiles]
    rest, room = sorted(spread - calls), tiles - len(first_calls)
    evenly = {rest[round(k * (len(rest) - 1) / max(room - 1, 1))] for k in range(room)} if rest else set()
    return sorted({*first_calls, *evenly}) or [0]


def _decoded(clip: Clip, frames: Sequence[int]) -> Iterable[tuple[int, Array]]:
    """(number, pixels) of the frames, in one pass over the video."""
    window = enumerate(clip.between(frames[0], frames[-1]), frames[0])
    return ((number, pixels) for number, pixels in window if number in frames)


def _painted(
    pixels: Array, all_marks: Sequence[Mark], steps: Sequence[Step], max_side: int, only: int | None
) -> Array:
    """The picture with the marks of one frame, or with all, on a canvas of its own."""
    scale = min(1.0, max_side / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    canvas = np.ascontiguousarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    taken: list[Plate] = []
    for mark in all_marks:
        if only is None and mark.span is not None:
            _say(canvas, mark, steps, taken)
        elif only in mark.frames or (only is None and mark.frames):
            _draw(canvas, mark, _name(mark, steps, min(size), only), only, taken)
    return canvas


def _name(mark: Mark, steps: Sequence[Step], side: int, only: int | None) -> str:
    if mark.claimed:
        return ""
    name = f"{mark.step} {steps[mark.step].action.name}" if side >= NAMED else str(mark.step)
    (first, *more) = mark.frames
    return f"{name} frame {first}" if only is None and first and not more else name


def _draw(canvas: Array, mark: Mark, name: str, only: int | None, taken: list[Plate]) -> None:
    """One mark: its mask, its box (of a tracklet the first and the last until frame `only`, and the way
    between), its points, and its name at the box."""
    size, colour = canvas.shape[1::-1], COLOURS[mark.step % len(COLOURS)]
    if mark.mask is not None:
        lay(canvas, mark.mask, _pixels(mark.over, *size), None if mark.claimed else colour)
    boxes = [_pixels(box, *size) for frame, box in mark.frames.items() if only is None or frame <= only]
    if len(boxes) > 1:
        middles = [((left + right) // 2, (top + foot) // 2) for left, top, right, foot in boxes]
        line(canvas, np.array(middles), mark.claimed, colour)
    for left, top, right, foot in dict.fromkeys((boxes[0], boxes[-1])):
        if mark.mask is None or not mark.claimed:
            corners = [(left, top), (right, top), (right, foot), (left, foot), (left, top)]
            line(canvas, np.array(corners), mark.claimed, colour)
    for part in mark.parts:
        left, top, right, foot = _pixels(part, *size)
        cv2.rectangle(canvas, (left, top), (right, foot), colour, 1)
    for x, y in mark.points:
        at = round(x * (size[0] - 1)), round(y * (size[1] - 1))
        cv2.drawMarker(canvas, at, colour, cv2.MARKER_CROSS, 9, 2)
    if name:
        taken.append(place(room(name), boxes[-1], canvas, taken))
        tag(canvas, name, taken[-1], colour)


def _say(canvas: Array, mark: Mark, steps: Sequence[Step], taken: list[Plate]) -> None:
    """A span of time is nowhere on a picture: it stands as text at its foot."""
    text = _told(mark, steps)
    width, height = room(text)
    rows = range(canvas.shape[0] - height, 0, -height) or [0]
    plates = [(0, row, width, row + height) for row in rows]
    free = (plate for plate in plates if not any(box_iou(plate, other) for other in taken))
    taken.append(next(free, plates[0]))
    tag(canvas, text, taken[-1], BLACK if mark.claimed else COLOURS[mark.step % len(COLOURS)])


def _told(mark: Mark, steps: Sequence[Step]) -> str:
    start, end = mark.span or (0.0, 0.0)
    said = "said " if mark.claimed else ""
    return f"{mark.step} {steps[mark.step].action.name} {said}{start:.1f}-{end:.1f} s"


def _strip(clip: Clip, mark: Mark, steps: Sequence[Step], width: int) -> Array:
    """One span on the time of the video: the window that was searched in grey, the span in colour, or
    dashed where the trace merely claims it."""
    row = np.full((2 * LINE, width, 3), 255, np.uint8)
    colour, seconds = COLOURS[mark.step % len(COLOURS)], max(clip.seconds, 1e-6)

    def at(time: float) -> int:
        return round(min(max(time / seconds, 0.0), 1.0) * (width - 1))

    top, foot = LINE + 2, 2 * LINE - 3
    cv2.rectangle(row, (0, top), (width - 1, foot), GROUND, -1)
    cv2.rectangle(row, (at(mark.window[0]), top), (at(mark.window[1]), foot), SEARCHED, -1)
    start, end = (at(time) for time in mark.span or (0.0, 0.0))
    if mark.claimed:
        corners = [(start, top), (end, top), (end, foot), (start, foot), (start, top)]
        line(row, np.array(corners), True, colour)
    else:
        cv2.rectangle(row, (start, top), (end, foot), colour, -1)
    cv2.putText(row, _told(mark, steps), (2, LINE - 4), FACE, LETTERS, colour, 1, cv2.LINE_AA)
    return row


def _under(picture: Array, text: str) -> Array:
    label = np.full((LINE, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(label, text, (2, LINE - 4), FACE, LETTERS, BLACK, 1, cv2.LINE_AA)
    return np.vstack([picture, label])


def _grid(cells: Sequence[Array], columns: int) -> Array:
    """Cells of one size in rows, on white."""
    height, width = cells[0].shape[:2]
    rows = ceil(len(cells) / columns)
    sheet = np.full((rows * height, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for k, cell in enumerate(cells):
        y, x = k // columns * height, k % columns * (width + GAP)
        sheet[y : y + height, x : x + width] = cell
    return sheet


def _pixels(region: Region, width: int, height: int) -> Plate:
    left, top, right, bottom = region
    return (
        round(left * (width - 1)),
        round(top * (height - 1)),
        round(right * (width - 1)),
        round(bottom * (height - 1)),
    )


def _png(picture: Array) -> bytes:
    _, png = cv2.imencode(".png", np.ascontiguousarray(picture[:, :, ::-1]))
    return bytes(png.tobytes())
