"""A clip as a policy is shown it: a few of its frames, with the numbers and times of each in words.

The frames are those that begin its equal parts, so the first is always among them. Times are written as
questions write them ("1.5"), the length as calls do ("12.0"), so that an argument can be read off.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pixelis_pipeline.records import Media


@dataclass(frozen=True, slots=True)
class Film:
    """How many frames a clip has and how many of them make a second (0 where that is unknown)."""

    frames: int
    fps: float

    def shown(self, count: int) -> list[int]:
        """Which frames are shown where `count` may be: all of them where there are no more."""
        count = min(count, self.frames)
        return [self.frames * k // count for k in range(count)]

    @property
    def told(self) -> str:
        """What is said of the whole clip."""
        length = f" of {round(self.frames / self.fps, 2)} s" if self.fps else ""
        return f"Video{length}, last frame {self.frames - 1}. "

    def frame(self, number: int) -> str:
        """What is said of one frame."""
        time = f"{number / self.fps:.4g} s " if self.fps else ""
        return f"{time}frame {number} "


def of(media: Sequence[Media]) -> Film | None:
    """The clip that a question is about, None where it is about pictures."""
    return next((Film(each.frames, each.fps) for each in media if each.kind == "video"), None)
