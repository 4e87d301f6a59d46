"""Videos by PyAV: dimensions, length and sampled frames, never more pixels or seconds than allowed."""

import io
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.media.image import Pixels, shrunk
from pixelis_pipeline.settings import MediaLimits

_FASTEST = 240.0  # frames a second; a file with more than that over its allowed length is refused


def _mp4_end(data: bytes) -> int:
    """Where an MP4's last top-level box says it ends (ISO/IEC 14496-12, 4.2)."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size == 0:  # "to the end of the file"
            return len(data)
        at += max(size, 8)
    return at


def _matroska_end(data: bytes) -> int:
    """Where the Segment after a Matroska file's EBML header says it ends (RFC 8794, 4 and 6)."""
    at = 0
    for _ in ("EBML", "Segment"):
        at += 4  # both ids have four bytes
        length = 9 - data[at].bit_length() if at < len(data) and data[at] else 8
        size = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
        if size == (1 << 7 * length) - 1:  # unknown: a live stream
            return len(data)
        at += length + size
    return at


# FFmpeg plays what is left of a file without a word; AVI's own index tells it.
_ENDS = {"mp4": _mp4_end, "matroska": _matroska_end}


def _stream(container: Any, name: str, limits: MediaLimits) -> Any:
    if not container.streams.video:
        raise MediaError("not a video", f"{name}: holds no video stream")
    stream = container.streams.video[0]
    size = f"{stream.width}x{stream.height}"
    if stream.width * stream.height > limits.pixels:
        raise MediaError("decompression bomb", f"{name}: frames of {size}, over {limits.pixels} pixels")
    if container.duration and container.duration / av.time_base > limits.seconds:
        seconds = container.duration / av.time_base
        raise MediaError("too long", f"{name}: {seconds:.1f} s, over {limits.seconds} s")
    # Frames may grow behind the header's back; the decoder then refuses them.
    stream.codec_context.options = {"max_pixels": str(limits.pixels)}
    stream.thread_type = "AUTO"
    return stream


def _decoded(data: bytes, form: str, name: str, limits: MediaLimits) -> Iterator[tuple[float, Any]]:
    """(seconds from the first frame, av.VideoFrame) in order of presentation."""
    if form in _ENDS and (end := _ENDS[form](data)) > len(data):
        raise MediaError("truncated", f"{name}: {len(data)} of {end} bytes")
    try:
        with av.open(io.BytesIO(data), "r", format=form) as container:
            stream = _stream(container, name, limits)
            first: float | None = None
            for number, frame in enumerate(container.decode(stream)):
                time = frame.time if frame.time is not None else number / float(stream.average_rate or 25)
                first = time if first is None else first
                if time - first > limits.seconds or number > limits.seconds * _FASTEST:
                    raise MediaError("too long", f"{name}: goes on after {limits.seconds} s")
                if frame.is_corrupt:
                    raise MediaError("truncated", f"{name}: frame {number} is damaged")
                yield time - first, frame
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError("truncated", f"{name}: {error}") from error


def _turns(frame: Any) -> int:
    """Quarter turns counter-clockwise that show the frame as the file's display matrix asks."""
    return round(frame.rotation / 90) % 4


def describe(data: bytes, form: str, name: str, limits: MediaLimits) -> tuple[int, int, int, float]:
    """(width, height as shown, frames, frames a second). Decodes the whole file once.

    `form` is FFmpeg's demuxer: mp4, matroska or avi. Raises MediaError.
    """
    width = height = count = 0
    last = 0.0
    for seconds, frame in _decoded(data, form, name, limits):
        if not count:
            turned = _turns(frame) % 2 == 1
            width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
        count, last = count + 1, seconds
    if not count:
        raise MediaError("truncated", f"{name}: not one frame can be decoded")
    # The mean rate over what was decoded: containers state rates that their frames do not keep.
    fps = (count - 1) / last if last > 0 else 0.0
    return width, height, count, round(fps, 6)


def frames(data: bytes, form: str, name: str, limits: MediaLimits) -> Iterator[Pixels]:
    """Every frame from the first on, uint8 [height, width, 3] RGB as shown. Raises MediaError."""
    for _, frame in _decoded(data, form, name, limits):
        yield _shown(frame)


def key_frames(
    data: bytes, form: str, name: str, limits: MediaLimits, side: int
) -> Iterator[tuple[float, Pixels]]:
    """(seconds from the first frame, uint8 [height, width, 3] RGB as shown, reduced to `side` as in
    `image.reduced`) of the first frame of every whole second that has one. One is held at a time, and the
    frames between are decoded but not converted. Raises MediaError."""
    second = -1
    for seconds, frame in _decoded(data, form, name, limits):
        if int(seconds) > second:
            second = int(seconds)
            yield seconds, shrunk(_shown(frame), side)


def _shown(frame: Any) -> Pixels:
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), _turns(frame)))


def sampled(
    data: bytes, form: str, name: str, limits: MediaLimits, total: int, count: int
) -> list[tuple[float, Pixels]]:
    """`count` of the `total` frames, each from the middle of an equal share of the video, as
    [(seconds from the first frame, uint8 [height, width, 3] RGB)]. All of them where count >= total."""
    wanted = (
        {(2 * i + 1) * total // (2 * count) for i in range(count)} if count < total else set(range(total))
    )
    return [
        (seconds, _shown(frame))
        for number, (seconds, frame) in enumerate(_decoded(data, form, name, limits))
        if number in wanted
    ]
