"""A policy on disk and in memory: weights as safetensors, its tokenizer, its render contract."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pixelis_pipeline.agent import render, tokenizer
from pixelis_pipeline.agent import vocabulary as vocabularies
from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import PolicySettings

if TYPE_CHECKING:
    from pixelis_pipeline.agent.decode import Conversation
    from pixelis_pipeline.agent.large import LargePolicy
    from pixelis_pipeline.agent.nano import Model
    from pixelis_pipeline.agent.pixels import Image

WEIGHTS, CONFIG, TOKENIZER, RENDER = "model.safetensors", "config.json", "tokenizer.json", "render.json"


class PolicyError(ValueError):
    """A checkpoint folder that cannot be used; the text says what is missing or wrong."""


@dataclass(frozen=True, slots=True)
class Said:
    """One turn of a policy: its words, marks and all, the ids that were chosen, and each one's
    log-probability where it was chosen; none where the policy does not tell."""

    text: str
    ids: tuple[int, ...]
    log_probs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """`digest` is the sha256 of the weights file."""

    model: "Model"
    contract: render.Contract
    digest: str

    @property
    def vocabulary(self) -> vocabularies.Vocabulary:
        """What its conversations are encoded with."""
        return vocabularies.nano()

    def converse(
        self, prompts: Sequence[Sequence[int]], images: Sequence["Image"], copies: int = 1
    ) -> "Conversation":
        """`copies` conversations from each prompt (token ids), side by side; `images` (uint8 RGB) are those
        that the prompts hold a place for, in their order. Raises ImageTokenMismatch."""
        from pixelis_pipeline.agent.decode import Conversation

        return Conversation(self.model, prompts, images, copies)

    def generate(
        self,
        prompts: Sequence[str],
        images: Sequence["Image"],
        *,
        tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """One turn for each rendered prompt, in whose text marks are marks; `images` as in `converse`.

        Greedy at temperature 0, else sampled from `seed`. A turn that did not end is returned as it is.
        """
        from pixelis_pipeline.agent.decode import generate

        return generate(self.model, prompts, images, tokens=tokens, temperature=temperature, seed=seed)


def fetched(settings: PolicySettings) -> Path:
    """The folder of the weights that settings name: `weights`, or the files of `hub` at its commit, from the
    hub's cache or downloaded. Only JSON and safetensors are asked for."""
    if not settings.hub:
        return Path(settings.weights).expanduser()
    from huggingface_hub import snapshot_download

    name, _, commit = settings.hub.partition("@")
    return Path(snapshot_download(name, revision=commit, allow_patterns=["*.json", "*.safetensors"]))


def opened(folder: Path, settings: PolicySettings) -> "Policy | LargePolicy":
    """The policy in `folder`, of the kind that settings name; of a full-size one the folder may hold an
    adapter. Errors as `load`, `large.load` and `adapted.load`."""
    if settings.name == "nano":
        return load(folder)
    from pixelis_pipeline.agent import adapted, large

    return (adapted if (folder / adapted.BASE).is_file() else large).load(folder, settings)


def contract_of(folder: Path, settings: PolicySettings | None = None) -> render.Contract:
    """The render contract of the policy in `folder`, of the kind that settings name (nano by default).
    PolicyError where it holds none, RenderMismatch for another than settings make, or one of no edition."""
    if settings is not None and settings.name != "nano":
        from pixelis_pipeline.agent import adapted

        return adapted.contract_of(folder, settings)
    for name in (CONFIG, RENDER):
        if not (folder / name).is_file():
            raise PolicyError(f"{folder / name} is missing: {folder} is no policy checkpoint")
    _read(folder / RENDER)
    return render.stored(folder / RENDER, sees="vision_config" in _read(folder / CONFIG))


def _read(path: Path) -> Json:
    """What a file of JSON holds. PolicyError where that is no object."""
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise PolicyError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise PolicyError(f"{path} holds no JSON object")
    return found


def load(folder: Path) -> Policy:
    """The nano policy in `folder`.

    Raises PolicyError for a folder that is not a checkpoint of nano's, or with weights that are not finite,
    RenderMismatch where it was trained under another render contract.
    """
    for name in (WEIGHTS, CONFIG, TOKENIZER, RENDER):
        if not (folder / name).is_file():
            raise PolicyError(f"{folder / name} is missing: {folder} is no policy checkpoint")
    contract = contract_of(folder)
    if hashlib.sha256((folder / TOKENIZER).read_bytes()).hexdigest() != contract.tokenizer:
        raise PolicyError(f"{folder / TOKENIZER} is not the tokenizer of its render contract")
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from pixelis_pipeline.agent import nano

    try:
        model = nano.build(nano.from_json(_read(folder / CONFIG)), seed=0)
        weights = load_file(folder / WEIGHTS)
    except (SafetensorError, TypeError, ValueError) as error:
        raise PolicyError(f"{folder} cannot be loaded: {error}") from error
    expected = {name: weight.shape for name, weight in model.named_parameters()}
    found = {name: weight.shape for name, weight in weights.items()}
    if expected != found:
        wrong = sorted(set(expected.items()) ^ set(found.items()))[:2]
        raise PolicyError(f"{folder / WEIGHTS} does not fit {CONFIG}: {wrong}")
    if spoilt := [name for name, weight in weights.items() if not torch.isfinite(weight).all()]:
        raise PolicyError(f"{folder / WEIGHTS}: {spoilt[0]} holds a number that is not finite")
    model.load_state_dict(weights, strict=False)
    return Policy(model.eval(), contract, hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest())


def save(model: "Model", folder: Path, contract: render.Contract | None = None) -> str:
    """Write the checkpoint folder, whole or not at all; gives the sha256 of its weights. `contract` is what
    it was trained under, by default nano's latest.

    A folder that is there already is replaced.
    """
    from safetensors.torch import save_file

    from pixelis_pipeline.agent import nano

    staged = folder.with_name(folder.name + ".staged")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    weights = {name: weight.detach().contiguous() for name, weight in model.named_parameters()}
    save_file(weights, staged / WEIGHTS, metadata={"format": "pt"})
    (staged / CONFIG).write_text(model.config.to_json_string())
    (staged / TOKENIZER).write_text(tokenizer.shared().to_str())
    (contract or render.nano(sees=nano.sees(model))).write(staged / RENDER)
    digest = hashlib.sha256((staged / WEIGHTS).read_bytes()).hexdigest()
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(staged, folder)
    return digest
