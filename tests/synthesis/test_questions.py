"""Questions are made from annotations, point at one thing, and have the planted answer."""

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pixelis_pipeline.records import Json, Media, Origin, Question, Sample
from pixelis_pipeline.synthesis import questions as asking
from pixelis_pipeline.synthesis.questions import questions
from pixelis_pipeline.tools.contract import to_wire
from pixelis_pipeline.tools.masks import encode
from tests.synthesis.planted import Planted

MEDIA = Media("ab" * 32, "image", "/a.png", 400, 200)


def no_pixels(media: Media) -> np.ndarray[Any, Any]:
    raise AssertionError("these questions need no pixels")


def sample(source: str, name: str = "r", **more: Any) -> Sample:
    return Sample(name, Origin(source, name, "CC0-1.0", "training"), (MEDIA,), **more)


def thing(x: int, y: int, side: int, category: str = "") -> Json:
    mask = np.zeros((200, 400), bool)
    mask[y : y + side, x : x + side] = True
    box = [x, y, x + side, y + side]
    return {"box": box, "rle": encode(mask), "area": side * side, "category": category, "parent": ""}


def only(found: list[Question], task: str) -> Question:
    (question,) = [q for q in found if q.task == task]
    return question


def test_compare_names_the_larger_and_is_balanced() -> None:
    big, small = thing(20, 20, 90), thing(250, 60, 50)
    letters: Counter[str] = Counter()
    for index in range(200):
        annotated = sample("sa1b", f"r{index}", annotations={"objects": [big, small]})
        question = only(questions(annotated, no_pixels, seed=1), "compare")
        letters[question.answer] += 1
        first, second = re.findall(r"\[([\d ]+)\]", question.text)
        larger = first if question.answer == "A" else second
        assert larger == " ".join(str(v) for v in to_wire((20, 20, 110, 110), 400, 200))
        assert (question.choices, question.answer_kind) == (("A", "B"), "choice")
    assert 70 <= letters["A"] <= 130


def test_compare_leaves_out_what_is_too_close_too_small_or_the_same_place() -> None:
    def tasks(*objects: Json) -> list[str]:
        annotated = sample("sa1b", annotations={"objects": list(objects)})
        return [q.task for q in questions(annotated, no_pixels, seed=1)]

    assert "compare" not in tasks(thing(20, 20, 60), thing(250, 60, 50)), "1.44 times"
    assert "compare" not in tasks(thing(20, 20, 60), thing(250, 60, 12)), "0.0018 of the image"
    assert "compare" not in tasks(thing(20, 20, 100), thing(30, 30, 50)), "one inside the other"
    assert tasks() == []


def test_count_asks_about_a_box_that_holds_whole_objects_and_touches_no_other() -> None:
    near, apart, far = thing(20, 20, 40), thing(90, 20, 40), thing(350, 150, 40)
    annotated = sample("sa1b", annotations={"objects": [near, apart, far]})
    seen = set()
    for seed in range(40):
        question = only(questions(annotated, no_pixels, seed=seed), "count")
        box = [int(v) for v in re.findall(r"\d+", question.text)]
        x0, y0, x1, y1 = (v * side / 999 for v, side in zip(box, (400, 200, 400, 200), strict=True))
        inside = [o for o in (near, apart, far) if x0 <= o["box"][0] and o["box"][2] <= x1]
        inside = [o for o in inside if y0 <= o["box"][1] and o["box"][3] <= y1]
        assert question.answer == str(len(inside)) and question.answer_kind == "integer"
        seen.add(question.answer)
    assert seen == {"2", "3"}
    touching = sample("sa1b", annotations={"objects": [near, thing(61, 20, 40)]})
    assert [q.task for q in questions(touching, no_pixels, seed=1)] == []


def test_a_picture_of_two_hundred_masks_is_planned_in_no_time() -> None:
    rng = np.random.default_rng(0)
    crowd = [thing(int(x), int(y), 20) for x, y in rng.integers(0, 180, (200, 2))]
    found = questions(sample("sa1b", annotations={"objects": crowd}), no_pixels, seed=1)
    assert len(found) <= 2


def test_attribute_reads_the_colour_under_the_annotations_own_mask() -> None:
    image = np.full((200, 400, 3), 200, np.uint8)
    image[20:110, 20:110] = (30, 60, 210)
    body = thing(20, 20, 90, "Quadruped Head")
    annotated = sample("partimagenet", annotations={"objects": [body]})
    question = only(questions(annotated, lambda media: image, seed=1), "attribute")
    assert question.text == "What colour is the quadruped head at [50 100 275 549]?"
    assert (question.answer, question.tools) == ("blue", ("PROP",))


def test_attribute_asks_no_colour_that_is_none_and_no_shape_of_a_band() -> None:
    image = np.full((200, 400, 3), 128, np.uint8)
    band = sample("partimagenet", annotations={"objects": [thing(20, 20, 90, "Circle Band")]})
    assert questions(band, lambda media: image, seed=1) == []
    body = sample("partimagenet", annotations={"objects": [thing(20, 20, 90, "Circle Body")]})
    found = [q for seed in range(12) for q in questions(body, lambda media: image, seed=seed)]
    assert found and {(q.text, q.answer) for q in found} == {
        ("What shape is the thing at [50 100 275 549]?", "circle")
    }


def test_attribute_asks_for_no_part_that_another_covers() -> None:
    image = np.zeros((200, 400, 3), np.uint8)
    image[:, :] = (210, 30, 30)
    thin = np.zeros((200, 400), bool)
    np.fill_diagonal(thin[20:110, 20:110], True)
    band = {"box": [20, 20, 110, 110], "rle": encode(thin), "area": 850, "category": "X Band", "parent": ""}
    annotated = sample("partimagenet", annotations={"objects": [band, thing(20, 20, 90, "X Body")]})
    for seed in range(8):
        assert "body" in only(questions(annotated, lambda media: image, seed=seed), "attribute").text


def test_read_small_asks_for_a_word_of_letters_that_stands_there_once() -> None:
    texts = ["lantern", "The", "harbour", "harbour", "boats,", "1984", "naïve"]
    words = [{"text": t, "box": [10 * i, 10, 10 * i + 9, 18], "line": 0} for i, t in enumerate(texts)]
    for seed in range(12):
        annotated = sample("fineweb", annotations={"words": words})
        question = only(questions(annotated, no_pixels, seed=seed), "read_small")
        assert (question.answer, question.tools) == ("lantern", ("OCR",))


def test_when_gives_a_window_in_seconds() -> None:
    windows = [{"query": "a door opens", "start": 1.25, "end": 4.0}]
    question = only(questions(sample("ego4d", annotations={"windows": windows}), no_pixels, seed=1), "when")
    assert (question.text, question.answer) == ("When in the video: a door opens", "1.2-4.0")
    assert question.span == (1.25, 4.0)


@pytest.mark.parametrize(
    ("source", "category", "skills", "task"),
    [
        ("mathvista", "visual question answering", ["read"], "read"),
        ("mathvista", "figure question answering", ["arithmetic reasoning"], "figure question answering"),
        ("starqa", "Interaction", [], "move"),
        ("mmbench", "", [], "other"),
    ],
)
def test_authors_questions_are_asked_as_they_stand(
    source: str, category: str, skills: list[str], task: str
) -> None:
    annotated = sample(
        source,
        question="Which?",
        choices=("x", "y"),
        answer="B",
        answer_kind="choice",
        category=category,
        annotations={"skills": skills},
    )
    (question,) = questions(annotated, no_pixels, seed=1)
    assert (question.text, question.choices, question.answer, question.task) == (
        "Which?",
        ("x", "y"),
        "B",
        task,
    )


def test_questions_are_the_same_for_a_seed_and_carry_their_sample(planted: Planted) -> None:
    for annotated in planted.samples:
        first = questions(annotated, planted.pixels, seed=3)
        assert first and first == questions(annotated, planted.pixels, seed=3)
        for question in first:
            assert question.parents == (annotated.id,) and question.origin == annotated.origin
            assert question.tools == asking.TOOLS[question.task]
        held_out = replace(annotated, origin=replace(annotated.origin, role="evaluation"))
        texts = [q.text for q in questions(held_out, planted.pixels, seed=3)]
        assert texts == [q.text for q in first], "the held-out benchmark asks in the same words"


def test_a_sample_without_media_or_source_of_questions_has_none() -> None:
    assert questions(replace(sample("sa1b"), media=()), no_pixels, seed=1) == []
    assert questions(sample("mmmu"), no_pixels, seed=1) == []
