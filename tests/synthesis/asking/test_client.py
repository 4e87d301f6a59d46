"""What the client does in each kind of trouble, against a real server on loopback. docs/TEACHER.md states it
as a table, and every row of that is a case here."""

import asyncio
import os
import re
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixelis_pipeline.media import MediaStore
from pixelis_pipeline.records import Accepted, Assignment, Failed, Outcome, Rejected, canonical
from pixelis_pipeline.settings import (
    MediaLimits,
    Price,
    SettingsError,
    SynthesisSettings,
    TeacherSettings,
)
from pixelis_pipeline.sources.licences import EvaluationRecord
from pixelis_pipeline.synthesis.asking.client import Traffic, ask
from pixelis_pipeline.synthesis.asking.costs import costs
from pixelis_pipeline.synthesis.asking.endpoint import Endpoint
from pixelis_pipeline.synthesis.asking.store import AnswerStore
from pixelis_pipeline.synthesis.asking.transport import TeacherError, retry_after, waiting_time
from pixelis_pipeline.synthesis.parse import trajectory
from pixelis_pipeline.synthesis.response import Response
from tests.synthesis.asking.faults import FaultServer, faulty
from tests.synthesis.asking.rows import row, rows
from tests.synthesis.planted import Planted

SETTINGS = TeacherSettings(model="m", attempts=3, concurrency=1, timeout_seconds=5, patience_seconds=20)
PAGE = Path(__file__).parents[3] / "docs" / "TEACHER.md"
STOPS = "stops the run"


@dataclass
class Desk:
    """A store, and a way to ask over it."""

    root: Path
    store: AnswerStore
    media: MediaStore

    def ask(
        self,
        assignments: Sequence[Assignment],
        endpoint: Endpoint,
        traffic: Traffic | None = None,
        **change: Any,
    ) -> list[Outcome[Response]]:
        chosen = SETTINGS.model_copy(update=change)
        return ask(assignments, chosen, self.store, self.media, endpoint, traffic=traffic)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with AnswerStore(tmp_path) as store:
        yield Desk(tmp_path, store, MediaStore(tmp_path, MediaLimits()))


def end(outcome: Outcome[Response]) -> str:
    """How a request ended, in the words of the table."""
    parsed: Any = outcome
    if isinstance(outcome, Accepted):
        parsed = trajectory(outcome.records[0], SynthesisSettings())
    if isinstance(parsed, Rejected):
        return f"rejected: {parsed.rule}"
    return type(parsed).__name__.lower()


@dataclass(frozen=True)
class Case:
    """A script, the requests that it takes in all, how the first one ends, and settings of its own."""

    script: tuple[str, ...]
    requests: int
    ends: str = "accepted"
    of: int = 1
    change: tuple[tuple[str, Any], ...] = ()


QUICK = (("timeout_seconds", 0.3),)
CASES = {
    "429 with Retry-After": Case(("429 0.3",), 2),
    "429 with Retry-After as a date": Case(("429 date",), 2),
    "429 without Retry-After": Case(("429",), 2),
    "429 in place of every answer": Case(("429",) * 99, 2, "failed", change=(("patience_seconds", 0.6),)),
    "429 insufficient_quota": Case(("no money",) * 9, 1, STOPS, of=4),
    "burst of 500 and 502": Case(("500", "502"), 3),
    "500 that stays": Case(("500", "500", "500"), 3, "failed"),
    "connection reset": Case(("reset",), 2),
    "stall": Case(("stall",), 2, change=QUICK),
    "slow drip": Case(("drip",), 2, change=QUICK),
    "body cut in half": Case(("cut",), 2),
    "200 that is no JSON": Case(("not json",), 2),
    "200 nested without end": Case(("deep json",), 2),
    "200 of more than 32 MB": Case(("endless",), 2),
    "200 without a choice": Case(("no choices",), 2),
    "200 whose content is no text": Case(("odd words",), 2),
    "duplicated choices": Case(("two choices",), 1),
    "missing usage": Case(("no usage",), 1),
    "usage that is no number": Case(("odd usage",), 1),
    "usage that cannot be": Case(("large usage",), 1),
    "wrong schema": Case(("wrong schema",), 1, "rejected: schema"),
    "refusal": Case(("refusal",), 1, "rejected: refusal"),
    "empty content": Case(("empty",), 1, "rejected: empty text"),
    "cut off at the token limit": Case(("length",), 1, "rejected: truncated text"),
    "half a surrogate pair": Case(("half character",), 1, "rejected: malformed text"),
    "400, 413, 422": Case(("400", "413", "422"), 3, "rejected: refused by the endpoint", of=3),
    "400 in place of the first 20 answers": Case(("400",) * 99, 20, STOPS, of=30),
    "expired key (401)": Case(("401",) * 9, 1, STOPS, of=4),
    "empty account (402)": Case(("402",) * 9, 1, STOPS, of=4),
    "no access (403)": Case(("403",) * 9, 1, STOPS, of=4),
    "redirect": Case(("redirect",) * 9, 1, STOPS, of=4),
    "unknown model (404)": Case(("404",) * 9, 1, STOPS, of=4),
}
ELSEWHERE: dict[str, tuple[str, Callable[..., None]]] = {}  # rows with a test of their own, below


def proves(fault: str, ends: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark the test that proves a row of the table."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        ELSEWHERE[fault] = ends, test
        return test

    return mark


@pytest.mark.parametrize("fault", ["echo 400", "echo 500", "echo 401", "echo 429"])
def test_a_key_that_the_endpoint_repeats_is_in_nothing_that_is_kept(fault: str, desk: Desk) -> None:
    with faulty(*[fault] * 9) as (endpoint, _):
        endpoint = replace(endpoint, key="sk-secret")
        try:
            told = repr(desk.ask(rows(1), endpoint, patience_seconds=0.3))
        except TeacherError:
            told = traceback.format_exc()
    assert "bad header" in told and "sk-secret" not in told


@pytest.mark.parametrize("fault", CASES)
def test_each_fault_ends_as_the_table_says(fault: str, desk: Desk) -> None:
    case, told = CASES[fault], Traffic()
    asked = rows(case.of)
    with faulty(*case.script) as (endpoint, server):
        try:
            ends = {end(outcome) for outcome in desk.ask(asked, endpoint, told, **dict(case.change))}
        except TeacherError as error:
            ends = {STOPS}
            assert re.search(
                case.script[0]
                .replace("redirect", "sends on to https://elsewhere")
                .replace("no money", "used up: 429: .*quota"),
                str(error),
            )
    assert ends == {case.ends}
    assert server.asked == case.requests == told.sent
    assert told.sent == told.answered + told.turned_away + told.refused + told.broken + (
        case.ends == STOPS
    ) * ("400" not in case.script)
    kept = len(desk.store.answered(server.charged))
    assert kept == told.answered, "every answer that came is in the store"


def test_the_table_in_the_docs_is_what_is_proven_here() -> None:
    text = PAGE.read_text().partition("## Faults")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    table = {cells[1].strip(): cells[3].strip() for cells in (line.split("|") for line in lines)}
    del table["fault"]
    proven = {fault: case.ends for fault, case in CASES.items()}
    proven |= {fault: ends for fault, (ends, _) in ELSEWHERE.items()}
    assert table == proven


@proves("nobody listens", "failed")
def test_an_endpoint_that_is_down_is_given_up_with_one_reason(desk: Desk) -> None:
    nowhere = Endpoint("faulty", "http://127.0.0.1:9/v1", "key")
    told = Traffic()
    outcomes = desk.ask(rows(30), nowhere, told, concurrency=12, patience_seconds=0.5, max_tokens=200_000)
    reasons = {outcome.error for outcome in outcomes if isinstance(outcome, Failed)}
    assert len(reasons) == 1 and "answered nothing in" in reasons.pop()
    assert told.failed == 30 and told.sent < 30, "the breaker holds the rest back"
    assert told.spent_tokens == 0, "what never left was not charged"


@proves("budget spent", "failed")
@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_budget_stops_the_asking_and_keeps_what_was_paid_for(concurrency: int, desk: Desk) -> None:
    told, price = Traffic(), Price(prompt=1.0, completion=10.0)
    limits = {"max_cost": 0.2, "prices": {"m": price}, "concurrency": concurrency}
    with faulty(delay=0.01) as (endpoint, server):
        first = desk.ask(rows(40), endpoint, told, **limits)
        assert {end(outcome) for outcome in first} == {"accepted"}
        # What is left would pay for many such answers, but not for one as long as an answer may be.
        poor = limits | {"max_cost": told.spent_dollars * 1.5}
        later = desk.ask([row(number) for number in range(100, 103)], endpoint, told, **poor)
    assert {end(outcome) for outcome in later} == {"failed"}
    assert all("max_cost" in outcome.error for outcome in later if isinstance(outcome, Failed))
    assert server.asked == 40 and told.spent_dollars == pytest.approx(40 * (7 * 1 + 3 * 10) / 1e6)


def test_a_budget_without_a_price_sends_nothing(desk: Desk) -> None:
    with faulty() as (endpoint, server), pytest.raises(SettingsError, match=r"teacher\.prices\.m"):
        desk.ask(rows(1), endpoint, max_cost=1.0)
    assert server.asked == 0


def test_retry_after_holds_every_request_back(desk: Desk) -> None:
    with faulty("429 0.8") as (endpoint, server):
        outcomes = desk.ask(rows(6), endpoint, concurrency=3)
    assert {end(outcome) for outcome in outcomes} == {"accepted"}
    pauses = [later - sooner for sooner, later in pairwise(server.times)]
    assert max(pauses) >= 0.7 and server.asked == 7


def test_a_limit_that_the_server_states_is_kept_to(desk: Desk) -> None:
    with faulty(headers={"x-ratelimit-limit-requests": "600"}) as (endpoint, server):
        desk.ask(rows(12), endpoint, told := Traffic(), concurrency=4)
    assert told.per_minute == pytest.approx(588)
    assert server.times[-1] - server.times[0] >= 0.5, "12 at 9.8 a second, less the first four"


def test_trouble_that_stays_is_tried_again_by_the_next_run_alone(desk: Desk) -> None:
    with faulty("500", "ok", "500", "500") as (endpoint, server):
        first = desk.ask(rows(2), endpoint, concurrency=1)
        assert sorted(map(end, first)) == ["accepted", "failed"]
        again = desk.ask(rows(2), endpoint)
    assert {end(outcome) for outcome in again} == {"accepted"}
    assert server.asked == 5 and set(server.charged.values()) == {1}


def test_a_retry_holds_no_slot_while_it_waits(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelis_pipeline.synthesis.asking.dispatch.FIRST_PAUSE", 2.0)
    with faulty("500") as (endpoint, server):
        outcomes = desk.ask(rows(3), endpoint, concurrency=1)
    assert {end(outcome) for outcome in outcomes} == {"accepted"}
    keys = [outcome.records[0].request for outcome in outcomes if isinstance(outcome, Accepted)]
    assert list(server.charged)[-1] == keys[0], "the others went first, on the only slot"


def test_answers_that_arrive_after_the_stop_are_kept(desk: Desk) -> None:
    slow = ["ok"] * 3 + ["401"]
    with faulty(*slow, delay=0.2) as (endpoint, server), pytest.raises(TeacherError):
        desk.ask(rows(20), endpoint, concurrency=4)
    assert server.asked == 4 and len(desk.store.answered(server.charged)) == 3


@proves("a person interrupts (Ctrl-C)", STOPS)
def test_an_interrupt_keeps_what_has_arrived(desk: Desk) -> None:
    with faulty(delay=0.1) as (endpoint, server):

        def press() -> None:
            while server.asked < 6:
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGINT)

        finger = threading.Thread(target=press)
        before = signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # ignored in a job of the background
        try:
            finger.start()
            with pytest.raises(KeyboardInterrupt):
                desk.ask(rows(200), endpoint, concurrency=4)
            finger.join()
        finally:
            signal.signal(signal.SIGINT, before)
    assert 4 <= len(server.charged) < 100, "most of 200 were not sent"
    assert desk.store.answered(server.charged) == set(server.charged)


def test_a_store_that_cannot_write_ends_the_asking(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(desk.store, "write", full)
    with faulty() as (endpoint, server), pytest.raises(OSError, match="no space"):
        desk.ask(rows(50), endpoint, concurrency=2)
    assert server.asked <= 4, "nothing more is bought that cannot be kept"


@pytest.mark.parametrize("fault", ["no usage", "odd usage"])
def test_an_answer_without_a_bill_is_counted_as_unmetered(fault: str, desk: Desk) -> None:
    priced = {"prices": {"m": Price(prompt=2.0, completion=10.0)}}
    with faulty(fault) as (endpoint, server):
        desk.ask(rows(3), endpoint, **priced)
    bill = costs(
        desk.store, SETTINGS.model_copy(update=priced), [(key, "positive") for key in server.charged]
    )
    assert (bill["all"].answers, bill["all"].unmetered) == (3, 1)
    assert bill["all"].dollars == pytest.approx((14 * 2 + 6 * 10) / 1e6)


def test_one_request_for_two_assignments_that_say_the_same(desk: Desk) -> None:
    twin = replace(row(0), id="twin")
    with faulty() as (endpoint, server):
        outcomes = desk.ask([row(0), twin], endpoint)
    assert server.asked == 1
    assert [outcome.of for outcome in outcomes] == [row(0).id, "twin"]


@proves("media gone or changed", "failed")
def test_media_that_changed_is_never_sent_and_asked_about_when_it_is_back(
    planted: Planted, desk: Desk
) -> None:
    media = planted.samples[0].media
    path = Path(media[0].path)
    whole = path.read_bytes()
    path.write_bytes(b"\x89PNG\r\n\x1a\n other bytes")
    with faulty() as (endpoint, server):
        (outcome,) = desk.ask([row(0, media)], endpoint)
        assert isinstance(outcome, Failed) and outcome.error.startswith("media changed")
        assert server.asked == 0
        path.write_bytes(whole)
        (outcome,) = desk.ask([row(0, media)], endpoint)
    assert isinstance(outcome, Accepted)


def test_an_answer_with_half_a_character_is_kept_and_not_paid_for_again(desk: Desk) -> None:
    with faulty("half character") as (endpoint, server):
        first, again = (desk.ask(rows(1), endpoint)[0] for _ in range(2))
    assert isinstance(first, Rejected) and first == again
    assert server.asked == 1
    canonical(asdict(first))
    assert "\ud800" in desk.store.read(next(iter(server.charged))).text


def test_an_evaluation_question_is_never_sent(desk: Desk) -> None:
    question = row(1).question
    held_out = replace(row(1), question=replace(question, origin=replace(question.origin, role="evaluation")))
    with faulty() as (endpoint, server), pytest.raises(EvaluationRecord):
        desk.ask([row(0), held_out], endpoint)
    assert server.asked == 0


def test_what_was_learned_about_an_endpoint_is_known_to_the_next_run(desk: Desk) -> None:
    with faulty(delay=0.05, slots=3) as (endpoint, _):
        desk.ask(rows(60), endpoint, first := Traffic(), concurrency=8)
    assert first.turned_away and first.ceiling is not None and first.ceiling <= 4
    assert desk.store.recall("pace/faulty/m") == {"ceiling": first.ceiling}
    with faulty() as (endpoint, _):
        desk.ask([row(99)], endpoint, later := Traffic(), concurrency=4)
    assert later.ceiling == first.ceiling


def test_progress_is_told_once_for_each_request(desk: Desk) -> None:
    told: list[tuple[int, int]] = []
    with faulty("500", "400") as (endpoint, _):
        ask(rows(5), SETTINGS, desk.store, desk.media, endpoint, lambda *at: told.append(at))
    assert told == [(number, 5) for number in range(1, 6)]


def test_retry_after_is_read_as_seconds_a_date_or_milliseconds() -> None:
    assert retry_after("2.5") == 2.5
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert all(retry_after(odd) is None for odd in ("soon", None, "nan", "inf"))
    assert waiting_time({"retry-after-ms": "1500", "retry-after": "2"}) == 1.5
    assert waiting_time({"retry-after": "2"}) == 2.0 and waiting_time({}) is None


PLAYED = ["ok", "500", "reset", "cut", "not json", "no choices", "refusal", "empty", "no usage", "400", "413"]
PLAYED += ["two choices", "wrong schema", "half character", "429 0.01", "429 0", "408", "503 9"]
FAULTS = st.lists(st.sampled_from(PLAYED), max_size=14)


@pytest.mark.slow
@given(script=FAULTS, concurrency=st.integers(1, 4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_request_ends_once_whatever_happens(
    script: list[str], concurrency: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Accepted, rejected and failed add up; what was answered is stored and never charged again."""
    root, asked, told = tmp_path_factory.mktemp("faults"), rows(6), Traffic()
    with AnswerStore(root) as store, faulty(*script) as (endpoint, server):
        desk = Desk(root, store, MediaStore(root, MediaLimits()))
        outcomes = desk.ask(asked, endpoint, told, concurrency=concurrency, attempts=2)
        counts = [sum(isinstance(o, kind) for o in outcomes) for kind in (Accepted, Rejected, Failed)]
        assert [outcome.of for outcome in outcomes] == [each.id for each in asked]
        assert sum(counts) == 6 and counts[2] == told.failed
        assert told.sent == server.asked == told.answered + told.turned_away + told.refused + told.broken
        kept = store.answered(server.charged)
        assert len(kept) == told.answered
        again = desk.ask(asked, endpoint, concurrency=concurrency)
        assert [new for old, new in zip(outcomes, again, strict=True) if isinstance(old, Accepted)] == [
            old for old in outcomes if isinstance(old, Accepted)
        ]
        lost = {key: count for key, count in server.charged.items() if count > 1}
        assert sum(lost.values()) - len(lost) <= sum(
            fault in ("cut", "not json", "no choices") for fault in script
        )


def test_the_loop_is_clean_afterwards(desk: Desk) -> None:
    """No task and no thread of the client outlives it."""
    before = threading.active_count()
    with faulty() as (endpoint, _):
        desk.ask(rows(8), endpoint, concurrency=4)
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    assert threading.active_count() <= before


def test_the_server_plays_its_script() -> None:
    with faulty("500") as (_, server):
        assert isinstance(server, FaultServer) and server.next() == "500" and server.next() == "ok"
