"""Resumable training state as one safetensors file, replaced atomically: no pickle, no half-written file."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelis_pipeline.records import Json

if TYPE_CHECKING:
    import torch


def write(path: Path, modules: Mapping[str, Any], optimizer: Any, done: Json) -> None:
    """Save modules' weights, the optimizer's state and `done` (plain JSON: how far it is)."""
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    for name, module in modules.items():
        for key, tensor in _own(module).items():
            tensors[f"{name}/{key}"] = tensor.detach().contiguous()
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer/{index}/{key}"] = value.detach().contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".tmp")
    save_file(tensors, staged, metadata={"progress": json.dumps(done, sort_keys=True)})
    with staged.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(staged, path)


def progress(path: Path) -> Json:
    """The `done` of a saved state, without its tensors."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(json.loads(file.metadata()["progress"]))


def read(path: Path, modules: Mapping[str, Any], optimizer: Any) -> Json:
    """Load what `write` saved into the same modules and optimizer; gives back `done`."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for name, module in modules.items():
        prefix = f"{name}/"
        part = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
        missing = set(_own(module)) ^ set(part)
        if missing:
            raise ValueError(f"{path}: weights of {name} differ from the model's: {sorted(missing)[:3]}")
        module.load_state_dict(part, strict=False)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return progress(path)


def _own(module: Any) -> dict[str, Any]:
    """The module's weights by name, a tied weight only once; a frozen one is left out."""
    return {name: weight.data for name, weight in module.named_parameters() if weight.requires_grad}
