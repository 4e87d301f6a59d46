"""The limited server permits exactly what it says, and the figures of the suite add up."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import teacher, teacher_clients
from benchmarks.__main__ import SUITES
from benchmarks.limited_server import RESET, row_key
from benchmarks.limits import Gate, Limits
from benchmarks.peer_environment import PEERS
from benchmarks.teacher_load import Load, Result, billed_twice, result, throughput
from benchmarks.teacher_runs import Client, calls, crashed, run, served

CURATOR = PEERS / teacher.CURATOR / "bin" / "python"
SLOTS = Limits(concurrent=4, retry_after=False, service=0.05, errors=0.1, resets=0.1)


@pytest.mark.parametrize("counted", ["bucket", "sliding", "fixed"])
def test_a_rate_admits_what_it_permits_and_no_more(counted: str):
    now = 100.0
    gate = Gate(Limits(rate=600, counted=counted, burst=3, window=5), lambda: now)  # type: ignore[arg-type]
    admitted = []
    for tick in range(4_000):  # 40 seconds, asked every 10 ms
        now = 100.0 + tick / 100
        wait = gate.refused()
        if wait is None:
            admitted.append(now)
        else:
            assert 0 < wait <= 5
    assert 0.98 * 400 <= len(admitted) <= 400 + 50  # ten a second, and at most one window more
    inside = [sum(start <= each < start + 5 for each in admitted) for start in admitted]
    assert max(inside) <= {"bucket": 50 + 3, "sliding": 50, "fixed": 100}[counted]
    if counted == "bucket":
        assert len(admitted) <= 400 + 3


def test_slots_admit_so_many_at_a_time():
    gate = Gate(Limits(concurrent=2))
    assert [gate.refused() for _ in range(3)] == [None, None, 1.0]
    gate.busy -= 1
    assert gate.refused() is None


def test_what_the_server_counts_is_what_the_client_got(tmp_path: Path):
    load = Load("small", SLOTS, rows=60)
    job = {"system": "", "rows": load.words(), "settings": {"concurrency": 16, "attempts": 10}}
    with served(load.limits) as url:
        rows = teacher_clients.ours(job | {"url": url}, tmp_path)
        seen = calls(url)
        kept = teacher_clients.ours(job | {"url": url}, tmp_path)
        assert calls(url) == seen and kept == rows  # the store had them all
    statuses = Counter(status for *_, status in seen)
    assert set(statuses) <= {200, 429, 500, RESET} and statuses[500] and statuses[RESET]
    assert statuses[200] == 60 and {row for row, _, _, status in seen if status == 200} == set(
        map(row_key, load.words())
    )
    edges = [(asked, 1) for _, asked, _, status in seen if status != 429]
    edges += [(ended or 0.0, -1) for _, _, ended, status in seen if status != 429]
    busy, most = 0, 0
    for _, change in sorted(edges):
        busy += change
        most = max(most, busy)
    assert (busy, most) == (0, 4)
    came = result(load, seen, {"seconds": 1.0, "cpu": 0.5, "rows": rows})
    assert (came.lost, came.twice) == (0, 0)
    assert came.asked == len(seen) and came.refused == statuses[429] == came.asked - sum(
        statuses[other] for other in (200, 500, RESET)
    )


LOSES = """
import json, sys, urllib.request
from pathlib import Path
path = Path(sys.argv[1]); job = json.loads(path.read_bytes())
rows = {}
for words in job["rows"]:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": words}]}).encode()
    for _ in range(2 if words.endswith(" 0?") else 1):  # one row is paid for twice
        with urllib.request.urlopen(job["url"] + "/chat/completions", body) as answer:
            rows[words] = json.load(answer)["choices"][0]["message"]["content"]
first, second, *others = job["rows"]
rows[first], rows[second] = rows[second], rows[first]
del rows[others[0]]
path.with_suffix(".done").write_text(json.dumps({"seconds": 2.5, "cpu": 0, "rows": rows}))
"""


def test_a_client_that_loses_mixes_up_and_pays_twice_is_reported_as_that():
    load = Load("small", Limits(service=0.001), rows=10)
    came = run(Client("loses", (sys.executable, "-c", LOSES)), load)
    assert (came.lost, came.twice, came.asked, came.refused) == (3, 1, 11, 0)
    assert came.seconds == 2.5 and came.finished


def test_a_client_that_hangs_or_breaks_is_not_taken_for_one_that_is_done():
    load = Load("small", Limits(), rows=3, patience=0.3)
    came = run(Client("hangs", (sys.executable, "-c", "import time; time.sleep(60)")), load)
    assert not came.finished and came.lost == 3 and came.seconds == 0.3
    (wall, *_) = teacher.beside(load, came, Client("hangs", ()), came)
    assert wall.peer == "hangs (stopped)"
    with pytest.raises(RuntimeError, match="no such engine"):
        run(Client("breaks", (sys.executable, "-c", "raise SystemExit('no such engine')")), load)


def back_to_back(slots: int, seconds: float, gap: float = 0.0) -> list[tuple[str, float, float, int]]:
    """Calls of a second, one after the other in each slot, with gaps between them."""
    rounds = int(seconds / (1 + gap))
    spans = [(turn * (1 + gap), turn * (1 + gap) + 1) for turn in range(rounds)]
    return [(f"{slot}-{turn}", *span, 200) for turn, span in enumerate(spans) for slot in range(slots)]


@pytest.mark.parametrize(("gap", "share"), [(0.0, 1.0), (0.25, 0.8), (1.0, 0.5)])
def test_throughput_is_the_share_of_what_was_permitted_after_the_warm_up(gap: float, share: float):
    seen = back_to_back(3, 100, gap)
    slots = Load("slots", Limits(concurrent=3), rows=len(seen))
    assert throughput(slots, seen) == pytest.approx(share, abs=0.01)
    rated = Load("rate", Limits(rate=180), rows=len(seen))
    assert throughput(rated, seen) == pytest.approx(share, abs=0.05)
    slow_start = [(row, asked + 30, ended + 30, status) for row, asked, ended, status in seen]
    assert throughput(slots, slow_start) == pytest.approx(share, abs=0.01)
    turned_away = [("0-0", 40.0, 40.0, 429)] * 500
    assert throughput(slots, seen + turned_away) == throughput(slots, seen)
    assert throughput(slots, [call for call in seen if call[1] < 35]) is None, "it gave up too early"


def test_a_row_billed_twice_is_one_that_was_answered_twice():
    seen = [("a", 0.0, 0.1, 500), ("a", 0.2, 0.3, 200), ("b", 0.0, 0.1, 200), ("b", 0.1, 0.2, 200)]
    assert billed_twice(seen) == {"b"}


def test_ratios_are_ours_by_the_peers_and_targets_are_of_ours():
    load = Load("small", Limits(), rows=100)
    mine, theirs = Result(10, 1, 100, 1, 0, 0, 0.97), Result(20, 3, 400, 300, 40, 2, None)
    by_name = {row.name: row for row in teacher.beside(load, mine, Client("peer", ()), theirs)}
    assert by_name["small: wall time"].ratio == 0.5
    assert by_name["small: calls answered 429"].ratio == pytest.approx(0.01 / 0.75, abs=0.001)
    assert by_name["small: rows lost of 100"].ratio == 0
    assert "small: throughput" not in by_name  # theirs was over before it could be measured
    swapped = {row.name: row for row in teacher.beside(load, theirs, Client("peer", ()), mine)}
    assert swapped["small: rows lost of 100"].ratio is None and swapped["small: wall time"].ratio == 2
    met = [row.met for row in teacher.own(load, mine)]
    assert met == [True, True, True, True, None]
    assert [row.met for row in teacher.own(load, theirs)] == [False, False, False, None]
    assert [row.met for row in teacher.own(load, mine, aimed=False)] == [None, None, True, True, None]
    assert "teacher" in SUITES


@pytest.mark.slow
def test_a_kill_at_half_time_bills_nothing_twice_but_what_was_in_flight():
    load = Load("killed", Limits(concurrent=4, retry_after=False, service=0.2), rows=80)
    came = crashed(teacher.ours(), load)
    assert came.lost == 0 and came.needless == 0 and came.twice <= 4 + 1


@pytest.mark.slow
def test_the_whole_suite_at_a_small_size():
    found = teacher.suite(teacher.Size(4, 1200.0, 0.1, slow=0.2, rows=24, killed=24), with_curator=False)
    lost = [row for row in found if "rows lost" in row.name and row.peer is None]
    assert len(lost) == 2 + 5 + 1 and all(row.value == 0 and row.met for row in lost)
    peers = Counter(row.peer for row in found if row.peer)
    assert peers == {"asyncio.gather, 2 retries": 4, "asyncio.gather, 20 retries": 8}


@pytest.mark.slow
@pytest.mark.skipif(not CURATOR.is_file(), reason="the teacher suite installs it; it has not run here")
def test_curator_gets_the_same_rows_and_its_answers_are_found():
    load = Load("small", Limits(service=0.02), rows=12)
    came = run(teacher.curator(CURATOR, "limits lifted", **teacher.NO_LIMIT), load)
    assert (came.lost, came.asked, came.twice) == (0, 12, 0)
