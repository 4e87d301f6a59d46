"""Plan re-execution consistency: does a plan still see the same when its picture is a little worse?

The calls of a trajectory are run once on the media as they are and once for each disturbance, with the same
arguments; a step agrees where the disturbed output passes the tolerance table against the undisturbed one.
Three things to know:

1. What is compared is the tools under the plan, not the policy that made the plan: no new call is chosen.
2. No disturbed crop has the bytes of the undisturbed one, so ZOOM agrees where it gives an image at all;
   what its crop shows counts through the calls that look at the crop.
3. Masks are compared at the undisturbed size, nearest neighbour.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.records import Action, Json, Trajectory
from pixelis_pipeline.settings import ReplaySettings
from pixelis_pipeline.tools.contract import Observation, Workspace
from pixelis_pipeline.tools.masks import decode, encode
from pixelis_pipeline.tools.opening import Open
from pixelis_pipeline.tools.registry import Registry
from pixelis_pipeline.verify.tolerance import compare

Pixels = np.ndarray[Any, Any]
Change = Callable[[Workspace, int], Workspace]  # a workspace and a seed, to another workspace


@dataclass(frozen=True, slots=True)
class Consistency:
    """How one plan, or several, held under one disturbance: `steps` of `of_steps` steps agreed, and all of
    a trace's steps in `traces` of `of_traces`."""

    steps: int
    of_steps: int
    traces: int
    of_traces: int

    @property
    def step_rate(self) -> float:
        """The share of steps that agree; 1 where there are none."""
        return self.steps / self.of_steps if self.of_steps else 1.0

    @property
    def trace_rate(self) -> float:
        """The share of traces that agree in every step; 1 where there are none."""
        return self.traces / self.of_traces if self.of_traces else 1.0


def jpeg(quality: int) -> Change:
    """Every picture encoded as JPEG at `quality` (1-100, libjpeg's scale, 4:2:0) and decoded again."""

    def encoded(pixels: Pixels) -> Pixels:
        written = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        shown: Any = cv2.imdecode(written, cv2.IMREAD_COLOR)
        return np.ascontiguousarray(shown[:, :, ::-1])

    return lambda workspace, seed: _each(workspace, encoded)


def resized(factor: float) -> Change:
    """Every picture at `factor` times its width and height, by area averaging below 1."""
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC

    def scaled(pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        return cv2.resize(pixels, size, interpolation=how)

    return lambda workspace, seed: _each(workspace, scaled)


def jittered(frames: int) -> Change:
    """Every frame of a video shown up to `frames` early or late, each drawn by itself. Pictures stay."""

    def shaken(workspace: Workspace, seed: int) -> Workspace:
        clip = workspace.clip
        if clip is None:
            return workspace
        offsets = np.random.default_rng(seed).integers(-frames, frames + 1, clip.frames)
        order = np.clip(np.arange(clip.frames) + offsets, 0, clip.frames - 1)

        def shown() -> Iterator[Pixels]:
            held = list(clip.between(0, clip.frames - 1))
            return (held[k] for k in order)

        moved = Clip(clip.frames, clip.fps, clip.width, clip.height, shown)
        return Workspace(list(workspace.images), clip=moved)

    return shaken


DISTURBANCES: Mapping[str, Change] = {
    **{f"jpeg {quality}": jpeg(quality) for quality in (80, 60, 40, 20)},
    **{f"resize {factor}": resized(factor) for factor in (0.75, 0.5)},
    "frames ±1": jittered(1),
}


def consistency(
    trajectory: Trajectory,
    registry: Registry,
    open_media: Open,
    settings: ReplaySettings,
    disturbances: Mapping[str, Change] = DISTURBANCES,
) -> dict[str, Consistency]:
    """How the plan holds under each disturbance. Frame jitter is left out where the question has no video.

    The same trajectory is always disturbed in the same way. Raises what `open_media` and the tools raise
    (MediaError, ToolCrash).
    """
    calls = [step.action for step in trajectory.steps]
    undisturbed = open_media(trajectory.question.media)
    before = [registry.call(undisturbed, call) for call in calls]
    seed = int.from_bytes(hashlib.sha256(trajectory.id.encode()).digest()[:8], "big")
    found = {}
    for name, change in disturbances.items():
        workspace = open_media(trajectory.question.media)
        changed = change(workspace, seed)
        if changed is workspace:
            continue
        if changed.clip is not None and not any(m.kind == "image" for m in trajectory.question.media):
            changed.images[0] = changed.clip.at(0)
        agreed = _agreed(calls, before, changed, registry, settings)
        found[name] = Consistency(sum(agreed), len(agreed), int(all(agreed)), 1)
    return found


def together(found: Iterable[Mapping[str, Consistency]]) -> dict[str, Consistency]:
    """The sum over several plans, by disturbance."""
    total: dict[str, Consistency] = {}
    for each in found:
        for name, more in each.items():
            sofar = total.get(name, Consistency(0, 0, 0, 0))
            total[name] = Consistency(
                sofar.steps + more.steps,
                sofar.of_steps + more.of_steps,
                sofar.traces + more.traces,
                sofar.of_traces + more.of_traces,
            )
    return total


def _agreed(
    calls: Sequence[Action],
    before: Sequence[Observation],
    workspace: Workspace,
    registry: Registry,
    settings: ReplaySettings,
) -> list[bool]:
    """Whether each call, made in `workspace`, returns what it returned before."""
    agreed = []
    for call, was in zip(calls, before, strict=True):
        now = registry.call(workspace, call)
        if not (was.valid and now.valid):
            agreed.append(was.valid == now.valid)
        elif call.name == "ZOOM":
            agreed.append(True)
        else:
            agreed.append(compare(call.name, _alike(now.output, was.output), was.output, settings).same)
    return agreed


def _alike(now: Json, was: Json) -> Json:
    """An output whose mask, where it has one, is brought to the size of the other's."""
    if "mask" not in now or now["mask"]["size"] == was["mask"]["size"]:
        return now
    height, width = was["mask"]["size"]
    mask = cv2.resize(decode(now["mask"]).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return now | {"mask": encode(mask.astype(bool))}


def _each(workspace: Workspace, change: Callable[[Pixels], Pixels]) -> Workspace:
    """The workspace with every picture and every frame changed."""
    images = [change(image) for image in workspace.images]
    clip = workspace.clip
    if clip is None:
        return Workspace(images)
    height, width = change(clip.at(0)).shape[:2]
    shown = partial(map, change)
    changed = Clip(clip.frames, clip.fps, width, height, lambda: shown(clip.between(0, clip.frames - 1)))
    return Workspace(images, clip=changed)
