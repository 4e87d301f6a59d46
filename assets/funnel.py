"""The quality funnel: one page from raw to split, with what was refused, why, and what a survivor cost."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import pyarrow.parquet as pq

from assets.examples import caption, different, dig, drawn, escaped, first, reason, refused, there
from assets.stage import Project, Work, stage
from assets.tally import lineage, rows, source_of
from evaluation.funnel import ALL, Example, Row
from pixelis_pipeline.columns import to_table
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.chain import Input, RunRecord
from pixelis_pipeline.ledger.ledger import WHOLE
from pixelis_pipeline.records import Accepted, Json, Outcome, Rejected

EXAMPLES = "examples.parquet"
KEPT, REFUSED = 2, 4  # shown of each stage
WORDS = 160  # letters of a caption
COLUMNS = (
    "stage",
    "counts",
    "in",
    "accepted",
    "rejected",
    "failed",
    "out",
    "s each",
    "tokens each",
    "$ each",
    "rejected by reason",
)


def _line_of(project: Project, partition: str) -> Json:
    """The run records that are counted. An input whose records were all refused changes counts above and not
    one byte of the splits, by which alone this would seem settled."""
    version = project.ledger.current("training_splits")
    made = lineage(project.ledger, [Input("training_splits", WHOLE, version)]) if version else {}
    return {f"{r.asset} [{r.partition}]": r.hash for records in made.values() for r in records}


@stage(
    "quality_funnel",
    record=Row,
    group="curation",
    inputs=("training_splits",),
    conserves=(),
    settings=("media",),
    outside=_line_of,
    kinds=("parquet",),
    stable=False,
)
def quality_funnel(work: Work) -> Iterator[Outcome[Row]]:
    """One page from raw to split: what went into each stage and came out, what was refused for which reason,
    what a survivor cost by then, and pictures of both."""
    from evaluation.report.plots import funnel_picture

    made = lineage(work.project.ledger, work.inputs)
    found = rows(work.project.ledger, made)
    shown = examples(work.project, made)
    pq.write_table(to_table(Example, shown), work.folder / EXAMPLES)
    (work.folder / "funnel.png").write_bytes(funnel_picture([row for row in found if row.source == ALL]))
    (work.folder / "funnel.md").write_text(page(found, shown))
    end = [row for row in found if row.source == ALL][-1]
    for name in ("seconds", "tokens", "dollars"):
        if (each := end.each(getattr(end, name))) is not None:
            work.about[f"{name} per trace"] = each
    for row in found:
        yield Accepted(row.id, (row,))


def examples(project: Project, made: Mapping[str, Sequence[RunRecord]]) -> list[Example]:
    """Of each stage a few records that were kept, and a few that were refused, by as many different rules as
    there are."""
    return [
        e for key, mine in made.items() for e in (*_kept(project, key, mine), *_refused(project, key, mine))
    ]


def _kept(project: Project, key: str, records: Sequence[RunRecord]) -> Iterator[Example]:
    """One a partition, so that they are of several sources; of a stage over all sources the first."""
    shown = [
        (record, row)
        for record in records
        for row in islice(_pictured(project, record), 1 if source_of(record) else KEPT)
    ]
    for record, row in shown[:KEPT]:
        picture = drawn(project, row) or ""
        yield Example(key, _named(record, row), row["id"], "", caption(row)[:WORDS], picture)


def _pictured(project: Project, record: RunRecord) -> Iterator[Json]:
    folder = project.ledger.folder(record.asset, record.partition, record.version)
    return (row for row in first(folder) if dig(row, "media"))


def _refused(project: Project, key: str, records: Sequence[RunRecord]) -> Iterator[Example]:
    behind: dict[int, RunRecord] = {}  # by the rejection itself: two sources may give records one name
    chosen: list[Rejected] = []
    for record in records:
        folder = project.ledger.folder(record.asset, record.partition, record.version)
        some = different(artifact.rejected(folder), REFUSED)
        behind |= {id(each): record for each in some}
        chosen += some
    for each in different(chosen, REFUSED):
        record = behind[id(each)]
        folders = there(project, (Input(record.asset, record.partition, record.version), *record.inputs))
        ((_, row, twin),) = refused(folders, [each])
        said = " – ".join(part for part in (reason(each)[:WORDS], caption(row)[:WORDS]) if part)
        pictures = (drawn(project, row) or "", drawn(project, twin) or "")
        yield Example(key, _named(record, row), each.of, each.rule, said, *pictures)


def _named(record: RunRecord, row: Json) -> str:
    """The source of one record of a version."""
    origin = dig(row, "origin")
    return source_of(record) or (str(origin["source"]) if isinstance(origin, dict) else "")


def page(found: Sequence[Row], shown: Sequence[Example]) -> str:
    """The funnel as Markdown: a table of all sources, one of each source, and the examples."""
    whole = [row for row in found if row.source == ALL]
    sources = sorted({row.source for row in found} - {ALL})
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        f"|---|---|{'---:|' * 8}---|",
        *(_line(row) for row in whole),
        "",
        *_notes(whole),
        "",
        "Records out of each stage, of those that it read, by source:",
        "",
        f"| stage | {' | '.join(sources)} |",
        f"|---|{'---:|' * len(sources)}",
    ]
    out = {(row.stage, row.source): row for row in found}
    for row in whole:
        cells = [out.get((row.stage, source)) for source in sources]
        told = (f"{c.emitted:,} of {c.read:,}" if c else "" for c in cells)
        lines.append(f"| {row.stage} | {' | '.join(told)} |")
    for row in whole:
        lines += _example_lines(row.stage, [each for each in shown if each.stage == row.stage])
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    def told(total: float | None, form: str) -> str:
        return "" if (each := row.each(total)) is None else format(each, form)

    reasons = ", ".join(f"{escaped(rule)} {count:,}" for rule, count in _most(row))
    counts = (row.read, row.accepted, row.rejected, row.failed, row.emitted)
    costs = (told(row.seconds, ",.2f"), told(row.tokens, ",.0f"), told(row.dollars, ",.5f"))
    return f"| {' | '.join((row.stage, row.unit, *(f'{n:,}' for n in counts), *costs, reasons))} |"


def _most(row: Row) -> list[tuple[str, int]]:
    return sorted(row.rules.items(), key=lambda pair: (-pair[1], pair[0]))


def _notes(whole: Sequence[Row]) -> Iterator[str]:
    yield "Counted are samples, then requests to the teacher, several a sample, then their answers and "
    yield "traces. Each: what the runs behind these versions took to come so far, over those that are left; "
    yield "refused ones are in it, what a run that was killed had done is not."
    if whole and whole[-1].unmetered:
        yield f"{whole[-1].unmetered:,} answers came without a token count: their cost is in no sum."
    if whole and whole[-1].tokens is not None and whole[-1].dollars is None:
        yield "Dollars are unknown: a model has no price in teacher.prices."


def _example_lines(name: str, examples: Sequence[Example]) -> Iterator[str]:
    if examples:
        yield f"\n### {name}\n"
    for each in examples:
        shown = {"": each.picture, "its twin: ": each.twin}
        pictures = " ".join(f"{name}![]({address})" for name, address in shown.items() if address)
        verdict = "kept" if each.kept else f"**{escaped(each.rule)}**"
        yield f"{pictures}\n\n{verdict} · {escaped(each.source)} · {escaped(each.caption)}\n"
