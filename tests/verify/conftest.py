"""Hand-made traces over world scenes: what they claim is the world's truth, not a tool's output."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from pixelis_pipeline.records import Action, Json, Media, Origin, Question, Step, Trajectory
from pixelis_pipeline.tools.contract import Observation, Tool, ToolError, Workspace, pixels_of, to_wire
from pixelis_pipeline.tools.masks import encode
from pixelis_pipeline.tools.registry import Registry, default_registry
from pixelis_pipeline.tools.zoom import crop_digest
from pixelis_pipeline.world.scene import Scene, Thing, draw_scene

SIDE = 512
MEDIA = Media("0" * 64, "image", "scene.png", SIDE, SIDE)
ORIGIN = Origin("sa1b", "scene", "CC0-1.0", "training")


@dataclass(frozen=True)
class Case:
    """A trajectory, the pixels its media stands for, and those of another scene."""

    trajectory: Trajectory
    pixels: np.ndarray
    others: np.ndarray


def wire(box: tuple[float, float, float, float]) -> list[int]:
    return list(to_wire(box, SIDE, SIDE))


def segmented(thing: Thing) -> Step:
    claim: Json = {
        "box": wire(thing.box),
        "area": round(1000 * thing.area / SIDE**2),
        "mask": encode(thing.mask),
    }
    return Step("Look at it.", Action("SEG", {"box": wire(thing.box)}), claim)


def zoomed(pixels: np.ndarray, box: tuple[float, float, float, float]) -> Step:
    call = Action("ZOOM", {"box": wire(box), "scale": 3})
    output = Registry({"ZOOM": default_registry()._tools["ZOOM"]}).call(Workspace([pixels]), call).output
    return Step("Too small.", call, output)


def trajectory(steps: tuple[Step, ...], answer: str, task: str, **more: object) -> Trajectory:
    question = Question("q", (), ORIGIN, (MEDIA,), "?", answer, task, **more)  # type: ignore[arg-type]
    return Trajectory("t", (), question, steps, answer, "positive")


def attribute(thing: Thing) -> Trajectory:
    measured = Step("Measure it.", Action("PROP", {"step": 0}), {"colour": thing.colour, "size": thing.size})
    return trajectory((segmented(thing), measured), thing.colour, "attribute")


def compare(one: Thing, other: Thing) -> Trajectory:
    answer = "A" if one.area > other.area else "B"
    steps = (segmented(one), segmented(other))
    return trajectory(steps, answer, "compare", choices=("A", "B"), answer_kind="choice")


def read(scene: Scene, thing: Thing) -> Trajectory:
    assert thing.label_box is not None
    x0, y0, x1, y1 = thing.label_box
    zoom = zoomed(scene.image, (x0 - 4, y0 - 4, x1 + 4, y1 + 4))
    text = Step("Read it.", Action("OCR", {"image": 1}), {"text": thing.label})
    return trajectory((zoom, text), thing.label, "read")


def draw_cases(count: int, seed: int) -> list[Case]:
    """Three traces of each of `count` scenes."""
    rngs = (np.random.default_rng([seed, k]) for k in range(count))
    drawn = [draw_scene(rng, labels=1.0, apart=True, things=(3, 4)) for rng in rngs]
    made = []
    for scene, another in zip(drawn, drawn[1:] + drawn[:1], strict=True):
        first, second, third = scene.things[:3]
        traces = (attribute(first), compare(first, second), read(scene, third))
        made += [Case(trace, scene.image, another.image) for trace in traces]
    return made


class Remembered:
    """A tool that computes each answer once. Tools are functions of an image and their arguments (a test
    of theirs holds that), and hundreds of mutants of one trace repeat most of its calls."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool
        self._answers: dict[tuple[str, str], Observation | ToolError] = {}

    @property
    def version(self) -> str:
        return self._tool.version

    def __call__(self, workspace: Workspace, arguments: Any) -> Observation:
        key = (crop_digest(pixels_of(workspace, arguments)), repr(arguments))
        if key not in self._answers:
            try:
                self._answers[key] = self._tool(workspace, arguments)
            except ToolError as error:
                self._answers[key] = error
        answer = self._answers[key]
        if isinstance(answer, ToolError):
            raise answer
        return answer


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The tools of pictures."""
    tools = {name: default_registry()._tools[name] for name in ("SEG", "ZOOM", "OCR", "PROP")}
    return Registry({**tools, "SEG": Remembered(tools["SEG"]), "OCR": Remembered(tools["OCR"])})


@pytest.fixture(scope="session")
def cases() -> list[Case]:
    return draw_cases(count=8, seed=41)
