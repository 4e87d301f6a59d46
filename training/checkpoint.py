"""Resumable training state as one safetensors file, replaced atomically: no pickle, no half-written file.

Several processes that train together save and load together; the file is the same however many they are, and
the first of them writes it.
"""

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
    from training import distributed

    tensors: dict[str, torch.Tensor] = {}
    for name, module in modules.items():
        for key, tensor in _own(module).items():
            tensors[f"{name}/{key}"] = distributed.whole(tensor.detach()).contiguous()
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer/{index}/{key}"] = distributed.whole(value.detach()).contiguous()
    if distributed.first():
        _store(path, tensors, done)
    distributed.wait()


def _store(path: Path, tensors: "dict[str, torch.Tensor]", done: Json) -> None:
    from safetensors.torch import save_file

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

    from training import distributed

    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for name, module in modules.items():
        prefix = f"{name}/"
        part = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
        own = _own(module)
        if missing := set(own) ^ set(part):
            raise ValueError(f"{path}: weights of {name} differ from the model's: {sorted(missing)[:3]}")
        part = {key: distributed.placed(tensor, own[key]) for key, tensor in part.items()}
        module.load_state_dict(part, strict=False)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            state.setdefault(int(index), {})[name] = distributed.placed(tensor, weights[int(index)])
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return progress(path)


def _own(module: Any) -> dict[str, Any]:
    """The module's weights by name, a tied weight only once; a frozen one is left out."""
    return {name: weight.data for name, weight in module.named_parameters() if weight.requires_grad}
