"""What each stage from raw to splits did with its inputs, by source, counted in the artifacts themselves."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from assets import curation  # noqa: F401  (it declares the stages that are counted)
from assets.stage import LINE, STAGES
from evaluation.funnel import ALL, Row
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.chain import Input, RunRecord
from pixelis_pipeline.ledger.ledger import Ledger
from pixelis_pipeline.settings import SOURCES

ORIGIN = "question.origin.source"
UNITS = {  # what a stage reads, where that is not traces
    "raw": "samples",
    "synthesis_plan": "samples",
    "teacher_responses": "requests",
    "trajectories": "answers",
}
ASKED, BILLED = "teacher_responses", "replayed_trajectories"  # where money begins to count; who knows the sum


def lineage(ledger: Ledger, inputs: Sequence[Input]) -> dict[str, list[RunRecord]]:
    """Stage -> the records of the versions that these were made from, along the upstreams whose records each
    stage conserves, in the order of the data. The six raw stages are one."""
    found: dict[Input, RunRecord] = {}
    todo = list(inputs)
    while todo:
        each = todo.pop()
        record = ledger.record(each.asset, each.partition, each.version)
        if each not in found and record is not None:
            found[each] = record
            todo += [i for i in record.inputs if i.asset in STAGES[each.asset].conserved]
    order = {key: place for place, key in enumerate(STAGES)}
    line: dict[str, list[RunRecord]] = {}
    for record in sorted(found.values(), key=lambda r: (order[r.asset], r.partition)):
        line.setdefault(record.asset.partition("/")[0], []).append(record)
    return line


@dataclass(slots=True)
class _Tally:
    read: int = 0
    accepted: int = 0
    emitted: int = 0
    failed: int = 0
    rules: Counter[str] = field(default_factory=Counter)

    def add(self, other: "_Tally") -> None:
        self.read += other.read
        self.accepted += other.accepted
        self.emitted += other.emitted
        self.failed += other.failed
        self.rules.update(other.rules)


def rows(ledger: Ledger, made: Mapping[str, Sequence[RunRecord]]) -> list[Row]:
    """A row a stage and source, all of them together first. Raises MissingVersion."""
    bills = _bills(made.get(BILLED, ()))
    seconds: dict[str, float] = defaultdict(float)
    paid, parted, found = False, True, list[Row]()
    sources: set[str] = set()  # one of which nothing is left has still been paid for
    for key, records in made.items():
        tallies: dict[str, _Tally] = defaultdict(_Tally, {name: _Tally() for name in sources})
        for record in records:
            took = float(record.about.get("seconds", 0.0))
            seconds[ALL] += took
            source = source_of(record)
            parted = parted and bool(source)
            if source:
                seconds[source] += took
            for name, tally in _tallies(ledger, record, source).items():
                tallies[name].add(tally)
            tallies[ALL].add(_tally(ledger, record))
        sources = set(tallies)
        paid = paid or key == ASKED
        for name in sorted(tallies, key=lambda n: (n != ALL, n)):
            tally, bill = tallies[name], bills.get(name) if paid else None
            found.append(
                Row(
                    id=f"funnel/{key}/{name}",
                    parents=(),
                    stage=key,
                    source=name,
                    unit=UNITS.get(key, "traces"),
                    read=tally.read,
                    accepted=tally.accepted,
                    emitted=tally.emitted,
                    failed=tally.failed,
                    rules=dict(sorted(tally.rules.items())),
                    seconds=round(seconds[name], 3) if name == ALL or parted else None,
                    tokens=bill.tokens if bill else None,
                    dollars=bill.dollars if bill else None,
                    unmetered=bill.unmetered if bill else 0,
                    counted=tuple(
                        f"{r.asset} [{r.partition}] {r.version}"
                        for r in records
                        if name == ALL or source_of(r) in ("", name)
                    ),
                )
            )
    return found


@dataclass(slots=True)
class _Bill:
    tokens: int = 0
    dollars: float | None = 0.0
    unmetered: int = 0


def _bills(replayed: Sequence[RunRecord]) -> dict[str, _Bill]:
    """What each source's answers took, those of refused traces included, and all together; not together
    where one of them is not known."""
    found: dict[str, _Bill] = {}
    billed = [record for record in replayed if "cost" in record.about]
    for record in billed:
        cost = record.about["cost"]["kinds"][ALL]
        for name in (ALL, source_of(record)):
            bill = found.setdefault(name, _Bill())
            bill.tokens += cost["prompt_tokens"] + cost["completion_tokens"]
            bill.unmetered += cost["unmetered"]
            if cost["answers"]:
                known = bill.dollars is not None and cost["dollars"] is not None
                bill.dollars = bill.dollars + cost["dollars"] if known else None
    if len(billed) < len(replayed):
        found.pop(ALL, None)
    return found


def source_of(record: RunRecord) -> str:
    """The one source whose records a version holds; "" where it holds those of all."""
    of = STAGES[record.asset].partitions
    return of if of in SOURCES else record.partition.rpartition("-")[2] if of == LINE else ""


def _tally(ledger: Ledger, record: RunRecord) -> _Tally:
    folder = ledger.folder(record.asset, record.partition, record.version)
    rules: Counter[str] = Counter()
    for table in artifact.tables(folder, "rejected", ["rule"]):
        rules.update(table.column("rule").to_pylist())
    counts = record.counts
    return _Tally(counts["inputs"], counts["accepted"], counts["emitted"], counts["failed"], rules)


def _tallies(ledger: Ledger, record: RunRecord, source: str) -> dict[str, _Tally]:
    """By source. What a stage over all sources read is looked up in the versions that it read."""
    if source:
        return {source: _tally(ledger, record)}
    found: dict[str, _Tally] = defaultdict(_Tally)
    folder = ledger.folder(record.asset, record.partition, record.version)
    for table in artifact.tables(folder, "accepted", ["of", ORIGIN]):
        for name, emitted, accepted in _by_origin(table):
            found[name].emitted += emitted
            found[name].accepted += accepted
    rules: dict[str, str] = {}
    for table in artifact.tables(folder, "rejected", ["of", "rule"]):
        rules.update(zip(table.column("of").to_pylist(), table.column("rule").to_pylist(), strict=True))
    for name, ids in _origins(ledger, record, set(rules) | set(artifact.ids(folder, "failed"))):
        for each in ids:
            if each in rules:
                found[name].rules[rules[each]] += 1
            else:
                found[name].failed += 1
    for tally in found.values():
        tally.read = tally.accepted + tally.rules.total() + tally.failed
    return found


def _by_origin(table: pa.Table) -> Iterator[tuple[str, int, int]]:
    """(source, records, inputs they were made of) of a table that holds `of` and ORIGIN."""
    origin = pc.struct_field(table.column("question"), ["origin", "source"])
    held = pa.table({"source": origin, "of": table.column("of")})
    counted = held.group_by("source").aggregate([("of", "count"), ("of", "count_distinct")])
    for row in counted.to_pylist():
        yield row["source"], row["of_count"], row["of_count_distinct"]


def _origins(ledger: Ledger, record: RunRecord, ids: set[str]) -> Iterator[tuple[str, list[str]]]:
    """(source, which of these ids came from it), by what the stage read."""
    wanted = pa.array(sorted(ids), pa.string())
    for each in record.inputs:
        above = ledger.record(each.asset, each.partition, each.version)
        if above is None or each.asset not in STAGES[record.asset].conserved or not ids:
            continue
        folder, source = ledger.folder(each.asset, each.partition, each.version), source_of(above)
        for table in artifact.tables(folder, "accepted", ["id"] if source else ["id", ORIGIN]):
            chosen = table.filter(pc.is_in(table.column("id"), wanted))
            if source:
                yield source, chosen.column("id").to_pylist()
                continue
            names = pc.struct_field(chosen.column("question"), ["origin", "source"]).to_pylist()
            for name, of in zip(names, chosen.column("id").to_pylist(), strict=True):
                yield name, [of]
