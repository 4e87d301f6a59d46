"""Full-size policies that learned through an adapter, on disk: never the weights under it, which are named.

A folder holds `base.json`, which says what weights it stands on, and where something was learned, the adapter
as peft loads it and the render contract it was learned under. Where the weights lie is said by settings
(`policy.weights` or `policy.hub`); they are refused unless they are those.

The module is imported only where a model is wanted: it needs torch, transformers and peft.
"""

import copy
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from peft import (  # noqa: TID253
    PeftConfig,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file

from pixelis_pipeline.agent import large, render
from pixelis_pipeline.agent.policy import RENDER, TOKENIZER, Policy, PolicyError, fetched
from pixelis_pipeline.agent.published import POLICIES
from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.records import canonical
from pixelis_pipeline.settings import PolicySettings

BASE, ADAPTER, CONFIG = "base.json", "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Base:
    """The weights that an adapter stands on: the policy's name, owner/name@commit on the hub where settings
    name it so, the sha256 over their files, and that of their tokenizer.json."""

    name: str
    hub: str
    digest: str
    tokenizer: str

    @classmethod
    def of(cls, policy: Policy | large.LargePolicy, settings: PolicySettings) -> Self:
        """What `policy` stands on."""
        digest = policy.digest if isinstance(policy, Policy) else policy.base
        return cls(settings.name, settings.hub, digest, policy.contract.tokenizer)

    @classmethod
    def at(cls, folder: Path, settings: PolicySettings) -> Self:
        """Whole weights in `folder`, which are read but not loaded. Errors as `large.check_files`."""
        digest = large.check_files(folder, POLICIES[settings.name])
        return cls(settings.name, settings.hub, digest, sha256(folder / TOKENIZER))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What `write` wrote. PolicyError where it is something else."""
        try:
            return cls(**json.loads((folder / BASE).read_bytes()))
        except (ValueError, TypeError) as error:
            raise PolicyError(f"{folder / BASE} names no weights: {error}") from error

    def write(self, folder: Path) -> None:
        """Into a folder: by itself it is the policy that has learned nothing yet."""
        (folder / BASE).write_bytes(canonical(asdict(self)) + b"\n")


def contract_of(folder: Path, settings: PolicySettings) -> render.Contract:
    """What the full-size policy in `folder` is shown under these settings, read without its weights.
    RenderMismatch where it was trained under another contract, PolicyError for what is no policy."""
    if (folder / BASE).is_file():
        words = Base.read(folder).tokenizer
    elif (folder / TOKENIZER).is_file():
        words = sha256(folder / TOKENIZER)
    else:
        raise PolicyError(f"{folder} holds neither {BASE} nor {TOKENIZER}: it is no policy")
    shown = large.contract(POLICIES[settings.name], words, settings)
    if (folder / RENDER).is_file():
        shown.check(folder / RENDER)
    return shown


def load(folder: Path, settings: PolicySettings) -> large.LargePolicy:
    """The policy of an adapter's folder: the weights that settings name, under the adapter, which can go on
    learning. Errors as `large.load`; PolicyError also for other weights than the adapter's, or an adapter
    that does not fit them."""
    told = Base.read(folder)
    under = large.load(fetched(settings), settings)
    if under.digest != told.digest:
        raise PolicyError(
            f"{folder} stands on {told.hub or told.name} of sha256 {told.digest[:12]}; {large.SETTING} holds "
            f"{under.digest[:12]}"
        )
    if not (folder / ADAPTER).is_file():
        return under
    under.contract.check(folder / RENDER)
    config = PeftConfig.from_pretrained(str(folder))
    config.inference_mode, config.base_model_name_or_path = False, None  # peft warns of another path
    model = get_peft_model(under.model, config)
    found: Any = set_peft_model_state_dict(model, load_file(folder / ADAPTER))
    missing = [name for name in found.missing_keys if "lora_" in name]
    if wrong := sorted([*missing, *found.unexpected_keys]):
        raise PolicyError(f"{folder / ADAPTER} does not fit its {CONFIG}: {wrong[0]}")
    return replace(under, model=model.eval(), digest=sha256(folder / ADAPTER))


def save(model: Any, folder: Path, contract: render.Contract, base: Base) -> str:
    """Write the adapter that `model` (of peft) trains, whole or not at all; gives the sha256 of its
    weights. A folder that is there already is replaced."""
    staged = folder.with_name(folder.name + ".staged")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)  # else the hub is asked
    save_file(
        {name: weight.detach().contiguous() for name, weight in weights.items()},
        staged / ADAPTER,
        metadata={"format": "pt"},
    )
    config = copy.copy(model.peft_config["default"])
    config.base_model_name_or_path = base.hub or base.name  # not where it lies on this machine
    config.target_modules = sorted(config.target_modules)
    config.save_pretrained(str(staged))
    contract.write(staged / RENDER)
    base.write(staged)
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(staged, folder)
    return sha256(folder / ADAPTER)
