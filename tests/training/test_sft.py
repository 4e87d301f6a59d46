import hashlib
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from pixelis_pipeline.agent import policy, render
from pixelis_pipeline.settings import SftSettings
from tests.training.conftest import pixels, trace
from training import checkpoint
from training.sft import train as sft
from training.sft.examples import example


def loss(base: Path, trajectories) -> float:
    """The objective of an untrained policy on the trajectories."""
    pool = sft._pool(trajectories, pixels, 2.0)
    return sft._loss(policy.load(base).model, pool, range(len(trajectories)), 0.05).item()


def test_observation_tokens_carry_no_loss(base):
    """The loss is a mean over the policy's own tokens: making an observation improbable changes only what
    follows it, and with nothing after it, nothing at all."""
    import torch

    made = example(trace(0), 2.0)
    model = policy.load(base).model
    end = max(k for k, weight in enumerate(made.weights) if weight == 2.0) + 1
    cut = sft.Example(made.ids[:end], made.weights[:end])
    tails = [cut.ids + tuple(range(k, k + 9)) for k in (100, 500)]
    pools = [
        sft._Pool([sft.Example(t, _longer(made.weights[:end], 9))], [pixels(trace(0).question.media[0])])
        for t in tails
    ]
    with torch.inference_mode():
        first, second = (float(sft._loss(model, pool, [0], 0.0)) for pool in pools)
        alone = float(sft._loss(model, sft._Pool([cut], pools[0].images), [0], 0.0))
    assert first == pytest.approx(second, abs=1e-6) == pytest.approx(alone, abs=1e-6)


def _longer(weights, count):
    import numpy as np

    return np.concatenate([weights, np.zeros(count, np.float32)])


def test_eight_traces_are_learned_by_heart(base, tmp_path):
    traces = [trace(k) for k in range(8)]
    settings = SftSettings(epochs=150, batch=8, learning_rate=6e-3, threads=1, label_smoothing=0.0)
    curve = sft.train(traces, traces[:2], base, tmp_path / "out", settings, pixels)
    assert curve.points[0].train > 1.0 > 0.1 > curve.points[-1].train
    assert [point.epoch for point in curve.points] == list(range(1, 151))
    learned = policy.load(tmp_path / "out")
    assert learned.digest == curve.weights
    prompts = [render.render(render.nano(), render.asked(t.question), ()) for t in traces]
    said = learned.generate(prompts, [pixels(t.question.media[0]) for t in traces], tokens=40)
    right = [f'PROP {{"box":[{",".join(map(str, t.steps[0].action.arguments["box"]))}]}}' for t in traces]
    assert sum(call in text for call, text in zip(right, said, strict=True)) >= 6


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(base, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(sft, "SAVE", 2)
    traces, dev = [trace(k) for k in range(10)], [trace(10)]
    undisturbed = sft.train(traces, dev, base, tmp_path / "a", quick, pixels)
    child = os.fork()
    if child == 0:
        sft.train(traces, dev, base, tmp_path / "b", quick, pixels, lambda step, *_: step == 5 and _die())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert checkpoint.progress(tmp_path / "b.work" / "state.safetensors")["step"] == 4
    assert not (tmp_path / "b").exists()
    steps: list[int] = []
    resumed = sft.train(traces, dev, base, tmp_path / "b", quick, pixels, lambda step, *_: steps.append(step))
    assert steps == [5, 6, 7, 8, 9]
    assert resumed == undisturbed
    assert (
        hashlib.sha256((tmp_path / "b" / "model.safetensors").read_bytes()).hexdigest() == undisturbed.weights
    )
    assert not (tmp_path / "b.work").exists()


def test_the_state_of_another_training_is_not_continued(base, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(sft, "SAVE", 1)
    traces = [trace(k) for k in range(4)]

    def stop(step: int, steps: int, *_: object) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sft.train(traces, [], base, tmp_path / "a", quick, pixels, stop)
    steps: list[int] = []
    other = quick.model_copy(update={"seed": 8})
    sft.train(traces, [], base, tmp_path / "a", other, pixels, lambda step, *_: steps.append(step))
    assert steps == [1, 2, 3]


def test_training_on_nothing_is_an_error(base, tmp_path, quick):
    with pytest.raises(ValueError, match="no trajectory"):
        sft.train([], [], base, tmp_path / "a", quick, pixels)


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
    with_them = sft.train([*whole, *blank], [whole[0], blank[0]], base, tmp_path / "a", quick, pixels)
    without = sft.train(whole, [whole[0]], base, tmp_path / "b", quick, pixels)
    assert (with_them.unlearned, without.unlearned) == (4, 0)
    assert with_them.weights == without.weights and with_them.points == without.points
    with pytest.raises(ValueError, match="none of 4 trajectories holds anything"):
        sft.train(blank, [], base, tmp_path / "c", quick, pixels)
