"""The same trainer on policies that learn through a LoRA adapter: nano, and a full-size one made tiny."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from pixelis_pipeline.agent import large, policy
from pixelis_pipeline.settings import HeadSettings, PidSettings, PolicySettings
from tests.agent import tiny_large
from tests.training.conftest import SIZES
from tests.training.test_rft import QUICK, ground, recipe, scales
from training.rft import objective, pid, record
from training.rft.course import Course
from training.rft.heads import Heads
from training.rft.trainer import Reinforcement

pytestmark = pytest.mark.slow


def adapted(of: Any) -> Any:
    """The policy with a fresh adapter, which changes nothing yet."""
    torch.manual_seed(0)
    layers = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return replace(of, model=get_peft_model(of.model, layers))


def coin() -> Any:
    """Every other answer is right, whatever it says: there is something to learn in each group."""
    toss = itertools.cycle([True, False])
    return lambda question, answer: next(toss)


def adapters(model: Any) -> dict[str, dict[str, torch.Tensor]]:
    """The weights by adapter ("default", "ref", or "" for what none holds)."""
    found: dict[str, dict[str, torch.Tensor]] = {"default": {}, "ref": {}, "": {}}
    for name, weight in model.named_parameters():
        of = next((each for each in ("default", "ref") if f".{each}." in name), "")
        found[of][name.replace(f".{of}.", ".")] = weight.detach().clone()
    return found


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def reinforced(of: Any, settings: Any, out: Path, heads: Heads | None) -> tuple[Any, Reinforcement]:
    before = adapters(of.model)
    course = Course("k", pid.start(PidSettings()))
    trainer = Reinforcement(
        of, None, ground(coin()), settings, heads, scales() if heads else None, course, out, None
    )
    trainer.train()
    return before, trainer


def test_an_adapter_learns_and_its_copy_is_the_reference(base: Path, tmp_path: Path) -> None:
    of = adapted(policy.load(base))
    settings = recipe(steps=3, learning_rate=1e-2)
    before, trainer = reinforced(of, settings, tmp_path, Heads(SIZES["hidden"], HeadSettings()))
    after = adapters(of.model)
    assert same(before[""], after[""]) and same(before["default"], after["ref"])
    assert not same(before["default"], after["default"])
    assert not of.model.is_gradient_checkpointing, "the cache of a group's prompt would be dropped"
    first, *_, last = record.read(tmp_path)
    assert first.kl < 1e-6 < last.kl
    trainer.keep(tmp_path / "kept")
    again = PeftModel.from_pretrained(policy.load(base).model, tmp_path / "kept")
    group = trainer.batch.rollouts[: QUICK.group]
    with torch.no_grad():
        told = [objective.log_probs(model.get_base_model(), group, 1.0) for model in (again, of.model)]
    assert torch.equal(*told)


@pytest.mark.parametrize("name", ["qwen3-vl-8b", "qwen2.5-vl-7b", "qwen3-8b"])
def test_full_size_architectures_learn_by_the_same_code(name: str, tmp_path: Path) -> None:
    named = tiny_large.write(name, tmp_path / "weights")
    limits = PolicySettings(name=name, device="cpu", dtype="float32", turns=2, tokens_per_turn=12)
    of = adapted(large.load(tmp_path / "weights", limits, named))
    settings = replace(recipe(steps=2, learning_rate=1e-2, group=2), policy=limits)
    before, _ = reinforced(of, settings, tmp_path / "out", None)
    after = adapters(of.model)
    assert same(before[""], after[""]) and same(before["default"], after["ref"])
    assert not same(before["default"], after["default"])
    first, last = record.read(tmp_path / "out")
    assert first.kl < 1e-6 < last.kl and first.filtered == 0
    assert len(list(record.stored(tmp_path / "out"))) == 2 * 4


def test_the_fused_head_says_what_the_logits_say(tmp_path: Path) -> None:
    named = tiny_large.write("qwen3-8b", tmp_path / "weights")
    limits = PolicySettings(name="qwen3-8b", device="cpu", dtype="float32", turns=2, tokens_per_turn=12)
    of = adapted(large.load(tmp_path / "weights", limits, named))
    _, trainer = reinforced(of, replace(recipe(steps=1, group=2), policy=limits), tmp_path / "out", None)
    group = trainer.batch.rollouts[:2]
    with torch.no_grad():
        told = trainer.read(of.model, group)
        for each in group:
            logits = of.model(input_ids=torch.tensor([each.ids])).logits[0, :-1].log_softmax(-1)
            said = torch.tensor(each.said[1:])
            wanted = logits[said].gather(1, torch.tensor(each.ids)[1:][said][:, None])[:, 0]
            assert told[: len(wanted)].tolist() == pytest.approx(wanted.tolist(), abs=1e-4)
            told = told[len(wanted) :]
