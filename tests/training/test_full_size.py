"""A full-size policy, made tiny, from a folder of weights to trained adapters and back to rollouts."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from pixelis_pipeline.agent import adapted, large, policy, render
from pixelis_pipeline.agent.sampled import sample
from pixelis_pipeline.settings import CurationSettings, PolicySettings, SftSettings
from tests.agent import tiny_large
from tests.training.conftest import opens, trace
from tests.training.test_rft import ground, recipe
from tests.training.test_rft_adapters import coin
from training import adapters
from training.rft import record
from training.rft import train as rft
from training.rft.course import STATE
from training.sft import course
from training.sft import train as sft
from training.sft.hardness import errors

pytestmark = pytest.mark.slow

CURATION = CurationSettings()
SFT = SftSettings(
    epochs=2,
    batch=2,
    micro_batch=1,
    learning_rate=1e-2,
    gradient_checkpointing=True,
    auxiliary=0.2,
    warm_up=1,
)
TRACES = [trace(k) for k in range(2)]


@pytest.fixture(params=["qwen3-vl-8b", "qwen2.5-vl-7b", "qwen3-8b"])
def limits(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PolicySettings:
    return tiny_large.limits(request.param, tmp_path / "weights", monkeypatch)


one = pytest.mark.parametrize("limits", ["qwen3-vl-8b"], indirect=True)


def taught(limits: PolicySettings, out: Path, settings: SftSettings = SFT, progress: Any = None) -> sft.Curve:
    base = Path(limits.weights)
    return sft.train(TRACES, TRACES[:1], base, out, settings, CURATION, opens, progress, None, limits)


def hard(folder: Path, limits: PolicySettings) -> list[float]:
    return [error for _, error in errors(folder, TRACES, SFT, opens, limits=limits)]


def test_weights_become_an_adapter_that_learned_and_is_opened_again(
    limits: PolicySettings, tmp_path: Path
) -> None:
    curve = taught(limits, tmp_path / "sft")
    assert len(curve.points) == 2 and curve.points[1].train < curve.points[0].train
    assert {path.name for path in (tmp_path / "sft").iterdir()} == {
        *(adapted.BASE, adapted.ADAPTER, adapted.CONFIG, policy.RENDER)
    }
    again = policy.opened(tmp_path / "sft", limits)
    whole = policy.opened(Path(limits.weights), limits)
    assert again.digest == curve.weights != whole.digest == again.base
    under = {n.replace(".base_layer", ""): w for n, w in again.model.get_base_model().named_parameters()}
    assert all(torch.equal(weight, under[name]) for name, weight in whole.model.named_parameters())
    before, after = hard(Path(limits.weights), limits), hard(tmp_path / "sft", limits)
    assert all(now < then for now, then in zip(after, before, strict=True))
    assert policy.contract_of(tmp_path / "sft", limits) == again.contract == whole.contract


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_was_taught_is_reinforced_from_its_own_adapter_and_rolled_out(
    limits: PolicySettings, dtype: str, tmp_path: Path
) -> None:
    """In mixed precision too, as on a GPU: frozen weights in bfloat16, adapters and their states in
    float32, every layer gone through again in the backward pass."""
    limits = limits.model_copy(update={"dtype": dtype})
    taught(limits, tmp_path / "sft", SFT.model_copy(update={"epochs": 1}))
    with safe_open(tmp_path / "sft" / adapted.ADAPTER, "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float32}  # noqa: SIM118
    settings = replace(recipe(steps=2, learning_rate=1e-2, group=2, prompts=1, save=1), policy=limits)
    run = rft.train(ground(coin()), tmp_path / "sft", tmp_path / "rft", settings, None)
    first, last = record.read(tmp_path / "rft")
    assert first.kl < 1e-6 < last.kl, "its divergence is from what was taught, not from the base"
    of = policy.opened(tmp_path / "rft" / rft.POLICY, limits)
    assert of.digest == run.weights != policy.opened(tmp_path / "sft", limits).digest
    on = ground()
    said = sample(
        *(of, on.questions[:1], 2, on.registry, on.open_media, limits),
        name="x",
        seed=1,
        right=on.right,
        temperature=1.0,
    )
    assert all(any(each.said) for each in said)


@one
def test_killed_anywhere_both_trainings_end_with_the_same_adapter(
    limits: PolicySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "SAVE", 1)
    settings = SFT.model_copy(update={"epochs": 3})
    undisturbed = taught(limits, tmp_path / "a", settings)
    killed(lambda tell: taught(limits, tmp_path / "b", settings, tell), 2)
    state = tmp_path / "b.work" / course.STATE
    with safe_open(state, "pt") as file:
        held = [name for name in file.keys() if name.startswith("model/")]  # noqa: SIM118
    assert held and all("lora_" in name or "heads." in name for name in held), "no copy of the base"
    assert taught(limits, tmp_path / "b", settings) == undisturbed

    steps = replace(recipe(steps=3, learning_rate=1e-2, group=2, prompts=1, save=1), policy=limits)
    whole = rft.train(ground(coin()), tmp_path / "a", tmp_path / "c", steps, None)
    killed(
        lambda tell: rft.train(
            *(ground(coin()), tmp_path / "a", tmp_path / "d", steps, None), lambda line: tell(line.step)
        ),
        2,
    )
    assert (tmp_path / "d" / STATE).is_file() and not (tmp_path / "d" / rft.POLICY).exists()
    assert rft.train(ground(coin()), tmp_path / "a", tmp_path / "d", steps, None) == whole
    lines = record.read(tmp_path / "c")
    assert record.read(tmp_path / "d") == lines and all(not line.filtered for line in lines), "it learned"


def killed(train: Any, at: int) -> None:
    """Train in a child that is killed by SIGKILL at step `at`."""
    child = os.fork()
    if child == 0:
        train(lambda step, *_: step == at and os.kill(os.getpid(), signal.SIGKILL))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@one
def test_other_weights_another_contract_and_heads_of_nano_are_refused(
    limits: PolicySettings, tmp_path: Path
) -> None:
    whole = policy.opened(Path(limits.weights), limits)
    pointer = tmp_path / "pointer"
    pointer.mkdir()
    base = adapted.Base.at(Path(limits.weights), limits)
    assert base == adapted.Base.of(whole, limits)
    base.write(pointer)
    assert policy.opened(pointer, limits).digest == whole.digest
    assert policy.contract_of(pointer, limits) == whole.contract

    shallow = {"r": 2, "target_modules": ["layers.0.self_attn.q_proj"]}
    with pytest.raises(ValueError, match="no rank for 13 projections"):
        adapters.learner(whole, shallow, 0)

    taught(limits, tmp_path / "sft", SFT.model_copy(update={"epochs": 1}))
    smaller = limits.model_copy(update={"picture_tokens_most": 512})
    for read in (policy.contract_of, policy.opened):
        with pytest.raises(render.RenderMismatch, match="pixels differ"):
            read(tmp_path / "sft", smaller)
    settings = replace(recipe(intrinsic="full"), policy=limits)
    with pytest.raises(ValueError, match="nano policy only"):
        rft.train(ground(), tmp_path / "sft", tmp_path / "rft", settings, None)
    (tmp_path / "sft" / adapted.BASE).write_text("{}")
    with pytest.raises(policy.PolicyError, match="names no weights"):
        policy.opened(tmp_path / "sft", limits)
    with (tmp_path / "weights" / "config.json").open("a") as file:
        file.write("\n")
    for folder in (pointer, tmp_path / "nowhere"):
        with pytest.raises(policy.PolicyError, match=r"stands on qwen3-vl-8b|there is no folder"):
            policy.opened(folder, limits)
    assert isinstance(whole, large.LargePolicy)
