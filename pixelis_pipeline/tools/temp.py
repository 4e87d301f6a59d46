"""TEMP without weights: when a thing that the query names by colour and shape is there, comes, goes, moves or
rests, or when anything moves; by what stands out from the ground that the camera drifts over.

Known limits: of a query only colour, shape, event and direction words are understood. Any other query is
answered by where most moves, with a confidence of at most `temp_evidence.UNSURE`. A camera that turns or
zooms is only followed as far as shifts go.
"""

import math
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from pixelis_pipeline.media.clip import HELD_BYTES, Clip
from pixelis_pipeline.tools import proposals, temp_evidence
from pixelis_pipeline.tools.contract import (
    Observation,
    TempArguments,
    ToolError,
    Workspace,
    spoken,
    video_of,
)
from pixelis_pipeline.tools.proposals import Scored
from pixelis_pipeline.tools.temp_query import Query, understood

Array = np.ndarray[Any, Any]

SIDE = 160  # pixels of the longer side that frames are looked at with
SAMPLES = 64  # frames that are looked at at first
NEARBY = 8  # frames that are then looked at around either end, where frames were left out


class MotionAndAppearance:
    """Proposal windows from motion and appearance, by classical means."""

    @property
    def version(self) -> str:
        return (
            f"temp/1 opencv {cv2.__version__} side={SIDE} samples={SAMPLES}/{NEARBY}/{HELD_BYTES} "
            f"{temp_evidence.PARAMETERS} {proposals.PARAMETERS}"
        )

    def __call__(self, workspace: Workspace, arguments: TempArguments) -> Observation:
        clip = video_of(workspace)
        first, last = frames_between(clip, arguments.start, arguments.end)
        query = understood(arguments.query)
        # A short video is looked at whole: what lies outside the window shows what is ground.
        around = (0, clip.frames - 1) if clip.frames <= SAMPLES else (first, last)
        chosen = spread(*around, SAMPLES)
        found = _found(query, clip, chosen, arguments)
        left_out = len(chosen) < around[1] - around[0] + 1
        # Motion is told from frames that are equally far apart, so there the ends stay as they are.
        if found and left_out and _held(clip) and not query.of_motion:
            chosen = sorted({*chosen, *_near(chosen, clip.fps, found[0])})
            found = _found(query, clip, chosen, arguments)
        if not found:
            raise ToolError("nothing in the video matches the query", "nothing")
        output = proposals.told(found)
        confidence = output["spans"][0][2]
        return Observation(output, spoken("TEMP", output), confidence, version=self.version)


def frames_between(clip: Clip, start: float, end: float) -> tuple[int, int]:
    """The first and the last frame, inclusive, of those that are shown between two times in seconds.
    ToolError where there are none."""
    if clip.fps <= 0:
        raise ToolError("the video's frame rate is not known", "bounds")
    first = math.floor(start * clip.fps + 1e-6)
    last = min(math.ceil(end * clip.fps - 1e-6), clip.frames) - 1
    if not 0 <= first <= last:
        raise ToolError(f"the video ends at {clip.seconds:.1f} s", "bounds")
    return first, last


def spread(first: int, last: int, most: int) -> list[int]:
    """At most `most` of the frames from `first` to `last`, each from the middle of an equal share."""
    total = last - first + 1
    if total <= most:
        return list(range(first, last + 1))
    return [first + (2 * i + 1) * total // (2 * most) for i in range(most)]


def cells(chosen: list[int], fps: float, start: float, end: float) -> tuple[slice, Array]:
    """Which of the chosen frames tell of the time from `start` to `end`, and the edges in seconds (float
    [n + 1]) of the cells that they stand for. Frames that were left out go half to either neighbour."""
    middle = [(before + 1 + after) / 2 / fps for before, after in pairwise(chosen)]
    edges = np.array([min(chosen[0] / fps, start), *middle, max((chosen[-1] + 1) / fps, end)])
    sliver = min(1e-3 / fps, (end - start) / 4)  # what rounding leaves of a cell
    inside = np.flatnonzero((edges[1:] > start + sliver) & (edges[:-1] < end - sliver))
    part = slice(int(inside[0]), int(inside[-1]) + 1)
    kept = edges[part.start : part.stop + 1].copy()
    kept[0], kept[-1] = start, end
    return part, kept


def looked_at(clip: Clip, chosen: list[int], side: int) -> list[Array]:
    """The chosen frames, the longer side at most `side` pixels. Raises MediaError."""
    scale = side / max(clip.width, clip.height)
    wanted = set(chosen)
    frames = []
    for number, frame in enumerate(clip.between(chosen[0], chosen[-1]), chosen[0]):
        if number in wanted:
            size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
            frames.append(cv2.resize(frame, size, interpolation=cv2.INTER_AREA) if scale < 1 else frame)
    return frames


def _found(query: Query, clip: Clip, chosen: list[int], asked: TempArguments) -> list[Scored]:
    seconds = np.array(chosen) / clip.fps
    curve = temp_evidence.evidence(query, temp_evidence.view(looked_at(clip, chosen, SIDE), seconds))
    part, edges = cells(chosen, clip.fps, asked.start, min(asked.end, clip.seconds))
    return proposals.proposals(curve[part], edges)


def _held(clip: Clip) -> bool:
    return clip.frames * clip.width * clip.height * 3 <= HELD_BYTES


def _near(chosen: list[int], fps: float, window: Scored) -> set[int]:
    """Frames between the chosen ones that lie on either side of the window's ends."""
    more: set[int] = set()
    for end in window[:2]:
        before = max((frame for frame in chosen if frame / fps < end), default=chosen[0])
        after = min((frame for frame in chosen if frame / fps >= end), default=chosen[-1])
        if before < after:
            more.update(spread(before, after, NEARBY))
    return more
