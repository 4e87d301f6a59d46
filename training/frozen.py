"""Numbers measured once and then only read, as JSON that names its own content's sha256 as `digest`."""

import hashlib
import json
from pathlib import Path

from pixelis_pipeline.ledger.files import replace
from pixelis_pipeline.records import Json, canonical


class Changed(ValueError):
    """A file that is not what was written."""


def digest(content: Json) -> str:
    """sha256 hex: the version of such numbers."""
    return hashlib.sha256(canonical(content)).hexdigest()


def write(path: Path, content: Json) -> None:
    """Store the content with its version, wholly or not at all."""
    replace(path, canonical({"digest": digest(content), **content}) + b"\n")


def read(path: Path) -> Json:
    """The content that was stored. Raises Changed where it is another one, OSError where there is none."""
    content = json.loads(path.read_bytes())
    said = content.pop("digest", "nothing")
    if digest(content) != said:
        raise Changed(f"{path} was changed: it is version {digest(content)[:12]}, not {said[:12]}")
    return content
