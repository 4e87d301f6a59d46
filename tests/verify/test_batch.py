"""Many traces at once: the same outcomes whatever the number of processes, and a killed run goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest

from pixelis_pipeline.media import MediaStore
from pixelis_pipeline.records import Accepted, Failed, Outcome, Rejected, Trajectory
from pixelis_pipeline.settings import MediaLimits, ReplaySettings, ToolSettings
from pixelis_pipeline.verify.batch import Bench, replay_all

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def traces(cases: list[Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Trajectory]]:
    """A folder of pictures, and traces about them: true ones, a lie and one whose picture is gone."""
    import hashlib

    root = tmp_path_factory.mktemp("pictures")
    made = []
    for number, case in enumerate(cases[:6]):
        data = cv2.imencode(".png", case.pixels[:, :, ::-1])[1].tobytes()
        (root / f"{number}.png").write_bytes(data)
        seen = replace(
            case.trajectory.question.media[0], sha256=hashlib.sha256(data).hexdigest(), path=f"{number}.png"
        )
        question = replace(case.trajectory.question, media=(seen,))
        made.append(replace(case.trajectory, id=f"t{number}", question=question))
    made[2] = replace(made[2], answer="no such word")
    gone = replace(made[4].question.media[0], path="gone.png", sha256="f" * 64)
    made[4] = replace(made[4], question=replace(made[4].question, media=(gone,)))
    return root, made


def bench(root: Path, **settings: Any) -> Bench:
    return Bench(ToolSettings(), MediaStore(root, MediaLimits()), ReplaySettings(**settings))


def outcomes(root: Path, made: list[Trajectory], log: Path | None = None, **more: Any) -> list[Any]:
    tools = bench(root, workers=more.pop("workers", 1))
    return list(replay_all(made, tools, tools.settings, log, **more))


def test_processes_change_nothing_but_the_time(traces: tuple[Path, list[Trajectory]]):
    root, made = traces
    alone = outcomes(root, made)
    assert [type(each) for each in alone] == [Accepted, Accepted, Rejected, Accepted, Failed, Accepted]
    assert outcomes(root, made, workers=2, patience=0.0) == alone
    assert [each.of for each in alone] == [trace.id for trace in made]


class Counting:
    """Replay that remembers what it was asked, and breaks where it is told to."""

    def __init__(self, inner: Callable[[], Any], stop: int = 10**9) -> None:
        self.inner, self.stop, self.asked = inner, stop, list[str]()

    def __call__(self) -> Callable[[Trajectory], Outcome[Trajectory]]:
        function = self.inner()

        def counted(trace: Trajectory) -> Outcome[Trajectory]:
            if len(self.asked) == self.stop:
                raise KeyboardInterrupt
            self.asked.append(trace.id)
            return function(trace)

        return counted


def test_what_is_written_down_is_not_run_again(traces: tuple[Path, list[Trajectory]], tmp_path: Path):
    root, made = traces
    log, settings = tmp_path / "log.jsonl", ReplaySettings(workers=1)
    first = Counting(bench(root), stop=5)
    with pytest.raises(KeyboardInterrupt):
        list(replay_all(made, first, settings, log))
    second = Counting(bench(root))
    again = list(replay_all(made, second, settings, log))
    assert first.asked == ["t0", "t1", "t2", "t3", "t4"] and second.asked == ["t4", "t5"]  # t4 failed
    assert again == outcomes(root, made)
    changed = [replace(made[0], answer="grey"), *made[1:]]
    third = Counting(bench(root))
    assert next(replay_all(changed, third, settings, log)) != again[0] and third.asked == ["t0"]


def test_what_decides_an_outcome_is_in_the_digest(tmp_path: Path):
    usual = bench(tmp_path)
    assert usual.digest == bench(tmp_path, workers=3).digest
    assert usual.digest != bench(tmp_path, seg_iou=0.6).digest
    assert usual.digest != replace(usual, tools=ToolSettings(seconds=1.0)).digest
    assert usual.digest != replace(usual, media=MediaStore(tmp_path, MediaLimits(pixels=5))).digest


def dying() -> Callable[[Trajectory], Outcome[Trajectory]]:
    """What takes its process with it at one trace."""

    def die(trace: Trajectory) -> Outcome[Trajectory]:
        if trace.id == "t1":
            os.kill(os.getpid(), signal.SIGKILL)
        return Rejected(trace.id, "stage", "rule")

    return die


def test_a_trace_that_kills_its_process_fails_alone(traces: tuple[Path, list[Trajectory]], tmp_path: Path):
    made = traces[1]
    log, settings = tmp_path / "log.jsonl", ReplaySettings(workers=2)
    done = list(replay_all(made, dying, settings, log, patience=0.0))
    assert [type(each) for each in done] == [Rejected, Failed, *[Rejected] * 4]
    assert isinstance(done[1], Failed) and "died" in done[1].error and done[1].record["id"] == "t1"
    # A run that was cut off does not take up in its own process what may have ended it.
    assert list(replay_all(made, dying, settings, log)) == done


KILLED = """
import sys, time
from pathlib import Path
from pixelis_pipeline.columns import from_row
from pixelis_pipeline.records import Rejected, Trajectory
from pixelis_pipeline.settings import ReplaySettings
from pixelis_pipeline.verify.batch import replay_all
import json
made = [from_row(Trajectory, json.loads(line)) for line in open(sys.argv[1])]
def slow():
    def one(trace):
        time.sleep(0.2)
        return Rejected(trace.id, "stage", "rule")
    return one
list(replay_all(made, slow, ReplaySettings(workers=1), Path(sys.argv[2])))
"""


def test_a_kill_costs_at_most_what_was_in_flight(traces: tuple[Path, list[Trajectory]], tmp_path: Path):
    from pixelis_pipeline.columns import to_row

    made = traces[1] * 5
    made = [replace(trace, id=f"k{number}") for number, trace in enumerate(made)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(to_row(trace)) + "\n" for trace in made))
    log = tmp_path / "log.jsonl"
    child = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "in.jsonl", log], cwd=ROOT)
    while not log.is_file() or log.read_bytes().count(b"\n") < 3:
        assert child.poll() is None
        time.sleep(0.02)
    child.kill()
    child.wait()
    done = log.read_bytes().count(b"\n")
    assert 3 <= done < len(made)

    def quick() -> Callable[[Trajectory], Outcome[Trajectory]]:
        return lambda trace: Rejected(trace.id, "stage", "rule")

    rest = Counting(quick)
    assert len(list(replay_all(made, rest, ReplaySettings(workers=1), log))) == len(made)
    assert rest.asked == [trace.id for trace in made[done:]]
