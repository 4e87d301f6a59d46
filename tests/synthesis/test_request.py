"""The key of a request: everything that can change an answer, and nothing else."""

from dataclasses import fields, replace
from typing import Any, get_args

import pytest

from pixelis_pipeline.records import Assignment, Media, Origin, Question, TraceKind
from pixelis_pipeline.settings import SettingsError, SynthesisSettings, TeacherSettings
from pixelis_pipeline.synthesis import prompt
from pixelis_pipeline.synthesis.asking.endpoint import Endpoint, remote, require_key
from pixelis_pipeline.synthesis.prompt import load
from pixelis_pipeline.synthesis.request import Request, request_for, restored

IMAGE = Media("ab" * 32, "image", "/somewhere/a.jpg", 64, 48)
VIDEO = Media("cd" * 32, "video", "/somewhere/a.mp4", 64, 48, frames=60, fps=10.0)
QUESTION = Question("q", (), Origin("sa1b", "r", "CC0-1.0", "training"), (IMAGE,), "Which?", "A", "compare")
KINDS: tuple[TraceKind, ...] = get_args(TraceKind)
STYLES = SynthesisSettings().styles


def asking(
    question: Question = QUESTION, model: str = "m", endpoint: str = "embedded", **more: Any
) -> Request:
    """The request for an assignment of `question`; `more` are fields of the assignment."""
    given = Assignment("a", ("p",), question, **more)
    return request_for(given, model, endpoint, load(given.kind, given.style))


REQUEST = asking()
OTHER: dict[str, Any] = {
    "endpoint": "https://api.example/v1",
    "model": "other",
    "system": REQUEST.system + " ",
    "messages": ({"role": "user", "content": [{"type": "text", "text": "Which?"}]},),
    "sampling": {**REQUEST.sampling, "temperature": 0.71},
    "schema": {**REQUEST.schema, "title": "t"},
    "tools": REQUEST.tools[1:],
    "sample": 1,
}


@pytest.mark.parametrize("field", [field.name for field in fields(Request)])
def test_each_field_changes_the_key(field: str) -> None:
    assert replace(REQUEST, **{field: OTHER[field]}).key != REQUEST.key


def test_the_whole_request_comes_back_from_its_record() -> None:
    assert restored(REQUEST.record, REQUEST.parts.__getitem__) == REQUEST


def test_the_key_knows_the_picture_by_digest_and_not_by_place() -> None:
    def key(media: Media) -> str:
        return asking(replace(QUESTION, media=(media,), id="another", answer="B", parents=("p",))).key

    assert key(replace(IMAGE, path="/elsewhere/b.jpg")) == REQUEST.key
    assert key(replace(IMAGE, sha256="ef" * 32)) != REQUEST.key


def test_what_is_assigned_reaches_the_key_and_how_it_was_planned_does_not() -> None:
    others = [
        asking(replace(QUESTION, choices=("A", "B"))),
        asking(replace(QUESTION, text="Which one?")),
        asking(model="x"),
        asking(endpoint="https://api.example/v1"),
        asking(temperature=0.1),
        asking(sample=1),
        *(asking(kind=kind, style=style) for kind in KINDS for style in STYLES),
    ]
    keys = [request.key for request in (REQUEST, *others)]
    assert len(set(keys)) == len(keys) - 1, "positive and plain is what REQUEST is"
    assert asking(stratum="sa1b/SEG").key == REQUEST.key
    assert len({load(kind, style).digest for kind in KINDS for style in STYLES}) == len(KINDS) * len(STYLES)


def test_a_video_is_24_frames_each_from_the_middle_of_its_share() -> None:
    parts = asking(replace(QUESTION, media=(VIDEO,))).messages[0]["content"]
    assert [part["frame"] for part in parts if part["type"] == "frame"] == list(range(24))
    assert parts[0]["text"] == "Frame 1 at 0.10 s:" and parts[-3]["text"] == "Frame 58 at 5.80 s:"


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_names_every_action_its_kind_and_its_style(kind: TraceKind) -> None:
    for style in STYLES:
        told = load(kind, style)
        lines = told.system.splitlines()
        assert [line for line in lines if line.startswith("Kind: ")] == [f"Kind: {kind}."]
        assert [line for line in lines if line.startswith("Style: ")] == [f"Style: {style}."]
        for name in ("SEG", "TRK", "OCR", "ZOOM", "TEMP", "PROP"):
            assert f"{name}: " in told.system
        assert ('"flaw"' in told.system) == ("flaw" in told.schema["properties"])
        assert "{{" not in told.system and "{%" not in told.system
        assert len(told.system) < 7000, "every request carries it"


def test_a_digest_follows_the_words_and_the_schema() -> None:
    positive = load("positive", "plain")
    assert replace(positive, system=positive.system + "!").digest != positive.digest
    assert replace(positive, schema={}).digest != positive.digest
    assert replace(positive, tools=positive.tools[1:]).digest != positive.digest
    missing: Any = "nosuch"
    with pytest.raises(SettingsError, match="no prompt style 'nosuch'; there are careful, plain, terse"):
        prompt.load("positive", missing)
    with pytest.raises(SettingsError, match="no prompt kind 'nosuch'; there are outcome-negative, positive"):
        prompt.load(missing, "plain")


def test_an_endpoint_without_a_key_says_which_variable_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TeacherSettings(endpoint="https://api.example/v1", key_variable="PIXELIS_TEST_KEY")
    monkeypatch.delenv("PIXELIS_TEST_KEY", raising=False)
    with pytest.raises(SettingsError, match="PIXELIS_TEST_KEY"):
        require_key(remote(settings), settings)
    monkeypatch.setenv("PIXELIS_TEST_KEY", "secret")
    assert remote(settings) == Endpoint("https://api.example/v1", "https://api.example/v1", "secret")
    assert "secret" not in repr(remote(settings))
