"""MathVista: `testmini.json`, a table by pid, and `images/`.

The authors allow their items as a test set only. Files in their format that the world wrote say so twice:
the folder's LICENSE is CC0 and each item's `metadata.source` is "pixelis-world".
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pixelis_pipeline.media import probe
from pixelis_pipeline.records import AnswerKind, Outcome, Sample
from pixelis_pipeline.settings import MediaLimits
from pixelis_pipeline.sources.contract import Keep, LayoutError, Wanted, every
from pixelis_pipeline.sources.licences import WORLD, origin
from pixelis_pipeline.sources.record import BadRecord, Published, Table, outcomes, parse, sample, whole_json

VERSION = 1
EXPECTED = "MathVista's testmini.json (pid -> item) beside images/"


class Metadata(Published):
    source: str
    task: str
    language: str = ""
    context: str = ""
    skills: tuple[str, ...] = ()


class Item(Published):
    pid: str
    question: str
    image: str
    answer: str | None
    question_type: Literal["multi_choice", "free_form"]
    answer_type: Literal["text", "integer", "float", "list"]
    choices: list[str] | None = None
    unit: str | None = None
    precision: float | None = None
    metadata: Metadata


def _answer(item: Item) -> tuple[str, AnswerKind]:
    """(the authors' own text, its kind). BadRecord where it is withheld or none of the choices."""
    if not item.answer:
        raise BadRecord("no answer", f"pid {item.pid}: the authors withhold it")
    if item.question_type == "free_form":
        return item.answer, item.answer_type
    if item.answer not in (item.choices or []):
        raise BadRecord("answer not among choices", f"pid {item.pid}: {item.answer!r}")
    return item.answer, "choice"


def _sample(folder: Path, base: Path, value: Any, limits: MediaLimits) -> Sample:
    item = parse(Item, value)
    answer, kind = _answer(item)
    if kind == "float" and item.precision is None:
        raise BadRecord("malformed record", f"pid {item.pid}: a float answer without precision")
    own = item.metadata.source == WORLD
    media = probe(base / item.image, limits, root=folder)
    annotations = {
        "unit": item.unit or "",
        "precision": item.precision or 0,
        "language": item.metadata.language,
        "context": item.metadata.context,
        "skills": list(item.metadata.skills),
        "collection": item.metadata.source,
    }
    return sample(
        VERSION,
        origin("mathvista", item.pid, folder, own=own),
        [media],
        annotations=annotations,
        question=item.question,
        choices=item.choices or (),
        answer=answer,
        answer_kind=kind,
        # The world's problems state the family of their question as their one skill.
        category=item.metadata.skills[0] if own and item.metadata.skills else item.metadata.task,
    )


def read(folder: Path, limits: MediaLimits, keep: Keep, wanted: Wanted = every) -> Iterator[Outcome[Sample]]:
    """The items of testmini.json in the order of the file; images are sought beside it and in `folder`."""
    path = next(
        (p for p in (folder / "testmini.json", folder / "data" / "testmini.json") if p.is_file()), None
    )
    if path is None:
        raise LayoutError(folder, EXPECTED)
    table = whole_json(path, folder, limits, EXPECTED)
    if not isinstance(table, Table):
        raise LayoutError(path, EXPECTED)
    base = folder if (folder / "images").is_dir() else path.parent
    work = ((pid, partial(_sample, folder, base, value, limits)) for pid, value in table.pairs)
    return outcomes("mathvista", work, wanted)
