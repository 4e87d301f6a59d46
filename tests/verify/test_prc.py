"""What a disturbance does to a plan, with tools whose answers are planted and with the real ones."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.records import Action, Media, Step, Trajectory
from pixelis_pipeline.settings import ReplaySettings
from pixelis_pipeline.tools.contract import Observation, Workspace, pixels_of
from pixelis_pipeline.tools.registry import Registry
from pixelis_pipeline.verify.prc import Consistency, consistency, jittered, together

TABLE = ReplaySettings()


class Brightness:
    """OCR that spells the first pixel's red value, so that every change of it is seen."""

    version = "ocr/planted"

    def __call__(self, workspace: Workspace, arguments: Any) -> Observation:
        value = int(pixels_of(workspace, arguments)[0, 0, 0])
        return Observation({"text": f"{value:03d}" * 8}, "", version=self.version)


READERS = Registry({"OCR": Brightness()})


def film(frames: int = 12) -> Clip:
    """Frame k is k * 20 everywhere."""
    made = [np.full((16, 24, 3), 20 * k, np.uint8) for k in range(frames)]
    return Clip(frames, 4.0, 24, 16, lambda: iter([frame.copy() for frame in made]))


def plan(trace: Trajectory, *calls: Action, kind: Any = "video") -> Trajectory:
    media = replace(trace.question.media[0], kind=kind)
    steps = tuple(Step("", call, {}) for call in calls)
    return replace(trace, question=replace(trace.question, media=(media,)), steps=steps)


def watching(media: Sequence[Media]) -> Workspace:
    return Workspace.watching(film())


def test_jitter_moves_frames_by_at_most_what_it_says_and_always_alike():
    clips = [jittered(2)(Workspace.watching(film()), seed).clip for seed in (1, 1, 2)]
    shown = [[int(frame[0, 0, 0]) // 20 for frame in clip.between(0, 11)] for clip in clips if clip]
    assert shown[0] == shown[1] != shown[2] and shown[0] != list(range(12))
    assert all(abs(k - n) <= 2 for each in shown for n, k in enumerate(each))
    picture = Workspace([np.zeros((4, 4, 3), np.uint8)])
    assert jittered(2)(picture, 1) is picture


def test_steps_that_a_disturbance_changes_are_counted(cases: list[Any]):
    calls = [Action("OCR", {"frame": k}) for k in range(12)]
    trace = plan(cases[0].trajectory, *calls)
    found = consistency(trace, READERS, watching, TABLE, {"jitter": jittered(1), "none": jittered(0)})
    seen = jittered(1)(Workspace.watching(film()), _seed(trace)).clip
    assert seen is not None
    alike = sum(int(frame[0, 0, 0]) == 20 * k for k, frame in enumerate(seen.between(0, 11)))
    assert found["jitter"] == Consistency(alike, 12, 0, 1) and 0 < alike < 12
    assert found["none"] == Consistency(12, 12, 1, 1)
    assert found == consistency(trace, READERS, watching, TABLE, {"jitter": jittered(1), "none": jittered(0)})


def _seed(trace: Trajectory) -> int:
    import hashlib

    return int.from_bytes(hashlib.sha256(trace.id.encode()).digest()[:8], "big")


def test_the_first_frame_is_disturbed_too(cases: list[Any]):
    """A call that names no frame looks at the video's first one, wherever that comes from now."""
    trace = plan(cases[0].trajectory, Action("OCR", {}))
    late = {"late": lambda workspace, seed: Workspace(list(workspace.images), clip=_later(workspace))}
    assert consistency(trace, READERS, watching, TABLE, late)["late"].steps == 0


def _later(workspace: Workspace) -> Clip:
    clip = workspace.clip
    assert clip is not None
    return Clip(clip.frames, clip.fps, 24, 16, lambda: (f.copy() for f in [*clip.between(1, 11), clip.at(0)]))


def test_an_invalid_call_agrees_with_an_invalid_call(cases: list[Any]):
    trace = plan(cases[0].trajectory, Action("OCR", {"frame": 99}), Action("FLY", {}))
    assert consistency(trace, READERS, watching, TABLE)["jpeg 20"] == Consistency(2, 2, 1, 1)


def test_real_tools_hold_under_mild_disturbances_and_less_under_none_at_all(
    cases: list[Any], registry: Registry
):
    """Masks of another size are compared; a picture that is wiped out agrees with nothing but ZOOM."""

    def wiped(workspace: Workspace, seed: int) -> Workspace:
        return Workspace([cv2.blur(image, (301, 301)) for image in workspace.images])

    from pixelis_pipeline.verify.prc import jpeg, resized

    disturbances = {"jpeg 80": jpeg(80), "resize 0.75": resized(0.75), "wiped": wiped}
    found = together(
        consistency(
            case.trajectory, registry, lambda media, c=case: Workspace([c.pixels]), TABLE, disturbances
        )
        for case in cases[:6]
    )
    assert set(found) == set(disturbances) and found["wiped"].of_steps == 12 and found["wiped"].of_traces == 6
    assert found["jpeg 80"].step_rate >= 0.75 and found["resize 0.75"].step_rate >= 0.75
    assert found["wiped"].step_rate < found["jpeg 80"].step_rate and found["wiped"].trace_rate == 0.0


def test_rates_of_nothing_are_whole():
    assert (Consistency(0, 0, 0, 0).step_rate, Consistency(0, 0, 0, 0).trace_rate) == (1.0, 1.0)
    assert Consistency(1, 4, 0, 2).step_rate == pytest.approx(0.25)
