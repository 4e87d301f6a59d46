"""Which versions nothing in force needs, and freeing them."""

import json
import shutil
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pixelis_pipeline.ledger import chain, dvc
from pixelis_pipeline.ledger.ledger import Ledger, LedgerError, Versions, pointed
from pixelis_pipeline.ledger.verify import in_force


@dataclass(frozen=True, slots=True)
class Garbage:
    """Version folders and cache objects that may go, with the bytes they hold."""

    folders: tuple[Path, ...]
    objects: tuple[Path, ...]
    bytes: int


def _tagged(root: Path) -> Iterator[str]:
    """Versions that the pointer file of any git tag names."""
    tags = subprocess.run(["git", "tag"], cwd=root, capture_output=True, text=True, check=False).stdout
    for tag in tags.split():
        shown = subprocess.run(
            ["git", "show", f"{tag}:{dvc.POINTER}"], cwd=root, capture_output=True, text=True, check=False
        )
        if shown.returncode == 0:
            yield from _named(pointed(shown.stdout.encode(), f"{tag}:{dvc.POINTER}"))


def _named(versions: Versions) -> Iterator[str]:
    for partitions in versions.values():
        yield from partitions.values()


def _objects_of(cache: Path, version: str) -> Iterator[Path]:
    listing = cache / version[:2] / f"{version[2:]}.dir"
    yield listing
    if listing.is_file():
        for entry in json.loads(listing.read_bytes()):
            yield cache / entry["md5"][:2] / entry["md5"][2:]


def _needed(ledger: Ledger, pinned: Collection[str] = ()) -> set[str]:
    """The versions that stay. LedgerError where chains exist and the pointer names no version."""
    pointer = set(_named(ledger.versions()))
    if not pointer and chain.assets(ledger.root):
        raise LedgerError(
            f"{dvc.POINTER} names no version, but there are run records: restore it from git, "
            "or `pixelis run` points to versions again"
        )
    records = in_force(ledger)
    above = {each.version for record in records for each in record.inputs}
    return pointer | {record.version for record in records} | above | set(pinned) | set(_tagged(ledger.root))


def _garbage(ledger: Ledger, pinned: Collection[str] = ()) -> Garbage:
    keep = _needed(ledger, pinned)
    folders = [
        folder
        for asset in chain.assets(ledger.root)
        for partition in sorted(p for p in (ledger.data / asset).glob("*") if p.is_dir())
        for folder in sorted(p for p in partition.glob("*") if p.is_dir() and p.name not in keep)
        if len(folder.name) == 32
    ]
    cache = ledger.root / dvc.CACHE
    kept = {path for version in keep for path in _objects_of(cache, version)}
    objects = [path for path in sorted(cache.glob("??/*")) if path not in kept]
    size = sum(p.stat().st_size for f in folders for p in f.rglob("*") if p.is_file())
    return Garbage(tuple(folders), tuple(objects), size + sum(p.stat().st_size for p in objects))


def garbage(ledger: Ledger, pinned: Collection[str] = ()) -> Garbage:
    """What may be freed: everything but the versions in force, those they were made from, and those that
    a git tag's pointer names. LedgerError while a run is under way, and where nothing is in force."""
    with ledger.at_rest():
        return _garbage(ledger, pinned)


def free(ledger: Ledger, pinned: Collection[str] = ()) -> Garbage:
    """Remove it and return what it was: looked for and removed while no run can start or commit."""
    with ledger.at_rest():
        found = _garbage(ledger, pinned)
        for folder in found.folders:
            shutil.rmtree(folder)
        for path in found.objects:
            path.unlink()
    return found
