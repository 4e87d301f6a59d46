"""Descriptors on disk: one Parquet file beside the records that they belong to, written a picture at a time.

A row is one vector: the medium's sha256, which view of it (an image is one, a video one per second), which
window of the view (0: all of it), and the vector in half precision.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pixelis_pipeline.curation import descriptor
from pixelis_pipeline.records import Media

Array = np.ndarray[Any, Any]

FILE = "descriptors.parquet"
GROUP = 20_000  # rows held before they go to the disk, 3 MB
SCHEMA = pa.schema(
    [
        ("sha256", pa.string()),
        ("view", pa.int32()),
        ("window", pa.int32()),
        ("vector", pa.list_(pa.float16(), descriptor.DIMENSION)),
    ]
)


@dataclass(frozen=True, slots=True)
class Vectors:
    """Rows of several pictures: `owner` [n] sha256, `view` [n], `window` [n], `matrix` float32 [n, d]."""

    owner: Array
    view: Array
    window: Array
    matrix: Array

    def wholes(self) -> "Vectors":
        """Those rows that describe a whole view."""
        return self.where(self.window == 0)

    def where(self, chosen: Array) -> "Vectors":
        """The chosen rows, by a mask or by their numbers."""
        return Vectors(self.owner[chosen], self.view[chosen], self.window[chosen], self.matrix[chosen])


class Writer:
    """Describes pictures as they come by and writes what it finds; the windows of images only."""

    def __init__(self, file: pq.ParquetWriter) -> None:
        self._file = file
        self._held: list[tuple[str, int, int, Array]] = []

    def __call__(self, media: Media, view: int, picture: Array) -> None:
        """Describe the `view`-th picture (uint8 [H, W, 3]) of a medium."""
        rows = descriptor.describe(picture)
        self.add(media, view, rows if media.kind == "image" else rows[:1])

    def add(self, media: Media, view: int, rows: Array) -> None:
        """Take the descriptor of a view ([windows, DIMENSION], or of a video its first row)."""
        self._held += [(media.sha256, view, window, row) for window, row in enumerate(rows)]
        if len(self._held) >= GROUP:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if not self._held:
            return
        owner, view, window, rows = zip(*self._held, strict=True)
        flat = pa.array(np.stack(rows).astype(np.float16).ravel())
        vectors = pa.FixedSizeListArray.from_arrays(flat, descriptor.DIMENSION)
        columns = [pa.array(owner), pa.array(view, pa.int32()), pa.array(window, pa.int32()), vectors]
        self._file.write_table(pa.Table.from_arrays(columns, schema=SCHEMA))
        self._held = []


@contextmanager
def writer(folder: Path) -> Iterator[Writer]:
    """A writer of `folder`'s descriptors; the file is whole when the block ends."""
    with pq.ParquetWriter(folder / FILE, SCHEMA, compression="zstd") as file:
        kept = Writer(file)
        yield kept
        kept.flush()


def read(folders: Iterable[Path]) -> Vectors:
    """The descriptors of several folders, in order, each medium's once. Raises FileNotFoundError."""
    tables, seen = [], set()
    for folder in folders:
        table = pq.read_table(folder / FILE)
        owners = table.column("sha256").to_pylist()
        tables.append(table.filter(pa.array([owner not in seen for owner in owners], pa.bool_())))
        seen.update(owners)
    table = pa.concat_tables(tables).combine_chunks() if tables else SCHEMA.empty_table()
    column = table.column("vector").combine_chunks()
    flat = column.flatten() if isinstance(column, pa.FixedSizeListArray) else column.chunk(0).flatten()
    matrix = flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, descriptor.DIMENSION)
    owner = np.array(table.column("sha256").to_pylist(), dtype=object)
    return Vectors(owner, table.column("view").to_numpy(), table.column("window").to_numpy(), matrix)
