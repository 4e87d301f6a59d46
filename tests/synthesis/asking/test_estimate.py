"""The estimate before the asking: counted on plans whose cost is known."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pixelis_pipeline.records import Assignment, Media, TraceKind, canonical
from pixelis_pipeline.settings import Price, TeacherSettings
from pixelis_pipeline.synthesis import prompt
from pixelis_pipeline.synthesis.asking.estimate import PRIOR, Estimate, estimate, image_tokens
from pixelis_pipeline.synthesis.asking.prices import dollars
from pixelis_pipeline.synthesis.asking.store import Answer, AnswerStore
from pixelis_pipeline.synthesis.request import MOST_TOKENS, request_for
from tests.synthesis.asking.test_prices import MEDIA, PAID, PRICE, assignment

VIDEO = Media("cd" * 32, "video", "/somewhere/a.mp4", 512, 512, frames=60, fps=10.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with AnswerStore(tmp_path) as opened:
        yield opened


def answered(store: AnswerStore, each: Assignment, completion: int, settings: TeacherSettings = PAID) -> None:
    request = request_for(each, settings.model, settings.endpoint, prompt.load(each.kind, each.style))
    store.write(request, Answer("{}", "stop", "m", {"prompt": 7, "completion": completion}, {}))


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [
        (1024, 1024, 765),  # these two are the rule's own examples
        (2048, 4096, 1105),
        (512, 512, 255),
        (640, 480, 425),
        (1, 1, 255),
        (8192, 8192, 765),
        (10_000, 10, 765),  # 2048 x 2: one row of four tiles
        (60_000, 1, 765),
    ],
)
def test_a_picture_is_85_tokens_and_170_a_tile(width: int, height: int, tokens: int) -> None:
    assert image_tokens(width, height) == image_tokens(height, width) == tokens


def test_prompt_tokens_are_the_words_and_the_pictures(store: AnswerStore) -> None:
    told = prompt.load("positive", "plain")
    shared = (len(told.system.encode()) + len(canonical(told.schema))) / 4
    one = assignment(0)
    assert estimate([one], PAID, store).prompt_tokens == shared + len("Which of 0?") / 4 + image_tokens(
        640, 480
    )
    longer = replace(one, question=replace(one.question, text="é" * 200))
    assert estimate([longer], PAID, store).prompt_tokens == shared + 400 / 4 + image_tokens(640, 480)
    film = replace(one, question=replace(one.question, media=(MEDIA, VIDEO)))
    found = estimate([film], PAID, store).prompt_tokens
    assert found > shared + image_tokens(640, 480) + 24 * 255
    assert found < shared + image_tokens(640, 480) + 24 * (255 + 8)  # and each frame's time stamp


def test_only_what_is_not_answered_is_to_be_sent_and_twins_are_sent_once(store: AnswerStore) -> None:
    plan = [assignment(n) for n in range(10)]
    for each in plan[:4]:
        answered(store, each, 300)
    twin = replace(plan[9], id="another")
    found = estimate([*plan, twin], PAID, store)
    assert (found.planned, found.requests, found.answered, found.to_send) == (11, 10, 4, 6)
    for each in plan[4:]:
        answered(store, each, 300)
    done = estimate([*plan, twin], PAID, store)
    assert done.to_send == 0 and done.prompt_tokens == done.completion_tokens == 0 and done.dollars() == 0.0


def test_completions_are_this_models_own_means_by_kind_then_in_all_then_the_prior(store: AnswerStore) -> None:
    kinds: list[TraceKind] = ["positive", "outcome-negative", "process-negative"]
    plan = [assignment(n, kind) for n, kind in enumerate(kinds)]
    fresh = estimate(plan, PAID, store)
    assert fresh.completion_tokens == pytest.approx(3 * PRIOR) and fresh.measured == 0.0
    for number in range(3):
        answered(store, assignment(100 + number, "positive"), 1_000)
    answered(store, assignment(200, "outcome-negative"), 2_000)
    found = estimate(plan, PAID, store)
    assert found.completion_tokens == pytest.approx(1_000 + 2_000 + 5_000 / 4) and found.measured == 1.0
    other = estimate(plan, PAID.model_copy(update={"model": "other"}), store)
    assert other.completion_tokens == pytest.approx(3 * PRIOR)


def test_dollars_are_the_price_lists_live_by_batch_and_at_most(store: AnswerStore) -> None:
    found = estimate([assignment(n) for n in range(5)], PAID, store)
    assert found.dollars() == dollars(found.prompt_tokens, found.completion_tokens, PRICE)
    assert found.dollars(batch=True) == pytest.approx(0.25 * (found.dollars() or 0))
    assert found.most() == dollars(found.prompt_tokens, 5 * MOST_TOKENS, PRICE)
    unknown = estimate([assignment(0)], PAID.model_copy(update={"prices": {}}), store)
    assert unknown.dollars() is unknown.most() is unknown.within(1.0) is None


def test_what_a_budget_allows() -> None:
    found = Estimate(10, 10, 0, 10_000, 1_000, 1.0, Price(prompt=100, completion=0))  # a dollar in all
    assert [found.within(budget) for budget in (0.0, 0.35, 0.999, 1.0, 50.0)] == [0, 3, 9, 10, 10]
    assert found.within(0.35, batch=True) == 7
    free = Estimate(10, 10, 0, 10_000, 1_000, 1.0, Price(prompt=0, completion=0))
    assert free.within(0.0) == 10
