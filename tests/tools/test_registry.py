"""Whatever a policy writes, the registry answers; and what it answers is stable."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.records import Action, canonical
from pixelis_pipeline.settings import ToolSettings
from pixelis_pipeline.tools import threads
from pixelis_pipeline.tools.contract import (
    ARGUMENTS,
    BatchTool,
    Observation,
    ThreadedTool,
    ToolCrash,
    ToolError,
    Workspace,
    pixels_of,
    spoken,
)
from pixelis_pipeline.tools.prop import PixelProperties
from pixelis_pipeline.tools.registry import (
    NO_TOOL,
    TOOLS_OFF,
    Registry,
    default_registry,
    disabled_registry,
)
from pixelis_pipeline.tools.seg import GrabCut
from pixelis_pipeline.tools.zoom import LanczosZoom, crop_digest

REGISTRY = default_registry()


def picture() -> np.ndarray:
    image = np.full((120, 160, 3), 200, np.uint8)
    image[30:80, 40:90] = (220, 20, 30)
    return image


def film(frames: int = 8, fps: float = 4.0, side: int = 16) -> Clip:
    """Frame k is of the one grey 10 k."""
    return Clip(
        frames,
        fps,
        side,
        side,
        lambda: iter([np.full((side, side, 3), 10 * k, np.uint8) for k in range(frames)]),
    )


class Recording:
    """A tool that remembers what reached it, and answers with `answer`."""

    version = "recording/1"
    threaded = False

    def __init__(self, answer: Callable[[Workspace, Any], Any] = lambda *_: Observation({}, "")) -> None:
        self.seen: list[Any] = []
        self.answer = answer

    def __call__(self, workspace: Workspace, arguments: Any) -> Any:
        self.seen.append(arguments)
        return self.answer(workspace, arguments)


def watching(**limits: Any) -> tuple[Registry, dict[str, Recording]]:
    tools = {name: Recording() for name in ARGUMENTS}
    return Registry(tools, ToolSettings(**limits)), tools


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


BAD_CALLS = {
    "unknown action": ("FLY", {}, "unknown action", "action"),
    "lower case": ("seg", {"box": [0, 0, 9, 9]}, "unknown action", "action"),
    "name is no text": (["SEG"], {}, "unknown action", "action"),
    "name is a deep list": (nested(50_000), {}, "unknown action list", "action"),
    "name is a number beyond writing": (10**5000, {}, "unknown action int", "action"),
    "arguments are no object": ("SEG", [1, 2], "SEG", "arguments"),
    "no arguments": ("SEG", {}, "box", "arguments"),
    "extra argument": ("OCR", {"language": "en"}, "language", "arguments"),
    "zero-area box": ("SEG", {"box": [5, 5, 5, 9]}, "left < right", "arguments"),
    "inverted box": ("ZOOM", {"box": [50, 50, 10, 90]}, "left < right", "arguments"),
    "box out of range": ("SEG", {"box": [0, 0, 10, 1000]}, "999", "arguments"),
    "negative coordinate": ("SEG", {"box": [-1, 0, 10, 10]}, "0", "arguments"),
    "box of three": ("SEG", {"box": [0, 0, 10]}, "box", "arguments"),
    "fraction": ("SEG", {"box": [0.5, 0, 10, 10]}, "box", "arguments"),
    "huge number": ("SEG", {"box": [0, 0, 10, 10**40]}, "box", "arguments"),
    "scale too large": ("ZOOM", {"box": [0, 0, 9, 9], "scale": 9}, "scale", "arguments"),
    "no such image": ("SEG", {"box": [0, 0, 9, 9], "image": 1}, "no image 1", "bounds"),
    "negative image": ("OCR", {"image": -1}, "image", "arguments"),
    "neither box nor step": ("PROP", {}, "either box or step", "arguments"),
    "box and step": ("PROP", {"box": [0, 0, 9, 9], "step": 0}, "either box or step", "arguments"),
    "no such step": ("PROP", {"step": 4}, "step 4 has no mask", "bounds"),
    "step without mask": ("PROP", {"step": 0}, "no mask", "bounds"),
    "nothing there": ("SEG", {"box": [800, 800, 990, 990]}, "nothing stands out", "nothing"),
    "null box": ("ZOOM", {"box": None}, "box", "arguments"),
    "not a number": ("SEG", {"box": [float("nan")] * 4}, "box", "arguments"),
    "infinite": ("SEG", {"box": [0, 0, float("inf"), 9]}, "box", "arguments"),
    "text for a box": ("SEG", {"box": "0 0 9 9"}, "box", "arguments"),
    "words for numbers": ("SEG", {"box": ["a", "b", "c", "d"]}, "box", "arguments"),
    "object for a box": ("SEG", {"box": {"left": 0}}, "box", "arguments"),
    "a deep box": ("SEG", {"box": nested(50_000)}, "box", "arguments"),
    "deep arguments": ("SEG", nested(50_000), "SEG", "arguments"),
    "a deep query": ("TEMP", {"query": nested(50_000), "start": 0, "end": 1}, "query", "arguments"),
    "half a surrogate": ("TEMP", {"query": "\ud800", "start": 0, "end": 1}, "unicode", "arguments"),
    "a name of half a surrogate": ("OCR", {"\ud800": 1}, "unicode", "arguments"),
    "a name that is no text": ("OCR", {3: 1}, "strings", "arguments"),
    "a very long name": ("OCR", {"x" * 100_000: 1}, "OCR", "arguments"),
    "neither box nor points": ("SEG", {"points": []}, "box, or points", "arguments"),
    "too many points": ("SEG", {"points": [[1, 1]] * 17}, "points", "arguments"),
    "a point outside": ("SEG", {"points": [[1, 1000]]}, "points", "arguments"),
    "an image beyond writing": ("OCR", {"image": 10**5000}, "no image so high", "bounds"),
    "a step beyond writing": ("PROP", {"step": 10**5000}, "step so high", "bounds"),
    "a frame of an image question": ("OCR", {"frame": 0}, "no video", "bounds"),
    "a frame beyond writing": ("OCR", {"frame": 10**5000}, "no video", "bounds"),
    "a frame of a crop": ("OCR", {"image": 1, "frame": 0}, "has none", "arguments"),
    "a track without end": ("TRK", {"box": [0, 0, 9, 9]}, "end", "arguments"),
    "a track backwards": ("TRK", {"box": [0, 0, 9, 9], "start": 3, "end": 2}, "start", "arguments"),
    "a track of nothing": ("TRK", {"end": 3}, "either box or step", "arguments"),
    "a track on an image": ("TRK", {"box": [0, 0, 9, 9], "end": 3}, "no video", "bounds"),
    "no query": ("TEMP", {"query": "", "start": 0, "end": 1}, "query", "arguments"),
    "a long query": ("TEMP", {"query": "q" * 201, "start": 0, "end": 1}, "query", "arguments"),
    "a window of no time": ("TEMP", {"query": "q", "start": 1, "end": 1}, "start", "arguments"),
    "a window without end": ("TEMP", {"query": "q", "start": 0, "end": float("inf")}, "end", "arguments"),
    "a window on an image": ("TEMP", {"query": "q", "start": 0, "end": 1}, "no video", "bounds"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_bad_call_is_answered(name: str) -> None:
    action, arguments, said, kind = BAD_CALLS[name]
    workspace = Workspace([picture()], [Observation({"text": ""}, "")])
    observation = REGISTRY.call(workspace, Action(action, arguments))  # type: ignore[arg-type]
    assert not observation.valid and observation.artifact == ""
    assert list(observation.output) == ["error", "kind"]
    assert said in observation.output["error"] and observation.output["kind"] == kind
    assert len(observation.text) < 300
    assert observation.text == f"error: {observation.output['error']}"
    assert canonical(observation.output)
    assert workspace.observations[-1] is observation
    assert len(workspace.images) == 1


@pytest.mark.parametrize(
    ("name", "arguments", "said", "kind"),
    [
        ("OCR", {"frame": 8}, "no frame 8, the video has 8", "bounds"),
        ("OCR", {"frame": 10**5000}, "no frame so high", "bounds"),
        ("TRK", {"box": [0, 0, 9, 9], "end": 8}, "no frame 8", "bounds"),
        ("TRK", {"box": [0, 0, 9, 9], "end": 10**5000}, "no frame so high", "bounds"),
        ("TRK", {"box": [0, 0, 9, 9], "start": 1, "end": 6}, "no more than 5 frames", "limit"),
        ("TEMP", {"query": "q", "start": 0, "end": 2.2}, "ends at 2.0 s", "bounds"),
        ("TEMP", {"query": "q", "start": 1e307, "end": 1e308}, "ends at 2.0 s", "bounds"),
    ],
)
def test_a_call_past_the_end_of_a_video_is_answered(name: str, arguments: Any, said: str, kind: str) -> None:
    registry, tools = watching(frames=5)
    seen = registry.call(Workspace.watching(film()), Action(name, arguments))
    assert said in seen.output["error"] and seen.output["kind"] == kind and not tools[name].seen


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("OCR", {"frame": 7}),
        ("TRK", {"box": [0, 0, 9, 9], "start": 3, "end": 7}),
        ("TEMP", {"query": "q", "start": 0, "end": 2.1}),  # within half a frame of the end
    ],
)
def test_the_last_of_a_video_is_still_in_it(name: str, arguments: Any) -> None:
    registry, tools = watching(frames=5)
    assert registry.call(Workspace.watching(film()), Action(name, arguments)).valid and tools[name].seen


def test_a_video_of_unknown_rate_has_no_seconds_to_ask_about() -> None:
    registry, _ = watching()
    call = Action("TEMP", {"query": "q", "start": 0, "end": 0.01})
    assert registry.call(Workspace.watching(film(fps=0.0)), call).output["kind"] == "bounds"


def test_a_call_sees_the_frame_it_names() -> None:
    grey = Recording(lambda w, a: Observation({"grey": int(pixels_of(w, a)[0, 0, 0])}, ""))
    registry, workspace = Registry({"OCR": grey}), Workspace.watching(film())
    calls = [{}, {"frame": 0}, {"frame": 6}]
    assert [registry.call(workspace, Action("OCR", c)).output["grey"] for c in calls] == [0, 0, 60]


def test_a_frame_that_does_not_decode_is_the_medias_fault_and_leaves_no_trace() -> None:
    def torn() -> Any:
        yield np.zeros((16, 16, 3), np.uint8)
        raise MediaError("truncated", "film.mp4")

    workspace = Workspace([np.zeros((16, 16, 3), np.uint8)], clip=Clip(8, 4.0, 16, 16, torn))
    with pytest.raises(MediaError, match="truncated"):
        everything = {"box": [0, 0, 999, 999], "frame": 3}
        Registry({"ZOOM": LanczosZoom()}).call(workspace, Action("ZOOM", everything))
    assert workspace.observations == []


def test_pictures_over_the_limit_do_not_reach_a_tool() -> None:
    registry, tools = watching(pixels=255)
    for workspace, name, arguments in (
        (Workspace([np.zeros((16, 16, 3), np.uint8)]), "OCR", {}),
        (Workspace.watching(film()), "OCR", {"frame": 2}),
        (Workspace.watching(film()), "TRK", {"box": [0, 0, 9, 9], "end": 2}),
    ):
        assert registry.call(workspace, Action(name, arguments)).output["kind"] == "limit"
        assert not tools[name].seen
    assert watching(pixels=256)[0].call(Workspace.watching(film()), Action("OCR", {"frame": 2})).valid


def test_only_images_that_zoom_made_count_against_their_limit() -> None:
    question = [np.zeros((8, 8, 3), np.uint8)] * 5
    zoom = Action("ZOOM", {"box": [0, 0, 999, 999], "scale": 1})
    registry, workspace = Registry({"ZOOM": LanczosZoom()}, ToolSettings(images=2)), Workspace(list(question))
    kinds = [registry.call(workspace, zoom).output.get("kind") for _ in range(3)]
    assert kinds == [None, None, "limit"] and len(workspace.images) == 7


@pytest.mark.parametrize("name", ["TRK", "TEMP"])
def test_an_action_without_tool_says_so_whatever_its_arguments(name: str) -> None:
    said = Registry({"OCR": Recording()}).call(Workspace([picture()]), Action(name, {})).output
    assert said == {"error": NO_TOOL, "kind": "unavailable"}


@pytest.mark.parametrize("name", [*ARGUMENTS, "FLY"])
def test_the_disabled_registry_answers_every_call_alike(name: str) -> None:
    observation = disabled_registry().call(Workspace([picture()]), Action(name, {"box": [0, 0, 9, 9]}))
    assert observation.text == f"error: {TOOLS_OFF}"
    assert not observation.valid


class Late:
    """Sleeps in many small naps or one long one, and may swallow the alarm that ends it."""

    version = "late/1"

    def __init__(self, naps: int, deaf: bool) -> None:
        self.naps, self.deaf, self.finished = naps, deaf, False

    def __call__(self, workspace: Workspace, arguments: Any) -> Observation:
        try:
            for _ in range(self.naps):
                time.sleep(20 / self.naps)
            self.finished = True
        except TimeoutError:
            if not self.deaf:
                raise
        return Observation({}, "")


@pytest.mark.parametrize(("naps", "deaf"), [(2000, False), (1, False), (1, True)])
def test_a_tool_that_takes_too_long_is_stopped(naps: int, deaf: bool) -> None:
    tool, workspace = Late(naps, deaf), Workspace([picture()])
    with pytest.raises(ToolCrash, match=r"OCR: TimeoutError: no answer within 0\.05 s"):
        Registry({"OCR": tool}, ToolSettings(seconds=0.05)).call(workspace, Action("OCR", {}))
    assert workspace.observations == [] and not tool.finished


def test_a_tool_that_never_answers_holds_no_other_thread_up() -> None:
    held = threading.Event()
    registry = Registry({"OCR": Recording(lambda *_: held.wait())}, ToolSettings(seconds=0.05))
    said: list[str] = []

    def elsewhere() -> None:
        try:
            registry.call(Workspace([picture()]), Action("OCR", {}))
        except ToolCrash as crash:
            said.append(str(crash))

    thread = threading.Thread(target=elsewhere, daemon=True)
    thread.start()
    thread.join(60)
    held.set()
    assert said == ["OCR: TimeoutError: no answer within 0.05 s"]


def test_errors_and_answers_are_the_same_off_the_main_thread() -> None:
    told: list[Any] = []
    calls = [
        Action("SEG", {"box": [200, 200, 600, 700]}),
        Action("PROP", {"step": 0}),
        Action("PROP", {"step": 9}),
    ]

    def answers() -> list[Any]:
        workspace = Workspace([picture()])
        return [REGISTRY.call(workspace, call).output for call in calls]

    thread = threading.Thread(target=lambda: told.append(answers()))
    thread.start()
    thread.join()
    assert told == [answers()]


class Broken:
    version = "broken/1"

    def __call__(self, workspace: Workspace, arguments: object) -> Observation:
        raise TimeoutError("took too long")


def test_a_broken_backend_is_not_the_callers_fault() -> None:
    workspace = Workspace([picture()])
    with pytest.raises(ToolCrash, match="OCR: TimeoutError: took too long"):
        Registry({"OCR": Broken()}).call(workspace, Action("OCR", {}))
    assert workspace.observations == []


class Many:
    """A batch tool: the greys of all pictures at once; black ones cannot be answered."""

    version = "many/1"

    def __init__(self, short: int = 0) -> None:
        self.sizes: list[int] = []
        self.short = short

    def __call__(self, workspace: Workspace, arguments: Any) -> Observation:
        (answer,) = self.batch([(workspace, arguments)])
        if isinstance(answer, ToolError):
            raise answer
        return answer

    def batch(self, calls: Sequence[tuple[Workspace, Any]]) -> list[Observation | ToolError]:
        self.sizes.append(len(calls))
        greys = [int(pixels_of(*call).mean()) for call in calls]
        answers = [Observation({"grey": g}, f"{g}") if g else ToolError("all black") for g in greys]
        return answers[: len(answers) - self.short]


def grey(level: int) -> Workspace:
    return Workspace([np.full((4, 4, 3), level, np.uint8)])


def test_a_batch_tool_is_asked_once_for_all_that_can_be_asked() -> None:
    tool = Many()
    assert isinstance(tool, BatchTool)
    calls = [Action("OCR", {}), Action("FLY", {}), Action("OCR", {"image": 4}), *[Action("OCR", {})] * 3]
    workspaces = [grey(level) for level in (9, 9, 9, 0, 7, 8)]
    together = Registry({"OCR": tool}).call_all(list(zip(workspaces, calls, strict=True)))
    assert tool.sizes == [4]
    assert [seen.output.get("grey") for seen in together] == [9, None, None, None, 7, 8]
    assert [seen.output.get("kind") for seen in together] == [None, "action", "bounds", "nothing", None, None]
    assert all(w.observations == [seen] for w, seen in zip(workspaces, together, strict=True))
    alone = [
        Registry({"OCR": Many()}).call(grey(level), call)
        for level, call in zip((9, 9, 9, 0, 7, 8), calls, strict=True)
    ]
    assert [seen.output for seen in alone] == [seen.output for seen in together]


def test_calls_of_a_threaded_tool_are_made_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call waits for another one: made one after the other, they would never end."""
    monkeypatch.setattr(threads, "cores", lambda: 2)
    meet = threading.Barrier(2)

    def answer(workspace: Workspace, _: object) -> Observation:
        meet.wait(60)
        if not (level := int(workspace.images[0].mean())):
            raise ToolError("all black")
        return Observation({"grey": level}, f"{level}")

    tool = Recording(answer)
    tool.threaded = True
    together = Registry({"OCR": tool}).call_all([(grey(k), Action("OCR", {})) for k in (4, 0, 2, 1)])
    assert [seen.output.get("grey") for seen in together] == [4, None, 2, 1]
    tool.answer = lambda *_: meet.wait(60) and {}
    with pytest.raises(ToolCrash, match="OCR: TypeError"):
        Registry({"OCR": tool}).call_all([(grey(k), Action("OCR", {})) for k in (4, 2)])


def test_threads_that_never_end_are_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    held = threading.Event()
    tool = Recording(lambda *_: held.wait())
    tool.threaded = True
    registry = Registry({"OCR": tool}, ToolSettings(seconds=0.05))
    with pytest.raises(ToolCrash, match="OCR: TimeoutError"):
        registry.call_all([(grey(k), Action("OCR", {})) for k in range(3)])
    held.set()


def test_prop_is_threaded_where_its_segmenter_is() -> None:
    tool = PixelProperties(GrabCut())
    assert isinstance(tool, ThreadedTool) and tool.threaded
    assert not PixelProperties(Recording()).threaded


def test_calls_that_are_all_refused_reach_no_batch_tool() -> None:
    tool = Many()
    seen = Registry({"OCR": tool}).call_all([(grey(k), Action("OCR", {"image": 3})) for k in range(3)])
    assert tool.sizes == [] and not any(each.valid for each in seen)


def test_calls_of_one_workspace_are_not_made_together() -> None:
    workspace = grey(3)
    with pytest.raises(ValueError, match="one at a time"):
        Registry({"OCR": Many()}).call_all([(workspace, Action("OCR", {}))] * 2)
    assert workspace.observations == []


@pytest.mark.parametrize(
    "tool", [Many(short=1), Recording(lambda *_: None), Recording(lambda *_: {"text": ""})]
)
def test_a_backend_that_owes_an_answer_is_broken(tool: Any) -> None:
    workspaces = [grey(3), grey(4)]
    with pytest.raises(ToolCrash, match="OCR: TypeError: the backend owes 2 observations"):
        Registry({"OCR": tool}).call_all([(w, Action("OCR", {})) for w in workspaces])
    assert [w.observations for w in workspaces] == [[], []]


def test_zoom_adds_an_image_that_later_calls_can_name() -> None:
    workspace = Workspace([picture()])
    zoom = REGISTRY.call(workspace, Action("ZOOM", {"box": [200, 200, 600, 700], "scale": 3}))
    assert (zoom.output["image"], zoom.text) == (1, "image 1")
    assert workspace.images[1].shape == (zoom.output["height"], zoom.output["width"], 3)
    assert crop_digest(workspace.images[1]) == zoom.output["sha256"]
    seg = REGISTRY.call(workspace, Action("SEG", {"box": [50, 50, 950, 950], "image": 1}))
    prop = REGISTRY.call(workspace, Action("PROP", {"step": 1}))
    assert seg.mask is not None and seg.mask.shape == workspace.images[1].shape[:2]
    assert (prop.output["colour"], prop.output["shape"], prop.output["count"]) == ("red", "square", 1)
    wrong = REGISTRY.call(workspace, Action("PROP", {"step": 1, "image": 0}))
    assert wrong.output == {"error": "step 1's mask lies over image 1", "kind": "bounds"}


@pytest.mark.parametrize(("scale", "side"), [(1, 600), (2, 1024), (8, 1024)])
def test_a_zoom_never_exceeds_its_bound(scale: int, side: int) -> None:
    workspace = Workspace([np.zeros((300, 600, 3), np.uint8)])
    REGISTRY.call(workspace, Action("ZOOM", {"box": [0, 0, 999, 999], "scale": scale}))
    assert max(workspace.images[1].shape) == side


def test_stored_outputs_speak_as_live_ones_do() -> None:
    workspace = Workspace([picture()])
    for action in (
        Action("SEG", {"box": [200, 200, 600, 700]}),
        Action("PROP", {"step": 0}),
        Action("X", {}),
    ):
        observation = REGISTRY.call(workspace, action)
        assert spoken(action.name, json.loads(canonical(observation.output))) == observation.text


def test_the_digest_names_every_tool() -> None:
    versions = REGISTRY.versions
    assert sorted(versions) == sorted(ARGUMENTS)
    assert default_registry().digest == REGISTRY.digest != disabled_registry().digest
    assert versions["SEG"] in versions["PROP"]


def test_an_alarm_that_a_tool_swallows_rings_again() -> None:
    cut: list[bool] = []

    class Deaf:
        version = "deaf/1"

        def __call__(self, workspace: Workspace, arguments: Any) -> Observation:
            for _ in range(2):
                try:
                    time.sleep(4)
                    cut.append(False)
                except Exception:
                    cut.append(True)
            return Observation({"text": ""}, "")

    with pytest.raises(ToolCrash):
        Registry({"OCR": Deaf()}, ToolSettings(seconds=0.01)).call(Workspace([picture()]), Action("OCR", {}))
    assert cut == [True, True]


@pytest.mark.parametrize("output", [{"text": float("nan")}, {"text": {1, 2}}])
def test_an_output_that_cannot_be_recorded_is_the_backends_fault(output: Any) -> None:
    class Odd:
        version = "odd/1"

        def __call__(self, workspace: Workspace, arguments: Any) -> Observation:
            return Observation(output, "")

    workspace = Workspace([picture()])
    with pytest.raises(ToolCrash):
        Registry({"OCR": Odd()}).call(workspace, Action("OCR", {}))
    assert workspace.observations == []
