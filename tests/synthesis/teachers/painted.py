"""Films painted from annotated tracks, for real annotations whose films are not at hand: every box or mask is
where the annotators say, filled with a pattern of its own. What the film showed is not imitated."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np

from pixelis_pipeline.records import Json
from pixelis_pipeline.tools.masks import decode

Array = np.ndarray[Any, Any]
CELL = 6  # pixels of the patterns' squares


def painted(tracks: Sequence[Json], width: int, height: int, frames: int, fps: float) -> bytes:
    """An mp4 of `frames` frames. `tracks` are dense (`annotated_truth.followed`), the largest is painted
    first; without tracks it shows its ground only."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream: Any = container.add_stream(
            "libx264", rate=round(fps), options={"preset": "ultrafast", "crf": "20"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for pixels in _frames(tracks, width, height, frames):
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return out.getvalue()


def _frames(tracks: Sequence[Json], width: int, height: int, frames: int) -> Iterator[Array]:
    rng = np.random.default_rng(7)
    ground = _pattern(rng, width, height, (110, 110, 110))
    coats = [_pattern(rng, width, height, tuple(rng.integers(30, 226, 3))) for _ in tracks]
    order = sorted(range(len(tracks)), key=lambda n: -_area(tracks[n]["boxes"][0]))
    seen = [dict(zip(track["frames"], track["boxes"], strict=True)) for track in tracks]
    for frame in range(frames):
        pixels = ground.copy()
        for number in order:
            if frame in seen[number]:
                _paint(pixels, coats[number], seen[number][frame], _mask(tracks[number], frame))
        yield pixels


def _pattern(rng: np.random.Generator, width: int, height: int, colour: Any) -> Array:
    """uint8 [height, width, 3]: squares of lighter and darker shades of one colour."""
    shades = rng.integers(-40, 41, (height // CELL + 1, width // CELL + 1, 1))
    large = np.kron(shades, np.ones((CELL, CELL, 1), int))[:height, :width]
    return np.clip(large + np.array(colour), 0, 255).astype(np.uint8)


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _mask(track: Json, frame: int) -> Array | None:
    """The mask of the last annotated frame, cut to its box; None for a track of boxes."""
    if "rles" not in track:
        return None
    last = max(n for n, key in enumerate(track["keys"]) if key <= frame)
    mask = decode(track["rles"][last])
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _paint(pixels: Array, coat: Array, box: Sequence[float], mask: Array | None) -> None:
    """The coat moves with the thing: its corner is the box's."""
    height, width = pixels.shape[:2]
    x0, y0 = round(box[0]), round(box[1])
    if mask is None:
        mask = np.ones((max(round(box[3]) - y0, 1), max(round(box[2]) - x0, 1)), bool)
    high, wide = min(mask.shape[0], height - y0), min(mask.shape[1], width - x0)
    place = pixels[y0 : y0 + high, x0 : x0 + wide]
    place[mask[:high, :wide]] = coat[:high, :wide][mask[:high, :wide]]
