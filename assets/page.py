"""What an asset's page shows in the Dagster UI: counts, rejections by reason, kept and rejected examples
with their pictures, curves, and where the code stands."""

import base64
import inspect
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq

from assets import examples
from assets.running import Made, expected
from assets.stage import Project, Stage
from pixelis_pipeline.columns import schema
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.chain import RunRecord
from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.records import Json


def source_link(stage: Stage) -> dict[str, Any]:
    """Metadata that links an asset to the line its body stands on."""
    path = inspect.getsourcefile(stage.body)
    _, line = inspect.getsourcelines(stage.body)
    reference = dg.LocalFileCodeReference(file_path=str(path), line_number=line)
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def schema_problems(project: Project, stage: Stage, record: RunRecord) -> list[str]:
    """What is wrong with an artifact's files: a digest that differs from the manifest, or columns that
    are not the record's."""
    folder = project.ledger.folder(record.asset, record.partition, record.version)
    problems = [
        f"{name}: sha256 differs from the manifest"
        for name, about in artifact.manifest(folder)["files"].items()
        if sha256(folder / name) != about["sha256"]
    ]
    for path in folder.glob("accepted-*.parquet"):
        if pq.read_schema(path) != artifact.with_input(stage.record):
            problems.append(f"{path.name}: columns are not those of {stage.record.__name__}")
    return problems


def conservation(project: Project, stage: Stage, record: RunRecord) -> tuple[int, int]:
    """(records that had to leave the stage, records that did), counted in the files themselves."""
    folder = project.ledger.folder(record.asset, record.partition, record.version)
    tables = [artifact.ids(folder, name) for name in ("accepted", "rejected", "failed")]
    left = sum(len(set(each)) for each in tables)
    due = expected(project, stage, record.inputs)
    return (left if due is None else due), left


def rejection_table(folder: Path) -> str:
    """Rejections by rule as a Markdown table."""
    rules = Counter(each.rule for each in artifact.rejected(folder))
    if not rules:
        return "none"
    lines = [f"| {examples.escaped(rule)} | {count} |" for rule, count in rules.most_common()]
    return "\n".join(["| rule | records |", "|---|---:|", *lines])


def cost_table(cost: Json) -> str:
    """What the answers of a partition cost (`asking.costs.recorded`), as a Markdown table by kind."""

    def said(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    lines = []
    for kind, each in cost["kinds"].items():
        cells = [
            kind,
            said(each["answers"], ",d"),
            said(each["prompt_tokens"], ",d"),
            said(each["completion_tokens"], ",d"),
            said(each["dollars"], ",.4f"),
            said(each["accepted"], ",d"),
            said(each["tokens_each"], ",.0f"),
            said(each["dollars_each"], ",.4f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    head = "| kind | answers | tokens in | tokens out | $ | accepted | tokens per accepted | $ per accepted |"
    unmetered = cost["kinds"]["all"]["unmetered"]
    notes = [examples.escaped(cost["unpriced"])] if cost.get("unpriced") else []
    if unmetered:
        notes.append(f"{unmetered:,} answers came without a token count: their cost is in no sum")
    return "\n".join([head, "|---|---:|---:|---:|---:|---:|---:|---:|", *lines, *(f"\n{n}" for n in notes)])


def _cost(about: Json) -> dict[str, Any]:
    """The metadata of a partition's cost: its table, and the numbers that Dagster draws over time."""
    if not (cost := about.get("cost")):
        return {}
    total = cost["kinds"]["all"]
    shown = {"cost": dg.MetadataValue.md(cost_table(cost)), "answers": total["answers"]}
    shown["dollars"] = cost["unpriced"] if total["dollars"] is None else float(total["dollars"])
    for name, each in (("tokens", "tokens_each"), ("dollars", "dollars_each")):
        if total[each] is not None:
            shown[f"{name} per accepted trace"] = float(total[each])
    return shown


def _figures(folder: Path) -> str:
    """Pictures that the stage itself drew (curves, tables) and left in its artifact."""
    shown = [
        f"![{path.stem}](data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()})"
        for path in sorted(folder.glob("*.png"))
    ]
    return "\n\n".join(shown)


def metadata(project: Project, stage: Stage, made: Made) -> dict[str, Any]:
    """The metadata of one materialisation."""
    record, counts = made.record, made.counts
    folder = project.ledger.folder(record.asset, record.partition, record.version)
    shown: dict[str, Any] = {
        "inputs": counts.inputs,
        "accepted": counts.accepted,
        "rejected": counts.rejected,
        "failed": counts.failed,
        "dagster/row_count": counts.emitted,
    }
    if figures := _figures(folder):
        shown["figures"] = dg.MetadataValue.md(figures)
    for path in sorted(folder.glob("*.md")):
        shown[path.stem] = dg.MetadataValue.md(path.read_text())
    if counts.rejected:
        shown["rejections by reason"] = dg.MetadataValue.md(rejection_table(folder))
    if counts.accepted and (kept := examples.kept_examples(project, folder)):
        shown["kept examples"] = dg.MetadataValue.md(kept)
    if counts.rejected:
        shown["rejected examples"] = dg.MetadataValue.md(
            examples.rejected_examples(project, folder, record.inputs)
        )
    told = {k: v for k, v in record.about.items() if k not in ("seconds", "host", "dagster_run", "cost")}
    return (
        shown
        | {str(name): value for name, value in told.items()}
        | _cost(record.about)
        | {
            "columns": dg.TableSchema([dg.TableColumn(f.name, str(f.type)) for f in schema(stage.record)]),
            "seconds": float(record.about.get("seconds", 0.0)),
            "unchanged": made.skipped,
            "run record": record.hash,
            "folder": dg.MetadataValue.path(str(folder)),
        }
    )
