"""Calibrators of planted confidences, and the confidence of a policy that knows one answer."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from evaluation.calibration import ece
from pixelis_pipeline.agent import policy
from pixelis_pipeline.settings import CurationSettings, SftSettings
from tests.training.conftest import opens, trace
from training.frozen import Changed
from training.sft import calibrators
from training.sft import train as sft
from training.sft.calibrators import ENOUGH, MAPS, Answers, Calibrators, brier, fit
from training.sft.examples import Example
from training.sft.objective import imitation, inputs, told
from training.sft.pool import pool

FITTED = [name for name in MAPS if name != "none"]


def planted(seed: int, slope: float, offset: float = 0.0, count: int = 4000) -> Answers:
    """Answers that are right as often as sigmoid(z) says, in which confidence stands at
    sigmoid(slope z + offset)."""
    random = np.random.default_rng(seed)
    z = random.normal(0.5, 1.0, count)
    return Answers(expit(slope * z + offset), random.random(count) < expit(z))


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("slope", [3.0, 0.4])
def test_confidence_that_is_off_comes_out_calibrated(name: str, slope: float) -> None:
    """Too sure or too shy, on answers that nothing was fitted on."""
    known, new = planted(1, slope), planted(2, slope)
    fitted = fit(known.confidence, known.right)
    before, after = (ece(said, new.right) for said in (new.confidence, MAPS[name](fitted, new.confidence)))
    assert after < 0.03 < 0.08 < before
    assert fitted.temperature == pytest.approx(slope, rel=0.1)
    assert (fitted.slope, fitted.offset) == pytest.approx((1 / slope, 0.0), abs=0.1 / slope)


def test_a_shift_is_beyond_a_temperature() -> None:
    known, new = planted(3, 1.0, 1.5), planted(4, 1.0, 1.5)
    fitted = fit(known.confidence, known.right)
    off = {name: ece(MAPS[name](fitted, new.confidence), new.right) for name in MAPS}
    assert max(off["platt"], off["isotonic"]) < 0.04 < off["temperature"]
    assert (fitted.slope, fitted.offset) == pytest.approx((1.0, -1.5), abs=0.15)


def test_confidence_that_is_true_is_left_alone() -> None:
    known = planted(5, 1.0)
    assert fit(known.confidence, known.right).temperature == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("of", ["planted", "right", "wrong", "against", "sure"])
def test_every_map_rises_and_stays_a_probability(name: str, of: str) -> None:
    """Also where all answers are right, all wrong, the sure ones the wrong ones, or all of one confidence."""
    known = planted(6, 3.0, count=200)
    hits = {"right": np.ones(200, bool), "wrong": np.zeros(200, bool), "against": known.confidence < 0.5}
    fitted = fit(np.ones(200) if of == "sure" else known.confidence, hits.get(of, known.right))
    said = MAPS[name](fitted, np.linspace(0, 1, 101))
    assert (np.diff(said) >= 0).all() and (said >= 0).all() and (said <= 1).all()
    assert calibrators.COLDEST <= fitted.temperature <= calibrators.HOTTEST


def test_too_few_answers_change_nothing_and_none_are_misread() -> None:
    few = planted(7, 3.0, count=ENOUGH - 1)
    assert fit(few.confidence, few.right) == Calibrators() and brier(few) == {}
    for name in MAPS:
        assert MAPS[name](Calibrators(), few.confidence) == pytest.approx(few.confidence)
    for wrong in (few.confidence[1:], few.confidence + 1, few.confidence * np.nan):
        with pytest.raises(ValueError, match="confidences"):
            fit(wrong, few.right)


def test_each_answer_is_judged_without_having_been_seen() -> None:
    """Fitted on themselves the steps would explain noise; a fold that was left out shows that they do not."""
    known = planted(8, 3.0)
    found = brier(known)
    assert set(found) == set(MAPS)
    assert max(found[name] for name in FITTED) < found["none"] - 0.02
    noise = Answers(np.random.default_rng(9).random(60), np.arange(60) % 2 == 0)
    seen = MAPS["isotonic"](fit(noise.confidence, noise.right), noise.confidence)
    assert brier(noise)["isotonic"] > np.square(seen - noise.right).mean() + 0.01


@pytest.fixture(scope="module")
def knows_red(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy that calls PROP and then says red."""
    out = tmp_path_factory.mktemp("red") / "policy"
    settings = SftSettings(epochs=45, batch=4, learning_rate=6e-3, threads=1, label_smoothing=0.0)
    sft.train([trace(0)] * 4, [trace(0)] * 4, base, out, settings, CurationSettings(), opens)
    return out


def test_answers_are_the_policys_own_and_as_likely_as_it_finds_them(knows_red: Path) -> None:
    scorer, one = policy.load(knows_red), trace(0)
    asked = [
        replace(one, id="b", question=replace(one.question, answer="green"), answer="green"),
        replace(one, id="a"),
        replace(one, id="c", kind="outcome-negative"),  # ends in an answer that is not to be learned
        replace(one, id="d", steps=(), question=replace(one.question, task="z")),  # calls PROP yet
    ]
    held = pool(asked, opens, 2.0)
    found = calibrators.answers(scorer, held, 3)
    assert found.right.tolist() == [True, False] and found.silent == 1
    assert found.confidence[0] == pytest.approx(found.confidence[1]) and found.confidence[0] > 0.5
    made = next(each for each, of in zip(held.examples, held.trajectories, strict=True) if of.id == "a")
    answer = Example(made.ids, np.where(np.arange(len(made.ids)) >= len(made.ids) - 3, 1.0, 0.0))
    assert made.weights[-3:].tolist() == [1.0] * 3 and made.weights[-4] == 0
    lost = imitation(told(scorer.model, inputs([answer], held.images[:1]))[0], 0.0).item()
    assert found.confidence[0] == pytest.approx(np.exp(-3 * lost), rel=1e-3)


def test_a_policy_that_gives_no_answer_is_left_uncalibrated(base: Path) -> None:
    held = pool([trace(k) for k in range(3)], opens, 2.0)
    found = calibrators.answers(policy.load(base), held, 2)
    assert (len(found.right), found.silent) == (0, 3)


def test_what_training_exports_is_read_and_refused_where_it_was_changed(knows_red: Path, tmp_path) -> None:
    folder = sft.exported(knows_red)
    stored = json.loads((folder / calibrators.FILE).read_text())
    assert (stored["answers"], stored["right"], stored["silent"], stored["brier"]) == (4, 4, 0, {})
    assert calibrators.read(folder) == Calibrators()
    held = pool([replace(trace(0), id=f"t{k:02}") for k in range(ENOUGH)], opens, 2.0)
    files = calibrators.export(tmp_path, policy.load(knows_red), held, 8)
    assert files == calibrators.export(tmp_path / "again", policy.load(knows_red), held, 8)
    read = calibrators.read(tmp_path)
    assert read != Calibrators() and json.loads((tmp_path / calibrators.FILE).read_text())["brier"]
    path = tmp_path / calibrators.FILE
    path.write_text(path.read_text().replace('"temperature":', '"temperature":1'))
    with pytest.raises(Changed, match="was changed"):
        calibrators.read(tmp_path)
