"""A reply is a trajectory or breaks a named rule; nothing is repaired on the way."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelis_pipeline.records import Accepted, Origin, Outcome, Question, Rejected, TraceKind, Trajectory
from pixelis_pipeline.settings import RecipeSettings, SynthesisSettings
from pixelis_pipeline.synthesis import parse
from pixelis_pipeline.synthesis.reply import schema
from pixelis_pipeline.synthesis.response import Response

QUESTION = Question("q", (), Origin("sa1b", "r", "CC0-1.0", "training"), (), "Which?", "A", "compare")
BOX = [10, 20, 300, 400]
FLAW = {"step": 0, "type": "perceptual", "what": "takes a star for a circle"}
KINDS: tuple[TraceKind, ...] = ("positive", "outcome-negative", "process-negative", "self-correction")


def step(action: str = "SEG", arguments: Any = None, output: Any = None, **more: Any) -> dict[str, Any]:
    given = {"box": BOX} if arguments is None else arguments
    shown = {"box": BOX, "area": 9} if output is None else output
    return {"thought": "Look.", "action": action, "arguments": given, "output": shown, **more}


def response(
    steps: Any,
    answer: Any = "A",
    finish: str = "stop",
    choices: tuple[str, ...] = (),
    kind: TraceKind = "positive",
    answer_kind: Any = "text",
    **more: Any,
) -> Response:
    text = json.dumps({"steps": steps, "answer": answer, **more})
    question = replace(QUESTION, choices=choices, answer_kind=answer_kind)
    return Response("r", ("q",), question, kind, "k" * 64, "m", text, finish)


def said(text: str, finish: str = "stop") -> Response:
    return Response("r", ("q",), QUESTION, "positive", "k" * 64, "m", text, finish)


def trajectory(reply: Response) -> Outcome[Trajectory]:
    return parse.trajectory(reply, SynthesisSettings())


def made(reply: Response) -> Trajectory:
    outcome = trajectory(reply)
    assert isinstance(outcome, Accepted), outcome
    return outcome.records[0]


def test_a_whole_reply_is_a_positive_trajectory() -> None:
    outcome = trajectory(response([step(), step("PROP", {"step": 0}, {"count": 2})], " A "))
    assert isinstance(outcome, Accepted) and outcome.of == "r"
    (kept,) = outcome.records
    assert (kept.kind, kept.answer, kept.parents) == ("positive", "A", ("r",))
    assert (kept.request, kept.teacher, kept.question) == ("k" * 64, "m", QUESTION)
    assert [s.action.name for s in kept.steps] == ["SEG", "PROP"]
    assert kept.steps[0].action.arguments == {"box": BOX}, "as written: no default is filled in"
    assert not any(s.flawed or s.flaw for s in kept.steps)
    assert trajectory(response([step()])) == trajectory(response([step()]))
    other = trajectory(response([step()], "B"))
    assert isinstance(other, Accepted) and other.records[0].id != kept.id


TWO = [step(), step("PROP", {"step": 0}, {"count": 2})]
TWICE = [step(), step(output={"area": 3})]


@pytest.mark.parametrize(
    ("reply", "rule"),
    [
        (response([]), "no steps"),
        (response([step("OCR", {"image": n}, {"text": "x"}) for n in range(13)]), "too many steps"),
        (response([step("LOOK")]), "unknown action"),
        (response([step("seg")]), "unknown action"),
        (response([step(arguments={"box": [10, 20, 5, 40]})]), "arguments"),
        (response([step(arguments={"box": [10, 20, 300, 1000]})]), "arguments"),
        (response([step(arguments={"box": ["10", 20, 300, 400]})]), "arguments"),
        (response([step(arguments={"box": [10.0, 20.5, 300, 400]})]), "arguments"),
        (response([step(arguments={"box": BOX, "extra": 1})]), "arguments"),
        (response([step(arguments={})]), "arguments"),
        (response([step("PROP", {"box": BOX, "step": 0})]), "arguments"),
        (response([step(output={})]), "no output"),
        (response(TWICE), "repeated call"),
        (response([step(), step(arguments={"box": BOX, "image": 0})]), "repeated call"),
        (response([step()], ""), "empty answer"),
        (response([step()], "  "), "empty answer"),
        (response([step()], 3), "schema"),
        (response([step()], "C", choices=("red", "blue")), "not a choice"),
        (response([step()], "reddish", choices=("red", "blue")), "not a choice"),
        (response([step()], "RED", choices=("Red", "red")), "not a choice"),
        (response([step(confidence=1.0)]), "schema"),
        (response([step()], "A", note="x"), "schema"),
        (response([{"thought": "x"}]), "schema"),
        (response("steps"), "schema"),
        (said("[]"), "schema"),
        (said(""), "empty text"),
        (said(" \n"), "empty text"),
        (said("I will not.", "refusal"), "refusal"),
        (said("", "content_filter"), "refusal"),
        (said('{"steps":[{"tho', "length"), "truncated text"),
        (said('{"steps":[{"tho'), "not json"),
        (said('```json\n{"steps": []}\n```'), "not json"),
        (said("[" * 100_000), "not json"),
        (said('{"steps": [1e999], "answer": "A"}'), "not json"),
        (said('{"steps": [NaN], "answer": "A"}'), "not json"),
        (said('{"steps": [], "answer": "A", "answer": "B"}'), "not json"),
        (said('{"steps": [{"output": ' + '{"a":' * 900 + "1" + "}" * 900 + '}], "answer": "A"}'), "not json"),
        (said('{"steps": [], "answer": "\\ud800"}'), "not json"),
        (said('{"steps": [], "answer": "\ud800"}'), "not json"),
        (response([step()], flaw=FLAW), "flaw in a positive"),
        (response([step()], kind="outcome-negative", flaw=FLAW), "flaw in an outcome-negative"),
        (response([step()], kind="process-negative"), "no flaw tagged"),
        (response([step()], kind="process-negative", flaw=None), "no flaw tagged"),
        (response(TWO, kind="self-correction"), "no flaw tagged"),
        (response(TWO, kind="process-negative", flaw={**FLAW, "step": 2}), "flaw at no step"),
        (response(TWO, kind="process-negative", flaw={**FLAW, "step": -1}), "flaw at no step"),
        (response(TWO, kind="process-negative", flaw={**FLAW, "what": " "}), "flaw not described"),
        (response(TWO, kind="process-negative", flaw={**FLAW, "step": "0"}), "schema"),
        (response(TWO, kind="process-negative", flaw={**FLAW, "step": True}), "schema"),
        (response(TWO, kind="process-negative", flaw={**FLAW, "type": "moral"}), "schema"),
        (response(TWO, kind="process-negative", flaw={**FLAW, "where": "box"}), "schema"),
        (response(TWO, kind="process-negative", flaw={"step": 0}), "schema"),
        (response(TWO, kind="process-negative", flaw=[FLAW]), "schema"),
        (response(TWICE, kind="process-negative", flaw=FLAW), "repeated call"),
        (response(TWICE, kind="self-correction", flaw={**FLAW, "step": 1}), "repeated call"),
        (response([*TWICE, step()], kind="self-correction", flaw=FLAW), "repeated call"),
        (response([*TWO, TWO[1]], kind="self-correction", flaw=FLAW), "repeated call"),
    ],
)
def test_each_rule(reply: Response, rule: str) -> None:
    outcome = trajectory(reply)
    assert isinstance(outcome, Rejected)
    assert (outcome.rule, outcome.of, outcome.stage) == (rule, "r", "trajectories")


@pytest.mark.parametrize("kind", ["process-negative", "self-correction"])
def test_the_tagged_step_is_flawed_and_says_how(kind: TraceKind) -> None:
    whole = response(TWO, kind=kind, flaw=FLAW)
    kept = made(whole)
    assert [s.flawed for s in kept.steps] == [True, False]
    assert [s.flaw for s in kept.steps] == ["perceptual: takes a star for a circle", ""]
    other = made(response(TWO, kind=kind, flaw={**FLAW, "type": "logical"}))
    assert other.steps[0].flaw.startswith("logical: ") and other.id != kept.id


def test_a_misread_call_may_be_made_again_as_its_own_repair() -> None:
    kept = made(response(TWICE, kind="self-correction", flaw=FLAW))
    assert kept.steps[0].action == kept.steps[1].action and kept.steps[0].output != kept.steps[1].output


def test_the_sampling_weight_is_the_kind_s_and_part_of_the_id() -> None:
    settings = SynthesisSettings(self_correction=RecipeSettings(share=0.1, sampling_weight=3.0))
    for kind in KINDS:
        more: dict[str, Any] = {"flaw": FLAW} if kind in ("process-negative", "self-correction") else {}
        reply = response(TWO, kind=kind, **more)
        first, second = (parse.trajectory(reply, each) for each in (SynthesisSettings(), settings))
        assert isinstance(first, Accepted) and isinstance(second, Accepted)
        usual, tuned = first.records[0], second.records[0]
        assert usual.sampling_weight == (2.0 if kind == "process-negative" else 1.0)
        assert tuned.sampling_weight == (3.0 if kind == "self-correction" else usual.sampling_weight)
        assert (usual.id == tuned.id) == (kind != "self-correction")


@pytest.mark.parametrize(
    ("answer", "choices", "kind", "normal"),
    [
        ("red", ("red", "blue"), "choice", "red"),
        ("Blue ", ("red", "blue"), "choice", "blue"),
        ("B", ("red", "blue"), "choice", "blue"),
        ("(b)", ("red", "blue"), "choice", "blue"),
        ("a.", ("red", "blue"), "choice", "red"),
        ("A", ("B", "A"), "choice", "A"),  # its words come before its letter
        ("x²", ("x²", "x2"), "choice", "x²"),
        (" two\n words ", (), "text", "two words"),
        ("10²", (), "text", "10²"),
        ("cafe\u0301", (), "text", "caf\u00e9"),
        ("1.5 to 4.0 s", (), "span", "1.5-4.0"),
        ("1.5–4", (), "span", "1.5-4"),
        ("soon", (), "span", "soon"),
        ("1.5 to 4.0 s", (), "text", "1.5 to 4.0 s"),
        ("1,000", (), "integer", "1,000"),
    ],
)
def test_an_answer_has_one_form_and_keeps_its_meaning(
    answer: str, choices: tuple[str, ...], kind: str, normal: str
) -> None:
    assert made(response([step()], answer, choices=choices, answer_kind=kind)).answer == normal


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True), st.text(max_size=12))
def test_a_chosen_answer_is_one_of_the_choices(choices: list[str], answer: str) -> None:
    outcome = trajectory(response([step()], answer, choices=tuple(choices), answer_kind="choice"))
    if isinstance(outcome, Accepted):
        assert outcome.records[0].answer in choices
    for choice in choices:
        outcome = trajectory(response([step()], choice, choices=tuple(choices), answer_kind="choice"))
        if isinstance(outcome, Accepted):
            assert outcome.records[0].answer == choice


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_has_a_flaw_where_the_kind_has_one_and_nothing_else(kind: TraceKind) -> None:
    asked = schema(kind)
    names = {"steps", "answer"} | ({"flaw"} if kind in ("process-negative", "self-correction") else set())
    assert asked["properties"].keys() == names == set(asked["required"])
    objects = [asked, *asked["properties"]["steps"]["items"]["anyOf"]]
    objects += [asked["properties"]["flaw"]] if "flaw" in names else []
    assert all(each["additionalProperties"] is False for each in objects)
