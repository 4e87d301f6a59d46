"""Reinforcement of a full-size policy whose rollouts a server says (a stand-in: vLLM was not run)."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pixelis_pipeline.agent import adapted, policy
from tests.agent import stand_in_vllm, tiny_large
from tests.training.test_full_size import SFT, taught
from tests.training.test_rft import ground, recipe
from tests.training.test_rft_adapters import coin
from training.rft import objective, record
from training.rft import train as rft
from training.rft.trainer import Reinforcement


def test_a_token_counts_what_the_learner_makes_of_it_at_most_three_times():
    now = torch.tensor([-1.0, -2.0, -1.0, -9.0, -1.0])
    told = ((-1.0, -1.0), (-9.0, -1.0, float("nan")))
    group = [SimpleNamespace(log_probs=each) for each in told]
    ratios = [1.0, float(torch.tensor(-1.0).exp()), 3.0, float(torch.tensor(-8.0).exp()), 1.0]
    assert torch.allclose(objective.trust(now, group), torch.tensor(ratios))
    silent = [SimpleNamespace(log_probs=()) for _ in told]
    assert torch.equal(objective.trust(now, silent), torch.ones(5))


@pytest.mark.slow
def test_each_step_is_sampled_from_the_adapter_that_the_one_before_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = stand_in_vllm.install(monkeypatch)
    limits = tiny_large.limits(
        *("qwen3-vl-8b", tmp_path / "weights", monkeypatch),
        tokens_per_turn=8,
        picture_tokens_most=30,
        rollouts="vllm",
    )
    trusted: list[torch.Tensor] = []
    asleep: list[bool] = []
    learn = Reinforcement._compute_loss

    def learned(self: Any, model: Any, inputs: Any) -> torch.Tensor:
        asleep.append(engines[0].asleep)
        trusted.append(inputs["groups"][0].trust)
        return learn(self, model, inputs)

    monkeypatch.setattr(Reinforcement, "_compute_loss", learned)
    taught(limits, tmp_path / "sft", SFT.model_copy(update={"epochs": 1}))
    assert not engines, "who is taught says nothing through a server"
    settings = replace(recipe(steps=3, learning_rate=1e-1, group=2, prompts=1, save=5), policy=limits)
    run = rft.train(ground(coin()), tmp_path / "sft", tmp_path / "rft", settings, None)

    (engine,) = engines
    assert asleep == [True] * 3, "the learner has the memory while it learns"
    steps = [[each for each in part.split() if each != "wake"] for part in _told(engine).split("sleep")]
    assert [set(step) for step in steps] == [{"1"}, {"2"}, {"3"}, set()]
    lines = record.read(tmp_path / "rft")
    assert lines[0].kl < 1e-6 < lines[-1].kl, "the learner reads what was said, whatever the server told"
    # The marks that are never said have a little of the learner's probability, and none of the sampler's.
    ratios = torch.cat(trusted)
    assert bool((ratios < 1 + 1e-4).all()) and bool((ratios > 0.5).all()) and bool((ratios < 1 - 1e-6).any())

    after = policy.opened(tmp_path / "rft" / rft.POLICY, limits)
    assert after.digest == run.weights and (tmp_path / "rft" / rft.POLICY / adapted.ADAPTER).is_file()
    assert after.server is not None and after.server._engine is engine, "one engine, all through"


def _told(engine: stand_in_vllm.LLM) -> str:
    return " ".join(map(str, engine.events))
