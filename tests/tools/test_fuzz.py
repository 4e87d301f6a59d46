"""Random calls: at the contract with cheap tools behind it, and at the real embedded backends.

Nothing may escape a call, not even ToolCrash; every output is canonical JSON with coordinates in range;
memory stays bounded. A failure names its call; the seed is fixed, so it comes again.
"""

import gc
import json
import os
import random
from collections.abc import Iterator
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.records import Action, Json, canonical
from pixelis_pipeline.settings import ToolSettings
from pixelis_pipeline.tools.contract import (
    ARGUMENTS,
    WIRE,
    ErrorKind,
    Observation,
    Workspace,
    mask_of,
    pixels_of,
    spoken,
    to_wire,
)
from pixelis_pipeline.tools.masks import decode, encode
from pixelis_pipeline.tools.registry import Registry, default_registry

NAMES = sorted(ARGUMENTS)
MEBIBYTE = 2**20
CALLS_A_WORKSPACE = 25

# Calls as policies and teachers write them, and worse.

ODDITIES = [
    *(None, True, False, 0, 1, -1, 7, 999, 1000, 2**63, -(2**70), 10**4400, 0.5, 7.0, 1e308),
    *(float("nan"), float("inf"), float("-inf"), "", "7", "7.5", "\x00", "\ud800", "é" * 300, "</obs>", b"7"),
    *([], {}, [[]], [[0, 0]], {"box": [0, 0, 9, 9]}, {"$ref": "#"}, [None] * 4, ["0", "0", "9", "9"]),
]


def oddity(rng: random.Random, depth: int = 3) -> Any:
    kind = rng.randrange(6 if depth else 4)
    if kind < 4:
        return rng.choice(ODDITIES)
    if kind == 4:
        return [oddity(rng, depth - 1) for _ in range(rng.randrange(5))]
    return {rng.choice(["box", "", "é", "\ud800"]): oddity(rng, depth - 1) for _ in range(rng.randrange(3))}


def a_box(rng: random.Random) -> list[int]:
    x, y = (sorted(rng.sample(range(WIRE + 1), 2)) for _ in range(2))
    return [x[0], y[0], x[1], y[1]]


def proper(rng: random.Random, name: str, frames: int, seconds: float) -> Json:
    """Arguments that are well formed, though images, steps and frames may not be there."""
    at: Json = {"image": rng.choice([0, 0, 0, 1, 2, 30])}
    if frames > 1 and at["image"] == 0 and rng.random() < 0.7:
        at["frame"] = rng.randrange(frames + 1)
    target = {"box": a_box(rng)} if rng.random() < 0.6 else {"step": rng.randrange(CALLS_A_WORKSPACE)}
    if name == "ZOOM":
        return at | {"box": a_box(rng), "scale": rng.randint(1, 8)}
    if name == "SEG":
        points = [[rng.randint(0, WIRE), rng.randint(0, WIRE)] for _ in range(rng.randrange(4))]
        return at | {"points": points} | ({"box": a_box(rng)} if rng.random() < 0.8 else {})
    if name == "OCR":
        return at | ({"box": a_box(rng)} if rng.random() < 0.7 else {})
    if name == "PROP":
        return target if rng.random() < 0.5 else at | target
    if name == "TRK":
        ends = sorted(rng.randrange(frames + (rng.random() < 0.1)) for _ in range(2))
        return target | dict(zip(("start", "end"), ends, strict=True))
    start, end = sorted(rng.uniform(0, seconds + (rng.random() < 0.1)) for _ in range(2))
    query = rng.choice(["red circle", "the thing stops", "é", "?", "q" * 200, "\n"])
    return {"query": query, "start": start, "end": end}


def a_call(rng: random.Random, frames: int = 1, seconds: float = 0.0, wild: float = 0.4) -> Action:
    """A proper call, of which the share `wild` has something in it changed, added, left out or replaced."""
    name: Any = rng.choice(NAMES)
    arguments: Any = proper(rng, name, frames, seconds)
    if rng.random() < wild:
        what = rng.randrange(6)
        if what == 0:
            arguments[rng.choice([*arguments, "language", "\ud800", ""])] = oddity(rng)
        elif what == 1:
            del arguments[rng.choice(sorted(arguments))]
        elif what == 2:
            arguments = oddity(rng)
        elif what == 3:
            name = rng.choice([*ODDITIES, name.lower(), name + " ", ["SEG"]])
        elif "box" in arguments:
            arguments["box"][rng.randrange(4)] = oddity(rng, 0)
            if what == 5:
                arguments["box"] = arguments["box"][: rng.randrange(6)]
        else:
            arguments = arguments | {"box": oddity(rng)}
    return Action(name, arguments)


# What any answer must be.


def well_boxed(box: Any) -> bool:
    return (
        len(box) == 4
        and all(type(side) is int and 0 <= side <= WIRE for side in box)
        and box[0] < box[2]
        and box[1] < box[3]
    )


def check(workspace: Workspace, action: Action, seen: Observation) -> None:
    """The promises of any observation, whoever made it."""
    stored = json.loads(canonical(seen.output))
    assert workspace.observations[-1] is seen and 0 <= seen.confidence <= 1
    if not seen.valid:
        assert stored["kind"] in get_args(ErrorKind) and len(seen.text) < 300 and not seen.artifact
        return
    assert action.name in ARGUMENTS and seen.version and len(seen.artifact) == 64
    assert spoken(action.name, stored) == seen.text
    promised(action.name, stored, workspace, seen)


def promised(name: str, output: Json, workspace: Workspace, seen: Observation) -> None:
    """What docs/CONTRACTS.md says of the outputs of an action."""
    if name == "SEG":
        assert seen.mask is not None and seen.mask.any() and well_boxed(output["box"])
        assert 0 <= output["area"] <= 1000 and (decode(output["mask"]) == seen.mask).all()
    elif name == "ZOOM":
        assert output["image"] == len(workspace.images) - 1 and seen.image is workspace.images[-1]
        assert seen.image.shape == (output["height"], output["width"], 3) and max(seen.image.shape) <= 1024
    elif name == "OCR":
        assert isinstance(output["text"], str) and seen.text == output["text"]
        assert all(well_boxed(line["box"]) and line["text"] for line in output.get("lines", ()))
    elif name == "PROP":
        assert 0 <= output["orientation"] < 180 and output["count"] >= 1 and 0 <= output["area"] <= 1000
    elif name == "TRK":
        assert len(output["boxes"]) == output["end"] + 1 - output["start"]
        assert all(box is None or well_boxed(box) for box in output["boxes"])
    else:
        assert workspace.clip is not None
        for start, end in [(output["start"], output["end"]), *(span[:2] for span in output["spans"])]:
            # Ends are written to 10 ms: a window shorter than that may come back without length.
            assert 0 <= start <= end <= workspace.clip.seconds + 0.5 / workspace.clip.fps + 0.005


# Cheap tools, which answer in the right form at once.


class Cheap:
    """Answers by hand what the action of this name promises."""

    def __init__(self, name: str) -> None:
        self.name, self.version, self.calls = name, f"{name.lower()}/cheap", 0

    def __call__(self, workspace: Workspace, arguments: Any) -> Observation:
        self.calls += 1
        box = list(getattr(arguments, "box", None) or (0, 0, 9, 9))
        assert well_boxed(box)  # what reaches a tool has been checked
        mask = image = None
        if self.name == "SEG":
            mask = np.ones(pixels_of(workspace, arguments).shape[:2], bool)
        if self.name == "ZOOM":
            image = np.zeros((3, 2, 3), np.uint8)
        if getattr(arguments, "step", None) is not None:
            mask_of(workspace, arguments.step)
        output: Json = {
            "SEG": lambda: {"box": box, "area": 1000, "mask": encode(mask)},
            "ZOOM": lambda: {"image": len(workspace.images), "width": 2, "height": 3},
            "OCR": lambda: {"text": "word"},
            "PROP": lambda: {
                **{"colour": "red", "shape": "star", "size": "small"},
                **{"orientation": 0, "count": 1, "area": 1},
            },
            "TRK": lambda: {
                **{"start": arguments.start, "end": arguments.end},
                "boxes": [box] * (arguments.end + 1 - arguments.start),
            },
            "TEMP": lambda: {"start": arguments.start, "end": arguments.end, "spans": []},
        }[self.name]()
        return Observation(output, spoken(self.name, output), mask=mask, image=image, version=self.version)


def grounds(rng: random.Random) -> np.ndarray:
    """A picture: black, white, flat, noise, a gradient, or a shape with a word; small and of odd sizes."""
    sides = [1, 2, 3, 5, 8, 13, 31, 48, 80, 96, 96, 112]
    height, width = rng.choice(sides), rng.choice(sides)
    if rng.random() < 0.05:
        height, width = rng.choice([(1, 700), (700, 1), (2, 333)])
    kind = rng.randrange(10)
    if kind < 3:
        return np.full((height, width, 3), [0, 255, rng.randrange(256)][kind], np.uint8)
    if kind == 3:
        return np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (height, width, 3), np.uint8)
    if kind == 4:
        ramp = np.linspace(0, 255, width).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (height, width, 3)))
    made = np.full((height, width, 3), rng.randrange(256), np.uint8)
    cv2.circle(made, (width // 2, height // 2), max(1, min(height, width) // 4), (200, 30, 40), -1)
    cv2.putText(made, "ab", (2, height // 3 + 1), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (20, 20, 20), 1)
    return made


def a_clip(rng: random.Random) -> Clip:
    """A few frames over which a picture scrolls, jumps or stands still."""
    ground, frames = grounds(rng), rng.choice([1, 2, 3, 8, 12])
    step = rng.choice([0, 1, 3, 17])
    film = [np.roll(ground, step * k, axis=1) for k in range(frames)]
    height, width = ground.shape[:2]
    fps = rng.choice([0.0, 0.5, 4.0, 29.97])
    return Clip(frames, fps, width, height, lambda: iter([frame.copy() for frame in film]))


def workspaces(rng: random.Random) -> Iterator[Workspace]:
    while True:
        if rng.random() < 0.5:
            yield Workspace.watching(a_clip(rng))
        else:
            yield Workspace([grounds(rng) for _ in range(rng.choice([1, 1, 2]))])


def told(call: Action) -> str:
    try:
        return ascii(call)[:500]
    except ValueError:  # an integer too long to write out
        return "a call with such an integer"


def fuzz(registry: Registry, seed: int, calls: int, wild: float) -> dict[str, int]:
    """Make the calls and check every answer; returns how many of each action were valid."""
    rng = random.Random(seed)
    valid = dict.fromkeys(NAMES, 0)
    for _, workspace in zip(range(0, calls, CALLS_A_WORKSPACE), workspaces(rng), strict=False):
        clip = workspace.clip
        for _ in range(CALLS_A_WORKSPACE):
            call = a_call(rng, *((clip.frames, clip.seconds) if clip else ()), wild=wild)
            try:
                seen = registry.call(workspace, call)
                check(workspace, call, seen)
            except Exception as error:
                shape = workspace.images[0].shape, clip and (clip.frames, clip.fps)
                error.add_note(f"{told(call)} on a picture of {shape}")
                raise
            if seen.valid:
                valid[call.name] += 1
    return valid


def resident() -> int:
    """Bytes of memory that this process holds."""
    gc.collect()
    with open("/proc/self/statm") as told:
        return int(told.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cheap() -> Registry:
    return Registry({name: Cheap(name) for name in NAMES}, ToolSettings(frames=9, pixels=9000, images=6))


def test_two_thousand_calls_at_the_contract() -> None:
    valid = fuzz(cheap(), seed=11, calls=2_000, wild=0.5)
    assert min(valid.values()) > 20 and sum(valid.values()) < 1_500, valid


@pytest.mark.slow
def test_a_hundred_thousand_calls_at_the_contract() -> None:
    registry = cheap()
    fuzz(registry, seed=12, calls=10_000, wild=0.5)
    before = resident()
    valid = fuzz(registry, seed=13, calls=100_000, wild=0.5)
    grown = (resident() - before) / MEBIBYTE
    print(f"valid {valid}; memory grew by {grown:.1f} MiB over 100,000 calls")
    assert min(valid.values()) > 1_000 and grown < 24


def test_a_hundred_calls_at_the_real_backends() -> None:
    fuzz(default_registry(), seed=14, calls=100, wild=0.1)


@pytest.mark.slow
def test_five_thousand_calls_at_the_real_backends() -> None:
    registry = default_registry()
    fuzz(registry, seed=15, calls=1_500, wild=0.1)  # until the engines' arenas have met most shapes
    before = resident()
    valid = fuzz(registry, seed=16, calls=5_000, wild=0.1)
    grown = (resident() - before) / MEBIBYTE
    print(f"valid {valid}; memory grew by {grown:.1f} MiB over 5,000 calls")
    assert min(valid.values()) > 30 and grown < 96


# Shapes of input that nobody thought of.

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = sorted({field for kind in ARGUMENTS.values() for field in kind.model_fields})
written = st.fixed_dictionaries({}, optional={field: json_values for field in fields}) | json_values


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*NAMES, "X", ""]) | st.text(max_size=9), written, st.booleans())
def test_no_call_raises(name: str, arguments: Any, video: bool) -> None:
    picture = np.full((12, 16, 3), 9, np.uint8)
    clip = Clip(4, 2.0, 16, 12, lambda: iter([picture.copy() for _ in range(4)]))
    workspace = Workspace.watching(clip) if video else Workspace([picture])
    call = Action(name, arguments)
    check(workspace, call, cheap().call(workspace, call))


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(*[st.floats(-1e6, 1e6)] * 4),
    st.integers(1, 4000),
    st.integers(1, 4000),
)
def test_any_pixel_box_becomes_a_wire_box(box: Any, width: int, height: int) -> None:
    assert well_boxed(to_wire(box, width, height))
