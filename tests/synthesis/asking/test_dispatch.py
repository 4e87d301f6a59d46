"""The loop that asks: order, memory, and what it tells about itself."""

import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pixelis_pipeline.media import MediaStore
from pixelis_pipeline.records import Assignment, Failed
from pixelis_pipeline.settings import MediaLimits, TeacherSettings
from pixelis_pipeline.synthesis import prompt
from pixelis_pipeline.synthesis.asking import dispatch
from pixelis_pipeline.synthesis.asking.client import Traffic, ask
from pixelis_pipeline.synthesis.asking.store import AnswerStore
from pixelis_pipeline.synthesis.asking.waiting import Waiting
from pixelis_pipeline.synthesis.request import Request, request_for
from tests.synthesis.asking.faults import faulty
from tests.synthesis.asking.rows import row, rows
from tests.synthesis.planted import Planted

SETTINGS = TeacherSettings(model="m", concurrency=4, timeout_seconds=5, patience_seconds=20, attempts=3)


def request(assignment: Assignment) -> Request:
    return request_for(assignment, "m", "e", prompt.load("positive", "plain"))


class Lazy(Mapping[str, tuple[Request, Assignment]]):
    """So many pending requests, made when they are looked at, and a count of the looks."""

    def __init__(self, count: int) -> None:
        self.count, self.made = count, 0

    def __getitem__(self, key: str) -> tuple[Request, Assignment]:
        self.made += 1
        return request(row(int(key))), row(int(key))

    def __iter__(self) -> Iterator[str]:
        return map(str, range(self.count))

    def __len__(self) -> int:
        return self.count


def test_fresh_requests_and_retries_take_turns() -> None:
    waiting, order = Waiting(Lazy(6)), []
    for key in ("a", "b", "c"):
        item = Waiting(Lazy(1)).take(0.0)
        assert item is not None
        item.key = key
        waiting.again(item, not_before=1.0)
    while waiting:
        taken = waiting.take(2.0)
        assert taken is not None
        order.append(taken.key)
    assert sorted(order) == [*"012345", "a", "b", "c"]
    assert [key for key in order if key in "abc"] == ["a", "b", "c"], "and the first to wait comes first"
    assert all(set(order[at : at + 2]) & set("abc") for at in (0, 2, 4))


def test_a_retry_is_not_taken_before_its_time() -> None:
    waiting = Waiting(Lazy(1))
    item = waiting.take(0.0)
    assert item is not None
    waiting.again(item, not_before=5.0)
    assert waiting.take(4.9) is None and waiting.soonest() == 5.0 and waiting
    assert waiting.take(5.0) is item and not waiting


def test_what_is_pending_costs_no_memory_before_its_turn() -> None:
    """76,000 requests, of which four have been taken: nothing else was made."""
    pending = Lazy(76_000)
    tracemalloc.start()
    waiting = Waiting(pending)
    taken = [waiting.take(0.0) for _ in range(4)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert all(taken) and pending.made == 5
    assert peak < 1_000_000


def test_no_more_messages_are_built_than_may_be_in_flight(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []
    real = dispatch.message

    def counted(*given: object) -> object:
        built.append(1)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(dispatch, "message", counted)
    media = planted.samples[0].media
    held: list[int] = []
    with AnswerStore(tmp_path) as store, faulty(delay=0.01) as (endpoint, server):

        def look(done: int, total: int) -> None:
            held.append(len(built) - done)

        asked = [row(number, media) for number in range(40)]
        ask(asked, SETTINGS, store, planted.media, endpoint, look)
    assert len(built) == server.asked == 40
    assert max(held) <= SETTINGS.concurrency


def test_traffic_counts_every_attempt_once(tmp_path: Path) -> None:
    told = Traffic()
    media = MediaStore(tmp_path, MediaLimits())
    script = ("500", "429 0.1", "400", "cut", "no usage")
    with AnswerStore(tmp_path) as store, faulty(*script) as (endpoint, server):
        outcomes = ask(rows(8), SETTINGS, store, media, endpoint, traffic=told)
    assert (told.sent, told.answered, told.turned_away, told.refused, told.broken) == (11, 7, 1, 1, 2)
    assert told.sent == server.asked and told.retried == 3 and told.failed == 0
    assert not any(isinstance(outcome, Failed) for outcome in outcomes)
    assert told.waited["turned away"] >= 0.05
    assert told.spent_tokens > 6 * 10, "bills of ten, and estimates for what had none"


def test_a_request_that_alone_is_turned_away_again_and_again_does_not_go_on_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 429 that no waiting ends, such as a request longer than the limit of a minute."""
    monkeypatch.setattr(dispatch, "TURNS", 1)
    settings = SETTINGS.model_copy(update={"concurrency": 1, "attempts": 2})
    media = MediaStore(tmp_path, MediaLimits())
    script = ["429 0", "ok"] * 6
    with AnswerStore(tmp_path) as store, faulty(*script) as (endpoint, _):
        outcomes = ask(rows(6), settings, store, media, endpoint)
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    assert len(failed) <= 1
    assert all("while others were answered" in outcome.error for outcome in failed)
