"""Difficulty: thirds, a direction for each part, and a predictor that must be there when it is named."""

from typing import Any

import pytest

from pixelis_pipeline.curation.curriculum import (
    PredictorError,
    curriculum,
    heuristic_difficulty,
    levels,
    predicted_error,
)
from pixelis_pipeline.records import Accepted, Prediction
from pixelis_pipeline.settings import CurationSettings


def test_each_part_makes_it_harder(gallery: Any, settings: CurationSettings) -> None:
    def difficulty(*steps: Any) -> float:
        return heuristic_difficulty(gallery.trajectory(steps=steps), settings)

    base = difficulty(gallery.step())
    assert difficulty(gallery.step(), gallery.step()) > base
    assert difficulty(gallery.step(), gallery.step("ZOOM")) > difficulty(gallery.step(), gallery.step())
    assert difficulty(gallery.step(box=(0, 0, 50, 50))) > base
    assert difficulty(gallery.step(measured=0.6)) > base
    assert difficulty() == 0.0


def tagged(made: list[Any], settings: CurationSettings, predicted: Any = None) -> list[Any]:
    outcomes = curriculum(made, levels(made, settings, predicted), settings, predicted)
    return [r for o in outcomes if isinstance(o, Accepted) for r in o.records]


def test_thirds_by_rank_whatever_the_order(gallery: Any, settings: CurationSettings) -> None:
    made = [
        gallery.trajectory(name=str(k), steps=(gallery.step(box=(0, 0, 100 + k, 100 + k)),))
        for k in range(30)
    ]
    kept = tagged(made, settings)
    assert [t.difficulty for t in kept] == ["hard"] * 10 + ["medium"] * 10 + ["simple"] * 10
    assert {t.difficulty_by for t in kept} == {"heuristic"}
    assert all(r.parents == (t.id,) and r.id != t.id for r, t in zip(kept, made, strict=True))
    assert tagged(made[::-1], settings) == kept[::-1]
    alike = [gallery.trajectory(name=str(k)) for k in range(3)]
    by_id = sorted(zip(alike, tagged(alike, settings), strict=True), key=lambda pair: pair[0].id)
    assert [t.difficulty for _, t in by_id] == ["simple", "medium", "hard"]
    assert tagged([], settings) == []


def test_a_predictor_goes_before_the_heuristic_which_settles_its_ties(
    gallery: Any, settings: CurationSettings
) -> None:
    pinned = settings.model_copy(update={"predictor": "v3"})
    steps = (gallery.step(box=(0, 0, 9, 9)), gallery.step("ZOOM"))
    easy, looked = gallery.trajectory(name="0", task="read", steps=steps), gallery.trajectory(name="1")
    seen = gallery.trajectory(name="2", steps=steps)
    error = {"read": 0.1, "count": 0.7}
    kept = tagged([seen, easy, looked], pinned, lambda question: error[question.task])
    assert [t.difficulty for t in kept] == ["hard", "simple", "medium"]
    assert [t.scores["difficulty"] for t in kept] == [0.7, 0.1, 0.7]
    assert {t.difficulty_by for t in kept} == {"v3"}


def test_predicted_error_is_of_the_question_itself_else_of_its_like(gallery: Any) -> None:
    def said(trace: Any, *correct: bool) -> list[Prediction]:
        return [
            Prediction(f"{trace.id}{n}", (), trace.question, "sft", True, n, (), "", each)
            for n, each in enumerate(correct)
        ]

    known, never = gallery.trajectory(name="known"), gallery.trajectory(name="never")
    other = gallery.trajectory(name="other", task="read")
    error = predicted_error([*said(known, True, True, False, True), *said(other, *[False] * 40)])
    assert error(known.question) == 0.25
    assert error(other.question) == 1.0
    assert 0.2 < error(never.question) < 0.7 < error(gallery.trajectory(name="n", task="read").question) < 1
    with pytest.raises(ValueError, match="holds none"):
        predicted_error([])


def test_a_named_predictor_without_scores_stops(gallery: Any, settings: CurationSettings) -> None:
    pinned = settings.model_copy(update={"predictor": "sft-hardness-3"})
    with pytest.raises(PredictorError, match=r"sft-hardness-3.*were not given"):
        levels([gallery.trajectory()], pinned)
    with pytest.raises(PredictorError, match="'none'"):
        levels([gallery.trajectory()], settings, lambda question: 0.5)
