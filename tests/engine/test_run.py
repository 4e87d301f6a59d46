"""Where a function runs never shows in its results, and who dies on the way costs nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelis_pipeline.engine.pool import Lost, PoolError, over
from pixelis_pipeline.engine.queue import Queue
from pixelis_pipeline.engine.run import AHEAD, run
from pixelis_pipeline.settings import EngineSettings
from tests.engine import jobs

ROOT = Path(__file__).resolve().parents[2]
HERE, POOL, RAY = (EngineSettings(kind=kind, workers=2) for kind in ("process", "pool", "ray"))


@given(st.integers(0, 30), st.integers(1, 3), st.integers(0, 4), st.randoms())
def test_a_queue_settles_every_item_once(count: int, tries: int, window: int, random: object) -> None:
    """However deaths and answers are mixed: each index ends once, never more than `tries` losses, and what
    is out never spans more than the window."""
    queue, out, ended, losses = Queue(range(count), tries, window), [], [], dict.fromkeys(range(count), 0)
    while not queue.finished:
        if queue.waiting and (not out or random.random() < 0.6):  # type: ignore[attr-defined]
            index, item = queue.take()
            assert index == item
            out.append(index)
            alive = [k for k in range(max(out) + 1) if k not in ended]
            assert not window or max(out) - min(alive) < window
            continue
        index = out.pop(random.randrange(len(out)))  # type: ignore[attr-defined]
        if random.random() < 0.4:  # type: ignore[attr-defined]
            losses[index] += 1
            if queue.lose(index):
                ended.append(index)
                assert losses[index] == tries
        else:
            queue.settle(index)
            ended.append(index)
    assert sorted(ended) == list(range(count))


def test_a_pool_gives_what_one_process_gives_and_streams() -> None:
    taken: list[int] = []
    found = run(jobs.digests, (taken.append(k) or k for k in range(1000)), POOL, seconds=60, patience=0)
    first = [next(found) for _ in range(10)]
    assert len(taken) <= 10 + 2 * AHEAD + 2
    assert first + list(found) == list(run(jobs.digests, range(1000), HERE, seconds=60))


def test_an_item_that_lost_its_worker_is_given_to_another(tmp_path: Path) -> None:
    paths = [str(tmp_path / str(k)) for k in range(4)]
    assert list(run(jobs.dies_once, paths, POOL, seconds=60, patience=0)) == paths
    found = list(run(jobs.troubled, ["a", "die", "b"], POOL, seconds=60, patience=0))
    assert found[0::2] == ["A", "B"] and isinstance(found[1], Lost)
    (lost,) = [r for _, r in over(jobs.troubled, ["die"], workers=1, seconds=60, tries=2)]
    assert isinstance(lost, Lost)


def test_little_work_starts_no_pool_and_much_goes_on_where_it_was() -> None:
    """The first results come from this process, the others from two workers; none twice, none left out."""
    few = list(run(jobs.whereabouts, range(20), POOL, seconds=60))
    assert {pid for pid, _ in few} == {os.getpid()}  # type: ignore[misc]
    found = run(jobs.slow_digests, range(60), POOL, seconds=60, patience=0.2)
    assert list(found) == list(run(jobs.digests, range(60), HERE, seconds=60))


def test_what_raises_in_this_process_passes_through() -> None:
    with pytest.raises(KeyError):
        list(run(jobs.troubled, ["raise"], HERE, seconds=60))
    with pytest.raises(PoolError, match="broken"):
        list(run(jobs.troubled, ["raise"], POOL, seconds=60, patience=0))


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pixelis\[ray\]"):
        list(run(jobs.squares, [1], RAY, seconds=60))


def _told(program: str, seconds: float = 150) -> dict[str, object]:
    """What a program of this folder prints last, as JSON. Ray's processes are its own, and gone with it."""
    pytest.importorskip("ray")
    env = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    done = subprocess.run(
        [sys.executable, "-m", f"tests.engine.{program}"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


@pytest.mark.slow
def test_two_nodes_of_ray_give_the_same_bytes_and_survive_a_worker_and_a_node() -> None:
    """A local cluster of two nodes: plain, with an actor killed midway, with a node taken away midway."""
    told = _told("two_nodes")
    wanted = [digest.hex() for digest in run(jobs.digests, range(300), HERE, seconds=60)]
    assert told["nodes"] == 2
    for way in ("plain", "an actor killed", "a node gone"):
        assert told[way] == wanted, way
    assert [d.hex() for d in run(jobs.digests, range(300), POOL, seconds=60, patience=0)] == wanted  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_ray_of_our_own_listens_on_loopback_and_loses_only_what_kills() -> None:
    told = _told("own_ray")
    assert told["answers"] == ["A", "B", "lost", *"CDEFGHI"]
    assert told["raised"] == "KeyError: 'broken'"
    assert told["ports"]
    assert all(place.startswith(("127.", "[::1]", "[::ffff:127.")) for place in told["ports"])  # type: ignore
