"""What a long stage has done so far, so that a killed run goes on where it was.

JSON lines, one an outcome, only ever appended to:
{"key": of the input, "accepted": [record, ...], "of": id} or {"key": ..., "rejected": {...}}.
A line is handed to the kernel before its outcome is passed on; a kill can only tear the last one, which
the next run cuts off. Failures are not written: they are to be tried again.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pixelis_pipeline.columns import from_row, to_row
from pixelis_pipeline.records import Accepted, Failed, Outcome, Rejected, canonical


class Journal:
    """Outcomes by the key of their input. `begun` says whether an earlier run had begun to write it."""

    def __init__(self, file: BinaryIO | None, record: type) -> None:
        self._file, self._record = file, record
        self._places: dict[str, tuple[int, int]] = {}
        self.begun = False
        if file is not None:
            self._read(file)

    def _read(self, file: BinaryIO) -> None:
        """Find every whole line; cut the file behind the last of them."""
        end = 0
        for line in file:
            try:
                told = json.loads(line) if line.endswith(b"\n") else {}
                key = str(told["key"]) if "rejected" in told or {"of", "accepted"} <= told.keys() else None
            except (AttributeError, ValueError, KeyError, TypeError):
                key = None
            if key is None:
                break
            self._places[key] = (end, len(line))
            end += len(line)
        file.truncate(end)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def outcome(self, key: str) -> Outcome[Any]:
        """What was written for `key`. KeyError without it."""
        if self._file is None:
            raise KeyError(key)
        start, length = self._places[key]
        self._file.seek(start)
        line = json.loads(self._file.read(length))
        if "rejected" in line:
            return from_row(Rejected, line["rejected"])
        return Accepted(line["of"], tuple(from_row(self._record, row) for row in line["accepted"]))

    def add(self, key: str, outcome: Outcome[Any]) -> None:
        """Write an outcome down. Nothing is written for a failure."""
        if self._file is None or isinstance(outcome, Failed):
            return
        line: dict[str, Any] = {"key": key}
        if isinstance(outcome, Rejected):
            line["rejected"] = to_row(outcome)
        else:
            line |= {"of": outcome.of, "accepted": [to_row(record) for record in outcome.records]}
        written = canonical(line) + b"\n"
        start = self._file.seek(0, 2)
        self._file.write(written)
        self._file.flush()
        self._places[key] = (start, len(written))


@contextmanager
def journal(path: Path | None, record: type) -> Iterator[Journal]:
    """The journal at `path`, for this process alone. Without a path, or where another process is writing
    it, one that holds nothing and keeps nothing."""
    if path is None:
        yield Journal(None, record)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.exists()
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield Journal(None, record)
            return
        file.seek(0)
        kept = Journal(file, record)
        kept.begun = begun
        yield kept
