"""Which annotated things of a film clearly moved, which way, and which clearly stood still.

Annotators draw boxes by hand and on key frames only, so a way that is short, or that leads half left and half
up, makes no question. Frames are counted from 0; boxes are pixels [x0, y0, x1, y1].
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from pixelis_pipeline.records import Json, Media, Sample
from pixelis_pipeline.synthesis.places import distinct

WAYS = ("left", "right", "upwards", "downwards")
MOVED = 0.02  # of the film's side along it: a way that is shorter is no movement
STILL = 0.005  # of either side: what never strays further stood still
STRAIGHT = 3.0  # times as far as sideways
FURTHER = 1.5  # times as far, to be asked which of two moved further


@dataclass(frozen=True, slots=True)
class Way:
    """How one thing moved from the first annotated frame to `end`: `way` is one of WAYS, or "" where it stood
    still; `length` is in pixels."""

    label: str
    box: tuple[float, ...]
    end: int
    way: str
    length: float


def ways(sample: Sample, end: int) -> list[Way]:
    """The things that stand apart in the film's first frame, are annotated up to frame `end` and clearly
    moved one way or stood still in between, in the order of the annotations."""
    media = sample.media[0]
    tracks = _begun(sample)
    found = []
    for track in tracks:
        others = [other for other in tracks if other is not track]
        if end not in track["frames"] or not all(distinct(track["boxes"][0], o["boxes"][0]) for o in others):
            continue
        boxes = track["boxes"][: track["frames"].index(end) + 1]
        way = _way(boxes, media)
        if way is not None:
            found.append(Way(track["label"], tuple(boxes[0]), end, *way))
    return found


def ends(sample: Sample) -> list[int]:
    """The frames up to which movement can be asked: those after the first that a track annotates."""
    return sorted({frame for track in _begun(sample) for frame in track["frames"] if frame > 0})


def _begun(sample: Sample) -> list[Json]:
    """The tracks of what is seen in the film's first frame."""
    return [track for track in sample.annotations.get("tracks", []) if track["frames"][:1] == [0]]


def further(found: Sequence[Way]) -> Iterator[tuple[Way, Way]]:
    """(further, less far) of which the first moved, and clearly further than the second."""
    ordered = sorted(found, key=lambda each: (-each.length, each.label))
    for most, least in combinations(ordered, 2):
        if most.way and most.length >= FURTHER * least.length:
            yield most, least


def _way(boxes: Sequence[Sequence[float]], media: Media) -> tuple[str, float] | None:
    """(way, pixels) from the first box to the last; None where it is neither clearly one nor still."""
    centres = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in boxes]
    (x0, y0), (x1, y1) = centres[0], centres[-1]
    x, y = x1 - x0, y1 - y0
    if all(
        abs(cx - x0) <= STILL * media.width and abs(cy - y0) <= STILL * media.height for cx, cy in centres
    ):
        return "", (x * x + y * y) ** 0.5
    along, across = (x, y) if abs(x) > abs(y) else (y, x)
    side = media.width if abs(x) > abs(y) else media.height
    if abs(along) < MOVED * side or abs(along) < STRAIGHT * abs(across):
        return None
    index = 0 if abs(x) > abs(y) else 1
    sign = 1 if along > 0 else -1
    if any(sign * (after[index] - before[index]) < -STILL * side for before, after in pairwise(centres)):
        return None  # it turned back on the way
    return WAYS[2 * index + (along > 0)], (x * x + y * y) ** 0.5
