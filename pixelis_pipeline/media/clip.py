"""A video as a sequence of frames that any call may look at, decoded once where it fits in memory."""

from collections.abc import Callable, Iterator
from itertools import islice

from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.media.image import Pixels

HELD_BYTES = 192 * 1024 * 1024  # a longer video is decoded again for every window


class Clip:
    """`frames` pictures of `width` x `height`, `fps` a second (frame k stands at k / fps seconds).

    `decoded` yields them from the first on, uint8 RGB [height, width, 3]. Frames that are handed out are
    shared and therefore read-only.
    """

    def __init__(
        self, frames: int, fps: float, width: int, height: int, decoded: Callable[[], Iterator[Pixels]]
    ) -> None:
        self.frames, self.fps, self.width, self.height = frames, fps, width, height
        self._decoded = decoded
        self._held: list[Pixels] | None = None

    @property
    def seconds(self) -> float:
        """How long the video lasts; 0 where its rate is unknown."""
        return self.frames / self.fps if self.fps > 0 else 0.0

    def between(self, start: int, end: int) -> Iterator[Pixels]:
        """Frames `start` to `end`, inclusive. IndexError outside the video; MediaError where it ends early
        or does not decode."""
        if not 0 <= start <= end < self.frames:
            raise IndexError(f"frames {start} to {end} of {self.frames}")
        if self._held is None and self.frames * self.width * self.height * 3 <= HELD_BYTES:
            self._held = list(self._frozen())
        given = 0
        for frame in islice(self._frozen() if self._held is None else iter(self._held), start, end + 1):
            given += 1
            yield frame
        if given != end + 1 - start:
            raise MediaError("truncated", f"the video ends at frame {start + given} of {self.frames}")

    def at(self, frame: int) -> Pixels:
        """One frame; errors as `between`."""
        return next(self.between(frame, frame))

    def _frozen(self) -> Iterator[Pixels]:
        for frame in self._decoded():
            frame.setflags(write=False)
            yield frame
