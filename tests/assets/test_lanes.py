"""Runs side by side: the same versions as one after the other, and no lane outlives who opened it."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from assets import driver
from assets.stage import Project
from pixelis_pipeline.ledger import dvc
from tests.assets.conftest import SPLITS, project, run, run_in_child

pytestmark = pytest.mark.slow
LOOKS = 6_000


def test_side_by_side_makes_the_versions_of_one_after_the_other(
    splits: Project, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    again = project(tmp_path)
    assert driver.run(again, to=SPLITS, jobs=2) == 0
    told = capfd.readouterr().out.splitlines()
    made = [line for line in told if line.startswith("made ")]
    assert len(made) == len(list(driver.plan(again, SPLITS))) and "are up to date" in told[-1]
    here, there = (json.loads((each.root / dvc.POINTER).read_text()) for each in (again, splits))
    assert here == there
    assert run(again) == 0, "and one after the other finds nothing to do"
    assert "made " not in capfd.readouterr().out


def test_after_one_that_fails_none_is_begun(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    folders = project(tmp_path).settings.benchmarks | {"vstar": {"path": "no such folder"}}
    assert driver.run(project(tmp_path, benchmarks=folders), to=["evaluation_whitelist"], jobs=2) == 1
    told = capfd.readouterr()
    assert "no such folder" in told.err and "are up to date" not in told.out
    assert not project(tmp_path).ledger.versions()["evaluation_whitelist"]


def children(pid: int) -> set[int]:
    found = set()
    for process in filter(str.isdigit, os.listdir("/proc")):
        status = Path("/proc", process, "stat")
        try:
            told = status.read_text()
        except OSError:  # it has just ended
            continue
        state, parent = told.rpartition(")")[2].split()[:2]
        if int(parent) == pid and state != "Z" and "spawn_main" in _command(status.parent):
            found.add(int(status.parent.name))
    return found


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_lanes_end_with_the_process_that_opened_them(tmp_path: Path, how: signal.Signals):
    child = run_in_child(project(tmp_path).root, *SPLITS, jobs=2)
    while len(lanes := children(child.pid)) < 2:
        assert child.poll() is None, child.communicate()
        time.sleep(0.01)
    child.send_signal(how)
    child.wait()
    for _ in range(LOOKS):
        left = [lane for lane in lanes if "spawn_main" in _command(Path(f"/proc/{lane}"))]
        if not left:
            break
        time.sleep(0.01)
    assert not left, "they outlive who opened them"
    last = run_in_child(tmp_path, "raw/sa1b")
    said, _ = last.communicate()
    assert last.returncode == 0, said


def test_a_lane_that_is_killed_is_said_and_costs_what_was_under_way(tmp_path: Path):
    child = run_in_child(project(tmp_path).root, "raw/sa1b", "raw/fineweb", "raw/starqa", jobs=2)
    while not (lanes := children(child.pid)):
        assert child.poll() is None, child.communicate()
        time.sleep(0.01)
    os.kill(min(lanes), signal.SIGKILL)
    said, _ = child.communicate()
    assert child.returncode == 1 and "a process was killed" in said and "Traceback" not in said, said
    assert run(project(tmp_path), ["raw/sa1b", "raw/fineweb", "raw/starqa"]) == 0
