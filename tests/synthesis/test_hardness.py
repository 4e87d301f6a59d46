"""A pinned predictor says how often a policy got such questions wrong, and no more than it has seen."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.records import Media, Origin, Prediction, Question
from pixelis_pipeline.synthesis.hardness import PRIOR, extent, predictor

IMAGE = Media("a" * 64, "image", "/a.png", 100, 100)
FILM = Media("b" * 64, "video", "/a.mp4", 100, 100, 24, 8.0)


def question(task: str = "compare", text: str = "?", choices: int = 0, **more: object) -> Question:
    names = tuple("ABCDEFG"[:choices])
    origin = Origin("x", "r", "CC0-1.0", "evaluation")
    given_: dict[str, object] = {"media": (IMAGE,), "choices": names} | more
    return Question("q", (), origin, text=text, answer="A", task=task, **given_)  # type: ignore[arg-type]


def seen(asked: Question, wrong: int, right: int) -> list[Prediction]:
    return [
        Prediction(f"p{n}", (), asked, "sft_policy", True, 0, (), "A", correct=n >= wrong)
        for n in range(wrong + right)
    ]


def test_a_task_with_more_errors_is_harder_and_the_rate_is_the_stated_one() -> None:
    easy, hard = question("read"), question("count")
    hardness = predictor([*seen(easy, 0, 10), *seen(hard, 10, 0)])
    assert hardness(easy) < 0.5 < hardness(hard)
    total = (10 + PRIOR / 2) / (20 + PRIOR)
    task = (10 + PRIOR * total) / (10 + PRIOR)
    assert hardness(hard) == pytest.approx((10 + PRIOR * task) / (10 + PRIOR))


def test_what_was_never_seen_is_as_hard_as_its_task_or_as_all() -> None:
    hardness = predictor([*seen(question("read"), 9, 1), *seen(question("count"), 1, 9)])
    total = (10 + PRIOR / 2) / (20 + PRIOR)
    assert hardness(question("new")) == pytest.approx(total)
    assert hardness(question("read", choices=4)) == pytest.approx((9 + PRIOR * total) / (10 + PRIOR))


def test_one_prediction_says_little() -> None:
    asked = question("read", choices=3)
    alone = predictor([*seen(question("read"), 0, 50), *seen(asked, 1, 0)])
    assert alone(question("read")) < alone(asked) < 0.35


def test_small_boxes_and_short_spans_are_told_apart() -> None:
    boxes = [
        question(text=f"Which is larger, A at [0 0 {n} {n}] or B at [0 0 999 999]?") for n in (30, 300, 900)
    ]
    spans = [question("when", media=(FILM,), span=(0.0, end)) for end in (0.5, 1.5, 3.0)]
    for three in (boxes, spans):
        hardness = predictor([p for n, asked in enumerate(three) for p in seen(asked, 9 - 3 * n, 3 * n)])
        assert hardness(three[0]) > hardness(three[1]) > hardness(three[2])
    assert extent(question(text="no box")) is None
    assert extent(spans[2]) == pytest.approx(1.0)
    assert extent(boxes[0]) == pytest.approx((30 / 999) ** 2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans()), min_size=1, max_size=60))
def test_rates_are_rates(rows: list[tuple[str, int, bool]]) -> None:
    past = [
        p for task, choices, right in rows for p in seen(question(task, choices=choices), 1 - right, right)
    ]
    hardness = predictor(past)
    forward = [hardness(p.question) for p in past]
    assert all(0 < rate < 1 for rate in forward)
    assert [predictor(past[::-1])(p.question) for p in past] == forward


def test_no_predictions_are_no_predictor() -> None:
    with pytest.raises(ValueError, match="holds none"):
        predictor([])
