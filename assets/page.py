"""What an asset's page shows in the Dagster UI: counts, rejections by reason, kept and rejected examples
with their pictures, curves, and where the code stands."""

import base64
import inspect
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
from PIL import Image

from assets.running import Made, expected
from assets.stage import Project, Stage
from pixelis_pipeline.columns import from_row, schema
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.chain import RunRecord
from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.media.store import MediaStore
from pixelis_pipeline.records import Json, Media, Rejected, Step

_ENTITIES = {ord(sign): f"&#{ord(sign)};" for sign in "\\`*_{}[]<>|&#!"}
EXAMPLES = 5
SIDE = 224  # px, the longer side of an example's picture


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


def _dig(row: Json, key: str) -> Any:
    """The first value under `key` in a record's row or in the record nested in it."""
    for inner in (row, row.get("question"), row.get("trajectory"), row.get("record")):
        if isinstance(inner, dict) and inner.get(key):
            return inner[key]
        if isinstance(inner, dict) and inner is not row and (found := _dig(inner, key)):
            return found
    return None


def picture(project: Project, row: Json) -> str:
    """A record's picture with its steps drawn on it (of a video a sheet of the frames they name), as a
    Markdown image; empty where it has none."""
    found = _dig(row, "media")
    if not isinstance(found, list) or not found or not isinstance(found[0], dict):
        return ""
    try:
        return _drawn(project.media, from_row(Media, found[0]), json.dumps(_dig(row, "steps") or []))
    except Exception:  # a picture is never worth a run: a teacher may claim what cannot be drawn
        return "*(its media cannot be shown)*"


@lru_cache(maxsize=256)  # one question's picture stands on the page of every asset it passed through
def _drawn(store: MediaStore, media: Media, steps: str) -> str:
    from pixelis_pipeline.tools.opening import opened
    from pixelis_pipeline.verify.draw import draw_trace

    told = [from_row(Step, each) for each in json.loads(steps)]
    drawn = draw_trace(opened(store, [media]), told, max_side=SIDE * (2 if media.kind == "video" else 1))
    small = BytesIO()
    Image.open(BytesIO(drawn)).save(small, "WEBP", quality=80, method=1)
    return f"![](data:image/webp;base64,{base64.b64encode(small.getvalue()).decode()})"


def replay_table(row: Json) -> str:
    """What replay found out about each step of a record, as a Markdown table; empty where nothing was run
    again. In the picture above it the re-run is solid, and the claim beside it dashed."""
    from pixelis_pipeline.tools.contract import spoken

    def said(step: Step, output: Any) -> str:
        try:
            return spoken(step.action.name, output)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return f"{output!r:.500}"  # a teacher may claim what no tool would

    lines = []
    try:
        steps = [from_row(Step, each) for each in _dig(row, "steps") or []]
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""
    for index, step in enumerate(steps):
        both = f"{said(step, step.output)} → {said(step, step.replayed) if step.replayed else 'not run'}"
        compared = [step.metric, f"{step.measured:.3g}", f"{step.threshold:.3g}"] if step.metric else [""] * 3
        meant = f", as tagged ({step.flaw or 'flawed'})" if step.flawed else ""
        cells = [index, step.action.name, both, *compared, step.verdict + meant]
        cells.append("yes" if step.decisive else "")
        lines.append(f"| {' | '.join(_escaped(cell) for cell in cells)} |")
    if not any(step.verdict for step in steps):
        return ""
    head = "| step | action | recorded → re-run | metric | value | threshold | verdict | decisive |"
    return "\n".join([head, "|---:|---|---|---|---:|---:|---|---|", *lines])


def _shown(project: Project, row: Json, caption: str) -> str:
    """One example: its picture, its caption and, where it was replayed, what came of each step."""
    return "\n\n".join(part for part in (picture(project, row), caption, replay_table(row)) if part)


def _rows(folder: Path) -> Iterator[Json]:
    for path in sorted(folder.glob("accepted-*.parquet")):
        yield from next(pq.ParquetFile(path).iter_batches(batch_size=EXAMPLES)).to_pylist()


def _escaped(text: Any) -> str:
    """Text that Markdown and HTML show as it is, cut to a line."""
    return " ".join(str(text).split())[:160].translate(_ENTITIES)


def _caption(row: Json) -> str:
    asked = _dig(row, "text") or _dig(row, "question")
    answer = _dig(row, "answer")
    parts = [asked if isinstance(asked, str) else "", f"→ {answer}" if answer else ""]
    return _escaped(" ".join(p for p in parts if p) or row.get("id", ""))


def kept_examples(project: Project, folder: Path) -> str:
    """The first records that were kept, as Markdown with pictures; empty where they show none."""
    rows = islice((row for row in _rows(folder) if _dig(row, "media")), EXAMPLES)
    return "\n\n".join(_shown(project, row, _caption(row)) for row in rows)


def _different(rejections: Iterable[Rejected]) -> list[Rejected]:
    """Up to EXAMPLES rejections, as many different rules among them as there are."""
    first: dict[str, Rejected] = {}
    rest: list[Rejected] = []
    for each in rejections:
        if first.setdefault(each.rule, each) is not each and len(rest) < EXAMPLES:
            rest.append(each)
    return [*first.values(), *rest][:EXAMPLES]


def rejected_examples(project: Project, folder: Path) -> str:
    """Some records that were refused, with the rule, the value and the picture."""
    shown = []
    for each in _different(artifact.rejected(folder)):
        value = "" if each.measured is None else f" {each.measured:.3g} against {each.threshold}"
        caption = f"**{_escaped(each.rule)}**{value} {_escaped(each.detail)}"
        shown.append(_shown(project, each.record, caption))
    return "\n\n".join(shown)


def rejection_table(folder: Path) -> str:
    """Rejections by rule as a Markdown table."""
    rules = Counter(each.rule for each in artifact.rejected(folder))
    if not rules:
        return "none"
    lines = [f"| {_escaped(rule)} | {count} |" for rule, count in rules.most_common()]
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
    notes = [_escaped(cost["unpriced"])] if cost.get("unpriced") else []
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
    if counts.rejected:
        shown["rejections by reason"] = dg.MetadataValue.md(rejection_table(folder))
    if counts.accepted and (kept := kept_examples(project, folder)):
        shown["kept examples"] = dg.MetadataValue.md(kept)
    if counts.rejected:
        shown["rejected examples"] = dg.MetadataValue.md(rejected_examples(project, folder))
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
