"""A stage's process: what it takes to be believed, and how it ends. Real processes throughout."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from assets import child, running
from assets.stage import Stage, StageError, Watch, Work
from pixelis_pipeline.ledger import chain
from pixelis_pipeline.records import Accepted, Json, Outcome
from tests.assets.conftest import ROOT, project
from tests.training import jobs
from training import proof
from training.child import Job


@dataclass(frozen=True, slots=True)
class Policy:
    id: str
    parents: tuple[str, ...]


def body(work: Work) -> Iterable[Outcome[Policy]]:
    """A policy."""
    with child.run(work, jobs.learn, 1) as done:
        done.into(work.folder)
    yield Accepted("p", (Policy(done.proof.weights, ()),))


STAGE = Stage("policy_for_tests", body, Policy, "policies", settings=("sft",))


def work_at(root: Path, watch: Watch | None = None, **operations: float) -> Work:
    """A run of the stage in a project at `root`."""
    made = project(root, operations=operations)
    folder = root / "data" / "version"
    folder.mkdir(exist_ok=True)
    return Work(made, STAGE, "all", folder, (), watch=watch)


def do(work: Work, job: Job) -> proof.Proof:
    shutil.rmtree(work.folder, ignore_errors=True)
    with child.run(work, job, 1) as done:
        done.into(work.folder)
    return done.proof


def starts(root: Path) -> list[list[object]]:
    """[pid, first step, threads] of every process that began to learn."""
    return [json.loads(line) for line in (root / "started").read_text().splitlines()]


def gone(pid: int) -> bool:
    """Whether a process is gone; waits for it as long as it takes a busy machine."""
    for _ in range(1200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of a training that nothing happened to."""
    return do(work_at(tmp_path_factory.mktemp("undisturbed") / "p"), jobs.learn).weights


def test_what_a_process_made_is_proven_and_handed_over(tmp_path: Path, undisturbed: str):
    work = work_at(tmp_path / "p")
    proven = do(work, jobs.learn)
    bytes_ = (work.folder / "policy" / "model.safetensors").read_bytes()
    assert hashlib.sha256(bytes_).hexdigest() == proven.weights == undisturbed
    assert proven.result["off"] < 0.5 and set(proven.files) == {"policy/model.safetensors"}
    assert [(start, threads) for _, start, threads in starts(work.project.root)] == [(0, "1")]
    assert starts(work.project.root)[0][0] != os.getpid()


def test_killed_at_any_step_it_ends_with_the_same_weights(tmp_path: Path, undisturbed: str):
    """Ten kills in a training of twenty steps, at random ones, the first and the last among them."""
    work = work_at(tmp_path / "p")
    trips = sorted([0, jobs.STEPS - 1, *random.Random(7).sample(range(1, jobs.STEPS - 1), 8)])
    (work.project.root / "trips").write_text(json.dumps(trips))
    for trip in trips:
        with pytest.raises(child.Killed, match=r"was killed \(SIGKILL\).*Log: .*log.txt"):
            do(work, jobs.learn)
        assert starts(work.project.root)[-1][1] <= trip + 1
    proven = do(work, jobs.learn)
    assert proven.weights == undisturbed
    begun = [start for _, start, _ in starts(work.project.root)]
    assert len(begun) == len(trips) + 1 and begun == sorted(begun) and begun[-1] == jobs.STEPS


def test_the_training_of_other_settings_is_not_gone_on_from(tmp_path: Path):
    root = tmp_path / "p"
    work = work_at(root)
    (root / "trips").write_text("[9]")
    with pytest.raises(child.Killed):
        do(work, jobs.learn)
    other = Work(project(root, sft={"seed": 8}), STAGE, "all", work.folder, ())
    do(other, jobs.learn)
    do(work, jobs.learn)
    assert [start for _, start, _ in starts(root)] == [0, 0, 10]


def test_a_proven_training_is_not_done_again_unless_it_is_to_be_afresh(tmp_path: Path, undisturbed: str):
    """A kill between its end and the commit costs nothing."""
    work = work_at(tmp_path / "p")
    assert do(work, jobs.learn) == do(work, jobs.learn)
    assert len(starts(work.project.root)) == 1
    work.afresh = True
    assert do(work, jobs.learn).weights == undisturbed
    assert [start for _, start, _ in starts(work.project.root)] == [0, 0]


def test_bytes_that_changed_since_are_made_again(tmp_path: Path, undisturbed: str):
    work = work_at(tmp_path / "p")
    do(work, jobs.learn)
    (path,) = work.scratch.glob("*/made/policy/model.safetensors")
    path.unlink()
    path.write_bytes(b"cut short")
    assert do(work, jobs.learn).weights == undisturbed
    assert len(starts(work.project.root)) == 2


def test_an_exit_status_of_zero_proves_nothing(tmp_path: Path):
    work = work_at(tmp_path / "p")
    with pytest.raises(
        StageError, match=r"without proof of completion: there is no proof.json. Log: .*log.txt"
    ):
        do(work, jobs.unproven)
    assert not work.folder.exists()


def test_a_proof_that_the_bytes_do_not_bear_out_is_refused(tmp_path: Path):
    work = work_at(tmp_path / "p")
    with pytest.raises(StageError, match=r"policy/model.safetensors is not what proof.json says"):
        do(work, jobs.tampered)
    assert not work.folder.exists()


def test_a_silent_process_is_ended_and_the_log_says_where_it_stood(tmp_path: Path):
    work = work_at(tmp_path / "p", silence_seconds=15.0)
    with pytest.raises(StageError, match=r"said nothing for 15 s .* was ended.*Log: (.*log.txt)") as raised:
        do(work, jobs.silent)
    assert not isinstance(raised.value, child.Killed)
    log = Path(str(raised.value).rpartition("Log: ")[2])
    assert 'jobs.py", line' in log.read_text() and "in silent" in log.read_text()
    assert gone(int((work.project.root / "pid").read_text()))


def test_what_it_raises_is_in_the_error_and_in_the_log(tmp_path: Path):
    work = work_at(tmp_path / "p")
    with pytest.raises(StageError, match="exit status 1, ValueError: none of 3 trajectories") as raised:
        do(work, jobs.raising)
    log = Path(str(raised.value).rpartition("Log: ")[2])
    assert "Traceback" in log.read_text()


def test_keys_are_not_in_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("PIXELIS_TEACHER_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "planted-secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    work = work_at(tmp_path / "p")
    do(work, jobs.secretive)
    told = json.loads((work.folder / "environment.json").read_text())
    assert "planted-secret" not in told.values()
    assert told["CUDA_VISIBLE_DEVICES"] == "3" and told["OMP_NUM_THREADS"] == "1"
    assert "planted-secret" not in "".join(p.read_text() for p in work.scratch.glob("*/order.json"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_its_parent_and_another_goes_on(tmp_path: Path, how: signal.Signals):
    root = tmp_path / "p"
    project(root)
    code = (
        "import sys; from pathlib import Path; from tests.assets import test_child as t; "
        "t.do(t.work_at(Path(sys.argv[1])), t.jobs.silent)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(root)], cwd=ROOT, stderr=subprocess.DEVNULL)
    while not (root / "pid").exists() or not (root / "pid").read_text():
        assert parent.poll() is None
        time.sleep(0.05)
    pid = int((root / "pid").read_text())
    assert Path(f"/proc/{pid}").exists() and pid != parent.pid
    parent.send_signal(how)
    parent.wait()
    assert gone(pid)


def test_nobody_else_works_where_one_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child, "HELD", 0.0)
    work = work_at(tmp_path / "p")
    with (
        child.run(work, jobs.learn, 1),
        pytest.raises(StageError, match="another process is at this very work"),
    ):
        do(work, jobs.learn)


def together(work: Work) -> proof.Proof:
    with child.run(work, jobs.ranked, 1, processes=2) as done:
        done.into(work.folder)
    return done.proof


def ranks(root: Path) -> list[list[object]]:
    return [json.loads((root / f"rank-{rank}").read_text()) for rank in (0, 1)]


@pytest.mark.slow
def test_several_processes_carry_a_job_out_and_the_first_speaks_and_proves(tmp_path: Path):
    watcher = Watcher()
    work = work_at(tmp_path / "p", watcher, curve_seconds=0.001)
    proven = together(work)
    pids, sizes, sharded = zip(*ranks(work.project.root), strict=True)
    assert len({*pids, os.getpid()}) == 3 and sizes == ("2", "2") and sharded == ("false", "false")
    assert proven.result == {"rank": 0} and set(proven.files) == {"model"}
    assert [message["method"] for message in watcher.heard] == ["opened", "closed"]
    assert [numbers["rank"] for _, numbers, _ in watcher.shown] == [0]


@pytest.mark.slow
def test_where_one_of_several_processes_is_killed_all_are_gone_and_it_counts_as_killed(tmp_path: Path):
    work = work_at(tmp_path / "p")
    (work.project.root / "fate").write_text("killed")
    with pytest.raises(child.Killed, match=r"was killed \(SIGKILL\)"):
        together(work)
    assert all(gone(pid) for pid, *_ in ranks(work.project.root))
    (work.project.root / "fate").unlink()
    assert together(work).result == {"rank": 0}


@pytest.mark.slow
def test_several_processes_say_where_they_stand_when_asked_and_die_with_the_one_that_waits(tmp_path: Path):
    root = tmp_path / "p"
    (project(root).root / "fate").write_text("silent")
    code = (
        "import sys; from pathlib import Path; from tests.assets import test_child as t; "
        "t.together(t.work_at(Path(sys.argv[1])))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(root)], cwd=ROOT, stderr=subprocess.DEVNULL)
    while len(list(root.glob("rank-*"))) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    pids = [pid for pid, *_ in ranks(root)]
    (launcher,) = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids}
    assert launcher != parent.pid
    os.kill(launcher, signal.SIGUSR1)
    (log,) = (root / "data" / ".work").rglob("log.txt")
    while log.read_text().count("ranked") < 2:  # both write at once, a word at a time
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert all(gone(pid) for pid in (launcher, *pids))


@dataclass
class Watcher:
    """Keeps what it is told."""

    heard: list[Json] = field(default_factory=list)
    shown: list[tuple[str, Mapping[str, float], str]] = field(default_factory=list)

    @contextmanager
    def session(self, messages: Path):
        with child._unwatched(messages) as environment:
            yield environment

    def hear(self, message: Json) -> None:
        self.heard.append(message)

    def show(self, description: str, numbers: Mapping[str, float], curves: str) -> None:
        self.shown.append((description, numbers, curves))


def test_progress_reaches_the_bar_and_the_watcher(tmp_path: Path):
    watcher, told = Watcher(), []
    work = work_at(tmp_path / "p", watcher)

    @contextmanager
    def bar(description: str, total: int):
        told.append((description, total))
        yield told.append

    work.project.progress = bar
    (work.project.root / "trips").write_text("[9]")
    with pytest.raises(child.Killed):
        do(work, jobs.learn)
    assert told[0] == ("policy_for_tests [all]", jobs.STEPS) and sum(told[1:]) == 10
    told.clear()
    do(work, jobs.learn)
    assert sum(told[1:]) == jobs.STEPS, "the bar starts where the process went on"
    description, numbers, curves = watcher.shown[-1]
    assert description.startswith("step 20 of 20") and numbers["step"] == numbers["steps"] == 20
    assert "| loss |" in curves and "| rate | 0.2 |" in curves and numbers["loss"] > 0
    assert [message["method"] for message in watcher.heard] == ["opened", "opened", "closed"]


def test_a_run_of_the_stage_commits_what_was_proven_and_cleans_up(tmp_path: Path, undisturbed: str):
    made = project(tmp_path / "p")
    (made.root / "trips").write_text("[5]")
    with pytest.raises(child.Killed):
        running.run(made, STAGE, "all")
    assert made.ledger.current(STAGE.key, "all") is None
    done = running.run(made, STAGE, "all")
    folder = made.ledger.folder(STAGE.key, "all", done.record.version)
    assert hashlib.sha256((folder / "policy/model.safetensors").read_bytes()).hexdigest() == undisturbed
    assert not (made.root / "data" / ".work" / STAGE.key / "all").exists()
    assert list(chain.read(made.root, STAGE.key)) and running.run(made, STAGE, "all").skipped
