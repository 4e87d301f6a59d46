"""Reinforcement of a tiny policy: what is learned, from which tokens, and that nothing depends on luck."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelis_pipeline.agent import policy, render
from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.batch import ImageTokenMismatch
from pixelis_pipeline.agent.sampled import Sampled, sample
from pixelis_pipeline.records import Question
from pixelis_pipeline.settings import (
    CurationSettings,
    HeadSettings,
    PidSettings,
    PolicySettings,
    RewardSettings,
    RftSettings,
    SftSettings,
)
from pixelis_pipeline.tools.contract import Observation, spoken
from pixelis_pipeline.tools.registry import Registry
from tests.training.conftest import COLOURS, SIZES, opens, trace
from training import checkpoint
from training.rft import objective, pid, record
from training.rft import train as rft
from training.rft.course import STATE, Course, Measured, advance
from training.rft.groups import advantages
from training.rft.recipe import Ground, Recipe
from training.rft.rewards import Scale
from training.rft.scales import ScaleError, Scales
from training.rft.trainer import TERMS, prompts
from training.sft import train as sft

QUICK = RftSettings(intrinsic="none", steps=6, prompts=2, group=4, temperature=1.0, save=2, collapse=0.0)


class Prop:
    """Says what the planted traces say was measured."""

    version = "prop/test"

    def __call__(self, workspace, arguments):
        output = {"colour": "red", "shape": "star", "size": "small", "count": 1}
        return Observation(output, spoken("PROP", output), version=self.version)


@pytest.fixture(scope="module")
def taught(base, tmp_path_factory) -> Path:
    """A tiny policy that calls PROP as a rule and then names one of four colours, each as often: it was
    taught by traces that differ in nothing but their answers."""
    out = tmp_path_factory.mktemp("taught") / "policy"
    settings = SftSettings(epochs=45, batch=4, learning_rate=6e-3, threads=1, label_smoothing=0.0)
    traces = [replace(trace(0), id=f"t{k}", answer=colour) for k, colour in enumerate(COLOURS)]
    sft.train(traces, [], base, out, settings, CurationSettings(), opens)
    return out


def ground(right: Callable[[Question, str], bool] | None = None, questions: int = 4) -> Ground:
    return Ground(
        [replace(trace(0).question, id=f"q{k}", answer=COLOURS[k]) for k in range(questions)],
        Registry({"PROP": Prop()}),
        opens,
        right or (lambda question, answer: question.answer == answer),
    )


def recipe(settings: RftSettings = QUICK, **changes) -> Recipe:
    limits = PolicySettings(turns=2, tokens_per_turn=40)
    return Recipe(
        settings.model_copy(update=changes), RewardSettings(), HeadSettings(), PidSettings(), limits
    )


def scales() -> Scales:
    """Of the one family of questions here, as if measured on dev."""
    from training.rft.heads import Heads

    return Scales(Heads(SIZES["hidden"], HeadSettings()).digest, {"attribute": Scale(0.5, 0.2)}, {})


def run(on: Ground, base: Path, out: Path, settings: Recipe, progress=None) -> rft.Run:
    return rft.train(on, base, out, settings, scales(), progress)


def rollouts(folder: Path, copies: int = 4, seed: int = 1, temperature: float = 1.0) -> list[Sampled]:
    on = ground()
    return sample(
        policy.load(folder),
        on.questions[:2],
        copies,
        on.registry,
        on.open_media,
        PolicySettings(turns=3, tokens_per_turn=40),
        name="x",
        seed=seed,
        right=on.right,
        temperature=temperature,
    )


def test_advantages_by_hand():
    worth, kept = advantages(np.array([1.0, 0, 0, 1, 0.5, 0.5, 0.5, 0.5, 3, 1, 1, 1]), 4)
    assert kept.tolist() == [True, False, True]
    apart = np.sqrt(5) / 3  # the deviation of all twelve
    assert worth[:8] * apart == pytest.approx([0.5, -0.5, -0.5, 0.5, 0, 0, 0, 0])
    assert worth[8:] * apart == pytest.approx([1.5, -0.5, -0.5, -0.5])
    assert not any(part.any() for part in advantages(np.ones(8), 4)), "nothing differs anywhere"


def test_a_group_in_which_only_intrinsic_terms_differ_is_dropped():
    answers = np.array([1.0, 1, 1, 1, 0, 0, 1, 1])
    total = answers + np.array([0.1, 0.2, 0.3, 0.0] * 2)
    worth, kept = advantages(total, 4, answers)
    assert kept.tolist() == [False, True] and not worth[:4].any()
    assert worth[4:] == pytest.approx((total[4:] - total[4:].mean()) / total.std())


def test_the_ids_are_those_that_were_chosen_and_so_are_their_probabilities(taught):
    """Of the whole conversation read afresh, with no cache kept from turn to turn."""
    batch = rollouts(taught, copies=12, temperature=1.3)
    assert len({len(each.prediction.steps) for each in batch}) > 1, "some end before others"
    model = policy.load(taught).model
    for group in (batch[:12], batch[12:]):
        with torch.inference_mode():
            found = objective.log_probs(model, group, 1.3)
        assert found.numpy() == pytest.approx([p for each in group for p in each.log_probs], abs=2e-4)


def test_what_a_rollout_holds_is_its_prompt_what_it_said_and_what_it_heard(taught):
    for each in rollouts(taught):
        ids, said = np.array(each.ids), np.array(each.said)
        assert len(ids) == len(said) and said.sum() == len(each.log_probs) and not said[: each.prompt].any()
        whole = words.shared().decode(list(ids), skip_special_tokens=False)
        assert whole.startswith(
            render.render(policy.load(taught).contract, each.prediction.question.text, ())
        )
        opens, closes = (ids == words.token(mark) for mark in ("<obs>", "</obs>"))
        observed = (opens.cumsum() - closes.cumsum() + closes) > 0
        assert not (said & observed).any() and (said | observed)[each.prompt :].all()
        for step in each.prediction.steps:
            if step.valid:
                assert f"<obs>{spoken('PROP', step.output)}</obs>" in whole


def test_the_same_seed_samples_the_same_and_another_does_not(taught):
    first, again, other = rollouts(taught), rollouts(taught), rollouts(taught, seed=2)
    assert [each.ids for each in first] == [each.ids for each in again] != [each.ids for each in other]
    assert [each.prediction.id for each in first] == [each.prediction.id for each in again]
    assert len({each.prediction.id for each in first}) == len(first)


def test_no_gradient_comes_from_what_was_only_read(taught):
    """An observation's last token is swapped for one the policy finds absurd: with nothing said after it, the
    loss is the same to the bit; counted as said, it is not."""
    group = [each for each in rollouts(taught)[:4] if sum(each.said) < len(each.said) - each.prompt][:1]
    (one,) = group
    heard = max(k for k, said in enumerate(one.said) if not said)
    cut = replace(one, ids=one.ids[: heard + 1], said=one.said[: heard + 1])
    cut = replace(cut, log_probs=one.log_probs[: sum(cut.said)])
    swapped = replace(cut, ids=(*cut.ids[:-1], words.token("999")))
    claimed = replace(swapped, said=(*swapped.said[:-1], True), log_probs=(*swapped.log_probs, 0.0))

    def gradient(of: Sampled) -> list[torch.Tensor]:
        model = policy.load(taught).model
        now = objective.log_probs(model, [of], 1.0)
        ones = torch.ones_like(now)
        objective.loss(now, now.detach() - 0.5, ones, 0.1).backward()
        return [weight.grad for weight in model.parameters() if weight.grad is not None]

    plain = gradient(cut)
    assert all(torch.equal(a, b) for a, b in zip(plain, gradient(swapped), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(plain, gradient(claimed), strict=True))


def test_the_loss_and_its_gradient_by_hand():
    now = torch.tensor([-1.0, -2.0], requires_grad=True)
    reference = torch.tensor([-1.5, -2.0])
    made = objective.loss(now, reference, torch.tensor([2.0, -1.0]), 0.3)
    apart = np.exp(-0.5) + 0.5 - 1
    assert made.item() == pytest.approx(0.3 * apart - 2 + 1)
    made.backward()
    assert now.grad.tolist() == pytest.approx([0.3 * (1 - np.exp(-0.5)) - 2, 1.0])
    assert objective.divergence(now, now).abs().max() == 0


def test_image_tokens_that_do_not_fit_are_an_error(taught):
    one = rollouts(taught)[0]
    image = words.token(words.IMAGE)
    fewer = replace(one, ids=tuple(t for k, t in enumerate(one.ids) if k != one.ids.index(image)))
    fewer = replace(fewer, prompt=one.prompt - 1, said=one.said[1:])
    model = policy.load(taught).model
    for wrong in (fewer, replace(one, ids=(*one.ids[:-1], image))):
        with pytest.raises(ImageTokenMismatch):
            objective.log_probs(model, [wrong], 1.0)
    with pytest.raises(ValueError, match="one prompt"):
        objective.log_probs(model, [one, fewer], 1.0)


@pytest.mark.slow
def test_thirty_steps_raise_the_success_of_a_planted_task(taught, tmp_path):
    """One of the four colours that the policy was taught is right, whatever it is shown."""
    wanted = COLOURS[2]
    settings = QUICK.model_copy(update={"steps": 30, "group": 8, "learning_rate": 2e-3})
    ended = run(ground(lambda q, a: a == wanted), taught, tmp_path / "out", recipe(settings))
    lines = record.read(tmp_path / "out")
    assert ended.ended == "finished" and [line.step for line in lines] == list(range(30))
    early, late = (np.mean([line.success for line in part]) for part in (lines[:3], lines[-3:]))
    assert early < 0.5 and late > 0.7, (early, late)
    assert lines[0].kl < 1e-6 < lines[-1].kl, "the reference is the policy that training started from"
    assert policy.load(tmp_path / "out" / "policy").digest == ended.weights


def test_how_a_picture_is_seen_is_not_learned_anew(taught, tmp_path):
    """The tower stays the fine-tuned policy's to the bit, and the language model does not."""
    run(ground(), taught, tmp_path / "out", recipe(steps=2, learning_rate=1e-3))
    before, after = (policy.load(each).model.state_dict() for each in (taught, tmp_path / "out" / "policy"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("language_model" in name for name in moved)
    assert any("visual" in name for name in before) and not any("visual" in name for name in moved)


def test_groups_that_earn_alike_teach_nothing(taught, tmp_path):
    """Nothing is ever right and nothing costs: every group is dropped, and not one weight moves."""
    free = replace(recipe(steps=3), reward=RewardSettings(invalid=0, length=0))
    ended = run(ground(lambda q, a: False), taught, tmp_path / "out", free)
    assert ended.weights == policy.load(taught).digest
    for line in record.read(tmp_path / "out"):
        assert (line.filtered, line.group_variance, line.gradient_norm) == (1.0, 0.0, 0.0)
        assert line.beta == PidSettings().beta, "no optimiser step, no step of the controller"


def test_a_policy_that_stops_using_tools_is_stopped(taught, tmp_path):
    """The tool is taken away: no call is valid any more."""
    on = replace(ground(), registry=Registry({}))
    ended = run(on, taught, tmp_path / "out", recipe(collapse=0.2, ema=0.0))
    assert (ended.ended, ended.steps) == ("tool use collapsed", 1)
    assert run(on, taught, tmp_path / "out", recipe(collapse=0.2, ema=0.0)) == ended, "and stays stopped"


def test_what_is_logged_is_what_the_stored_rollouts_say(taught, tmp_path):
    run(ground(), taught, tmp_path / "out", recipe(steps=2))
    stored, size = list(record.stored(tmp_path / "out")), 8
    for line in record.read(tmp_path / "out"):
        batch = stored[line.step * size : (line.step + 1) * size]
        steps = [each.prediction.steps for each in batch]
        valid = [[step.valid for step in each] for each in steps]
        assert line.calls == np.mean([len(each) for each in steps])
        assert line.tool_use == np.mean([any(each) for each in valid])
        assert line.valid_calls == pytest.approx(sum(map(sum, valid)) / max(1, sum(map(len, valid))))
        assert line.success == np.mean([each.prediction.correct for each in batch])
        assert line.reward == pytest.approx(np.mean([each.answer - each.penalty for each in batch]))
        assert line.tokens == sum(sum(each.said) for each in batch)
        assert record.at(tmp_path / "out", line.step) == batch
        for each in batch:
            for name in ("penalty", "curiosity", "coherence"):
                shares = getattr(each, f"{name}_steps")
                assert len(shares) == len(each.prediction.steps)
                assert sum(shares) == pytest.approx(getattr(each, name))
    assert any(any(each.curiosity_steps) for each in stored) and record.steps(tmp_path / "out") == [0, 1]
    assert len(stored) == 2 * size


def test_every_stored_rollout_can_be_replayed(taught, tmp_path):
    """Its calls, made again in a fresh workspace, are answered as it says; its ids are what it said."""
    on = ground()
    run(on, taught, tmp_path / "out", recipe(steps=2))
    for each in record.stored(tmp_path / "out"):
        workspace = on.open_media(each.prediction.question.media)
        for step in each.prediction.steps:
            if step.action.name:
                assert on.registry.call(workspace, step.action).output == step.output
        spelt = words.shared().decode(list(each.ids), skip_special_tokens=False)
        assert each.prediction.answer in spelt
        assert sum(each.said) == len(each.log_probs)


@pytest.mark.parametrize("intrinsic", ["curiosity", "coherence", "full", "smoothness"])
def test_intrinsic_terms_switch_on_where_success_has_passed(taught, tmp_path, intrinsic):
    on = ground(lambda q, a: True)
    ended = run(on, taught, tmp_path / "out", recipe(intrinsic=intrinsic, steps=3, success=0.2, ema=0.0))
    assert [(name, step) for name, step, _ in ended.stages] == [("answer", 1), ("intrinsic", 3)]
    for name, _, weights in ended.stages:
        assert policy.load(tmp_path / "out" / "stages" / name).digest == weights
    assert [line.stage for line in record.read(tmp_path / "out")] == ["answer", "intrinsic", "intrinsic"]
    curious, neighbours = TERMS[intrinsic]
    stored = list(record.stored(tmp_path / "out"))
    assert any(each.curiosity > 0 for each in stored), "measured in every stage"
    for index, each in enumerate(stored):
        weight = 0.1 if index >= 8 else 0.0
        told = weight * (curious * each.curiosity_scaled + neighbours * each.coherence_scaled)
        assert each.total == pytest.approx(each.answer - each.penalty + told)


def test_a_scaler_reaches_what_is_earned_and_another_one_is_another_run(taught, tmp_path):
    """In one folder: the second run is begun anew, with the same rollouts."""
    whole = recipe(steps=1)
    stored = []
    for settings in (whole, replace(whole, scalers={"PROP": 0.5})):
        run(ground(), taught, tmp_path / "out", settings)
        stored.append(list(record.stored(tmp_path / "out")))
    assert any(each.curiosity for each in stored[0])
    for plain, halved in zip(*stored, strict=True):
        assert plain.ids == halved.ids
        assert halved.curiosity == pytest.approx(plain.curiosity / 2)


@pytest.mark.slow
def test_the_dynamics_head_learns_beside_the_policy(taught, tmp_path):
    """In every baseline, so that their curves compare."""
    run(ground(), taught, tmp_path / "out", recipe(steps=8))
    lines = record.read(tmp_path / "out")
    assert lines[-1].head_error < lines[0].head_error
    assert all(line.curiosity > 0 for line in lines)


def test_what_a_run_cannot_stand_on_is_an_error(taught, tmp_path):
    with pytest.raises(ValueError, match="fewer than"):
        run(ground(questions=1), taught, tmp_path, recipe())
    with pytest.raises(ScaleError, match="another embedding"):
        rft.train(ground(), taught, tmp_path, recipe(), replace(scales(), embedding="e"))
    with pytest.raises(ScaleError, match="attribute"):
        rft.train(ground(), taught, tmp_path, recipe(), replace(scales(), families={}))


TASKS = ["read"] * 6 + ["count"] * 3 + ["move"] * 2


def asked(shares: dict[str, float], steps: int, seed: int = 7) -> list[int]:
    """The questions of so many steps of four, where `shares` of each task's rollouts are right."""
    settings, course, found = RftSettings(prompts=4, seed=seed), Course("k", pid.start(PidSettings())), []
    for _ in range(steps):
        chosen = prompts(TASKS, course, settings)
        found += chosen
        groups = [(TASKS[k], shares[TASKS[k]]) for k in chosen]
        course = advance(course, Measured(groups, 1.0, 0.1, True), settings, PidSettings())
    return found


def test_tasks_of_which_rollouts_differ_are_asked_more_and_none_is_given_up():
    kinds = [TASKS[k] for k in asked({"read": 1.0, "count": 0.5, "move": 0.0}, 60)]
    assert all(set(kinds[k : k + 3]) == set(TASKS) for k in range(0, len(kinds), 4)), "each before any again"
    fourth = kinds[3::4]
    assert fourth.count("count") > 40 and {"read", "move"} <= set(fourth)


def test_no_question_comes_again_before_all_of_its_task_have():
    found = asked({"read": 0.5, "count": 0.5, "move": 0.5}, 30)
    for task, many in (("read", 6), ("count", 3), ("move", 2)):
        came = [one for one in found if TASKS[one] == task]
        passes = [came[k : k + many] for k in range(0, len(came) - many + 1, many)]
        assert all(len(set(each)) == many for each in passes)
        assert len({tuple(each) for each in passes}) > 1, "in another order each time"
    assert asked(dict.fromkeys(TASKS, 0.5), 2) == asked(dict.fromkeys(TASKS, 0.5), 2)
    assert asked(dict.fromkeys(TASKS, 0.5), 2, seed=8) != asked(dict.fromkeys(TASKS, 0.5), 2)


@pytest.mark.slow
def test_beta_follows_the_divergence_only_where_it_is_controlled(taught, tmp_path):
    for controlled in (True, False):
        run(ground(), taught, tmp_path / str(controlled), recipe(controlled=controlled, steps=4))
    held = {line.beta for line in record.read(tmp_path / "False")}
    assert held == {PidSettings().beta}
    assert len({line.beta for line in record.read(tmp_path / "True")}) > 2


def _die(at: int) -> Callable[[record.Line], None]:
    return lambda line: os.kill(os.getpid(), signal.SIGKILL) if line.step == at else None


@pytest.mark.slow
def test_killed_again_and_again_a_run_ends_with_the_same_weights(taught, tmp_path):
    """Heads and their optimiser among them, and the log has every step once."""
    settings = recipe(intrinsic="full", steps=6, success=0.2, ema=0.0)
    whole = run(ground(), taught, tmp_path / "a", settings)
    for at in (1, 3, 4):
        child = os.fork()
        if child == 0:
            run(ground(), taught, tmp_path / "b", settings, _die(at))
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert checkpoint.progress(tmp_path / "b" / STATE)["step"] == 4
    assert run(ground(), taught, tmp_path / "b", settings) == whole
    for name in (record.LINES, STATE, "heads-00006.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert len(record.read(tmp_path / "b")) == 6
