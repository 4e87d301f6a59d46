"""A pool loses what it must and nothing else, and leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pixelis_pipeline.engine.mapped import in_order, mapped
from pixelis_pipeline.engine.pool import Lost, PoolError, over
from tests.engine import jobs

ROOT = Path(__file__).resolve().parents[2]


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids: list[int], seconds: float = 30.0) -> bool:
    until = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_every_item_is_answered_and_the_order_can_be_had():
    numbers = list(range(50))
    done = list(over(jobs.squares, numbers, workers=2, seconds=60))
    assert dict(done) == {n: n * n for n in numbers} and len(done) == 50
    assert list(in_order(reversed(done))) == [n * n for n in numbers]
    assert list(over(jobs.squares, [], workers=2, seconds=60)) == []


def test_a_death_and_a_hang_cost_their_own_item_only():
    items = ["a", "die", "b", "hang", "c", "die", "d"]
    found = dict(over(jobs.troubled, items, workers=2, seconds=2.0))
    assert {items[n]: found[n] for n in (0, 2, 4, 6)} == {each: each.upper() for each in "abcd"}
    lost = {n: found[n].why for n in (1, 3, 5) if isinstance(found[n], Lost)}
    assert "-9" in lost[1] and "-9" in lost[5] and "too long" in lost[3]


def test_what_raises_is_an_error_of_the_whole():
    with pytest.raises(PoolError, match="KeyError: 'broken'"):
        list(over(jobs.troubled, ["raise"], workers=1, seconds=60))
    with pytest.raises(PoolError, match="no weights: install them"):
        list(over(jobs.unready, [1], workers=1, seconds=60))


def test_workers_are_others_have_one_thread_each_and_end_with_the_iteration():
    done = over(jobs.whereabouts, range(1000), workers=2, seconds=60)
    seen = [next(done)[1] for _ in range(20)]
    pids = sorted({each[0] for each in seen if not isinstance(each, Lost)})
    assert os.getpid() not in pids and all(map(alive, pids))
    assert {each[1] for each in seen if not isinstance(each, Lost)} == {"1"}
    done.close()
    assert gone(pids)


def test_busy_workers_end_when_their_parent_is_killed(tmp_path: Path):
    code = (
        "import sys; from tests.engine import jobs; from pixelis_pipeline.engine.pool import over; "
        "list(over(jobs.sleepers, [sys.argv[1]] * 2, workers=2, seconds=600))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    until = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 2 and all(map(alive, pids))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(pids)


def test_little_work_is_done_here_and_much_by_others():
    here = {each[1][0] for each in mapped(jobs.whereabouts, range(5), seconds=60)}  # type: ignore[index]
    assert here == {os.getpid()}
    alone = mapped(jobs.whereabouts, range(5), workers=1, seconds=60, patience=0.0)
    assert {each[1][0] for each in alone} == {os.getpid()}  # type: ignore[index]
    impatient = mapped(jobs.whereabouts, range(5), workers=2, seconds=60, patience=0.0)
    assert os.getpid() not in {each[1][0] for each in impatient}  # type: ignore[index]


def test_work_changes_over_to_a_pool_once_it_is_known_to_be_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pixelis_pipeline.engine.mapped.WORTH", 0.0)
    done = list(mapped(jobs.whereabouts, range(2000), workers=2, seconds=60, patience=1e-4))
    pids = [each[1][0] for each in sorted(done)]  # type: ignore[index]
    assert [index for index, _ in sorted(done)] == list(range(2000))
    assert pids[0] == os.getpid() != pids[-1] and pids.count(os.getpid()) < 2000
