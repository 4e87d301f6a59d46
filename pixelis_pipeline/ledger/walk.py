"""From any record back to what it was made from, and forward to what it touched.

An index over the `id` and `parents` columns of every artifact on the disk. Nothing but the ledger's own
files is read, so a walk works where Dagster is not installed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pixelis_pipeline.ledger import artifact, chain
from pixelis_pipeline.ledger.ledger import Ledger
from pixelis_pipeline.records import Rejected

WHY = ("of", "stage", "rule", "measured", "threshold", "twin", "detail")


class UnknownId(KeyError):
    """An id that no artifact on this disk holds, or the beginning of more than one."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Node:
    """One record: where it stands and what it was made from."""

    id: str
    asset: str
    partition: str
    version: str
    parents: tuple[str, ...]
    shard: Path
    number: int

    def row(self) -> dict[str, Any]:
        """The record's whole row."""
        file, number = pq.ParquetFile(self.shard), self.number
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if number < rows:
                return dict(file.read_row_group(group).slice(number, 1).to_pylist()[0])
            number -= rows
        raise IndexError(f"{self.shard} has no row {self.number}")


class Index:
    """Every record of the versions in force; older versions are looked at where those do not know an id."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def _places(self, in_force: bool) -> Iterator[tuple[str, str, str, Path]]:
        """(asset, partition, version, folder) of the versions in force, or of the others."""
        for asset in chain.assets(self.ledger.root):
            seen = set()
            for record in reversed(self.ledger.chain(asset)):
                place = (record.partition, record.version)
                current = self.ledger.current(asset, record.partition) == record.version
                if place not in seen and current == in_force:
                    seen.add(place)
                    yield asset, *place, self.ledger.data / asset / record.partition / record.version

    def _nodes(self, in_force: bool) -> Iterator[Node]:
        for asset, partition, version, folder in self._places(in_force):
            for shard in sorted(folder.glob("accepted-*.parquet")):
                yield from self._shard(asset, partition, version, shard)

    def _shard(self, asset: str, partition: str, version: str, shard: Path) -> Iterator[Node]:
        names = set(pq.read_schema(shard).names)
        if "id" not in names:
            return
        columns = pq.read_table(shard, columns=sorted(names & {"id", "parents", "predictions"})).to_pydict()
        parents = columns.get("parents") or columns.get("predictions") or [[]] * len(columns["id"])
        for number, (key, above) in enumerate(zip(columns["id"], parents, strict=True)):
            yield Node(key, asset, partition, version, tuple(above), shard, number)

    @cached_property
    def current(self) -> dict[str, Node]:
        """The records of the versions in force, by id."""
        return {node.id: node for node in self._nodes(in_force=True)}

    @cached_property
    def older(self) -> dict[str, Node]:
        """The records of superseded versions that are still on the disk."""
        return {node.id: node for node in self._nodes(in_force=False)}

    @cached_property
    def children(self) -> dict[str, list[Node]]:
        """What was made from each record, among the versions in force."""
        found: dict[str, list[Node]] = {}
        for node in self.current.values():
            for parent in node.parents:
                found.setdefault(parent, []).append(node)
        return found

    @cached_property
    def refusals(self) -> dict[str, list[tuple[str, Rejected]]]:
        """Where each record was refused, "asset [partition]", and why, among the versions in force."""
        found: dict[str, list[tuple[str, Rejected]]] = {}
        for asset, partition, _, folder in self._places(in_force=True):
            for table in artifact.tables(folder, "rejected", list(WHY)):
                for row in table.to_pylist():
                    found.setdefault(row["of"], []).append((f"{asset} [{partition}]", Rejected(**row)))
        return found

    def get(self, key: str) -> Node | None:
        """The record with exactly this id, from a version in force if one has it."""
        return self.current.get(key) or self.older.get(key)

    def find(self, beginning: str) -> Node:
        """The one record whose id begins so. Raises UnknownId."""
        if node := self.get(beginning):
            return node
        found = [node for key, node in self.current.items() if key.startswith(beginning)]
        found = found or [node for key, node in self.older.items() if key.startswith(beginning)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UnknownId(f"{len(found)} records begin with {beginning}; give more of the id")
        raise UnknownId(
            f"no artifact on this disk holds {beginning}; `pixelis run` makes what is not made yet, "
            "`dvc checkout` or `dvc pull` may bring back what was"
        )
