import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelis_pipeline.agent import nano, tokenizer
from pixelis_pipeline.agent.batch import collate
from training import checkpoint
from training.base import initial, train
from training.schedule import rate

BASE = Path(train.__file__).parent / "nano"
RUN = train.Run(steps=4, rows=2, peak=1e-3, seed=1, threads=1, sizes={"layers": 2, "vision": 32, "depth": 1})


def test_a_fresh_model_already_copies():
    """Of the next numbers of a row that is said again, most are the likeliest ones, before any training;
    with the stock initialisation hardly any."""
    rng = np.random.default_rng(0)
    hits = {}
    for name, build in (("laid", initial.model), ("stock", nano.build)):
        model, right = build(nano.configuration(), 0), []
        for _ in range(10):
            numbers = rng.permutation(1000)[:12].tolist()
            text = f"[{' '.join(map(str, numbers))}]"
            row = tokenizer.shared().encode(f"{text} {text}").ids
            with torch.inference_mode():
                batch = collate([row], [], "right")
                guessed = model.lm_head(nano.hidden_states(model, batch))[0, :-1].argmax(-1).tolist()
            half = len(row) // 2 + 3
            right += [a == b for a, b in zip(guessed[half:], row[half + 1 :], strict=True)]
        hits[name] = np.mean(right)
    assert hits["laid"] > 0.4 > 0.1 > hits["stock"]


def test_a_killed_pre_training_goes_on_to_the_same_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "SAVE", 2)
    whole = train.train(RUN, tmp_path / "a" / "state.safetensors", minutes=9, resume=False)
    state = tmp_path / "b" / "state.safetensors"
    child = os.fork()
    if child == 0:
        step = train._Training.step

        def mortal(self, drawn) -> None:
            if self.done["step"] == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            step(self, drawn)

        train._Training.step = mortal
        train.train(RUN, state, minutes=9, resume=False)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert checkpoint.progress(state)["step"] == 2
    resumed = train.train(RUN, state, minutes=9, resume=True)
    assert [p["answers"] for p in resumed.done["curve"]] == [p["answers"] for p in whole.done["curve"]]
    ours, theirs = dict(whole.model.named_parameters()), dict(resumed.model.named_parameters())
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())
    with pytest.raises(SystemExit, match="another run"):
        train.train(train.Run(**{**resumed.done["run"], "seed": 2}), state, minutes=9, resume=True)


def test_the_rate_warms_up_and_falls():
    rates = [rate(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] == pytest.approx(0.02) and max(rates) == pytest.approx(1.0, abs=1e-3)
    assert rates[49:] == sorted(rates[49:], reverse=True) and rates[-1] == pytest.approx(0.05, abs=1e-3)


def test_the_shipped_checkpoint_is_what_its_record_says():
    import hashlib
    import json

    from pixelis_pipeline.agent import policy

    record = json.loads((BASE / "run.json").read_text())
    loaded = policy.load(BASE)
    assert (
        loaded.digest
        == record["weights"]
        == hashlib.sha256((BASE / "model.safetensors").read_bytes()).hexdigest()
    )
    assert nano.parameters(loaded.model) == record["parameters"] < 2_000_000
    assert sum(path.stat().st_size for path in BASE.iterdir()) <= 6_000_000
    assert record["step"] == record["run"]["steps"] == record["curve"][-1]["step"]
