"""Prices, and what traces cost: an unknown price is unknown, and all that was asked is in the cost."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelis_pipeline.records import Assignment, Media, Origin, Question
from pixelis_pipeline.settings import Price, SettingsError, TeacherSettings, load
from pixelis_pipeline.synthesis import prompt
from pixelis_pipeline.synthesis.asking.costs import Cost, costs, recorded
from pixelis_pipeline.synthesis.asking.prices import dollars, price_of, require_price, unpriced
from pixelis_pipeline.synthesis.asking.store import Answer, AnswerStore
from pixelis_pipeline.synthesis.request import request_for

MEDIA = Media("ab" * 32, "image", "/somewhere/a.jpg", 640, 480)
ORIGIN = Origin("sa1b", "r", "CC0-1.0", "training")
PRICE = Price(prompt=3.0, completion=15.0, batch=0.25)
PAID = TeacherSettings(endpoint="https://api.example/v1", model="m", prices={"m": PRICE})


def assignment(number: int, kind: str = "positive") -> Assignment:
    question = Question(f"q{number}", (), ORIGIN, (MEDIA,), f"Which of {number}?", "A", "compare")
    return Assignment(f"a{number}", ("s",), question, kind=kind)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with AnswerStore(tmp_path) as opened:
        yield opened


def requested(plan: list[Assignment]) -> list[tuple[str, str]]:
    """(request key, kind of trace) of each."""
    loaded = [(each, prompt.load(each.kind, each.style)) for each in plan]
    return [(request_for(each, PAID.model, PAID.endpoint, words).key, each.kind) for each, words in loaded]


def answer(store: AnswerStore, asked: Assignment, prompt_tokens: int, completion: int, **more: bool) -> None:
    request = request_for(asked, PAID.model, PAID.endpoint, prompt.load(asked.kind, asked.style))
    usage = {"prompt": prompt_tokens, "completion": completion} if prompt_tokens else {}
    store.write(request, Answer("{}", "stop", "m-0901", usage, dict(more)))


def test_dollars_are_per_million_tokens_and_batches_cost_their_share() -> None:
    assert dollars(1_000_000, 0, PRICE) == 3.0 and dollars(0, 1_000_000, PRICE) == 15.0
    assert dollars(2_000, 1_000, PRICE) == pytest.approx(0.006 + 0.015)
    assert dollars(2_000, 1_000, PRICE, batch=True) == pytest.approx(0.25 * 0.021)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.booleans())
def test_the_cost_of_parts_is_the_cost_of_the_whole(a: int, b: int, completion: int, batch: bool) -> None:
    parts = dollars(a, completion, PRICE, batch) + dollars(b, 0, PRICE, batch)
    assert parts == pytest.approx(dollars(a + b, completion, PRICE, batch))


def test_a_users_prices_stand_beside_our_own_teachers(tmp_path: Path) -> None:
    (tmp_path / "pixelis.toml").write_text(
        '[teacher]\nmodel = "grok-4"\n[teacher.prices."grok-4"]\nprompt = 3\ncompletion = 15\n'
    )
    settings = load(tmp_path, "tiny")
    assert price_of(settings.teacher) == Price(prompt=3, completion=15, batch=0.5)
    assert price_of(settings.teacher_for("sa1b")) == Price(prompt=0, completion=0)  # the embedded teacher's
    assert set(settings.teacher.prices) == {"grok-4", "embedded-teacher", "annotation-programs"}
    mine = TeacherSettings(prices={"embedded-teacher": PRICE})
    assert mine.prices["embedded-teacher"] == PRICE  # who says so pays for it
    with pytest.raises(SettingsError, match=r"teacher.prices.grok-4.prompt"):
        (tmp_path / "pixelis.toml").write_text('[teacher.prices."grok-4"]\nprompt = -1\ncompletion = 15\n')
        load(tmp_path, "tiny")


def test_a_budget_without_a_price_is_a_mistake_in_the_settings() -> None:
    unknown = PAID.model_copy(update={"model": "vendor/other-1.5"})
    require_price(unknown)
    require_price(PAID.model_copy(update={"max_cost": 5.0}))
    with pytest.raises(SettingsError, match=r'no price for vendor/other-1\.5: set teacher\.prices\."vendor'):
        require_price(unknown.model_copy(update={"max_cost": 5.0}))
    assert unpriced("grok-4") == "no price for grok-4: set teacher.prices.grok-4"


def test_a_kept_trace_pays_for_the_refused_ones_too(store: AnswerStore) -> None:
    asked = [assignment(n) for n in range(4)] + [assignment(n, "outcome-negative") for n in range(4, 6)]
    for each in asked[:3]:
        answer(store, each, 1_000, 100)
    answer(store, asked[4], 2_000, 200, batch=True)
    answer(store, asked[5], 0, 0)  # of whose tokens the endpoint said nothing
    pairs = requested([*asked, asked[0]])
    found = costs(store, PAID, pairs, [pairs[0], pairs[1], pairs[1], pairs[4]])  # one request may give two
    assert list(found) == ["all", "outcome-negative", "positive"]
    live, batch = dollars(1_000, 100, PRICE), dollars(2_000, 200, PRICE, batch=True)
    assert found["positive"] == Cost(3, 0, 3_000, 300, pytest.approx(3 * live), 3)
    assert found["outcome-negative"] == Cost(2, 1, 2_000, 200, pytest.approx(batch), 1)
    assert found["all"] == Cost(5, 1, 5_000, 500, pytest.approx(3 * live + batch), 4)
    assert found["all"].tokens_each == 5_500 / 4
    assert found["all"].dollars_each == pytest.approx((3 * live + batch) / 4)


def test_without_a_price_dollars_are_unknown_and_never_nothing(store: AnswerStore) -> None:
    answer(store, assignment(0), 1_000, 100)
    unknown = PAID.model_copy(update={"prices": {}})
    pairs = requested([assignment(0)])
    found = costs(store, unknown, pairs, pairs)
    assert found["all"].dollars is None and found["all"].dollars_each is None
    assert found["all"].tokens_each == 1_100
    assert recorded(found, unknown)["unpriced"] == "no price for m: set teacher.prices.m"
    assert "unpriced" not in recorded(costs(store, PAID, pairs), PAID)


def test_nothing_kept_has_no_cost_per_trace(store: AnswerStore) -> None:
    answer(store, assignment(0), 1_000, 100)
    pairs = requested([assignment(0)])
    refused = costs(store, PAID, pairs, [])["all"]
    assert refused.accepted == 0 and refused.tokens_each is refused.dollars_each is None
    assert refused.dollars and costs(store, PAID, pairs)["all"].accepted is None
