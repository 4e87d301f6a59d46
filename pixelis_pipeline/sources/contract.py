"""What every reader promises.

A reader is a generator `read(folder, limits, keep) -> Iterator[Outcome[Sample]]`; those of the six sources
take `wanted` besides, and pass over the records whose names it refuses, unread. It knows one layout, the
one its authors publish. A folder that is missing or laid out otherwise raises `LayoutError` at once, with
the path and what was expected. Anything wrong with a single record is a `Rejected`, and reading goes on; an
error of the disk is a `Failed`.

Media lie beside the records as a rule and are read in place. Where the authors publish none (FineWeb is
text, some benchmarks carry their pictures inside Parquet), the reader makes the bytes and hands them to
`keep(data, suffix)`; what that returns is the `Media.path` under which they can be found again. The caller
decides where they go: readers write nothing. `keep` may be given the same bytes twice.

`Sample.annotations` is normalised, whatever the authors' form:

    objects   [{"box": [x0, y0, x1, y1] px exclusive, "rle": COCO RLE or absent, "area": px,
                "category": str, "parent": str (the whole a part belongs to)}]
    words     [{"text": str, "box": [x0, y0, x1, y1] px, "line": int}]
    windows   [{"query": str, "start": s, "end": s, "clamped": true where the authors' window reached
                past the video's end or start and was cut to it}]
    tracks    [{"label": str, "frames": [int], "boxes": [[x0, y0, x1, y1] px]}], where the authors draw masks
              also "rles" and "areas" beside the boxes and "hidden": [int], frames in which it is not seen
    text      str, for sources that are text
    answers   [str], every answer that counts as right, where the authors give several
    dropped   {rule: n}, parts of a record that were left out of it while the record itself stays
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from pixelis_pipeline.records import Outcome, Sample
from pixelis_pipeline.settings import MediaLimits


class LayoutError(FileNotFoundError):
    """A source folder that is missing or not laid out as its authors publish it."""

    def __init__(self, folder: Path, expected: str) -> None:
        super().__init__(f"{folder}: expected {expected}")
        self.folder, self.expected = folder, expected


Keep = Callable[[bytes, str], str]
"""(file bytes, suffix such as ".png") -> the `Media.path` that will hold them."""

Reader = Callable[[Path, MediaLimits, Keep], Iterator[Outcome[Sample]]]

Wanted = Callable[[str], bool]
"""Whether the record of this name (its outcome's `of`) is to be read."""


def every(name: str) -> bool:
    """Every record is wanted."""
    return True


class SourceReader(Protocol):
    """The reader of a source."""

    def __call__(
        self, folder: Path, limits: MediaLimits, keep: Keep, wanted: Wanted = every
    ) -> Iterator[Outcome[Sample]]:
        """The wanted records of the folder."""
