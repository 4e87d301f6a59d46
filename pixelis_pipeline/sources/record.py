"""One record of a source at a time: what can be wrong with it becomes a `Rejected`, and reading goes on.

A defect that puts the whole record in doubt (unparsable, no media, masks drawn for another image) rejects
it. A defect of one part (one empty mask among forty, one query of no length) leaves that part out and is
counted in `annotations["dropped"]`; a record that keeps no part is rejected by the rule that took most.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pixelis_pipeline.media import MediaError
from pixelis_pipeline.media.files import inside, read
from pixelis_pipeline.records import (
    Accepted,
    AnswerKind,
    Failed,
    Json,
    Media,
    Origin,
    Outcome,
    Rejected,
    Sample,
    record_id,
)
from pixelis_pipeline.settings import MediaLimits
from pixelis_pipeline.sources.contract import LayoutError, Wanted, every

LONGEST_LINE = 16 * 1024 * 1024  # bytes


class BadRecord(ValueError):
    """A record that its reader refuses; the fields are those of `Rejected`."""

    def __init__(
        self,
        rule: str,
        detail: str,
        measured: float | None = None,
        threshold: float | None = None,
        record: Json | None = None,
    ) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule, self.detail, self.record = rule, detail, record or {}
        self.measured, self.threshold = measured, threshold


class Published(BaseModel):
    """A record as its authors publish it. Fields that no reader uses are let through unread."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


def storable(text: str) -> str:
    """`text` with what UTF-8 cannot write spelt out: JSON can name half a character (`\\ud800`), and the
    bytes of a file's name can be any."""
    return text.encode("utf-8", "backslashreplace").decode()


P = TypeVar("P", bound=Published)
Work = tuple[str, Callable[[], Sample]]


def parse(model: type[P], value: Any) -> P:
    """`value` as a published record. BadRecord "malformed record" names the first field that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "record"
        raise BadRecord("malformed record", f"{where}: {first['msg']}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = Counter(key for key, _ in pairs)
    if twice := [key for key, n in keys.items() if n > 1]:
        raise BadRecord("duplicate id", f"key {twice[0]!r} stands twice in one object")
    return dict(pairs)


def _not_json(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def parse_json(text: bytes) -> Any:
    """BadRecord "unparsable json"; "duplicate id" where an object names a key twice."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_not_json)
    except BadRecord:
        raise
    except (ValueError, RecursionError) as error:
        raise BadRecord("unparsable json", str(error)) from error


def file_json(path: Path, root: Path, limits: MediaLimits) -> Any:
    """The JSON of a record's own file inside `root`. BadRecord or MediaError."""
    return parse_json(read(inside(path, root), limits))


class Table(dict[str, Any]):
    """A JSON object that remembers its pairs, so that a record whose id stands twice is not lost unseen."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def whole_json(path: Path, root: Path, limits: MediaLimits, expected: str) -> Any:
    """The JSON of a file that holds all records of a source; objects are `Table`s.

    LayoutError where it cannot be read: without it there is no record to reject.
    """
    try:
        return json.loads(read(inside(path, root), limits), object_pairs_hook=Table, parse_constant=_not_json)
    except (ValueError, RecursionError) as error:  # MediaError is a ValueError too
        raise LayoutError(path, f"{expected} ({error})") from error


def lines(path: Path, root: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line) of a text file that is not blank; a last line needs no newline.

    Of a line longer than LONGEST_LINE only so much is given: no record of these formats is. LayoutError
    where the file lies outside `root`.
    """
    try:
        resolved = inside(path, root)
    except MediaError as error:
        raise LayoutError(path, f"a file inside {root}") from error
    with resolved.open("rb") as file:
        for number in itertools.count(1):
            line = rest = file.readline(LONGEST_LINE)
            while len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):
                rest = file.readline(LONGEST_LINE)
            if not line:
                return
            if line.strip():
                yield number, line


def usable(parts: Sequence[Json], dropped: Mapping[str, int], name: str) -> Json:
    """{name: parts, "dropped": counts}; BadRecord by the commonest rule where no part is left."""
    if not parts:
        rule = min(dropped, key=lambda rule: (-dropped[rule], rule)) if dropped else f"no {name}"
        raise BadRecord(rule, f"no usable {name} left of {sum(dropped.values())}")
    return {name: list(parts), **({"dropped": dict(sorted(dropped.items()))} if dropped else {})}


def sample(
    version: int,
    origin: Origin,
    media: Sequence[Media],
    *,
    annotations: Json,
    question: str = "",
    choices: Sequence[str] = (),
    answer: str = "",
    answer_kind: AnswerKind = "text",
    category: str = "",
) -> Sample:
    """A `Sample` whose id covers its content and its media's bytes, and not where they lie."""
    origin = replace(origin, record=storable(origin.record))
    payload = {
        "origin": asdict(origin),
        "annotations": annotations,
        "question": question,
        "choices": list(choices),
        "answer": answer,
        "answer_kind": answer_kind,
        "category": category,
    }
    try:
        identity = record_id(f"raw/{origin.source}", version, {}, [m.sha256 for m in media], payload)
    except UnicodeEncodeError as error:
        raise BadRecord("malformed record", "its text holds half of a surrogate pair") from error
    return Sample(
        identity,
        origin,
        tuple(media),
        annotations,
        question,
        tuple(choices),
        answer,
        answer_kind,
        category,
    )


def _outcome(of: str, stage: str, make: Callable[[], Sample]) -> Outcome[Sample]:
    """What comes of one record. Whatever its values make a parser raise is the record's own fault."""
    try:
        return Accepted(of, (make(),))
    except MediaError as error:
        return Rejected(of, stage, error.rule, detail=storable(str(error)))
    except BadRecord as error:
        return Rejected(
            of,
            stage,
            error.rule,
            error.measured,
            error.threshold,
            detail=storable(error.detail),
            record=error.record,
        )
    except (ValueError, OverflowError, RuntimeError) as error:  # RecursionError is a RuntimeError
        detail = storable(f"{type(error).__name__}: {error}")
        return Rejected(of, stage, "malformed record", detail=detail)
    except OSError as error:  # the file is there and right; reading it may work the next time
        return Failed(of, stage, storable(f"{type(error).__name__}: {error}"))


def outcomes(source: str, work: Iterable[Work], wanted: Wanted = every) -> Iterator[Outcome[Sample]]:
    """Each wanted (record id, how to read it) as one outcome, in order. An id seen before is rejected, and so
    is a record seen before under another id; an error of the disk is `Failed`."""
    stage, seen, made = f"raw/{source}", set[str](), dict[str, str]()
    for name, make in work:
        of = storable(name)
        if not wanted(of):
            continue
        if of in seen:
            yield Rejected(of, stage, "duplicate id", detail=f"{of} was read before")
            continue
        seen.add(of)
        outcome = _outcome(of, stage, make)
        if isinstance(outcome, Accepted):
            (read_now,) = outcome.records
            if (before := made.setdefault(read_now.id, of)) != of:
                outcome = Rejected(of, stage, "duplicate id", detail=f"the same record was read as {before}")
        yield outcome
