"""The circuit breaker: when it opens, how it tries again, and when it gives up."""

from math import inf

from pixelis_pipeline.synthesis.asking.breaker import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, Breaker


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def broken(breaker: Breaker, times: int = FAILURES) -> None:
    for _ in range(times):
        breaker.failed(breaker.sent(), "reset")


def test_failures_in_a_row_open_it_and_one_answer_between_does_not() -> None:
    breaker = Breaker(300, Clock())
    for _ in range(5):
        broken(breaker, FAILURES - 1)
        assert not breaker.open and breaker.wait() == 0
        breaker.heard()
    broken(breaker)
    assert breaker.open and breaker.wait() == FIRST_PAUSE


def test_an_open_breaker_lets_one_through_at_a_time_after_growing_pauses() -> None:
    clock = Clock()
    breaker = Breaker(1e9, clock)
    broken(breaker)
    pauses = []
    for _ in range(9):
        pauses.append(breaker.wait())
        clock.now += pauses[-1]
        assert breaker.wait() == 0
        probe = breaker.sent()
        assert probe and breaker.wait() == inf, "nobody else while it is out"
        breaker.failed(probe, "reset")
    assert pauses == sorted(pauses) and pauses[:3] == [1, 2, 4] and pauses[-1] == LONGEST_PAUSE
    clock.now += breaker.wait()
    breaker.sent()
    breaker.heard()
    assert not breaker.open and breaker.wait() == 0
    broken(breaker)
    assert breaker.wait() == FIRST_PAUSE, "an answer makes it forget"


def test_failures_of_what_was_in_flight_already_do_not_lengthen_the_pause() -> None:
    clock = Clock()
    breaker = Breaker(300, clock)
    out = [breaker.sent() for _ in range(50)]
    for probe in out:
        breaker.failed(probe, "reset")
    assert breaker.wait() == FIRST_PAUSE


def test_hope_ends_after_patience_without_an_answer_and_not_before() -> None:
    clock = Clock()
    breaker = Breaker(60, clock)
    clock.now += 10_000  # a slow endpoint is no trouble
    broken(breaker)
    assert breaker.hopeless() == ""
    clock.now += 59
    broken(breaker, 1)
    assert breaker.hopeless() == ""
    clock.now += 1
    assert "nothing in 60 s" in breaker.hopeless() and "reset" in breaker.hopeless()
    breaker.heard()
    assert breaker.hopeless() == ""


def test_a_few_failures_are_not_hopeless_however_long_ago_but_429s_alone_are() -> None:
    clock = Clock()
    breaker = Breaker(60, clock)
    broken(breaker, 2)
    clock.now += 1000
    assert breaker.hopeless() == "", "the attempts of a request are another matter"
    breaker.heard()
    breaker.turned_away(breaker.sent(), "429: busy")
    clock.now += 61
    assert "429: busy" in breaker.hopeless()


def test_a_429_closes_it_for_the_endpoint_lives() -> None:
    clock = Clock()
    breaker = Breaker(300, clock)
    broken(breaker)
    clock.now += breaker.wait()
    breaker.turned_away(breaker.sent(), "429: busy")
    assert not breaker.open and breaker.wait() == 0


def test_a_probe_that_is_lost_lets_another_one_go() -> None:
    clock = Clock()
    breaker = Breaker(300, clock)
    broken(breaker)
    clock.now += breaker.wait()
    breaker.lost(breaker.sent())
    assert breaker.wait() == 0
