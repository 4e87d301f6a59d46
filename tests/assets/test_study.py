"""What the study consists of, how long it says it takes, and that it goes on where it was."""

import json
import shutil
import time
from pathlib import Path

import pytest

from assets import child
from assets.stage import Project, StageError
from assets.study import command, doing
from assets.study.doing import Stopped, Study
from assets.study.pace import GUESSED, Pace
from assets.study.plan import Answers, Training, answers, trainings
from evaluation.learning import results
from pixelis_pipeline.settings import Settings, StudySettings
from tests.assets.conftest import project, run


def test_every_seed_of_the_phases_and_one_of_each_ablation():
    made = trainings(StudySettings())
    of = {
        name: [each.seed for each in made if each.method == name] for name in {each.method for each in made}
    }
    assert of == {
        **{name: [7, 8, 9] for name in ("sft", "rft-base", "rft-full")},
        **{name: [7] for name in ("rft-curiosity", "rft-coherence", "rft-smoothness", "rft-beta-held")},
        **{name: [7] for name in ("rft-full-fast", "rft-beta-held-fast")},
    }
    assert all(each.start in made[: made.index(each)] for each in made if each.method != "sft")


def test_everything_taught_is_asked_and_controls_are_made_of_sft_and_the_whole_method():
    made = trainings(StudySettings())
    asked = answers(StudySettings(), made)
    assert len({each.label for each in asked}) == len({each.name for each in asked}) == len(asked) == 29
    assert {each.training for each in asked if each.how == "answered"} == {*made, Training("base", 7)}
    for how in ("with tools off", "with outputs shuffled"):
        assert {each.method for each in asked if each.how == how} == {"sft", "rft-full"}
        assert sum(each.how == how for each in asked) == 6
    assert Answers("teacher", 7, "by the teacher") in asked
    assert Answers("sft", 7, "with outputs shuffled").arm == "sft-shuffled"


def test_runs_differ_by_their_method_and_seed_alone():
    settings = Settings()
    held = Training("rft-beta-held", 8).settings(settings)
    full = Training("rft-full", 8).settings(settings)
    assert full.rft.model_dump() == settings.rft.model_dump() | {"seed": 8}
    assert held.rft.model_dump() == full.rft.model_dump() | {"controlled": False}
    steered, loose = (
        Training(name, 8).settings(settings) for name in ("rft-full-fast", "rft-beta-held-fast")
    )
    assert steered.rft.model_dump() == full.rft.model_dump() | {"learning_rate": settings.study.fast}
    assert loose.rft.model_dump() == steered.rft.model_dump() | {"controlled": False}
    assert loose.pid == steered.pid != full.pid == settings.pid
    taught = Training("sft", 8).settings(settings)
    assert taught.sft.model_dump() == settings.sft.model_dump() | {"seed": 8, "threads": 1}


def test_what_is_left_is_reckoned_from_measured_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = [100.0]
    monkeypatch.setattr("assets.study.pace.time.monotonic", lambda: clock[0])
    pace = Pace(tmp_path / "pace.json")
    pace.due("a", "rft", 10)
    pace.due("b", "rft", 10)
    assert pace.left == 20 * GUESSED["rft"]
    with pace.follow("a", 10) as advance:
        advance(4)  # done by a process before, or while this one started: tells nothing of how fast it is
        assert pace.left == 16 * GUESSED["rft"]
        clock[0] += 6.0
        advance(2)
        assert pace.seconds["rft"] == 3.0 and pace.left == 14 * 3.0
    pace.done("a")
    assert pace.due_now == {"b"} and pace.left == 30.0
    assert Pace(tmp_path / "pace.json").seconds == {**GUESSED, "rft": 3.0}


def test_the_held_out_set_is_as_large_as_the_study_asks(tmp_path: Path):
    made = project(tmp_path / "p", study={"seeds": [7], "questions": 500, "steps": 2, "warm_up": 0})
    assert command._larger(made).settings.evaluation.held_out == 500


def test_evidence_that_is_not_whole_is_named_before_anything_is_done(tmp_path: Path):
    made, folder = project(tmp_path / "p"), tmp_path / "out" / results.EVIDENCE
    folder.mkdir(parents=True)
    with pytest.raises(StageError, match="it holds nothing: put it right, or run again with --afresh"):
        command.study(made, tmp_path / "out", 2, "plan")
    assert command.study(made, tmp_path / "out", 2, "plan", afresh=True) == 0


def test_the_plan_is_one_line_and_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made = project(tmp_path / "p")
    assert command.study(made, tmp_path / "out", 2, "plan") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "12 of 12 trainings (2 steps of RFT each) and 22 of 22 sets of 8 answers are left" in line
    assert not (made.root / "data/versions").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_a_reinforcement_begins_when_its_own_sft_is_done_and_never_where_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
):
    made = project(tmp_path / "p", study={"seeds": [7, 8], "questions": 8, "steps": 1, "warm_up": 0})
    study, begun = Study(made, Pace(tmp_path / "pace.json"), jobs, lambda name: None), []

    def teach(training: Training) -> None:
        if training.method != "sft":
            assert training.start in study.taught
        begun.append(training.name)
        if training.name == "sft-8":
            time.sleep(0.05)  # what waits for it waits
            raise StageError("sft-8 cannot be taught")
        study.taught[training] = training  # type: ignore[assignment]

    monkeypatch.setattr(study, "_teach", teach)
    monkeypatch.setattr(study, "_answer", lambda each: None)
    with pytest.raises(StageError, match="sft-8 cannot be taught"):
        study.run()
    assert begun[0] == "sft-7" and "sft-8" in begun
    assert {name for name in begun if name.endswith("-8")} == {"sft-8"}
    if jobs == 1:
        assert begun == ["sft-7", "sft-8"], "nothing begins after a failure"


@pytest.mark.slow
def test_a_study_that_was_stopped_goes_on_and_its_numbers_bear_the_check(
    copy: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """One seed, two trainings: the real processes, on as little as shows it."""
    made = project(copy.root, study={"seeds": [7], "questions": 8, "batches": [], "steps": 1, "warm_up": 0})
    assert run(made, list(doing.GROUND)) == 0
    few = [Training("sft", 7), Training("rft-full", 7)]
    asked = [
        *(Answers(name, 7) for name in ("base", "sft", "rft-full")),
        *(Answers("rft-full", 7, how) for how in ("with tools off", "with outputs shuffled")),
        Answers("teacher", 7, "by the teacher"),
    ]
    monkeypatch.setattr("assets.study.plan.trainings", lambda study: few)
    monkeypatch.setattr("assets.study.plan.answers", lambda study, made: asked)
    monkeypatch.setattr(doing, "trainings", lambda study: few)
    monkeypatch.setattr(doing, "answers", lambda study, made: asked)
    pace = Pace(made.root / "pace.json")

    def stop(name: str) -> None:
        raise Stopped(name)

    stopped = Study(made, pace, 1, stop)
    stopped.plan()
    with pytest.raises(Stopped, match="sft-7"):
        stopped.run()

    started: list[str] = []
    have_done = child._have_done

    def noted(work: child.Work, *given: object) -> None:
        started.append(f"{work.stage.key} {work.partition}")
        have_done(work, *given)

    monkeypatch.setattr(child, "_have_done", noted)
    out = tmp_path / "out"
    assert command.study(made, out, 2) == 0
    assert "study/training sft-7" not in started, "SFT was proven"
    assert len(started) == len(set(started)) == 1 + len(asked)
    found = json.loads((out / results.NUMBERS).read_text())
    assert [row["name"] for row in found["phases"]] == ["base", "sft", "rft-full", "teacher"]
    assert {row["questions"] for row in (*found["phases"], *found["controls"])} == {8}
    assert found["phases"][-1]["accuracy_mean"] == 1.0, "the teacher knows"
    assert found["controls"][0]["valid_call_rate"] in (None, 0.0)
    assert results.wrong(made.root, out) == []

    started.clear()
    assert command.study(made, tmp_path / "again", 2, "keep") == 0
    assert command.study(made, tmp_path / "again", 2) == 0
    assert started == [], "nothing is done twice"
    assert "0 of 2 trainings" in capsys.readouterr().out
    for name in (results.NUMBERS, results.PAGE):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()

    shutil.rmtree(made.root / "data/.work/study")
    assert command.study(made, out, 2) == 0
    assert started == [], "what is kept stands for it, on a machine that has nothing else"
    assert (out / results.NUMBERS).read_bytes() == (tmp_path / "again" / results.NUMBERS).read_bytes()

    other = project(copy.root, reward={"invalid": 0.31}, study=made.settings.study.model_dump(mode="json"))
    with pytest.raises(StageError, match="holds 3 sets of answers that other code, data or settings gave"):
        command.study(other, out, 2, "keep")

    monkeypatch.setattr(doing, "answers", lambda study, made: [*asked, Answers("sft", 7, "with tools off")])
    capsys.readouterr()
    assert command.study(made, out, 2, "plan") == 0
    assert "1 of 2 trainings" in capsys.readouterr().out, "only the policy that is asked anew"
    assert command.study(made, out, 2) == 0
    assert started == ["study/training sft-7", "study/answers sft-7-tools-off"]
    assert results.wrong(made.root, out) == []
