"""The budget: what it lets through, and how far it can be exceeded."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.settings import Price, SettingsError, TeacherSettings
from pixelis_pipeline.synthesis.asking.admission import ENOUGH, Budget
from pixelis_pipeline.synthesis.asking.traffic import Traffic
from pixelis_pipeline.synthesis.request import MOST_TOKENS

PRICE = Price(prompt=1.0, completion=10.0)


def of(traffic: Traffic, **limits: float) -> Budget:
    return Budget(TeacherSettings(model="m", prices={"m": PRICE}, **limits), traffic)  # type: ignore[arg-type]


def test_without_a_limit_everything_goes_and_is_counted() -> None:
    budget = of(told := Traffic())
    held = budget.reserve(100)
    assert held is not None
    budget.settle(held, 100, {"prompt": 120, "completion": 50})
    assert told.spent_tokens == 170 and told.spent_dollars == pytest.approx((120 + 500) / 1e6)


def test_the_longest_possible_answer_is_reserved_until_some_are_known() -> None:
    budget = of(Traffic(), max_tokens=MOST_TOKENS + 1000)
    held = budget.reserve(500)
    assert held is not None and budget.reserve(500) is None, "two such answers do not fit"
    budget.settle(held, 500, {"prompt": 500, "completion": 20})
    for _ in range(ENOUGH - 1):
        held = budget.reserve(10)
        assert held is not None
        budget.settle(held, 10, {"prompt": 10, "completion": 20})
    together = [budget.reserve(10) for _ in range(100)]
    assert all(together), "answers of 20 tokens: there is room for a hundred"


def test_a_bill_higher_than_its_estimate_raises_later_estimates() -> None:
    budget = of(Traffic(), max_tokens=10**6)
    held = budget.reserve(100)
    assert held is not None
    budget.settle(held, 100, {"prompt": 300, "completion": 1})
    later = budget.reserve(100)
    assert later is not None and later.prompt == 300


def test_what_may_have_been_charged_counts_and_what_was_not_does_not() -> None:
    budget = of(told := Traffic(), max_tokens=10**6)
    for billed, tokens in ((False, 0), (True, 100 + MOST_TOKENS)):
        held = budget.reserve(100)
        assert held is not None
        budget.release(held, billed)
        assert told.spent_tokens == tokens
    held = budget.reserve(100)
    assert held is not None
    budget.settle(held, 100, {})
    assert told.spent_tokens == 2 * (100 + MOST_TOKENS), "an answer without a bill counts as reserved"


def test_calls_that_share_their_traffic_share_the_budget() -> None:
    told = Traffic()
    first = of(told, max_tokens=MOST_TOKENS + 100)
    held = first.reserve(50)
    assert held is not None
    first.settle(held, 50, {"prompt": 50, "completion": 500})
    assert of(told, max_tokens=MOST_TOKENS + 100).reserve(50) is None


def test_a_cost_limit_needs_a_price() -> None:
    with pytest.raises(SettingsError, match=r"teacher\.prices"):
        Budget(TeacherSettings(model="x", max_cost=1.0), Traffic())


@given(
    answers=st.lists(st.tuples(st.integers(1, 3000), st.integers(0, MOST_TOKENS)), min_size=1, max_size=80),
    slots=st.integers(1, 12),
    limit=st.integers(1, 200_000),
    seed=st.randoms(use_true_random=False),
)
@settings(max_examples=150, deadline=None)
def test_a_limit_is_exceeded_by_no_more_than_what_is_in_flight_costs_beyond_its_reservation(
    answers: list[tuple[int, int]], slots: int, limit: int, seed: object
) -> None:
    """Whatever the bills are and in whatever order they come."""
    budget = of(told := Traffic(), max_tokens=limit)
    flying: list[tuple[object, int, int]] = []
    beyond = 0.0  # what bills were above their reservations, at most, by those in flight at a time
    waiting = list(answers)
    while waiting or flying:
        held = budget.reserve(waiting[0][0]) if waiting and len(flying) < slots else None
        if held is not None:
            prompt, completion = waiting.pop(0)
            flying.append((held, prompt, completion))
            # Bills of prompts are as estimated here, so only completions go beyond.
            worst = sum(max(0.0, each[2] - each[0].completion) for each in flying)  # type: ignore[attr-defined]
            beyond = max(beyond, worst)
            assert told.spent_tokens + sum(e[0].prompt + e[0].completion for e in flying) <= limit  # type: ignore[attr-defined]
        elif flying:
            mine = flying.pop(seed.randrange(len(flying)))  # type: ignore[attr-defined]
            budget.settle(mine[0], mine[1], {"prompt": mine[1], "completion": mine[2]})  # type: ignore[arg-type]
        else:
            break
    assert told.spent_tokens <= limit + beyond
    if waiting:
        needed = budget.reserve(waiting[0][0])
        assert needed is None, "it ends only where the next one does not fit"
