"""The SQLite file that a store of answers is: its tables, and how it is made and opened.

`answers` keeps each request's canonical record beside the answer; sha256(request) is the key. `parts` holds
the long parts of requests, once each, by sha256. `sealed` is the sha256 of the answer's bytes, so that a
flipped bit is noticed. Neither table can be changed, not even by INSERT OR REPLACE: its triggers see to it.
"""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pixelis_pipeline.ledger.files import sync

APPLICATION = 0x50785461  # "PxTa", in the file's header
FORMAT = 1
BUSY_SECONDS = 60.0  # for another process to finish its transaction

_TABLES = """
CREATE TABLE parts (sha256 TEXT PRIMARY KEY NOT NULL, body BLOB NOT NULL);
CREATE TABLE answers (key TEXT PRIMARY KEY NOT NULL, request BLOB NOT NULL, answer BLOB NOT NULL,
    sealed TEXT NOT NULL);
CREATE TABLE notes (name TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL);
"""
_WRITE_ONCE = """
CREATE TRIGGER {0}_stay BEFORE INSERT ON {0} WHEN EXISTS (SELECT 1 FROM {0} WHERE {1} = NEW.{1})
    BEGIN SELECT RAISE(IGNORE); END;
CREATE TRIGGER {0}_unchanged BEFORE UPDATE ON {0} BEGIN SELECT RAISE(ABORT, '{0} are written once'); END;
CREATE TRIGGER {0}_kept BEFORE DELETE ON {0} BEGIN SELECT RAISE(ABORT, '{0} are written once'); END;
"""


def create(path: Path) -> None:
    """Make an empty store at `path`, whole or not at all; one that is there, or is made meanwhile, stays.

    sqlite3.DatabaseError where the log of a file that is gone still stands there: opened beside a new
    file, it would be played into it.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and not path.exists():
        raise sqlite3.DatabaseError(f"its log {log.name} stands there without it: put the file back")
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)  # of a killed process that had this number
    made = sqlite3.connect(draft, isolation_level=None)
    made.executescript(
        f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT}; PRAGMA journal_mode = WAL;"
        + _TABLES
        + _WRITE_ONCE.format("answers", "key")
        + _WRITE_ONCE.format("parts", "sha256")
    )
    made.close()
    sync(draft)
    with suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()
    sync(path.parent)


def connect(path: Path, mode: Literal["ro", "rw"]) -> sqlite3.Connection:
    """Open the store at `path`; its caller sees to it that one thread uses it at a time.

    sqlite3.Error where it cannot be opened or is no store.
    """
    address = path.resolve().as_uri()
    held = _opened(f"{address}?mode={mode}")
    try:
        form = held.execute("PRAGMA application_id").fetchone()[0]
        number = held.execute("PRAGMA user_version").fetchone()[0]
        held.execute(
            "SELECT count(*) FROM sqlite_master"
        ).fetchone()  # needs the log's index, if there is one
    except sqlite3.OperationalError:
        held.close()
        if mode == "rw" or path.with_name(f"{path.name}-wal").exists():
            raise
        # The folder cannot be written, so there is no place for an index; nor is there a log to index.
        held = _opened(f"{address}?immutable=1")
        form = held.execute("PRAGMA application_id").fetchone()[0]
        number = held.execute("PRAGMA user_version").fetchone()[0]
    if (form, number) != (APPLICATION, FORMAT):
        held.close()
        what = (
            f"of format {number}, not {FORMAT}"
            if form == APPLICATION
            else "no store of answers: move it away"
        )
        raise sqlite3.DatabaseError(f"it is {what}")
    if mode == "rw":
        held.execute("PRAGMA synchronous = FULL")  # a commit returns when the log is on the disk
    return held


def _opened(address: str) -> sqlite3.Connection:
    return sqlite3.connect(
        address, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
    )
