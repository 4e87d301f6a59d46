"""Hashes of files by one method, in whichever environment has it: `python fingerprint_runs.py METHOD LIST`.

LIST names a file with one path a line. Prints when the run began and ended (seconds of the clock that all
processes share), its CPU seconds and the pHashes, 16 hex digits each. Imports are not timed. imagededup's
hashes are imported past the two of its packages that import torch on the way and need none.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

Hasher = Callable[[Path], str]


def ours() -> Hasher:
    """sha256 and pHash, by the functions that every stage hashes pictures with."""
    from pixelis_pipeline.media import files, image
    from pixelis_pipeline.settings import MediaLimits
    from pixelis_pipeline.sources.whitelist import phash

    limits = MediaLimits()

    def hashed(path: Path) -> str:
        data = files.read(path, limits)
        hashlib.sha256(data).hexdigest()
        return phash(image.reduced(data, files.sniff(data) or "", str(path), limits, image.SIDE))

    return hashed


def our_look() -> Hasher:
    """All that `pixelis dedup` makes of a file: the hashes, how far they can be trusted, the descriptors."""
    from pixelis_pipeline.curation.folder import look
    from pixelis_pipeline.records import Accepted
    from pixelis_pipeline.settings import MediaLimits

    def hashed(path: Path) -> str:
        found: Any = look(path, MediaLimits())
        if not isinstance(found, Accepted):
            raise RuntimeError(f"{path}: {found}")
        return found.records[0].fingerprint.phash[0]

    return hashed


def imagehash() -> Hasher:
    import imagehash as released
    from PIL import Image

    return lambda path: str(released.phash(Image.open(path)))


def imagededup() -> Hasher:
    import imagededup as released

    for name in ("methods", "utils"):
        package = ModuleType(f"imagededup.{name}")
        package.__path__ = [str(Path(released.__path__[0]) / name)]
        sys.modules[package.__name__] = package
    from imagededup.methods.hashing import PHash

    method = PHash(verbose=False)
    return lambda path: method.encode_image(image_file=path)


METHODS: dict[str, Callable[[], Hasher]] = {
    "ours": ours,
    "our_look": our_look,
    "imagehash": imagehash,
    "imagededup": imagededup,
}


def main() -> None:
    method, listed = sys.argv[1], Path(sys.argv[2])
    paths = [Path(line) for line in listed.read_text().splitlines()]
    hashed = METHODS[method]()
    began, cpu = time.monotonic(), sum(os.times()[:2])
    digits = [hashed(path) for path in paths]
    told = {"cpu": sum(os.times()[:2]) - cpu, "began": began, "ended": time.monotonic(), "digits": digits}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
