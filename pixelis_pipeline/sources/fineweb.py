"""FineWeb: Parquet shards (or JSON lines, as on its card) of texts, which the reader prints as pages.

A page's look is drawn from the record's id, so the same text gives the same picture wherever its file
lies. Words without a glyph in the page's face are not printed; a text of which next to nothing can be
printed is rejected. Rows without an `id`, in FineWeb-like files, are named by file and row.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from pixelis_pipeline.media.files import inside
from pixelis_pipeline.records import Media, Outcome, Sample
from pixelis_pipeline.settings import MediaLimits
from pixelis_pipeline.sources.contract import Keep, LayoutError, Wanted, every
from pixelis_pipeline.sources.licences import origin
from pixelis_pipeline.sources.record import (
    BadRecord,
    Published,
    Work,
    lines,
    outcomes,
    parse,
    parse_json,
    sample,
    storable,
)
from pixelis_pipeline.world.page import page_seed, render_page

VERSION = 1
EXPECTED = "FineWeb's *.parquet or *.jsonl with a column `text`"
COLUMNS = ("text", "id", "url", "language", "language_score")
BATCH = 256  # rows held at once
FEWEST_WORDS = 3  # printed on a page


class Row(Published):
    text: str
    id: str | None = None
    url: str = ""
    language: str = ""
    language_score: float | None = None


def _png(page: "np.ndarray[Any, np.dtype[np.uint8]]") -> bytes:
    """The page as PNG. Its compression level is fixed, since the bytes are what the page is known by."""
    out = io.BytesIO()
    Image.fromarray(page).save(out, "PNG", compress_level=3)
    return out.getvalue()


def _sample(name: str, value: Any, folder: Path, keep: Keep) -> Sample:
    row = parse(Row, parse_json(value) if isinstance(value, bytes) else value)
    if not row.text.strip():
        raise BadRecord("empty text", name)
    page, words = render_page(row.text, page_seed(name))
    if len(words) < FEWEST_WORDS:
        raise BadRecord("too few printable words", f"{name}: {row.text[:60]!r}", len(words), FEWEST_WORDS)
    data = _png(page)
    height, width = page.shape[:2]
    media = Media(hashlib.sha256(data).hexdigest(), "image", keep(data, ".png"), width, height)
    annotations = {"words": words, "text": row.text, "url": row.url, "language": row.language}
    return sample(VERSION, origin("fineweb", name, folder), [media], annotations=annotations)


def _rows(path: Path, folder: Path, limits: MediaLimits) -> Iterator[tuple[int, Any]]:
    """(row number from 1, its values or its line of JSON). LayoutError for a file that is no table."""
    if path.suffix == ".jsonl":
        yield from lines(path, folder)
        return
    try:
        with pq.ParquetFile(inside(path, folder)) as table:
            held = [name for name in COLUMNS if name in table.schema_arrow.names]
            if "text" not in held:
                raise LayoutError(path, EXPECTED)
            groups = [table.metadata.row_group(i) for i in range(table.num_row_groups)]
            if any(group.total_byte_size > limits.bytes for group in groups):
                raise LayoutError(path, f"row groups of at most {limits.bytes} bytes once unpacked")
            number = 0
            for batch in table.iter_batches(batch_size=BATCH, columns=held):
                for value in batch.to_pylist():
                    number += 1
                    yield number, {name: v for name, v in value.items() if v is not None}
    except LayoutError:
        raise
    except (ValueError, OSError) as error:  # Arrow's own errors and text that is no UTF-8 are among them
        raise LayoutError(path, f"{EXPECTED} ({error})") from error


def _named(path: Path, folder: Path, number: int, value: Any) -> str:
    """The record's own id, else its file and row."""
    if isinstance(value, bytes):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None  # its outcome will say so
    own = value.get("id") if isinstance(value, dict) else None
    return (
        storable(own) if isinstance(own, str) and own else f"{path.relative_to(folder).as_posix()}:{number}"
    )


def _work(folder: Path, paths: list[Path], limits: MediaLimits, keep: Keep) -> Iterator[Work]:
    for path in paths:
        for number, value in _rows(path, folder, limits):
            name = _named(path, folder, number, value)
            yield name, partial(_sample, name, value, folder, keep)


def read(folder: Path, limits: MediaLimits, keep: Keep, wanted: Wanted = every) -> Iterator[Outcome[Sample]]:
    """One printed page per text, shards in the order of their paths."""
    paths = sorted([*folder.rglob("*.parquet"), *folder.rglob("*.jsonl")])
    if not paths:
        raise LayoutError(folder, EXPECTED)
    return outcomes("fineweb", _work(folder, paths, limits, keep), wanted)
