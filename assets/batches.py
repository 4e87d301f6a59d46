"""Batches that were opened after those that settings name: data/batches.json, which belongs into git as
data/versions.json does.

A batch is how re-synthesis adds data without touching what stands. Which of two near-copies stays is decided
by the order of batches, so a batch that is opened must sort after every other one.
"""

import json
import re
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pixelis_pipeline.ledger import files
from pixelis_pipeline.ledger.ledger import LedgerError
from pixelis_pipeline.settings import SOURCES, Batch

FILE = "data/batches.json"
Opened = dict[str, tuple[str, ...]]  # batch -> its sources, in the order of names
_FILE = TypeAdapter(dict[Batch, tuple[str, ...]])
_NAME = TypeAdapter(Batch)


class BatchError(ValueError):
    """A batch that cannot be opened; the message says why and what can be done."""


def read(root: Path) -> Opened:
    """The batches that were opened; none where there is no file. Raises LedgerError."""
    try:
        data = (root / FILE).read_bytes()
    except FileNotFoundError:
        return {}
    try:
        found = _FILE.validate_json(data)
    except ValidationError as error:
        raise LedgerError(f"{FILE} does not map batches to sources: restore it from git") from error
    if wrong := sorted({source for sources in found.values() for source in sources} - set(SOURCES)):
        raise LedgerError(f"{FILE}: {wrong[0]!r} is no source: restore it from git")
    return dict(sorted(found.items()))


def name_at(moment: datetime, batches: Collection[str]) -> str:
    """The name of a batch that is opened at `moment` (with a time zone): the time in UTC, to the second.
    Where one of `batches`, all there are, has a name that sorts after it, that name stands before it."""
    stamp, last = f"{moment.astimezone(UTC):%Y%m%d.%H%M%S}", max(batches)
    given = re.sub(r"_?\d{8}\.\d{6}$", "", last)
    return f"{given}_{stamp}" if given and stamp < last else stamp


def add(root: Path, name: str, sources: Collection[str], named: Collection[str]) -> bool:
    """Open `name` for `sources` after the batches that settings name. False where just that is done already;
    BatchError where it cannot be."""
    try:
        _NAME.validate_python(name)
    except ValidationError as error:
        raise BatchError(f"{name!r}: a batch is named by 1-40 letters, digits, dots, underscores") from error
    if len(name_at(datetime.now(UTC), [name])) > 40:
        raise BatchError(f"{name!r}: over 24 letters leave no room for the time that later names add")
    if unknown := sorted(set(sources) - set(SOURCES)):
        raise BatchError(f"{unknown[0]!r} is no source; there are {', '.join(SOURCES)}")
    with files.locked(root / "data" / ".lock"):  # the ledger's own
        opened = read(root)
        if name in opened and set(opened[name]) == set(sources):
            return False
        if name in opened or name in named:
            raise BatchError(f"{name} is open already")
        last = max([*named, *opened])
        if name < last:
            raise BatchError(
                f"{name} would come before {last}, and of two near-copies the earlier batch's stays: "
                f"give a name that sorts after {last}"
            )
        tree = {batch: list(each) for batch, each in opened.items()} | {name: sorted(set(sources))}
        files.replace(root / FILE, json.dumps(tree, indent=1, sort_keys=True).encode() + b"\n")
    return True
