"""Weights in a local folder: safetensors only, and the digest that a tool's version names them by."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

PICKLED = ("*.bin", "*.pt", "*.pth")


def weights_digest(folder: str, setting: str, model: str, beside: Sequence[str] = ("config.json",)) -> str:
    """sha256 hex over the files `beside` the weights and the safetensors files of a folder, by name.

    ValueError, naming the `setting` and what `model` it wants, where the folder, its weights or a file
    beside them is missing; pickled weights count as none.
    """
    where = Path(folder)
    if not folder or not where.is_dir():
        raise ValueError(
            f"{setting}: there is no folder {folder!r}. Set it to a local copy of {model} "
            f"({', '.join(beside)} and model.safetensors)"
        )
    files = sorted(where.glob("*.safetensors"))
    if not files:
        pickled = sorted(path.name for kind in PICKLED for path in where.glob(kind))
        found = f"only {', '.join(pickled)}, and pickled weights are not loaded" if pickled else "no weights"
        raise ValueError(f"{setting}: {folder} holds {found}. Put the model's *.safetensors there")
    for name in beside:
        if not (where / name).is_file():
            raise ValueError(f"{setting}: {folder} has no {name} beside its weights")
    digest = hashlib.sha256()
    for path in [*(where / name for name in beside), *files]:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
