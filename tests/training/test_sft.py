import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pixelis_pipeline.agent import policy, render
from pixelis_pipeline.curation import sampling
from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.settings import CurationSettings, RankSettings, SftSettings
from tests.training.conftest import SIZES, opens, pixels, trace
from training import checkpoint
from training.sft import course, curriculum, trainer
from training.sft import train as sft
from training.sft.examples import Example, example
from training.sft.hardness import errors
from training.sft.objective import imitation, inputs, told
from training.sft.pool import pool
from training.sft.ranks import study

CURATION = CurationSettings()


def imitated(model, examples, images) -> float:
    return imitation(told(model, inputs(examples, images))[0], 0.05).item()


def loss(base: Path, trajectories) -> float:
    """The objective of an untrained policy on the trajectories."""
    drawn = pool(trajectories, opens, 2.0)
    return imitated(policy.load(base).model, drawn.examples, drawn.images)


def test_observation_tokens_carry_no_loss(base):
    """The loss is a mean over the policy's own tokens: making an observation improbable changes only what
    follows it, and with nothing after it, nothing at all."""
    made = example(trace(0), 2.0)
    model = policy.load(base).model
    end = max(k for k, weight in enumerate(made.weights) if weight == 2.0) + 1
    picture = [[pixels(trace(0).question.media[0])]]
    tails = [
        Example(made.ids[:end] + tuple(range(k, k + 9)), np.append(made.weights[:end], [0] * 9))
        for k in (100, 500)
    ]
    first, second = (imitated(model, [each], picture) for each in tails)
    alone = imitated(model, [Example(made.ids[:end], made.weights[:end])], picture)
    assert first == pytest.approx(second, abs=1e-6) == pytest.approx(alone, abs=1e-6)


def test_eight_traces_are_learned_by_heart(base, tmp_path):
    traces = [trace(k) for k in range(8)]
    settings = SftSettings(epochs=150, batch=8, learning_rate=6e-3, threads=1, label_smoothing=0.0)
    curve = sft.train(traces, [], base, tmp_path / "out", settings, CURATION, opens)
    assert curve.points[0].train > 1.0 > 0.1 > curve.points[-1].train
    assert [point.epoch for point in curve.points] == list(range(1, 151))
    learned = policy.load(tmp_path / "out")
    assert learned.digest == curve.weights
    prompts = [render.render(render.nano(), render.asked(t.question), ()) for t in traces]
    said = learned.generate(prompts, [pixels(t.question.media[0]) for t in traces], tokens=40)
    right = [f'PROP {{"box":[{",".join(map(str, t.steps[0].action.arguments["box"]))}]}}' for t in traces]
    assert sum(call in text for call, text in zip(right, said, strict=True)) >= 6


def killed(at: int, *arguments) -> int:
    """Train in a child that is killed by SIGKILL after step `at`; its exit code."""
    child = os.fork()
    if child == 0:
        sft.train(*arguments, lambda step, *_: step == at and os.kill(os.getpid(), signal.SIGKILL))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(base, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(course, "SAVE", 2)
    traces, dev = [trace(k) for k in range(10)], [trace(10)]
    undisturbed = sft.train(traces, dev, base, tmp_path / "a", quick, CURATION, opens)
    assert killed(5, traces, dev, base, tmp_path / "b", quick, CURATION, opens) == -signal.SIGKILL
    assert checkpoint.progress(tmp_path / "b.work" / "state.safetensors")["step"] == 4
    assert not (tmp_path / "b").exists()
    steps: list[int] = []
    resumed = sft.train(
        traces, dev, base, tmp_path / "b", quick, CURATION, opens, lambda step, *_: steps.append(step)
    )
    assert steps == [5, 6, 7, 8, 9]
    assert resumed == undisturbed
    assert sha256(tmp_path / "b" / "model.safetensors") == undisturbed.weights
    assert sorted(path.name for path in sft.exported(tmp_path / "b").iterdir()) == sorted(resumed.exports)
    assert not (tmp_path / "b.work").exists()


def test_killed_five_times_in_twenty_steps_it_ends_with_the_same_weights(base, tmp_path, monkeypatch):
    """At random steps, while parts are hidden and the second epoch, by a planted dev loss, falls back."""
    monkeypatch.setattr(course, "SAVE", 3)
    settings = SftSettings(
        epochs=5,
        batch=4,
        learning_rate=3e-3,
        auxiliary=0.2,
        hide_outputs=0.5,
        hide_actions=0.5,
        warm_up=1,
    )
    real, planted = curriculum.look, {4: 9.0}
    monkeypatch.setattr(
        curriculum, "look", lambda state, dev, s: real(state, planted.get(state.looks * 4, dev), s)
    )
    traces = [trace(k, difficulty=("simple", "medium", "hard")[k % 3]) for k in range(16)]
    arguments = (traces, traces[:2], base)
    undisturbed = sft.train(*arguments, tmp_path / "a", settings, CURATION, opens)
    assert "fallen" in {point.verdict for point in undisturbed.points}
    assert undisturbed.points[-1].step == 20
    random = np.random.default_rng(1)
    for at in sorted(random.choice(np.arange(1, 20), 5, replace=False).tolist()):
        assert killed(at, *arguments, tmp_path / "b", settings, CURATION, opens) == -signal.SIGKILL
    assert sft.train(*arguments, tmp_path / "b", settings, CURATION, opens) == undisturbed


def test_the_state_of_another_training_is_not_continued(base, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(course, "SAVE", 1)
    traces = [trace(k) for k in range(4)]

    def stop(step: int, *_) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sft.train(traces, [], base, tmp_path / "a", quick, CURATION, opens, stop)
    steps: list[int] = []
    other = quick.model_copy(update={"seed": 8})
    sft.train(traces, [], base, tmp_path / "a", other, CURATION, opens, lambda step, *_: steps.append(step))
    assert steps == [1, 2, 3]


def test_training_on_nothing_is_an_error(base, tmp_path, quick):
    with pytest.raises(ValueError, match="no trajectory"):
        sft.train([], [], base, tmp_path / "a", quick, CURATION, opens)


def test_flawed_steps_change_the_loss_only_by_being_left_out(base):
    flawed = replace(trace(0), steps=(replace(trace(0).steps[0], flawed=True),))
    assert loss(base, [flawed]) != loss(base, [trace(0)])
    gone = example(flawed, 2.0).weights
    assert gone.sum() == 3.0


def test_what_holds_nothing_to_learn_is_left_out_and_changes_no_weight(base, quick, tmp_path):
    whole = [trace(n) for n in range(4)]
    blank = [
        replace(
            t,
            id=f"{t.id}-trap",
            kind="process-negative",
            answer="grey",
            steps=(replace(t.steps[0], flawed=True),),
        )
        for t in whole
    ]
    with_them = sft.train(
        [*whole, *blank], [whole[0], blank[0]], base, tmp_path / "a", quick, CURATION, opens
    )
    without = sft.train(whole, [whole[0]], base, tmp_path / "b", quick, CURATION, opens)
    assert (with_them.unlearned, without.unlearned) == (4, 0)
    assert with_them.weights == without.weights and with_them.points == without.points
    with pytest.raises(ValueError, match="none of 4 trajectories holds anything"):
        sft.train(blank, [], base, tmp_path / "c", quick, CURATION, opens)


def test_simple_traces_are_left_out_after_the_warm_up(base, quick, tmp_path, monkeypatch):
    drawn: list[set[str]] = []
    real = sampling.Sampler.draws

    def watched(sampler, count, epoch):
        made = real(sampler, count, epoch)
        drawn.append({traces[k].difficulty for k in made})
        return made

    monkeypatch.setattr(sampling.Sampler, "draws", watched)
    traces = [trace(k, difficulty=("simple", "medium", "hard")[k % 3]) for k in range(9)]
    curve = sft.train(traces, [], base, tmp_path / "a", quick, CURATION, opens)
    assert [point.phase for point in curve.points] == ["warm-up", "main", "main"]
    assert drawn == [{"simple", "medium", "hard"}, {"medium", "hard"}, {"medium", "hard"}]


def test_a_trace_that_has_not_been_through_the_curriculum_is_an_error(base, quick, tmp_path):
    with pytest.raises(ValueError, match="curriculum"):
        sft.train([trace(0, difficulty="")], [], base, tmp_path / "a", quick, CURATION, opens)


def test_falling_back_restores_the_best_weights(base, tmp_path, monkeypatch):
    """With a rate that ruins every epoch after the first, the weights end as they were after it."""
    traces = [trace(k) for k in range(4)]
    one = SftSettings(epochs=1, batch=4, learning_rate=3e-3)
    monkeypatch.setattr(trainer, "rate", lambda step, *_: 3e-3 if step == 0 else 5.0)
    first = sft.train(traces, traces, base, tmp_path / "a", one, CURATION, opens)
    ruined = sft.train(
        traces, traces, base, tmp_path / "b", one.model_copy(update={"epochs": 3}), CURATION, opens
    )
    assert [point.verdict for point in ruined.points] == ["best", "fallen", "fallen"]
    assert ruined.weights == first.weights


def test_gradient_checkpointing_changes_no_weight_by_more_than_rounding(base, quick, tmp_path):
    from safetensors.torch import load_file

    traces = [trace(k) for k in range(4)]
    for name, saves in (("a", False), ("b", True)):
        settings = quick.model_copy(update={"gradient_checkpointing": saves})
        sft.train(traces, [], base, tmp_path / name, settings, CURATION, opens)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "b"))
    assert all(one[key].allclose(two[key], atol=1e-5) for key in one)


def test_the_heads_teach_the_policy_and_a_weight_of_nothing_leaves_it_alone(base, quick, tmp_path):
    plain = quick.model_copy(update={"auxiliary": 0.0})
    traces = [trace(k) for k in range(4)]
    blind = [replace(t, steps=(replace(t.steps[0], decisive=False),)) for t in traces]
    without = sft.train(traces, [], base, tmp_path / "a", plain, CURATION, opens)
    undecided = sft.train(blind, [], base, tmp_path / "b", quick, CURATION, opens)
    taught = sft.train(traces, [], base, tmp_path / "c", quick, CURATION, opens)
    assert without.weights == undecided.weights != taught.weights
    assert undecided.points[-1].auxiliary == 0 < taught.points[-1].auxiliary < taught.points[0].auxiliary


def test_a_batch_in_parts_teaches_what_the_whole_batch_teaches(base, quick, tmp_path):
    """Also where its parts are of different weight, and a kill comes between two batches."""
    from safetensors.torch import load_file

    longer = [replace(trace(k), steps=trace(k).steps * (1 + k % 3)) for k in range(8)]
    for name, size in (("a", 4), ("b", 2), ("c", 3)):
        settings = quick.model_copy(update={"micro_batch": size, "auxiliary": 0.0})
        sft.train(longer, [], base, tmp_path / name, settings, CURATION, opens)
    one, two, three = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "b", "c"))
    assert all(one[key].allclose(two[key], atol=2e-4) for key in one)
    assert all(two[key].equal(three[key]) for key in two), "a part of 3 rows would not divide the batch of 4"


def test_a_step_is_what_the_objective_says_and_no_more(base, tmp_path):
    """One step of the Trainer beside one written out: batch, loss, clipping, AdamW and the rate."""
    import torch

    from training.schedule import rate
    from training.sft.course import begun
    from training.sft.drawing import Draws
    from training.sft.heads import Heads
    from training.sft.objective import objective

    settings = SftSettings(epochs=1, batch=4, learning_rate=3e-3, threads=1, auxiliary=0.2)
    traces = [trace(k) for k in range(4)]
    sft.train(traces, [], base, tmp_path / "a", settings, CURATION, opens)
    model = policy.load(base).model.train()
    heads = Heads(SIZES["hidden"], settings.seed)
    drawn = Draws(pool(traces, opens, 2.0), settings, CURATION, begun(tmp_path, ""))
    batch = drawn.collate([{"place": k} for k in range(4)])
    weights = [*model.parameters(), *heads.parameters()]
    plain = [w for n, w in model.named_parameters() if n.endswith("bias") or "norm" in n]
    decayed = [w for w in weights if not any(w is each for each in plain)]
    lr = rate(0, 1, 3e-3, trainer.WARM)
    groups = [
        {"params": decayed, "weight_decay": trainer.WEIGHT_DECAY},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    sum(objective(model, heads, batch, settings.label_smoothing, settings.auxiliary)).backward()
    torch.nn.utils.clip_grad_norm_(weights, settings.gradient_norm)
    optimizer.step()
    made = dict(policy.load(tmp_path / "a").model.named_parameters())
    for name, weight in model.named_parameters():
        assert made[name].allclose(weight, atol=1e-6), name


def test_training_says_nothing_to_the_network_and_leaves_the_configuration(
    base, quick, tmp_path, monkeypatch
):
    import socket

    def refuse(*given):
        raise AssertionError(f"asked for {given}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", refuse)
    sft.train([trace(k) for k in range(4)], [], base, tmp_path / "a", quick, CURATION, opens)
    assert (tmp_path / "a" / "config.json").read_bytes() == (base / "config.json").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"a", "exports"}


@pytest.fixture
def ranked(base, tmp_path) -> Path:
    """Ranks of a change of rank 3 to every query projection."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(base / "model.safetensors")
    for name in weights:
        if name.endswith("q_proj.weight"):
            weights[name] += torch.randn(64, 3) @ torch.randn(3, 64)
    (tmp_path / "tuned").mkdir()
    save_file(weights, tmp_path / "tuned" / "model.safetensors")
    study(base, tmp_path / "tuned", tmp_path / "ranks", RankSettings(least=1, window=1, targets=("q_proj",)))
    return tmp_path / "ranks"


def test_adapters_of_the_ranks_are_trained_merged_and_exported(base, quick, tmp_path, ranked, monkeypatch):
    """Killed once on the way. Only what has an adapter changes, by a matrix of its rank."""
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file

    monkeypatch.setattr(course, "SAVE", 2)
    traces = [trace(k) for k in range(10)]
    arguments = (traces, traces[:2], base)
    given = (quick, CURATION, opens)
    undisturbed = sft.train(*arguments, tmp_path / "a", *given, None, ranked)
    child = os.fork()
    if child == 0:
        sft.train(
            *arguments,
            tmp_path / "b",
            *given,
            lambda step, *_: step == 5 and os.kill(os.getpid(), signal.SIGKILL),
            ranked,
        )
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert sft.train(*arguments, tmp_path / "b", *given, None, ranked) == undisturbed
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "a"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("q_proj.weight")}
    for name in changed:
        values = torch.linalg.svdvals((after[name] - before[name]).double())
        assert values[2] > 0 and values[3] < 1e-5 * values[0]
    adapter = sft.exported(tmp_path / "a") / "adapter"
    assert {f"adapter/{path.name}" for path in adapter.iterdir()} < set(undisturbed.exports)
    loaded = PeftModel.from_pretrained(policy.load(base).model, adapter).merge_and_unload()
    for name, weight in loaded.named_parameters():
        assert weight.allclose(after[name], atol=1e-6)


def test_a_trace_that_was_learned_is_less_hard_than_its_like(base, tmp_path):
    traces = [trace(k) for k in range(8)]
    settings = SftSettings(epochs=40, batch=4, learning_rate=6e-3, threads=1)
    sft.train(traces[:4], [], base, tmp_path / "a", settings, CURATION, opens)
    blank = replace(trace(9, kind="outcome-negative"), steps=())
    found = list(errors(tmp_path / "a", [*traces, blank], settings, opens))
    assert [t.id for t, _ in found] == [t.id for t in traces]
    hard = [error for _, error in found]
    assert 0 < max(hard[:4]) < min(hard[4:]) < 1
    model = policy.load(tmp_path / "a").model
    for k in (0, 7):
        one = pool([traces[k]], opens, 2.0)
        lost = imitation(told(model, inputs(one.examples, one.images))[0], 0.0).item()
        assert hard[k] == pytest.approx(1 - np.exp(-lost), rel=1e-4)
