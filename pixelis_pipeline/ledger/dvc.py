"""DVC's side of the ledger: hashing into its cache, and the two files its command line reads.

The DVC program itself never runs here (it cannot share an environment with Dagster); its own libraries
hash and store, and a contract test holds the real program against what this module writes.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pixelis_pipeline.ledger.files import replace, sync_all

CACHE = Path(".dvc/cache/files/md5")
POINTER = "data/versions.json"
LOCK = "dvc.lock"


@dataclass(frozen=True, slots=True)
class Hashed:
    """A directory as DVC names it: `version` is the md5 of its listing, without the `.dir` suffix."""

    version: str
    bytes: int
    files: int


def name(asset: str) -> str:
    """An asset's key as a DVC stage name: `raw/sa1b` is `raw_sa1b`."""
    return asset.replace("/", "_")


def command(asset: str, partition: str) -> str:
    """What makes one partition again; it stands in dvc.yaml and in dvc.lock and must be the same."""
    return f"pixelis run --asset {asset} --partition {partition}"


def hash_directory(folder: Path, root: Path, *, store: bool = True) -> Hashed:
    """Hash `folder` and, if `store`, put every file of it into the project's DVC cache."""
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db.local import LocalHashFileDB
    from dvc_data.hashfile.state import StateNoop
    from dvc_objects.fs.local import LocalFileSystem

    files = LocalFileSystem()
    cache = LocalHashFileDB(files, str((root / CACHE).absolute()), state=StateNoop())
    tree: Any  # a Tree, which is what build makes of a directory
    _, meta, tree = build(cache, str(folder.absolute()), files, "md5", dry_run=True)
    value = str(tree.hash_info.value)
    if store:
        made = {Path(cache.oid_to_path(i.value)): folder.joinpath(*key) for key, _, i in tree}
        with ThreadPoolExecutor() as pool:  # copying lets go of the interpreter's lock
            added = list(pool.map(_keep, made.keys(), made.values()))
        sync_all([path for path in added if path])
        replace(Path(cache.oid_to_path(value)), tree.as_bytes())  # last: it names files that are there
    return Hashed(value.removesuffix(".dir"), int(meta.size or 0), int(meta.nfiles or 0))


def _keep(cached: Path, made: Path) -> Path | None:
    """Copy `made` into the cache, whole or not at all; None if it is there. DVC's own transfer tries a
    reflink and then opens each file again to copy it, which on ext4 costs more than the copy."""
    if cached.exists():
        return None
    cached.parent.mkdir(parents=True, exist_ok=True)
    draft = cached.with_name(f".{cached.name}.{os.getpid()}.tmp")
    shutil.copyfile(made, draft)
    draft.chmod(0o444)  # as DVC protects its cache, and by which it knows an object that needs no new hash
    draft.replace(cached)
    return cached


def pipeline(assets: Iterable[str]) -> str:
    """dvc.yaml for the given asset keys: static, one frozen `foreach` stage each over the pointer file."""
    stages = {
        name(asset): {
            "foreach": f"${{{name(asset)}}}",
            "do": {
                "frozen": True,
                "cmd": command(asset, "${key}"),
                "outs": [f"data/{asset}/${{key}}/${{item}}"],
            },
        }
        for asset in assets
    }
    head = "# Written by `pixelis graph`; a test holds it in step with the asset graph.\n"
    return head + yaml.safe_dump({"vars": [POINTER], "stages": stages}, sort_keys=False)


def locked(current: Mapping[str, Mapping[str, Hashed]]) -> dict[str, Any]:
    """The stages of dvc.lock for the versions in force: asset -> partition -> version."""
    stages: dict[str, Any] = {}
    for asset, partitions in current.items():
        for partition, hashed in partitions.items():
            stages[f"{name(asset)}@{partition}"] = {
                "cmd": command(asset, partition),
                "outs": [
                    {
                        "path": f"data/{asset}/{partition}/{hashed.version}",
                        "hash": "md5",
                        "md5": f"{hashed.version}.dir",
                        "size": hashed.bytes,
                        "nfiles": hashed.files,
                    }
                ],
            }
    return stages


def write_lock(root: Path, current: Mapping[str, Mapping[str, Hashed]]) -> None:
    """Write dvc.lock for the versions in force."""
    text = yaml.dump({"schema": "2.0", "stages": locked(current)}, Dumper=yaml.CSafeDumper, sort_keys=False)
    replace(root / LOCK, text.encode())


def read_lock(root: Path) -> dict[str, Any]:
    """The stages of dvc.lock, none where there is no such file. ValueError where it is no lock file."""
    try:
        tree = yaml.load((root / LOCK).read_bytes(), Loader=yaml.CSafeLoader)
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from error
    stages = tree.get("stages") if isinstance(tree, dict) else None
    if not isinstance(stages, dict):
        raise ValueError("names no stages")
    return stages
