"""The answers of teachers, each written once under the key of its request.

It is the cache, the crash log and the evidence in one: an answer that was paid for is on disk before
anything reads it, a later run finds it there however the earlier one ended, and the request that it
answers stands beside it.
"""

import fcntl
import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pixelis_pipeline.records import Json
from pixelis_pipeline.synthesis.asking import answer_file
from pixelis_pipeline.synthesis.request import Request, restored

PLACE = Path("data") / "teacher" / "answers.sqlite"
_AT_ONCE = 900  # values of one query; every build of SQLite takes 999
_BILLS = """
SELECT system, count(*), sum(prompt), sum(completion) FROM (
    SELECT json_extract(request, '$.system') AS system,
        json_extract(answer, '$.usage.prompt') AS prompt,
        json_extract(answer, '$.usage.completion') AS completion
    FROM (SELECT CAST(request AS TEXT) AS request, CAST(answer AS TEXT) AS answer FROM answers)
    WHERE json_extract(request, '$.model') = ?
) WHERE prompt IS NOT NULL AND completion IS NOT NULL GROUP BY system ORDER BY system
"""


class StoreError(RuntimeError):
    """The store cannot be read or written, or holds what it did not write; the message names the file."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer with its bill. `metadata` is about the exchange (endpoint, ids), never about content;
    its "batch" is true where the answer came from a batch API.

    `usage` is {"prompt": tokens, "completion": tokens}, empty where the endpoint did not say.
    """

    text: str
    finish: str
    model: str
    usage: Json
    metadata: Json


@dataclass(frozen=True, slots=True)
class Bills:
    """What the answers to one system prompt (by sha256) took in all; `answers` that said so, in tokens."""

    system: str
    answers: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(slots=True)
class _Waiting:
    """An answer on its way to the disk. `done` once it is there, or `error` says why it is not."""

    row: tuple[str, bytes, bytes, str]
    parts: dict[str, bytes]
    done: bool = False
    error: BaseException | None = None


class AnswerStore:
    """The answers of the project at `root`. Any thread may read and write; another process may too.

    Nothing is opened before it is needed, and reading makes no file: without one, nothing is answered. Not
    to be used on the other side of a fork. Every method may raise StoreError.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / PLACE
        self._reads, self._writes = threading.RLock(), threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._queued: list[_Waiting] = []
        self._queue = threading.Lock()
        self._parts: set[str] = set()  # that are surely in the file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. What is used afterwards opens it again."""
        with self._writes, self._reads:
            for held in (self._reader, self._writer):  # the writer last: it folds the log into the file
                if held is not None:
                    held.close()
            self._reader = self._writer = None

    def exists(self, key: str) -> bool:
        """Whether `key` has been answered. ValueError for what is not a sha256."""
        return bool(self._rows("SELECT 1 FROM answers WHERE key = ?", [_checked(key)]))

    def answered(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that have been answered. ValueError for what is not a sha256."""
        wanted = list(map(_checked, keys))
        return {key for (key,) in self._among("SELECT key FROM answers WHERE key IN ({})", wanted)}

    def read(self, key: str) -> Answer:
        """The answer to `key`. KeyError where there is none."""
        for _, answer in self.read_many([key]):
            return answer
        raise KeyError(f"{key} has no answer in {self.path}")

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, Answer]]:
        """(key, answer) for each of `keys` that has been answered, in their order, some at a time."""
        wanted = list(map(_checked, keys))
        for start in range(0, len(wanted), _AT_ONCE):
            chunk = wanted[start : start + _AT_ONCE]
            rows = self._among("SELECT key, answer, sealed FROM answers WHERE key IN ({})", chunk)
            found = {key: (data, sealed) for key, data, sealed in rows}
            for key in chunk:
                if key in found:
                    yield key, self._answer(key, *found[key])

    def request(self, key: str) -> Request:
        """The request that was answered under `key`, proven by its hash. KeyError where there is none."""
        rows = self._rows("SELECT request FROM answers WHERE key = ?", [_checked(key)])
        if not rows:
            raise KeyError(f"{key} has no answer in {self.path}")
        try:
            found = restored(rows[0][0], self._part)
            if hashlib.sha256(rows[0][0]).hexdigest() == found.key == key:
                return found
        except (LookupError, TypeError, ValueError) as error:
            raise self._damaged(f"the request of {key} cannot be read ({error!r:.200})") from error
        raise self._damaged(f"the request of {key} no longer hashes to that key")

    def write(self, request: Request, answer: Answer) -> None:
        """Keep the answer to `request`, on disk when this returns. An answer already there stays as it is.

        What many threads write at once goes to the disk together: whoever comes to the lock first commits
        all that is queued, so that a flush is shared and not waited for in turn.
        """
        record, data = request.record, _encoded(answer)
        key = hashlib.sha256(record).hexdigest()
        parts = {digest: body for digest, body in request.parts.items() if digest not in self._parts}
        mine = _Waiting((key, record, data, hashlib.sha256(data).hexdigest()), parts)
        with self._queue:
            self._queued.append(mine)
        with self._writes:
            if not mine.done and mine.error is None:
                with self._queue:
                    batch, self._queued = self._queued, []
                try:
                    with self._told():
                        self._commit(batch)
                except BaseException as error:  # nobody whose answer is lost may go on as if it were kept
                    for each in batch:
                        each.error = error
                else:
                    for each in batch:
                        each.done = True
        if mine.error is not None:
            raise mine.error

    def bills(self, model: str) -> list[Bills]:
        """What the answers of `model` took, by the system prompt that was sent."""
        return [Bills(*row) for row in self._rows(_BILLS, [model])]

    def recall(self, name: str) -> Json | None:
        """The note kept under `name`, None where there is none."""
        rows = self._rows("SELECT value FROM notes WHERE name = ?", [name])
        return json.loads(rows[0][0]) if rows else None

    def remember(self, name: str, value: Json) -> None:
        """Keep a note about a provider or work under way, over an earlier one; on disk when this returns."""
        text = json.dumps(value, sort_keys=True, allow_nan=False)
        with self._writes, self._told():
            self._write_connection().execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", [name, text])

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Held while requests go out, so that two processes never pay for the same one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (self.path.parent / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _commit(self, batch: Sequence[_Waiting]) -> None:
        """All of a batch, or nothing of it, durably."""
        writer = self._write_connection()
        parts = {digest: body for each in batch for digest, body in each.parts.items()}
        writer.execute("BEGIN IMMEDIATE")
        try:
            writer.executemany("INSERT INTO parts VALUES (?, ?)", parts.items())
            writer.executemany("INSERT INTO answers VALUES (?, ?, ?, ?)", [each.row for each in batch])
            writer.execute("COMMIT")
        except sqlite3.Error:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            raise
        self._parts.update(parts)

    def _write_connection(self) -> sqlite3.Connection:
        """The connection that writes; the file is made if need be. The lock `_writes` is held."""
        if self._writer is None:
            answer_file.create(self.path)
            self._writer = answer_file.connect(self.path, "rw")
        return self._writer

    def _rows(self, query: str, values: Sequence[str]) -> list[tuple[Any, ...]]:
        """All rows of a query; none where there is no file."""
        with self._reads, self._told():
            if self._reader is None:
                if not self.path.exists():
                    return []
                self._reader = answer_file.connect(self.path, "ro")
            return self._reader.execute(query, values).fetchall()

    def _among(self, query: str, values: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """The rows of a query whose `{}` is a list of values, asked for in chunks."""
        for start in range(0, len(values), _AT_ONCE):
            chunk = values[start : start + _AT_ONCE]
            yield from self._rows(query.format(", ".join("?" * len(chunk))), chunk)

    def _part(self, digest: str) -> bytes:
        rows = self._rows("SELECT body FROM parts WHERE sha256 = ?", [digest])
        return bytes(rows[0][0])

    def _answer(self, key: str, data: bytes, sealed: str) -> Answer:
        if hashlib.sha256(data).hexdigest() != sealed:
            raise self._damaged(f"the answer to {key} has other bytes than were written")
        try:
            return Answer(**json.loads(data.decode("utf-8", "surrogatepass")))
        except (TypeError, ValueError) as error:
            raise self._damaged(f"the answer to {key} cannot be read ({error})") from error

    def _damaged(self, what: str) -> StoreError:
        return StoreError(f"{self.path} is damaged: {what}; put back a copy of it, or move it away")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors as StoreErrors that name the file and say what to do."""
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}{_advice(error)}") from error


def _advice(error: sqlite3.Error) -> str:
    """What can be done about one of SQLite's errors, by the primary code that it came with."""
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            return "; this answer was not kept, all earlier ones were: make room and run again"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return "; it is damaged or no store of answers: put back a copy of it, or move it away"
        case _:
            return ""


def _checked(key: str) -> str:
    if len(key) != 64 or set(key) - set("0123456789abcdef"):
        raise ValueError(f"not a request key: {key!r}")
    return key


def _encoded(answer: Answer) -> bytes:
    """JSON in UTF-8, in which halves of surrogate pairs stand as they came, joined to nothing."""
    text = json.dumps(asdict(answer), sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")
