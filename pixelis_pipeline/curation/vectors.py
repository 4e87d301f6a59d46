"""Vectors on disk: one Parquet file beside the records that they belong to, written a picture at a time.

A row is one vector: the medium's sha256, which view of it (an image is one, a video one per second), which
window of the view (0: all of it), and the vector in half precision. Descriptors are always there; embeddings
(one row a view) lie in a file of their own, which names the encoder, where one is set.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pixelis_pipeline.curation import descriptor
from pixelis_pipeline.curation.encoders import TOGETHER, Encoder
from pixelis_pipeline.curation.patches import standing, thumbnail
from pixelis_pipeline.records import Media

Array = np.ndarray[Any, Any]
Seen = Callable[[Media, int, Array], None]

FILE, EMBEDDINGS = "descriptors.parquet", "embeddings.parquet"
GROUP = 20_000  # rows held before they go to the disk: 6 MB of descriptors, 60 MB of embeddings
ENCODER = b"encoder"  # where a file's metadata name the encoder's version


def schema(dimension: int, encoder: str = "") -> pa.Schema:
    """The columns of vectors of `dimension` numbers, which `encoder` (a version) made."""
    columns = [("sha256", pa.string()), ("view", pa.int32()), ("window", pa.int32())]
    told = {ENCODER: encoder.encode()} if encoder else None
    return pa.schema([*columns, ("vector", pa.list_(pa.float16(), dimension))], metadata=told)


@dataclass(frozen=True, slots=True)
class Vectors:
    """Rows of several pictures: `owner` [n] sha256, `view` [n], `window` [n], `matrix` float32 [n, d], and
    the version of the encoder that made them, "" for descriptors."""

    owner: Array
    view: Array
    window: Array
    matrix: Array
    encoder: str = ""

    def wholes(self) -> "Vectors":
        """Those rows that describe a whole view."""
        return self.where(self.window == 0)

    def where(self, chosen: Array) -> "Vectors":
        """The chosen rows, by a mask or by their numbers."""
        columns = self.owner[chosen], self.view[chosen], self.window[chosen], self.matrix[chosen]
        return Vectors(*columns, self.encoder)


class Writer:
    """Writes the vectors of views as they come by, and describes pictures; the windows of images only."""

    def __init__(self, file: pq.ParquetWriter) -> None:
        self._file = file
        self._held: list[tuple[str, int, int, Array]] = []

    def __call__(self, media: Media, view: int, picture: Array) -> None:
        """Describe the `view`-th picture (uint8 [H, W, 3]) of a medium."""
        rows = descriptor.describe(picture)
        self.add(media, view, rows if media.kind == "image" else rows[:1])

    def add(self, media: Media, view: int, rows: Array) -> None:
        """Take the vectors of a view ([windows, dimension], or of a video its first row)."""
        self._held += [(media.sha256, view, window, row) for window, row in enumerate(rows)]
        if len(self._held) >= GROUP:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if not self._held:
            return
        owner, view, window, rows = zip(*self._held, strict=True)
        matrix = np.stack(rows).astype(np.float16)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
        columns = [pa.array(owner), pa.array(view, pa.int32()), pa.array(window, pa.int32()), vectors]
        self._file.write_table(pa.Table.from_arrays(columns, schema=self._file.schema))
        self._held = []


@contextmanager
def writer(folder: Path) -> Iterator[Writer]:
    """A writer of `folder`'s descriptors; the file is whole when the block ends."""
    with _file(folder / FILE, schema(descriptor.DIMENSION)) as write:
        yield write


@contextmanager
def embedder(folder: Path, encoder: Encoder | None) -> Iterator[Seen]:
    """What is to be shown each view of each medium once, so that `folder` holds their embeddings when the
    block ends; without an encoder nothing is done and no file is made. TOGETHER pictures at most are in
    memory. A view in which nothing stands is a row of zeros, which agrees with nothing."""
    if encoder is None:
        yield lambda media, view, picture: None
        return
    held: list[tuple[Media, int, Array]] = []

    def flush() -> None:
        for (media, view, picture), row in zip(held, encoder([each[2] for each in held]), strict=True):
            write.add(media, view, row[None] * bool(standing(thumbnail(picture))))
        held.clear()

    def seen(media: Media, view: int, picture: Array) -> None:
        held.append((media, view, picture))
        if len(held) == TOGETHER:
            flush()

    with _file(folder / EMBEDDINGS, schema(encoder.dimension, encoder.version)) as write:
        yield seen
        flush()


@contextmanager
def _file(path: Path, columns: pa.Schema) -> Iterator[Writer]:
    with pq.ParquetWriter(path, columns, compression="zstd") as file:
        kept = Writer(file)
        yield kept
        kept.flush()


def read(folders: Iterable[Path], name: str = FILE) -> Vectors:
    """The vectors in the files `name` of several folders, in order, each medium's once. Raises
    FileNotFoundError; ValueError where they are not of one encoder."""
    tables: list[pa.Table] = []
    seen: set[str] = set()
    columns = schema(descriptor.DIMENSION)
    for folder in folders:
        table = pq.read_table(folder / name)
        columns = table.schema if not tables else columns
        if not table.schema.equals(columns, check_metadata=True):
            raise ValueError(f"{folder / name} is not of the encoder of the files before it")
        owners = table.column("sha256").to_pylist()
        tables.append(table.filter(pa.array([owner not in seen for owner in owners], pa.bool_())))
        seen.update(owners)
    table = pa.concat_tables(tables).combine_chunks() if tables else columns.empty_table()
    column = table.column("vector").combine_chunks()
    flat = column.flatten() if isinstance(column, pa.FixedSizeListArray) else column.chunk(0).flatten()
    matrix = flat.to_numpy(zero_copy_only=False).astype(np.float32)
    owner = np.array(table.column("sha256").to_pylist(), dtype=object)
    view, window = (table.column(key).to_numpy() for key in ("view", "window"))
    encoder = (columns.metadata or {}).get(ENCODER, b"").decode()
    return Vectors(
        owner, view, window, matrix.reshape(len(owner), columns.field("vector").type.list_size), encoder
    )


def embeddings(folders: Iterable[Path]) -> Vectors | None:
    """The embeddings in several folders; None where none of them has any. Else raises as `read`."""
    told = list(folders)
    return read(told, EMBEDDINGS) if any((folder / EMBEDDINGS).is_file() for folder in told) else None
