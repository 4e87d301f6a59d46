"""Which class answers an action, third parties' included; and the schemas that servers are given."""

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.records import Action
from pixelis_pipeline.settings import BackendSettings, ToolSettings
from pixelis_pipeline.tools import backends
from pixelis_pipeline.tools.contract import ARGUMENTS, ToolCrash, Workspace
from pixelis_pipeline.tools.registry import default_registry, schemas

THEIRS = """
from pixelis_pipeline.tools.contract import Observation, ToolError, pixels_of

class Bright:
    def __init__(self, weights): self.weights = weights
    version = "ocr/bright 1.2"
    def __call__(self, workspace, arguments):
        if arguments.box is not None:
            raise ToolError("whole pictures only", "arguments")
        text = f"{pixels_of(workspace, arguments).mean():.0f} by {self.weights}"
        return Observation({"text": text}, text, version=self.version)

def build(chosen):
    return Bright(chosen.weights)

def broken(chosen):
    raise ImportError("No module named 'brightness'; pip install brightness")
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a distribution with these entry points on the path, laid out as pip leaves one."""

    def put(points: str) -> None:
        (tmp_path / "bright_tools.py").write_text(THEIRS)
        info = tmp_path / "bright_tools-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bright-tools\nVersion: 1.2\n")
        (info / "RECORD").write_text("bright_tools.py,,\n")
        (info / "entry_points.txt").write_text(f"[{backends.GROUP}]\n{points}\n")
        monkeypatch.syspath_prepend(tmp_path)

    return put


def chosen(action: str, backend: str, **more: str) -> ToolSettings:
    return ToolSettings(**{action: BackendSettings(backend=backend, **more)})


def test_a_backend_of_another_package_answers(install: Callable[[str], None]) -> None:
    install("ocr.bright = bright_tools:build")
    assert metadata.version("bright-tools") == "1.2"
    registry = default_registry(chosen("ocr", "bright", weights="lamp"))
    white = Workspace([np.full((4, 4, 3), 250, np.uint8)])
    seen = registry.call(white, Action("OCR", {}))
    assert (seen.output, seen.version) == ({"text": "250 by lamp"}, "ocr/bright 1.2")
    assert registry.versions["OCR"] == "ocr/bright 1.2"
    assert registry.digest != default_registry().digest
    refused = registry.call(white, Action("OCR", {"box": [0, 0, 9, 9]}))
    assert refused.output == {"error": "whole pictures only", "kind": "arguments"}
    assert backends.known("OCR") == ["bright", "paddleocr", "rapidocr"]
    assert "bright" not in backends.known("SEG")


def test_a_name_of_ours_cannot_be_taken_over(install: Callable[[str], None]) -> None:
    install("ocr.rapidocr = bright_tools:build")
    assert default_registry().versions["OCR"] != "ocr/bright 1.2"


def test_a_backend_that_cannot_be_built_says_why(install: Callable[[str], None]) -> None:
    install("ocr.bright = bright_tools:broken")
    with pytest.raises(ImportError, match="pip install brightness"):
        default_registry(chosen("ocr", "bright"))


@pytest.mark.parametrize("action", [name.lower() for name in ARGUMENTS])
def test_a_backend_that_is_not_known_is_an_error_that_names_those_that_are(action: str) -> None:
    with pytest.raises(
        ValueError, match=rf"tools\.{action}\.backend: no backend 'magic'; there are "
    ) as caught:
        default_registry(chosen(action, "magic"))
    assert str(caught.value).endswith(", ".join(backends.known(action)))


def test_every_action_has_its_embedded_backend_by_default() -> None:
    tools = backends.build(ToolSettings())
    assert sorted(tools) == sorted(ARGUMENTS)
    assert all(tool.version.startswith(f"{name.lower()}/") for name, tool in tools.items())


WEIGHTY = [name for name in backends.OURS if name.partition(".")[2] in ("sam2", "paddleocr", "clip")]
CALLS = {
    "SEG": {"box": [0, 0, 9, 9]},
    "TRK": {"box": [0, 0, 9, 9], "end": 1},
    "OCR": {},
    "TEMP": {"query": "q", "start": 0, "end": 0.5},
}


@pytest.mark.parametrize("name", WEIGHTY)
def test_a_backend_without_its_weights_says_what_to_set(name: str, tmp_path: Path) -> None:
    """At the latest at its first call, and never by a download."""
    action, _, backend = name.partition(".")
    nowhere = str(tmp_path / "nowhere")
    frames = [np.zeros((8, 8, 3), np.uint8)] * 2
    video = Workspace.watching(Clip(2, 4.0, 8, 8, lambda: iter([frame.copy() for frame in frames])))
    with pytest.raises((ValueError, ImportError, OSError, ToolCrash)) as caught:
        registry = default_registry(chosen(action, backend, weights=nowhere))
        registry.call(video, Action(action.upper(), CALLS[action.upper()]))
    assert nowhere in str(caught.value) or "install" in str(caught.value)


# What servers are given. The schemas say less than the types: that left < right, and that one of two
# arguments must be there. They say more in one respect: the types read "7", 7.0 and true as 7, and null as
# left out, because models write so; a server that is held to the schema never will.
SCHEMAS = {each["function"]["name"]: each["function"] for each in schemas(ARGUMENTS)}
UNSAID = ("left < right", "give ", "start must", "only", "ZOOM made has none")

wire = st.integers(-2, 1002) | st.integers(0, 999)
box = st.lists(wire, min_size=3, max_size=5) | st.lists(wire, min_size=4, max_size=4)
odd = st.none() | st.just("x") | st.just([]) | st.just({}) | st.just(1.5) | st.just([[1, 2, 3]])
values = {
    "box": box | odd,
    "points": st.lists(st.lists(wire, min_size=2, max_size=2), max_size=17) | odd,
    "image": st.integers(-1, 3) | odd,
    "frame": st.integers(-1, 9) | odd,
    "step": st.integers(-1, 3) | odd,
    "scale": st.integers(0, 9) | odd,
    "start": st.integers(-1, 9) | st.floats(-1, 9) | odd,
    "end": st.integers(-1, 9) | st.floats(-1, 9) | odd,
    "query": st.text(max_size=4) | st.just("q" * 201) | odd,
    "else": odd,
}


@st.composite
def calls(draw: Any) -> tuple[str, dict[str, Any]]:
    """Mostly the arguments that an action has, and mostly all that it needs."""
    name = draw(st.sampled_from(sorted(ARGUMENTS)))
    fields = ARGUMENTS[name].model_fields
    given_ = {field for field in fields if fields[field].is_required() or draw(st.integers(0, 2)) == 0}
    given_ |= {draw(st.sampled_from(sorted(values)))} if draw(st.integers(0, 5)) == 0 else set()
    return name, {field: draw(values[field]) for field in sorted(given_)}


def refused(name: str, arguments: dict[str, Any]) -> str:
    try:
        ARGUMENTS[name].model_validate(arguments, strict=False)
    except ValidationError as error:
        return str(error.errors()[0]["msg"])
    return ""


@settings(max_examples=400, deadline=None)
@given(calls())
def test_schemas_accept_what_the_types_accept(call: tuple[str, dict[str, Any]]) -> None:
    name, arguments = call
    said = refused(name, arguments)
    fits = Draft202012Validator(SCHEMAS[name]["parameters"]).is_valid(arguments)
    if None in arguments.values():
        return  # null: see above
    if fits:
        assert not said or any(rule in said for rule in UNSAID), said
    else:
        assert said, arguments


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_a_schema_is_one_and_is_plain(name: str) -> None:
    function = SCHEMAS[name]
    Draft202012Validator.check_schema(function["parameters"])
    assert function["parameters"]["additionalProperties"] is False
    assert set(function["parameters"]["properties"]) == set(ARGUMENTS[name].model_fields)
    assert function["description"] and json.loads(json.dumps(function)) == function
    written = json.dumps(function)
    assert not any(word in written for word in ("anyOf", "prefixItems", "title", "$ref", "$defs", "null"))


def test_the_schema_of_a_box_is_four_coordinates() -> None:
    parameters = SCHEMAS["ZOOM"]["parameters"]
    said = parameters["properties"]["box"]
    assert parameters["required"] == ["box"]
    assert (said["type"], said["minItems"], said["maxItems"], said["items"]["maximum"]) == (
        "array",
        4,
        4,
        999,
    )
    with pytest.raises(KeyError):
        schemas(["FLY"])


@pytest.mark.parametrize("seven", [7, 7.0, "7"])
def test_a_number_may_be_written_as_models_write_it(seven: object) -> None:
    assert ARGUMENTS["OCR"].model_validate({"box": [0, 0, seven, 9], "frame": None}).box == (0, 0, 7, 9)  # type: ignore[attr-defined]
