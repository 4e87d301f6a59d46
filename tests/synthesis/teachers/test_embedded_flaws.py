"""The embedded teacher's flawed traces: wrong where they say so, right elsewhere, and far enough off."""

import json
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.media.colour import COLOURS
from pixelis_pipeline.records import Accepted, Json, Origin, Question, TraceKind, Trajectory
from pixelis_pipeline.settings import ReplaySettings, SynthesisSettings
from pixelis_pipeline.synthesis.parse import trajectory
from pixelis_pipeline.synthesis.prompt import load
from pixelis_pipeline.synthesis.questions import SHAPES
from pixelis_pipeline.synthesis.response import Response
from pixelis_pipeline.synthesis.teachers import embedded_wrong as wrongly
from pixelis_pipeline.synthesis.teachers.embedded_answers import Unanswerable, reply
from pixelis_pipeline.synthesis.teachers.embedded_flaws import as_kind, kind_of
from pixelis_pipeline.tools.masks import encode
from pixelis_pipeline.verify.answers import wrong
from pixelis_pipeline.verify.tolerance import compare

KINDS: tuple[TraceKind, ...] = get_args(TraceKind)
SIDE = 400
DRAWS = range(12)


def thing(shape: str, colour: str, x: int, y: int, size: int, label: str) -> Json:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y : y + size, x : x + size] = True
    return {
        "shape": shape,
        "colour": colour,
        "size": "small",
        "box": [x, y, x + size, y + size],
        "rle": encode(mask),
        "area": size * size,
        "label": label,
        "label_box": [x, y + size + 4, x + size, y + size + 20],
    }


SCENE: Json = {
    "sha256": "d",
    "width": SIDE,
    "height": SIDE,
    "things": [
        thing("circle", "red", 20, 20, 90, "K7"),
        thing("star", "blue", 220, 30, 50, "Q2"),
        thing("circle", "green", 40, 240, 60, "M44"),
    ],
}
WORDS = ["lantern", "harbour", "sail", "net"]
PAGE: Json = {
    "sha256": "d",
    "width": SIDE,
    "height": SIDE,
    "words": [{"text": w, "box": [20 + 90 * n, 50, 90 + 90 * n, 64]} for n, w in enumerate(WORDS)],
}


def track(label: str, x: int, y: int, dx: int) -> Json:
    boxes = [[x + dx * n // 23, y, x + dx * n // 23 + 30, y + 30] for n in range(24)]
    return {"label": label, "frames": list(range(24)), "boxes": boxes}


FILM: Json = {
    "sha256": "d",
    "width": SIDE,
    "height": SIDE,
    "frames": 24,
    "fps": 2,
    "tracks": [
        track("red star", 40, 40, 60),
        track("blue circle", 300, 300, -80),
        track("pink cross", 40, 300, 0),
    ],
    "windows": [
        {"query": "a red star appears", "start": 1.0, "end": 4.0},
        {"query": "a blue circle appears", "start": 7.0, "end": 9.5},
    ],
}
ASKED = [
    (SCENE, "Which is larger, A at [50 50 275 275] or B at [549 75 674 200]?", "A | B", "choice"),
    (SCENE, "What colour is the largest shape?", "", "text"),
    (SCENE, "What shape is the green one?", "", "text"),
    (SCENE, "How many circles are there?", "", "integer"),
    (SCENE, "How many objects are in [0 0 999 999]?", "", "integer"),
    (SCENE, "What does the label on the green circle say?", "", "text"),
    (PAGE, "Which word is printed at [50 125 225 160]?", "", "text"),
    (FILM, "Which shape moved to the left?", "The red star. | The blue circle. | The pink cross.", "choice"),
    (FILM, "When in the video: a red star appears", "", "span"),
]


def asked(entry: Json, text: str, choices: str, kind: str) -> tuple[Question, Json]:
    """A question and the right reply to it."""
    words = text + (f"\nChoices: {choices}" if choices else "")
    right = reply(words, ["d"], {"d": entry})
    origin = Origin("world", "r", "CC0-1.0", "training")
    options = tuple(choices.split(" | ")) if choices else ()
    return Question("q", (), origin, (), text, right["answer"], "x", (), options, kind), right  # type: ignore[arg-type]


def parsed(question: Question, told: Json, kind: TraceKind) -> Trajectory:
    response = Response("r", ("q",), question, kind, "k", "m", json.dumps(told), "stop")
    outcome = trajectory(response, SynthesisSettings())
    assert isinstance(outcome, Accepted), outcome
    return outcome.records[0]


def agrees(action: str, claimed: Json, true: Json) -> bool:
    return compare(action, claimed, true, ReplaySettings()).same


@pytest.mark.parametrize("case", ASKED, ids=lambda case: case[1][:24])
def test_a_trap_lies_in_one_step_and_the_answer_follows_it(case: Any) -> None:
    question, right = asked(*case)
    astray = 0
    for draw in DRAWS:
        told = as_kind("process-negative", right, question.choices, case[0], np.random.default_rng(draw))
        made = parsed(question, told, "process-negative")
        (index,) = [n for n, step in enumerate(made.steps) if step.flawed]
        assert index < len(made.steps) <= len(right["steps"])
        before = right["steps"][index]
        assert before["arguments"] == made.steps[index].action.arguments, "the call is as it was"
        assert not agrees(before["action"], made.steps[index].output, before["output"])
        for n, step in enumerate(made.steps[:index]):
            assert step.output == right["steps"][n]["output"]
        astray += made.answer != question.answer
    assert astray == len(DRAWS), "here every answer can follow the lie"


@pytest.mark.parametrize("case", ASKED, ids=lambda case: case[1][:24])
def test_a_wrong_answer_is_proven_wrong_and_nothing_else_changes(case: Any) -> None:
    question, right = asked(*case)
    for draw in DRAWS:
        told = as_kind("outcome-negative", right, question.choices, case[0], np.random.default_rng(draw))
        assert told["steps"] == right["steps"] and wrong(question, told["answer"])
        assert not question.choices or told["answer"] in question.choices
        parsed(question, told, "outcome-negative")


@pytest.mark.parametrize("case", ASKED, ids=lambda case: case[1][:24])
def test_a_self_correction_errs_once_and_then_does_what_is_right(case: Any) -> None:
    question, right = asked(*case)
    for draw in DRAWS:
        told = as_kind("self-correction", right, question.choices, case[0], np.random.default_rng(draw))
        made = parsed(question, told, "self-correction")
        assert made.answer == question.answer
        index = told["flaw"]["step"]
        assert [step.flawed for step in made.steps] == [n == index for n in range(len(right["steps"]) + 1)]
        rest = [step for n, step in enumerate(told["steps"]) if n != index]
        assert [(s["action"], s["output"]) for s in rest] == [
            (s["action"], s["output"]) for s in right["steps"]
        ]
        for mine, theirs in zip(rest, right["steps"], strict=True):
            if "step" not in theirs["arguments"]:
                assert mine["arguments"] == theirs["arguments"]
            else:
                moved = told["steps"][mine["arguments"]["step"]]
                assert moved["action"] == "SEG" and moved in rest, "it names the mask that it named"
        error, repair = told["steps"][index], told["steps"][index + 1]
        assert error != repair and repair["thought"].endswith(right["steps"][index]["thought"])
        assert (error["action"], error["arguments"]) != (repair["action"], repair["arguments"])


def test_a_wrong_look_falls_on_a_neighbour_and_not_on_what_is_asked_about() -> None:
    question, right = asked(*ASKED[1])
    told = as_kind("self-correction", right, (), SCENE, np.random.default_rng(0))
    error, repair = told["steps"]
    assert error["arguments"]["box"] != repair["arguments"]["box"]
    box = [value * SIDE / 999 for value in error["arguments"]["box"]]
    (there,) = [t for t in SCENE["things"] if np.allclose(t["box"], box, atol=1)]
    assert there["colour"] not in (question.answer, error["output"]["colour"])


def test_the_same_draw_tells_the_same_and_another_something_else() -> None:
    question, right = asked(*ASKED[0])
    for kind in KINDS[1:]:
        told = [
            as_kind(kind, right, question.choices, SCENE, np.random.default_rng(n)) for n in (1, 1, 2, 3, 4)
        ]
        assert told[0] == told[1]
    traps = {
        json.dumps(as_kind("process-negative", right, question.choices, SCENE, np.random.default_rng(n)))
        for n in DRAWS
    }
    assert len(traps) > 1
    assert as_kind("positive", right, question.choices, SCENE, np.random.default_rng(0)) is right


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_is_read_off_the_prompt(kind: TraceKind) -> None:
    assert kind_of(load(kind, "plain").system + "\nHow many?") == kind
    assert kind_of("Look.") == kind_of("Kind: unheard.") == "positive"


def test_what_leaves_no_room_for_a_flaw_is_refused() -> None:
    zoom = {"thought": "", "action": "ZOOM", "arguments": {"box": [0, 0, 9, 9]}, "output": {"image": 1}}
    only: Json = {"steps": [zoom], "answer": "!"}
    for kind in KINDS[1:]:
        with pytest.raises(Unanswerable):
            as_kind(kind, only, ("!",), SCENE, np.random.default_rng(0))
    long: Json = {"steps": [asked(*ASKED[1])[1]["steps"][0]] * 12, "answer": "red"}
    with pytest.raises(Unanswerable):
        as_kind("self-correction", long, (), SCENE, np.random.default_rng(0))


def test_annotations_that_leave_names_open_break_nothing() -> None:
    """Real annotations name things in their own words, and leave colour and shape out."""
    bare = {**SCENE["things"][1], "colour": "", "shape": "", "label": ""}
    entry = {**SCENE, "things": [SCENE["things"][0], bare]}
    film = {**FILM, "tracks": [{**t, "label": f"closet/cabinet {n}"} for n, t in enumerate(FILM["tracks"])]}
    boxes = [[100 + n, 100, 175 + n, 175] for n in range(24)]
    follow = {"thought": "", "action": "TRK", "arguments": {"box": boxes[0], "start": 0, "end": 23},
              "output": {"boxes": boxes}}  # fmt: skip
    for right, about in ((asked(*ASKED[0])[1], entry), ({"steps": [follow], "answer": "The door."}, film)):
        for kind in KINDS[1:]:
            for draw in DRAWS:
                as_kind(kind, right, ("A", "B", "The door."), about, np.random.default_rng(draw))


# --- wrong values -------------------------------------------------------------------------------------

SEEDS = st.integers(0, 2**32)


@given(st.text(st.characters(categories=("L", "N")), min_size=1, max_size=30), SEEDS)
def test_a_misreading_is_no_reading(text: str, seed: int) -> None:
    said = wrongly.misread(text, np.random.default_rng(seed))
    if said is not None:
        assert len(said) == len(text) and not agrees("OCR", {"text": said}, {"text": text})


@given(st.sampled_from(["lantern", "K7", "net", "42", "x"]), SEEDS)
def test_plain_words_and_labels_can_be_misread(text: str, seed: int) -> None:
    assert wrongly.misread(text, np.random.default_rng(seed)) not in (None, text)


SECONDS = st.integers(0, 40).map(lambda tenths: tenths / 2)


@settings(max_examples=200)
@given(SECONDS, st.integers(1, 12), SECONDS, st.lists(st.tuples(SECONDS, SECONDS), max_size=3), SEEDS)
def test_another_moment_is_near_nothing_that_is_near_the_true_one(
    start: float, halves: int, after: float, others: Sequence[tuple[float, float]], seed: int
) -> None:
    true = (start, start + halves / 2)
    spans = [(a, b) for a, b in others if a < b]
    said = wrongly.moved(true, true[1] + after, spans, np.random.default_rng(seed))
    if said is None:
        return
    claim = {"start": said[0], "end": said[1]}
    rng = np.random.default_rng(seed)
    for _ in range(20):  # what the tool may have returned where the right trace replays
        near = sorted((np.asarray(true) + rng.uniform(-1, 1, 2)).tolist())
        returned = {"start": near[0], "end": near[1], "spans": []}
        if near[0] < near[1] and agrees("TEMP", {"start": true[0], "end": true[1]}, returned):
            overlap = min(near[1], said[1]) - max(near[0], said[0])
            assert overlap <= 1.0 and not (
                agrees("TEMP", claim, returned)
                and abs(near[0] - true[0]) < 0.5
                and abs(near[1] - true[1]) < 0.5
            )
    assert not agrees("TEMP", claim, {"start": true[0], "end": true[1], "spans": []})


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("3", "integer"), ("1", "integer"), ("0.25", "float"), ("-12.5", "float"), ("2.0-5.0", "span")]
    + [(word, "text") for word in (*COLOURS, *SHAPES, "lantern", "K7")]
    + [("near, cottage", "list"), ("[1, 2]", "list")],
)  # fmt: skip
def test_a_wrong_answer_of_every_form(answer: str, kind: Any) -> None:
    origin = Origin("world", "r", "CC0-1.0", "training")
    question = Question("q", (), origin, (), "?", answer, "x", answer_kind=kind)
    for draw in DRAWS:
        said = wrongly.wrong_answer(answer, (), 12.0, (), np.random.default_rng(draw))
        assert said is not None and wrong(question, said)
