"""The study's numbers, on planted predictions and a planted course of divergence: every one is known."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from evaluation.learning import evidence, results
from evaluation.learning.evidence import Evidence, EvidenceError
from evaluation.learning.numbers import learning, smoothed
from evaluation.learning.page import aims
from pixelis_pipeline.records import Prediction
from pixelis_pipeline.settings import EvaluationSettings, PidSettings, RftSettings, StudySettings
from tests.evaluation.conftest import prediction

ROOT = Path(__file__).resolve().parents[2]
N, SEEDS = 40, (7, 8)
# Of 40 questions, those from this one on are missed; the second seed misses one more.
RIGHT = {"base": 2, "sft": 24, "rft-base": 30, "rft-full": 36, "rft-curiosity": 33, "rft-beta-held": 31}
CALLS = {"base": 1, "sft": 3, "rft-base": 2, "rft-full": 2}


def answered(name: str, right: int, seed: int, tools: bool = True) -> list[Prediction]:
    made = (i < right - (seed == 8) for i in range(N))
    calls = CALLS.get(name, 2)
    return [prediction(name, i, ok, tools=tools, calls=calls, seed=seed) for i, ok in enumerate(made)]


def planted() -> list[Prediction]:
    phases = [
        each
        for name in ("sft", "rft-base", "rft-full")
        for s in SEEDS
        for each in answered(name, RIGHT[name], s)
    ]
    once = [
        each for name in ("base", "rft-curiosity", "rft-beta-held") for each in answered(name, RIGHT[name], 7)
    ]
    controls = [*answered("rft-full", 5, 7, tools=False), *answered("rft-full-shuffled", 10, 7)]
    return [*phases, *once, *controls, *answered("teacher", N, 7)]


def course(method: str, seed: int, kl: list[float]) -> list[dict[str, object]]:
    terms = dict.fromkeys(("answer", "penalty", "curiosity", "coherence", "calls", "filtered"), 0.5)
    return [
        {"method": method, "seed": seed, "step": k, "stage": "answer", "kl": each, **terms}
        for k, each in enumerate(kl)
    ]


STEPS = [
    *course("rft-full", 7, [0.1, 0.2, 0.13, 0.15, 0.17]),
    *course("rft-full", 8, [0.1, 0.2, 0.15, 0.15, 0.25]),
    *course("rft-beta-held", 7, [0.0, 0.0, 0.3, 0.4, 0.5]),
    *course("rft-base", 7, [0.0, 0.0, 0.1, 0.1, 0.1]),
    *course("rft-full-fast", 7, [0.1, 0.1, 0.16, 0.16, 0.16]),
    *course("rft-beta-held-fast", 7, [0.0, 0.0, 0.1, 0.1, 0.1]),
]


def about() -> dict[str, object]:
    sections = {
        "evaluation": EvaluationSettings(bootstrap=400, permutations=2000),
        "study": StudySettings(seeds=SEEDS, questions=N, steps=5, warm_up=2),
        "rft": RftSettings(),
        "pid": PidSettings(ema=0.5),
    }
    training = {"method": "sft", "seed": 7, "weights": "ab" * 32, "steps": 3, "ended": "finished"}
    return {
        "settings": {name: each.model_dump(mode="json") for name, each in sections.items()},
        "trainings": [training],
        "ground": {"training_splits": "0123"},
        "git": {"commit": "c0ffee", "dirty": ""},
    }


LOOSE = {"pid": PidSettings(ema=0.0).model_dump(mode="json")}  # nothing is kept: single steps are judged


@pytest.fixture
def out(tmp_path: Path) -> Path:
    evidence.write(tmp_path / results.EVIDENCE, planted(), STEPS, about())
    results.publish(tmp_path, tmp_path)
    return tmp_path


@pytest.fixture
def kept(out: Path) -> Evidence:
    return evidence.read(out / results.EVIDENCE, out)


def test_a_row_is_what_was_planted(kept: Evidence):
    found = learning(kept)
    assert [row["name"] for row in found["phases"]] == ["base", "sft", "rft-base", "rft-full", "teacher"]
    base, sft, _, full, teacher = found["phases"]
    assert set(sft) == {
        *("name", "seeds", "questions", "accuracy_mean", "accuracy_sd", "ci95"),
        *("difference_vs_previous", "p_vs_previous"),
        *("valid_call_rate", "chain_length", "data_version"),
    }
    assert (sft["seeds"], sft["questions"], sft["chain_length"]) == (2, N, 3.0)
    assert sft["accuracy_mean"] == pytest.approx((24 + 23) / 2 / N)
    assert sft["accuracy_sd"] == pytest.approx(np.std([24 / N, 23 / N], ddof=1), abs=1e-6)
    assert sft["ci95"][0] < sft["accuracy_mean"] < sft["ci95"][1]
    assert base["p_vs_previous"] is teacher["p_vs_previous"] is base["accuracy_sd"] is None
    assert sft["p_vs_previous"] < 0.05 and full["p_vs_previous"] < 0.05
    assert teacher["accuracy_mean"] == 1.0 and full["valid_call_rate"] == 1.0


def test_the_previous_phase_of_both_reinforcements_is_sft(kept: Evidence):
    """RFT-Full is 12 questions above SFT and 6 above RFT-Base."""
    rows = {row["name"]: row for row in learning(kept)["phases"]}
    assert rows["rft-full"]["p_vs_previous"] < rows["rft-base"]["p_vs_previous"]


def test_controls_stand_beside_the_policy_they_are_made_of(kept: Evidence):
    off, shuffled = learning(kept)["controls"]
    assert (off["name"], off["of"], off["valid_call_rate"]) == ("rft-full-tools-off", "rft-full", 0.0)
    assert off["accuracy_mean"] == 5 / N and off["p_vs_policy"] < 0.05
    assert (shuffled["name"], shuffled["accuracy_mean"]) == ("rft-full-shuffled", 10 / N)


def test_an_ablation_of_one_seed_is_compared_with_that_seed_only(kept: Evidence):
    base, curiosity, held = learning(kept)["ablations"]
    assert (base["name"], base["seeds_compared"]) == ("rft-base", 2)
    assert (curiosity["name"], curiosity["seeds_compared"]) == ("rft-curiosity", 1)
    assert curiosity["difference"] == pytest.approx((36 - 33) / N), "not 35.5 - 33"
    assert held["difference"] == pytest.approx((36 - 31) / N)


def test_the_divergence_is_counted_after_the_warm_up(kept: Evidence):
    kl = learning(kept)["kl"]
    raw = kl["with_pid"]["raw"]
    assert (raw["median"], kl["with_pid"]["steps"], kl["with_pid"]["seeds"]) == (0.15, 6, 2)
    single = [0.13, 0.15, 0.17, 0.15, 0.15, 0.25]
    assert raw["p95"] == pytest.approx(np.percentile(single, 95))
    assert raw["scatter"] == pytest.approx(np.std(single) / np.mean(single), abs=1e-6)
    assert raw["within"] == pytest.approx(5 / 6, abs=1e-6)
    assert (kl["beta_held"]["raw"]["median"], kl["beta_held"]["raw"]["over"]) == (0.4, 1.0)
    assert [run["raw"]["median"] for run in kl["with_pid"]["runs"]] == [0.15, 0.15]
    assert kl["data_version"] == kept.version


def test_the_corridor_is_judged_on_the_average_that_the_controller_sees(kept: Evidence):
    """Half of it is kept at every step; the warm-up counts in it and is not judged."""
    kl = learning(kept)["kl"]
    averages = [0.14, 0.145, 0.1575, 0.15, 0.15, 0.2]
    judged = kl["with_pid"][kl["judged"]]
    assert (kl["judged"], kl["ema"], judged["median"]) == ("smoothed", 0.5, 0.15)
    assert judged["p95"] == pytest.approx(np.percentile(averages, 95))
    assert judged["p95"] <= 0.2 < kl["with_pid"]["raw"]["p95"], "one step of many prompts is no excursion"
    assert (judged["over"], judged["within"]) == (0.0, pytest.approx(5 / 6, abs=1e-6))
    assert [run["smoothed"]["p95"] for run in kl["with_pid"]["runs"]] == [
        pytest.approx(np.percentile(part, 95), abs=1e-6) for part in (averages[:3], averages[3:])
    ]
    held = [0.15, 0.275, 0.3875]
    assert kl["beta_held"]["smoothed"]["p95"] == pytest.approx(np.percentile(held, 95), abs=1e-6)
    fast = kl["fast"]["with_pid"]["smoothed"]["median"], kl["fast"]["beta_held"]["smoothed"]["median"]
    assert fast == (0.145, 0.075)


def test_the_average_is_the_controllers_own():
    """Step by step what a run's course holds, also where no group was learned from."""
    from training.rft import pid
    from training.rft.course import Course, Measured, advance

    control, rft, random = PidSettings(), RftSettings(), np.random.default_rng(3)
    dropped = np.where(random.random(60) < 0.2, 1.0, 0.25)
    dropped[0] = 1.0
    kl, course, seen = random.lognormal(-2, 0.7, 60), Course("", pid.start(control)), []
    for each, share in zip(kl, dropped, strict=True):
        course = advance(course, Measured([("t", 0.5)], 1.0, float(each), share < 1), rft, control)
        seen.append(course.controller.smoothed)
    assert smoothed({"kl": kl, "filtered": dropped}, control.ema) == pytest.approx(seen, rel=1e-12)


def test_aims_that_are_missed_are_said_to_be_missed(kept: Evidence):
    most = "RFT-Full, PID: 95th percentile of the averaged KL at most 0.2"
    met = {aim.text: aim.met for aim in aims(learning(kept))}
    assert met["SFT at least 65 %"] is False and met["RFT-Full at least 75 %"] is True
    assert met[most] is True
    assert met["RFT-Full, PID: median of the averaged KL 0.12 to 0.18"] is True
    assert met["RFT-Full, β held: 95th percentile of the averaged KL over 0.2"] is True
    assert met["RFT-Full, fast, PID: median of the averaged KL 0.12 to 0.18"] is True
    assert met["RFT-Full, fast, β held: 95th percentile of the averaged KL over 0.2"] is False
    far = learning(replace(kept, steps=kept.steps.filter(pc.equal(kept.steps["method"], "rft-beta-held"))))
    assert {aim.text: aim.met for aim in aims(far)}[most] is None, "not measured"
    loose = learning(replace(kept, about=kept.about | {"settings": kept.about["settings"] | LOOSE}))
    assert {aim.text: aim.met for aim in aims(loose)}[most] is False
    assert met["RFT-Full: shorter chains, accuracy not lower"] is True


def test_what_is_published_follows_from_what_is_kept(out: Path):
    assert results.wrong(out, out) == []
    assert {path.name for path in (out / results.IMAGES).iterdir()} == {
        *("accuracy.svg", "kl.svg", "kl_fast.svg", "chain.svg", "rewards.svg")
    }
    page = (out / results.PAGE).read_text()
    assert "| SFT | 2 | 58.8 % |" in page and "| RFT-Full at least 75 % | 88.8 % | yes |" in page
    assert all((out / "docs" / place).is_file() for place in ("images/learning/kl.svg",))
    assert "| **moving average** | **0.150** | **0.189** |" in page
    assert "| single steps | 0.150 | 0.230 |" in page
    told = (
        "| RFT-Full, PID: 95th percentile of the averaged KL at most 0.2 | 0.189 (single steps 0.230) | yes |"
    )
    assert told in page


def test_a_number_written_by_hand_is_found(out: Path):
    path = out / results.NUMBERS
    path.write_text(path.read_text().replace("0.5875", "0.6875", 1))
    assert results.wrong(out, out) == [f"{results.NUMBERS} is not what the kept predictions come to"]
    page = out / results.PAGE
    page.write_text(page.read_text().replace("58.8 %", "68.8 %", 1))
    assert len(results.wrong(out, out)) == 2


def test_a_prediction_that_says_it_was_right_is_judged_again(out: Path):
    lied = [replace(p, correct=True) if p.policy == "base" and not p.correct else p for p in planted()]
    evidence.write(out / results.EVIDENCE, lied, STEPS, about())
    results.publish(out, out)
    (told,) = results.wrong(out, out)
    assert told.startswith("38 predictions are judged otherwise")


TRUTH = replace(answered("base", 3, 7)[3].question, answer="what was said")


@pytest.mark.parametrize(
    ("named", "predictions"),
    [
        (
            "is not the same in every",
            [
                replace(p, question=TRUTH) if p.question.id == TRUTH.id and p.seed == 8 else p
                for p in planted()
            ],
        ),
        (
            "sft with seed 8 lacks 1 of the 40",
            [p for p in planted() if (p.policy, p.seed, p.question.id) != ("sft", 8, TRUTH.id)],
        ),
        ("twice", [*planted(), planted()[0]]),
    ],
)
def test_predictions_that_do_not_fit_together_are_refused(
    tmp_path: Path, named: str, predictions: list[Prediction]
):
    evidence.write(tmp_path / results.EVIDENCE, predictions, STEPS, about())
    with pytest.raises(EvidenceError, match=named):
        results.publish(tmp_path, tmp_path)


def test_a_training_by_no_known_method_is_refused(tmp_path: Path):
    strange = about() | {"trainings": [{**about()["trainings"][0], "method": "nobody"}]}
    evidence.write(tmp_path / results.EVIDENCE, planted(), STEPS, strange)
    with pytest.raises(EvidenceError, match="no numbers follow from what is kept"):
        results.publish(tmp_path, tmp_path)


@pytest.mark.parametrize("name", evidence.FILES)
@pytest.mark.parametrize("spoil", [lambda data: data[:-9], lambda data: b"", lambda data: b"[]"])
def test_a_file_that_is_broken_off_is_named(out: Path, name: str, spoil: Callable[[bytes], bytes]):
    path = out / results.EVIDENCE / name
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(
        EvidenceError, match=r"cannot be read|is not the file that study.json was written with"
    ):
        results.wrong(out, out)


def test_tables_of_one_study_and_the_telling_of_another_are_not_taken_for_one(out: Path):
    """What a kill between two of the files leaves."""
    told = (out / results.EVIDENCE / evidence.ABOUT).read_bytes()
    evidence.write(out / results.EVIDENCE, [p for p in planted() if p.seed == 7], STEPS, about())
    (out / results.EVIDENCE / evidence.ABOUT).write_bytes(told)
    with pytest.raises(EvidenceError, match=r"predictions.parquet is not the file"):
        results.wrong(out, out)


def test_a_seal_that_was_taken_off_is_missed(out: Path):
    path = out / results.EVIDENCE / evidence.ABOUT
    path.write_text(json.dumps(json.loads(path.read_text()) | {evidence.SEALED: {}}))
    with pytest.raises(EvidenceError, match="cannot be read"):
        results.wrong(out, out)


def test_what_a_killed_writer_left_is_cleared_by_the_next(out: Path):
    draft = out / results.EVIDENCE / ".predictions.parquet.17.tmp"
    draft.write_bytes(b"half")
    with pytest.raises(EvidenceError, match=r"it holds .predictions.parquet.17.tmp"):
        results.wrong(out, out)
    evidence.write(out / results.EVIDENCE, planted(), STEPS, about())
    assert not draft.exists() and results.wrong(out, out) == []


def test_steps_that_are_told_and_not_kept_are_found(out: Path):
    lied = about() | {"trainings": [{**about()["trainings"][0], "method": "rft-full", "steps": 120}]}
    evidence.write(out / results.EVIDENCE, planted(), STEPS, lied)
    with pytest.raises(EvidenceError, match="tells of 120 steps of rft-full with seed 7, and 5 are kept"):
        results.publish(out, out)


def test_arms_of_which_only_different_seeds_are_done_are_not_compared(tmp_path: Path):
    few = [*answered("rft-full", 30, 8), *answered("rft-base", 30, 7), *answered("sft", 20, 7)]
    evidence.write(tmp_path / results.EVIDENCE, few, STEPS, about())
    found = learning(evidence.read(tmp_path / results.EVIDENCE, tmp_path))
    assert found["ablations"] == [] and [row["p_vs_previous"] is None for row in found["phases"]] == [
        *(True, False, True)
    ]


def test_a_gain_is_over_the_seeds_that_both_have(tmp_path: Path):
    """SFT's second seed is far worse: no gain of an RFT that has only the first."""
    few = [*answered("sft", 20, 7), *answered("sft", 5, 8), *answered("rft-full", 19, 7)]
    evidence.write(tmp_path / results.EVIDENCE, few, STEPS, about())
    found = learning(evidence.read(tmp_path / results.EVIDENCE, tmp_path))
    sft, full = found["phases"]
    assert full["accuracy_mean"] > sft["accuracy_mean"] and full["difference_vs_previous"] == -1 / N
    met = {aim.text: aim.met for aim in aims(found)}
    assert met["RFT-Full above SFT, p < 0.05"] is False
    assert met["RFT-Full: shorter chains, accuracy not lower"] is False


def test_the_page_says_from_which_step_intrinsic_terms_were_paid(tmp_path: Path):
    of = [{**about()["trainings"][0], "method": name, "steps": 5} for name in ("rft-full", "rft-beta-held")]
    paid = [{**s, "stage": "intrinsic"} if s["method"] == "rft-full" and s["step"] >= 3 else s for s in STEPS]
    evidence.write(tmp_path / results.EVIDENCE, planted(), paid, about() | {"trainings": of})
    results.publish(tmp_path, tmp_path)
    page = (tmp_path / results.PAGE).read_text()
    assert "| RFT-Full | 7 | 5 | finished | step 3 |" in page
    assert "| RFT-Full without PID | 7 | 5 | finished | never |" in page


def test_the_version_is_of_the_bytes_that_are_kept(out: Path, kept: Evidence):
    path = out / results.EVIDENCE / evidence.ABOUT
    told = json.loads(path.read_text())
    told["settings"]["study"]["warm_up"] = 0
    path.write_text(json.dumps(told))
    again = evidence.read(out / results.EVIDENCE, out)
    assert again.version != kept.version and len(results.wrong(out, out)) == 2


def test_a_study_that_is_not_finished_says_what_is_left(tmp_path: Path, out: Path):
    page = (out / results.PAGE).read_text()
    assert "Unfinished" not in page
    begun = [each for each in planted() if each.policy == "sft" and each.tools]
    left = {"left": ["rft-full-7", "rft-full-7 answered"]}
    evidence.write(tmp_path / "begun" / results.EVIDENCE, begun, [], about() | left)
    results.publish(tmp_path, tmp_path / "begun")
    page = (tmp_path / "begun" / results.PAGE).read_text()
    assert "**Unfinished.** Still to be done: rft-full-7, rft-full-7 answered." in page
    assert results.wrong(tmp_path, tmp_path / "begun") == []


def test_evidence_that_is_not_whole_is_refused(out: Path, monkeypatch: pytest.MonkeyPatch):
    (out / results.EVIDENCE / evidence.STEPS).unlink()
    with pytest.raises(EvidenceError, match=r"must hold predictions.parquet, steps.parquet, study.json"):
        results.wrong(out, out)
    monkeypatch.setattr(evidence, "LARGEST", 1000)
    with pytest.raises(EvidenceError, match="1,000 may be committed"):
        evidence.write(out / results.EVIDENCE, planted(), STEPS, about())


def test_the_results_in_this_checkout_follow_from_the_predictions_in_it():
    written = [
        place for place in (results.NUMBERS, results.PAGE, results.EVIDENCE) if (ROOT / place).exists()
    ]
    if not written:
        pytest.skip("no study has been committed")
    assert results.wrong(ROOT, ROOT) == []
