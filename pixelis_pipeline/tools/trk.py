"""TRK: one thing followed through a video, by a correlation tracker whose sights BoT-SORT associates.

In each frame the thing is looked for around where it should be; where it looks unlike itself there, in the
whole picture too. It counts as lost, and its box is null, until it is seen again. A gap of a few frames with
the thing on both sides of it was something passing in front: there the box goes straight from one to the
other.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import cv2
import numpy as np
import scipy

from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.tools import association, correlation, correlation_filter
from pixelis_pipeline.tools.association import Association
from pixelis_pipeline.tools.contract import (
    WIRE,
    Observation,
    ToolError,
    TrkArguments,
    Workspace,
    mask_of,
    spoken,
    to_wire,
    video_of,
)
from pixelis_pipeline.tools.correlation import Appearance, Sight

Array = np.ndarray[Any, Any]
Box = tuple[float, float, float, float]

# Scores are compared with what is usual for this thing: a running mean of those it was followed by.
USUAL, USUAL_FIT, USUAL_RATE = 0.6, 0.5, 0.05
LEAST = 0.2  # under this a sight is no candidate
SURE, SURE_SCORE = 0.6, 0.33  # of the usual, and at least: under this the thing is lost
SURE_FIT, SURE_FIT_SCORE = 0.4, 0.2  # the same for the filter's part alone
DOUBT = 0.75  # of the usual: under this the whole picture is searched
BACK, BACK_SCORE, BACK_FIT = 0.7, 0.4, 0.6  # what a lost thing must look like to be found again
BETTER = 1.25  # times the score of what continues the track: only such a sight elsewhere replaces it
TWIN = 0.75  # of its score: what looked like this while the thing was elsewhere is another thing
TEACHES = 0.5  # from halfway between sure and usual on a sight is learnt from
GAP = 5  # frames that something may pass in front
INERTIA = 8  # frames that a lost thing is thought to move on


class CorrelationTracker:
    """Correlation filters over gradients and colours, with BoT-SORT's association. Needs no weights.

    What was followed is kept as long as its video is: rollouts of one question look at the same things for
    longer or shorter, and a short look is the beginning of a long one.
    """

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Clip, dict[tuple[int, Box], Track]] = WeakKeyDictionary()

    @property
    def version(self) -> str:
        return (
            f"trk/1 correlation opencv {cv2.__version__} scipy {scipy.__version__} {association.PARAMETERS} "
            f"{correlation.PARAMETERS} {correlation_filter.PARAMETERS} "
            f"usual={USUAL}/{USUAL_FIT}/{USUAL_RATE} least={LEAST} sure={SURE}/{SURE_SCORE} "
            f"fit={SURE_FIT}/{SURE_FIT_SCORE} doubt={DOUBT} back={BACK}/{BACK_SCORE}/{BACK_FIT} "
            f"better={BETTER} twin={TWIN} teaches={TEACHES} gap={GAP} inertia={INERTIA}"
        )

    def __call__(self, workspace: Workspace, arguments: TrkArguments) -> Observation:
        clip = video_of(workspace, arguments.end)
        box, mask = _target(workspace, arguments, clip.width, clip.height)
        track = Track(arguments.start, box, mask)
        if mask is None:
            track = self._kept.setdefault(clip, {}).setdefault((arguments.start, box), track)
        boxes, confidence = track.until(clip, arguments.end)
        wire = [None if b is None else list(to_wire(b, clip.width, clip.height)) for b in boxes]
        output = {"start": arguments.start, "end": arguments.end, "boxes": wire}
        return Observation(output, spoken("TRK", output), confidence, version=self.version)


def _target(
    workspace: Workspace, arguments: TrkArguments, width: int, height: int
) -> tuple[Box, Array | None]:
    """The box to follow in pixels, and the mask it comes from. ToolError where the step's mask is not of
    the first frame."""
    if arguments.box is not None:
        x0, y0, x1, y1 = arguments.box
        return (x0 * width / WIRE, y0 * height / WIRE, x1 * width / WIRE, y1 * height / WIRE), None
    assert arguments.step is not None  # the contract gives one of the two
    seen = mask_of(workspace, arguments.step)
    if seen.source != 0 or (seen.frame or 0) != arguments.start or seen.mask is None:
        raise ToolError(f"step {arguments.step} is not of frame {arguments.start} of the video", "arguments")
    rows, columns = np.flatnonzero(seen.mask.any(1)), np.flatnonzero(seen.mask.any(0))
    if not len(rows):
        raise ToolError(f"the mask of step {arguments.step} is empty")
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return box, seen.mask


class Track:
    """A thing followed from its box (pixels) in frame `start` on, so far as it was asked for."""

    def __init__(self, start: int, box: Box, mask: Array | None = None) -> None:
        self._start, self._box, self._mask = start, box, mask
        self._follower: Follower | None = None
        self._boxes: list[Box | None] = []
        self._scores: list[float] = []

    def until(self, clip: Clip, end: int) -> tuple[list[Box | None], float]:
        """The thing's box in each frame up to `end` (null where it is lost), and how sure that is on the
        whole (0-1: the mean score, 0 in a frame where it is lost). Errors as `Clip.between`."""
        at = self._start + len(self._boxes)
        for frame in clip.between(at, end) if at <= end else ():
            self._see(frame)
        count = end + 1 - self._start
        boxes, scores = self._boxes[:count], self._scores[:count]
        width, height = clip.width, clip.height
        _bridge(boxes, width, height)
        inside = [
            b if b and b[0] < width and b[1] < height and b[2] > 0 and b[3] > 0 else None for b in boxes
        ]
        return inside, float(np.mean(scores))

    def _see(self, frame: Array) -> None:
        if self._follower is None:
            self._follower = Follower(frame, self._box, self._mask)
            self._boxes.append(self._box)
            self._scores.append(1.0)
            return
        sight = self._follower.step(frame)
        self._boxes.append(None if sight is None else self._follower.box_at(sight.x, sight.y))
        self._scores.append(0.0 if sight is None else min(max(sight.score, 0.0), 1.0))


def _bridge(boxes: list[Box | None], width: int, height: int) -> None:
    """Fill short gaps in place, where the thing went on steadily and not by way of the picture's edge."""
    seen = [k for k, b in enumerate(boxes) if b is not None]
    for start, end in pairwise(seen):
        before, after = np.array(boxes[start]), np.array(boxes[end])
        both = np.stack([before, after])
        size = (before[2:] - before[:2] + after[2:] - after[:2]) / 2
        way = np.abs(after - before).reshape(2, 2).mean(0) / (end - start)
        at_edge = (both[:, :2] < 1).any() or (both[:, 2:] > (width - 1, height - 1)).any()
        if 1 < end - start <= GAP + 1 and not at_edge and (way < 0.75 * size).all():
            for k in range(start + 1, end):
                x0, y0, x1, y1 = before + (after - before) * (k - start) / (end - start)
                boxes[k] = (float(x0), float(y0), float(x1), float(y1))


class Follower:
    """What is known while a thing is followed: its looks, its motion, and what else looks like it."""

    def __init__(self, frame: Array, box: Box, mask: Array | None = None) -> None:
        self._looks = Appearance(frame, box, mask)
        self._tracks = Association(box)
        self._x, self._y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        self._moves = (0.0, 0.0)  # pixels a frame
        self._lost = 0  # frames
        self._usual, self._usual_fit = USUAL, USUAL_FIT
        self._trusted = (frame, self._x, self._y)  # the last frame where the thing was surely seen

    def box_at(self, x: float, y: float) -> Box:
        """The thing's box, were it at (x, y)."""
        wide, high = self._looks.size
        return x - wide / 2, y - high / 2, x + wide / 2, y + high / 2

    def step(self, frame: Array) -> Sight | None:
        """Where the thing is in the next frame, or None."""
        height, width = frame.shape[:2]
        x = min(max(self._x + self._moves[0], 0.0), float(width))
        y = min(max(self._y + self._moves[1], 0.0), float(height))
        sights = self._looks.sights(frame, x, y, LEAST)
        if not sights or sights[0].score < max(self._sure, DOUBT * self._usual):
            for place in self._looks.far(frame, self._x, self._y):
                sights += [
                    s for s in self._looks.sights(frame, *place, LEAST, 1) if not self._near(s, sights)
                ]
        chosen = self._chosen(sights)
        if chosen is None:
            self._lost += 1
            self._x, self._y = x, y
            if self._lost > INERTIA:
                self._moves = (0.0, 0.0)
            return None
        self._take(frame, chosen)
        return chosen

    @property
    def _sure(self) -> float:
        return max(SURE_SCORE, SURE * self._usual)

    def _near(self, sight: Sight, others: Sequence[Sight]) -> bool:
        wide, high = self._looks.size
        return any(abs(sight.x - o.x) < 0.35 * wide and abs(sight.y - o.y) < 0.35 * high for o in others)

    def _chosen(self, sights: list[Sight]) -> Sight | None:
        index, free = self._tracks.choose([self.box_at(s.x, s.y) for s in sights], [s.score for s in sights])
        mine = sights[index] if index is not None else None
        if mine and (mine.score < self._sure or mine.fit < max(SURE_FIT_SCORE, SURE_FIT * self._usual_fit)):
            mine = None
        if mine and mine.score >= DOUBT * self._usual:
            return mine
        least = max(BACK_SCORE, BACK * self._usual, BETTER * mine.score if mine else 0.0)
        fit = max(SURE_FIT_SCORE, BACK_FIT * self._usual_fit)
        back = [sights[k] for k in free if sights[k].score >= least and sights[k].fit >= fit]
        best = max(back, key=lambda sight: sight.score, default=None)
        if best is None or self._is_another(best):
            return mine
        self._tracks.restart(self.box_at(best.x, best.y))
        return best

    def _is_another(self, sight: Sight) -> bool:
        """Whether something looked like this there when the thing itself was surely seen elsewhere."""
        frame, x, y = self._trusted
        wide, high = self._looks.size
        return any(
            (abs(then.x - x) > wide / 2 or abs(then.y - y) > high / 2)
            and abs(then.x - sight.x) < wide
            and abs(then.y - sight.y) < high
            and then.score >= TWIN * sight.score
            for then in self._looks.sights(frame, sight.x, sight.y, LEAST)
        )

    def _take(self, frame: Array, sight: Sight) -> None:
        """The thing is there: learn from it."""
        way = ((sight.x - self._x), (sight.y - self._y))
        if self._lost:
            self._moves = (0.0, 0.0)
        else:
            self._moves = (0.5 * (self._moves[0] + way[0]), 0.5 * (self._moves[1] + way[1]))
        self._lost, self._x, self._y = 0, sight.x, sight.y
        self._looks.grow(frame, sight.x, sight.y)
        if sight.score >= self._sure + TEACHES * (self._usual - self._sure):
            self._looks.learn(frame, sight.x, sight.y)
        if sight.score >= DOUBT * self._usual:
            self._trusted = (frame, sight.x, sight.y)
        self._usual += USUAL_RATE * (sight.score - self._usual)
        self._usual_fit += USUAL_RATE * (sight.fit - self._usual_fit)
