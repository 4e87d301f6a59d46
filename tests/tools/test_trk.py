"""The embedded tracker: its bar on unseen films over photographs, and what it does where a thing hides,
leaves, vanishes, or has a twin."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from trackeval.metrics import HOTA

from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.records import Action, Json
from pixelis_pipeline.tools.association import Association
from pixelis_pipeline.tools.contract import WIRE, Observation, Workspace, to_wire
from pixelis_pipeline.tools.registry import Registry
from pixelis_pipeline.tools.seg import GrabCut
from pixelis_pipeline.tools.trk import CorrelationTracker
from pixelis_pipeline.world import clip as world
from pixelis_pipeline.world import ego4d, starqa
from pixelis_pipeline.world.grounds import draw_ground
from pixelis_pipeline.world.shapes import COLOURS, SHAPES

Array = np.ndarray[Any, Any]
Boxes = Sequence[Sequence[float] | None]
SEED = 61_803
REGISTRY = Registry({"TRK": CorrelationTracker(), "SEG": GrabCut()})


@pytest.fixture(autouse=True)
def photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Films of this module have photographs for grounds."""
    monkeypatch.setattr(world, "draw_ground", partial(draw_ground, kind="photograph"))


def clip_of(frames: Sequence[Array]) -> Clip:
    height, width = frames[0].shape[:2]
    return Clip(len(frames), 8.0, width, height, lambda: (frame.copy() for frame in frames))


def follow(clip: Clip, box: Sequence[float], start: int = 0, end: int | None = None) -> Observation:
    last = clip.frames - 1 if end is None else end
    x0, y0, x1, y1 = box
    wire = list(to_wire((x0, y0, x1, y1), clip.width, clip.height))
    return REGISTRY.call(Workspace.watching(clip), Action("TRK", {"box": wire, "start": start, "end": last}))


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    wide = max(min(one[2], other[2]) - max(one[0], other[0]), 0)
    high = max(min(one[3], other[3]) - max(one[1], other[1]), 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return wide * high / (areas - wide * high)


def pixels(output: Json, clip: Clip) -> Boxes:
    """The boxes of an output in pixels."""
    per = (clip.width / WIRE, clip.height / WIRE) * 2
    return [b and [float(v) * s for v, s in zip(b, per, strict=True)] for b in output["boxes"]]


def hota(truth: Boxes, said: Boxes) -> float:
    """trackeval's HOTA of one thing followed once."""
    alike = [
        np.array([[overlap(a, b)]]) if a and b else np.zeros((int(bool(a)), int(bool(b))))
        for a, b in zip(truth, said, strict=True)
    ]
    known, found = ([np.zeros(int(bool(b)), int) for b in boxes] for boxes in (truth, said))
    data = {
        "num_tracker_dets": sum(len(ids) for ids in found),
        "num_gt_dets": sum(len(ids) for ids in known),
        "num_tracker_ids": 1,
        "num_gt_ids": 1,
        "gt_ids": known,
        "tracker_ids": found,
        "similarity_scores": alike,
    }
    return float(HOTA().eval_sequence(data)["HOTA"].mean())


def truth_of(track: Json, frames: int) -> list[Sequence[float] | None]:
    boxes = dict(zip(track["frames"], track["boxes"], strict=True))
    return [boxes.get(t) for t in range(frames)]


def crossing(rng: np.random.Generator, twins: bool) -> list[world.Actor]:
    """Three shapes that pass before and behind each other in the picture's middle."""
    colours, shapes = rng.permutation(COLOURS), rng.permutation(SHAPES)
    actors = []
    for k in range(3):
        turn = k * 2.1 + rng.uniform(-0.3, 0.3)
        way = np.array([np.cos(turn), np.sin(turn)]) * rng.uniform(45, 65)
        path = np.array([160, 120]) + rng.uniform(-20, 20, 2) + np.linspace(-1, 1, 24)[:, None] * way
        kind, area = 0 if twins else k, float(900 if twins else rng.uniform(600, 1400))
        actors.append(world.Actor(shapes[kind], colours[kind], area, 20.0, path, np.ones(24, bool)))
    return actors


def films(kind: str, count: int) -> Iterator[tuple[Clip, list[Sequence[float] | None]]]:
    """Films with the boxes of one thing each to follow, from its first frame on."""
    for k in range(count):
        rng = np.random.default_rng([SEED, k])
        if kind == "starqa":
            frames, tracks = world.film(rng, 320, 240, starqa._actors(rng)[0])
            track = tracks[0]
        elif kind == "ego4d":
            frames, tracks = world.film(rng, 320, 240, ego4d._actors(rng), drift=48)
            track = tracks[k % 2 * 3]  # one that vanishes, one that stays
        else:
            frames, tracks = world.film(rng, 320, 240, crossing(rng, kind == "twins"), drift=30)
            track = tracks[k % 3]
        start = track["frames"][0]
        yield clip_of(frames[start:]), truth_of(track, len(frames))[start:]


def mean_hota(kind: str, count: int) -> float:
    found = []
    for clip, boxes in films(kind, count):
        assert boxes[0] is not None
        found.append(hota(boxes, pixels(follow(clip, boxes[0]).output, clip)))
    print(f"TRK {kind}: HOTA mean {np.mean(found):.3f}, least {min(found):.3f} over {count} tracks")
    return float(np.mean(found))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("starqa", 4), ("ego4d", 4), ("crossing", 8)])
def test_the_bar_on_unseen_films_over_photographs(kind: str, count: int) -> None:
    assert mean_hota(kind, count) >= 0.70


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["starqa", "ego4d", "crossing", "twins"])
def test_the_bar_on_many_films(kind: str) -> None:
    assert mean_hota(kind, 40) >= 0.70


def lone(seen: Array, path: Array, size: tuple[int, int] = (320, 240), area: float = 900.0) -> Any:
    """A film of one red star over a photograph, and its boxes."""
    actor = world.Actor("star", "red", area, 15.0, path, seen)
    frames, tracks = world.film(np.random.default_rng(SEED), *size, [actor])
    return clip_of(frames), truth_of(tracks[0], len(seen))


def still(frames: int, x: float = 120.0, y: float = 110.0) -> Array:
    return np.tile([[x, y]], (frames, 1))


def test_one_box_a_frame_from_start_to_end_inclusive() -> None:
    clip, boxes = lone(np.ones(10, bool), still(10))
    said = follow(clip, boxes[3], start=3, end=7)
    assert (said.output["start"], said.output["end"], len(said.output["boxes"])) == (3, 7, 5)
    assert said.output["boxes"][0] == list(to_wire(tuple(boxes[3]), 320, 240))
    assert said.valid and 0 < said.confidence <= 1 and said.version.startswith("trk/1 ")
    assert len(follow(clip, boxes[0], end=0).output["boxes"]) == 1


def test_a_thing_that_vanishes_is_lost_and_one_that_returns_is_found() -> None:
    seen = np.ones(24, bool)
    seen[8:18] = False
    path = np.stack([np.linspace(80, 220, 24), np.full(24, 120.0)], 1)
    clip, boxes = lone(seen, path)
    said = pixels(follow(clip, boxes[0]).output, clip)
    assert all(b is None for b in said[8:18]) and all(b is not None for b in said[:8])
    assert hota(boxes, said) >= 0.8


def test_a_look_is_the_same_whatever_was_looked_at_before() -> None:
    """Longer ones are the continuation of shorter ones, and gaps are bridged in each by itself."""
    seen = np.ones(24, bool)
    seen[8:11] = False
    path = np.stack([np.linspace(80, 220, 24), np.full(24, 120.0)], 1)
    clip, boxes = lone(seen, path)
    told = {end: follow(clip, boxes[0], end=end) for end in (9, 23, 4, 12, 23)}
    other = follow(clip, boxes[3], start=3, end=12)
    for end, said in told.items():
        assert said == follow(lone(seen, path)[0], boxes[0], end=end)
    assert told[9].output["boxes"] != told[23].output["boxes"][:10], "bridged in the longer one only"
    assert other == follow(lone(seen, path)[0], boxes[3], start=3, end=12)


def test_a_thing_that_leaves_the_picture_is_lost() -> None:
    path = np.stack([np.linspace(200, 420, 20), np.full(20, 120.0)], 1)
    actor = world.Actor("star", "red", 900.0, 15.0, path, np.ones(20, bool))
    frames, tracks = world.film(np.random.default_rng(SEED), 480, 240, [actor])
    clip = clip_of([frame[:, :320].copy() for frame in frames])
    said = follow(clip, tracks[0]["boxes"][0]).output["boxes"]
    gone = [box[0] >= 320 for box in tracks[0]["boxes"]]
    assert all(box is None for box, away in zip(said, gone, strict=True) if away)
    assert sum(box is not None for box in said) >= 8


def test_a_bar_that_passes_in_front_does_not_stop_it() -> None:
    path = np.stack([np.linspace(70, 250, 24), np.full(24, 120.0)], 1)
    clip, boxes = lone(np.ones(24, bool), path)
    frames = [clip.at(t).copy() for t in range(24)]
    for frame in frames:
        frame[:, 150:162] = (70, 70, 75)
    assert hota(boxes, pixels(follow(clip_of(frames), boxes[0]).output, clip)) >= 0.8


def test_it_grows_with_the_thing() -> None:
    rng = np.random.default_rng(SEED)
    ground, _ = draw_ground(rng, 320, 240, "photograph")
    frames, boxes = [], []
    for t in range(20):
        frame, area = ground.copy(), 700 * 1.045 ** (2 * t)
        boxes.append(
            world._drawn(
                frame,
                world.Actor("hexagon", "blue", area, 10.0, still(1), np.ones(1, bool)),
                world.coat_of("blue", "plain", 320.0, np.random.default_rng(1)),
                0,
            )
        )
        frames.append(frame)
    said = pixels(follow(clip_of(frames), boxes[0]).output, clip_of(frames))
    assert said[-1] is not None and overlap(said[-1], boxes[-1]) > 0.6 > overlap(boxes[0], boxes[-1])


@pytest.mark.parametrize(
    ("size", "area", "step"), [((320, 240), 60.0, 3.0), ((1280, 720), 16_000.0, 30.0), ((96, 64), 90.0, 2.0)]
)
def test_tiny_things_and_large_pictures(size: tuple[int, int], area: float, step: float) -> None:
    path = np.stack([size[0] * 0.35 + step * np.arange(8), np.full(8, size[1] / 2)], 1)
    clip, boxes = lone(np.ones(8, bool), path, size, area)
    assert hota(boxes, pixels(follow(clip, boxes[0]).output, clip)) >= 0.6


def test_a_mask_of_an_earlier_step_is_followed_like_a_box() -> None:
    path = np.stack([np.linspace(90, 160, 12), np.full(12, 120.0)], 1)
    clip, boxes = lone(np.ones(12, bool), path)
    workspace = Workspace.watching(clip)
    box = list(to_wire(tuple(boxes[2]), 320, 240))
    assert REGISTRY.call(workspace, Action("SEG", {"box": box, "frame": 2})).valid
    said = REGISTRY.call(workspace, Action("TRK", {"step": 0, "start": 2, "end": 11}))
    assert hota(boxes[2:], pixels(said.output, clip)) >= 0.7
    for step, start, kind in ((0, 3, "arguments"), (1, 2, "bounds")):
        bad = REGISTRY.call(workspace, Action("TRK", {"step": step, "start": start, "end": 11}))
        assert not bad.valid and bad.output["kind"] == kind


@pytest.mark.parametrize("box", [[0, 0, 999, 999], [0, 0, 1, 1], [998, 998, 999, 999], [0, 500, 999, 503]])
@pytest.mark.parametrize("ground", ["flat", "noise", "cuts"])
def test_any_box_on_any_picture_is_answered(box: list[int], ground: str) -> None:
    rng = np.random.default_rng(SEED)
    frames = rng.integers(0, 256, (6, 48, 64, 3), np.uint8)
    if ground == "flat":
        frames[:] = 90
    if ground == "noise":
        frames[:] = frames[0]
    said = REGISTRY.call(Workspace.watching(clip_of(list(frames))), Action("TRK", {"box": box, "end": 5}))
    assert said.valid and len(said.output["boxes"]) == 6
    assert all(
        b is None or (0 <= b[0] < b[2] <= WIRE and 0 <= b[1] < b[3] <= WIRE) for b in said.output["boxes"]
    )
    assert np.isfinite(said.confidence)


def test_a_video_in_which_nothing_changes_leaves_the_box_where_it_is() -> None:
    clip, boxes = lone(np.ones(1, bool), still(1))
    frozen = clip_of([clip.at(0)] * 12)
    said = pixels(follow(frozen, boxes[0]).output, frozen)
    assert all(b is not None and overlap(b, boxes[0]) > 0.85 for b in said)


def test_the_same_call_gives_the_same_bytes() -> None:
    clip, boxes = next(films("crossing", 1))
    assert boxes[0] is not None
    first = follow(clip, boxes[0])
    follow(clip, (10.0, 10.0, 60.0, 60.0))
    again = follow(clip, boxes[0])
    assert (again.output, again.confidence) == (first.output, first.confidence)


def test_what_was_seen_beside_the_thing_is_not_taken_for_it() -> None:
    def box(x: float) -> tuple[float, float, float, float]:
        return (x, 0.0, x + 10, 10.0)

    tracks = Association(box(0))
    for t in range(1, 5):
        mine, _ = tracks.choose([box(60 - 5 * t), box(5.0 * t)], [0.9, 0.6])  # the other looks better
        assert mine == 1
    mine, free = tracks.choose([box(38)], [0.9])  # the thing is hidden; the other is still near
    assert mine is None and free == []
    mine, free = tracks.choose([box(38), box(200)], [0.9, 0.9])
    assert mine is None and free == [1]
