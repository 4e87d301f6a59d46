"""Records as people look at them: the picture with its steps on it, what was asked, what replay found."""

import base64
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from assets.stage import Project
from pixelis_pipeline.columns import from_row
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.chain import Input
from pixelis_pipeline.ledger.ledger import MissingVersion
from pixelis_pipeline.media.store import MediaStore
from pixelis_pipeline.records import Json, Media, Rejected, Step

_ENTITIES = {ord(sign): f"&#{ord(sign)};" for sign in "\\`*_{}[]<>|&#!~:"}
EXAMPLES = 5
SIDE = 224  # px, the longer side of an example's picture


def dig(row: Json, key: str) -> Any:
    """The first value under `key` in a record's row or in the record nested in it."""
    for inner in (row, row.get("question"), row.get("trajectory"), row.get("record")):
        if isinstance(inner, dict) and inner.get(key):
            return inner[key]
        if isinstance(inner, dict) and inner is not row and (found := dig(inner, key)):
            return found
    return None


def drawn(project: Project, row: Json) -> str | None:
    """A record's picture with its steps drawn on it (of a video a sheet of the frames they name), as a data
    URI; empty where it has none, None where its media cannot be shown."""
    found = dig(row, "media")
    if not isinstance(found, list) or not found or not isinstance(found[0], dict):
        return ""
    medium = found[0].get("media") or found[0]  # a fingerprint holds its medium
    try:
        return _drawn(project.media, from_row(Media, medium), json.dumps(dig(row, "steps") or []))
    except Exception:  # a picture is never worth a run: a teacher may claim what cannot be drawn
        return None


def picture(project: Project, row: Json) -> str:
    """The same as a Markdown image."""
    address = drawn(project, row)
    return "*(its media cannot be shown)*" if address is None else f"![]({address})" if address else ""


@lru_cache(maxsize=256)  # one question's picture stands on the page of every asset it passed through
def _drawn(store: MediaStore, media: Media, steps: str) -> str:
    from pixelis_pipeline.tools.opening import opened
    from pixelis_pipeline.verify.draw import draw_trace

    told = [from_row(Step, each) for each in json.loads(steps)]
    drawn = draw_trace(opened(store, [media]), told, max_side=SIDE * (2 if media.kind == "video" else 1))
    small = BytesIO()
    Image.open(BytesIO(drawn)).save(small, "WEBP", quality=80, method=1)
    return f"data:image/webp;base64,{base64.b64encode(small.getvalue()).decode()}"


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
        steps = [from_row(Step, each) for each in dig(row, "steps") or []]
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""
    for index, step in enumerate(steps):
        both = f"{said(step, step.output)} → {said(step, step.replayed) if step.replayed else 'not run'}"
        compared = [step.metric, f"{step.measured:.3g}", f"{step.threshold:.3g}"] if step.metric else [""] * 3
        meant = f", as tagged ({step.flaw or 'flawed'})" if step.flawed else ""
        cells = [index, step.action.name, both, *compared, step.verdict + meant]
        cells.append("yes" if step.decisive else "")
        lines.append(f"| {' | '.join(escaped(cell) for cell in cells)} |")
    if not any(step.verdict for step in steps):
        return ""
    head = "| step | action | recorded → re-run | metric | value | threshold | verdict | decisive |"
    return "\n".join([head, "|---:|---|---|---|---:|---:|---|---|", *lines])


def _shown(project: Project, row: Json, caption: str) -> str:
    """One example: its picture, its caption and, where it was replayed, what came of each step."""
    return "\n\n".join(part for part in (picture(project, row), caption, replay_table(row)) if part)


def first(folder: Path) -> Iterator[Json]:
    """The first few accepted records of each file, as rows."""
    for path in sorted(folder.glob("accepted-*.parquet")):
        for some in islice(pq.ParquetFile(path).iter_batches(batch_size=EXAMPLES), 1):
            yield from some.to_pylist()


def escaped(text: Any) -> str:
    """Text that Markdown and HTML show as it is, cut to a line."""
    return " ".join(str(text).split())[:160].translate(_ENTITIES)


def caption(row: Json) -> str:
    """What a record asks and what the answer is, else what its source calls it: plain text."""
    asked = dig(row, "text") or dig(row, "question")
    answer = dig(row, "answer")
    parts = [asked if isinstance(asked, str) else "", f"→ {answer}" if answer else ""]
    told = " ".join(p for p in parts if p)
    origin = row.get("origin")
    return told or (str(origin["record"]) if isinstance(origin, dict) else str(row.get("id", "")))


def kept_examples(project: Project, folder: Path) -> str:
    """The first records that were kept, as Markdown with pictures; empty where they show none."""
    shown = islice((row for row in first(folder) if dig(row, "media")), EXAMPLES)
    return "\n\n".join(_shown(project, row, escaped(caption(row))) for row in shown)


def different(rejections: Iterable[Rejected], most: int = EXAMPLES) -> list[Rejected]:
    """Up to `most` rejections, as many different rules among them as there are."""
    one: dict[str, Rejected] = {}
    rest: list[Rejected] = []
    for each in rejections:
        if one.setdefault(each.rule, each) is not each and len(rest) < most:
            rest.append(each)
    return [*one.values(), *rest][:most]


def reason(each: Rejected) -> str:
    """The value that refused a record and the words about it, plain; the rule stands apart."""
    parts = [
        "" if each.measured is None else f"measured {each.measured:.3g}",
        "" if each.threshold is None else f"limit {each.threshold:.3g}",
    ]
    value = ", ".join(filter(None, parts))
    return ": ".join(part for part in (value, each.detail) if part)


def there(project: Project, versions: Iterable[Input]) -> Iterator[Path]:
    """Where those of the versions lie that are on the disk."""
    for each in versions:
        with suppress(MissingVersion):
            yield project.ledger.folder(each.asset, each.partition, each.version)


def refused(folders: Iterable[Path], rejections: Iterable[Rejected]) -> list[tuple[Rejected, Json, Json]]:
    """Each rejection with the record that was refused and its twin, as rows, {} where they are nowhere.
    What a rejection does not hold itself is looked for among the accepted of `folders`."""
    told = list(rejections)
    wanted = {each.twin for each in told} | {each.of for each in told if not each.record}
    found: dict[str, Json] = {}
    for folder in folders:
        found |= artifact.find(folder, wanted - found.keys() - {""})
    return [(each, each.record or found.get(each.of, {}), found.get(each.twin, {})) for each in told]


def rejected_examples(project: Project, folder: Path, inputs: Iterable[Input] = ()) -> str:
    """Some records that were refused, with the rule, the value and the picture, and that of the twin they
    were refused for. `inputs` are the versions that the stage read."""
    shown = []
    for each, row, twin in refused([folder, *there(project, inputs)], different(artifact.rejected(folder))):
        told = f"**{escaped(each.rule)}** {escaped(reason(each))}"
        beside = picture(project, twin)
        shown += [_shown(project, row, told), *([f"{beside}\n\nits twin"] if beside else [])]
    return "\n\n".join(shown)
