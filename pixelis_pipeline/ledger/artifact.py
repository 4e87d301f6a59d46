"""What lies inside one artifact: three Parquet tables, whatever media the stage made, and a manifest.

accepted-00000.parquet   the stage's records, each with the id `of` the input it came from
rejected-00000.parquet   one row an input refused for good: rule, value, threshold, the record itself
failed-00000.parquet     one row an input to be tried again
manifest.json            sha256 and size of each file, the schema and the counts; written last

Past a million rows a table goes on in the next file.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pixelis_pipeline.columns import from_table, schema, to_row
from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.records import Accepted, Failed, Outcome, Rejected

R = TypeVar("R")
MANIFEST = "manifest.json"
SHARD_ROWS = 1_000_000
GROUP_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Counts:
    """How a stage's inputs left it. `emitted` counts records, the other four count inputs."""

    inputs: int = 0
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    emitted: int = 0

    @property
    def conserved(self) -> bool:
        """accepted + rejected + failed = inputs."""
        return self.accepted + self.rejected + self.failed == self.inputs


class Shards:
    """A growing list of Parquet files `<stem>-00000.parquet`, `<stem>-00001.parquet`, ... of one schema."""

    def __init__(self, folder: Path, stem: str, schema: pa.Schema) -> None:
        self.folder, self.stem, self.schema = folder, stem, schema
        self.rows, self.number = 0, 0
        self._held: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None

    def add(self, row: dict[str, Any]) -> None:
        """Append one row; a full row group goes to the disk."""
        self._held.append(row)
        self.rows += 1
        if len(self._held) >= GROUP_ROWS:
            self._write()

    def _write(self) -> None:
        if self._writer is None:
            name = f"{self.stem}-{self.number:05d}.parquet"
            self._writer = pq.ParquetWriter(self.folder / name, self.schema, compression="zstd")
            self.number += 1
        self._writer.write_table(pa.Table.from_pylist(self._held, schema=self.schema))
        self._held = []
        if self.rows >= self.number * SHARD_ROWS:
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def finish(self) -> None:
        """Write what is held. An empty table is still a file, so that its schema is there to read."""
        if self._held or not self.number:
            self._write()
        self._close()


def with_input(record: Any) -> pa.Schema:
    """The schema of the accepted table: the record's own columns and the input's id."""
    return schema(record).append(pa.field("of", pa.string()))


def write(folder: Path, record: type, outcomes: Iterable[Outcome[Any]]) -> Counts:
    """Write a stage's outcomes to `folder`, in the order given, and return the counts.

    Raises ValueError if an input was accepted without a record, or left the stage twice.
    """
    accepted = Shards(folder, "accepted", with_input(record))
    rejected = Shards(folder, "rejected", schema(Rejected))
    failed = Shards(folder, "failed", schema(Failed))
    seen: set[str] = set()
    kept = 0
    for outcome in outcomes:
        if outcome.of in seen:
            raise ValueError(f"input {outcome.of} left the stage twice")
        seen.add(outcome.of)
        match outcome:
            case Accepted(of=of, records=records):
                if not records:
                    raise ValueError(f"input {of} was accepted without a record")
                kept += 1
                for each in records:
                    accepted.add(to_row(each) | {"of": of})
            case Rejected():
                rejected.add(to_row(outcome))
            case Failed():
                failed.add(to_row(outcome))
    for shards in (accepted, rejected, failed):
        shards.finish()
    return Counts(len(seen), kept, rejected.rows, failed.rows, accepted.rows)


def seal(folder: Path, counts: Counts, record: type) -> None:
    """Write the manifest over everything that lies in `folder`. Nothing may be added afterwards."""
    files = {
        str(path.relative_to(folder)): {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    manifest = {
        "files": files,
        "counts": asdict(counts),
        "record": record.__name__,
        "schema": {f.name: str(f.type) for f in schema(record)},
    }
    (folder / MANIFEST).write_bytes(json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n")


def manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an artifact. FileNotFoundError where none was sealed."""
    return dict(json.loads((folder / MANIFEST).read_bytes()))


def counts(folder: Path) -> Counts:
    """The counts that the artifact was sealed with."""
    return Counts(**manifest(folder)["counts"])


def tables(folder: Path, stem: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """One table (accepted, rejected or failed), a row group at a time; `columns` may name fields of structs
    ("question.origin.source")."""
    for path in sorted(folder.glob(f"{stem}-*.parquet")):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=columns)


def find(folder: Path, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The accepted records with these ids, as rows; only the row groups that hold one are read whole."""
    missing, found = set(ids), dict[str, dict[str, Any]]()
    for path in sorted(folder.glob("accepted-*.parquet")):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            if not missing:
                return found
            here = pc.is_in(
                file.read_row_group(group, columns=["id"]).column("id"), pa.array(sorted(missing))
            )
            if pc.any(here).as_py():
                rows = file.read_row_group(group).filter(here).to_pylist()
                found |= {row["id"]: row for row in rows}
                missing -= found.keys()
    return found


def _records(folder: Path, stem: str, record: type[R]) -> Iterator[R]:
    for table in tables(folder, stem):
        yield from from_table(record, table.select(schema(record).names))


def records(folder: Path, record: type[R]) -> Iterator[R]:
    """The accepted records, in the order they were written, a row group at a time."""
    return _records(folder, "accepted", record)


def rejected(folder: Path) -> Iterator[Rejected]:
    """The rejections, in order."""
    return _records(folder, "rejected", Rejected)


def failed(folder: Path) -> Iterator[Failed]:
    """The failures to be retried, in order."""
    return _records(folder, "failed", Failed)


def ids(folder: Path, stem: str) -> list[str]:
    """The input ids of one table (accepted, rejected or failed), a row each."""
    return [of for table in tables(folder, stem, ["of"]) for of in table.column("of").to_pylist()]


def outcomes(folder: Path, record: type[R]) -> dict[str, Outcome[R]]:
    """All outcomes by input id: what a retry keeps while it runs the failed inputs again."""
    by_input: dict[str, Outcome[R]] = {r.of: r for r in rejected(folder)}
    by_input |= {f.of: f for f in failed(folder)}
    groups: dict[str, list[R]] = {}
    for table in tables(folder, "accepted"):
        of = table.column("of").to_pylist()
        for key, each in zip(of, from_table(record, table.select(schema(record).names)), strict=True):
            groups.setdefault(key, []).append(each)
    return by_input | {of: Accepted(of, tuple(each)) for of, each in groups.items()}
