"""How right the embedded tools are on unseen world inputs, and what a call costs, beside plain libraries.

Accuracy: the audit's cases under a seed of their own. The peers see the first `SHARED` cases of a tool, and
are compared with our answers to the same ones. Cost: CPU time of one thread, the median over calls on
different inputs after one that warms up; frames of a film are decoded before the clock starts.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from statistics import median
from typing import Any

import cv2
import numpy as np

from benchmarks import tool_peers
from benchmarks.measurement import Measurement, measured
from evaluation.tool_audit import CASES
from evaluation.tools.case import Case
from evaluation.tools.trials import Trial, audit
from pixelis_pipeline.records import Action
from pixelis_pipeline.tools.contract import Tool, Workspace, to_wire
from pixelis_pipeline.tools.registry import Registry, default_registry
from pixelis_pipeline.tools.seg import cut_of
from pixelis_pipeline.tools.zoom import LanczosZoom
from pixelis_pipeline.world.lettering import plate
from pixelis_pipeline.world.scene import draw_scene

SEED = 550_917  # not the audit's
COUNT = 60  # calls for each tool
SHARED = 12  # of them also made to the peer
REPEATS = 15  # timed calls
SIDE, BOX, CROP = 640, 200, 320  # pixels: the picture, the box in it, the crop that is read

Score = Callable[[Sequence[Trial]], float]


def _mean(trials: Sequence[Trial]) -> float:
    return float(np.mean([each.score for each in trials]))


def _over_half(trials: Sequence[Trial]) -> float:
    return float(np.mean([each.score > 0.5 for each in trials]))


def _at_least_half(trials: Sequence[Trial]) -> float:
    return float(np.mean([each.score >= 0.5 for each in trials]))


def _legible(trials: Sequence[Trial]) -> float:
    """Mean over text whose letters are at least 12 px: a page's own are 7 to 9, so not as they stand."""
    return _mean([each for each in trials if "as it stands" not in each.kind["text"]])


SCORES: Mapping[str, Sequence[tuple[str, Score, float]]] = {  # tool: (name, score, target)
    "SEG": (("mean IoU", _mean, 0.85), ("share of IoU above .5", _over_half, 0.90)),
    "OCR": (("ANLS of upright text from 12 px", _legible, 0.95),),
    "TRK": (("mean HOTA", _mean, 0.70),),
    "TEMP": (("share of tIoU from .5", _at_least_half, 0.85),),
    "PROP": (("share exact in all attributes", _mean, 0.92),),
}
PEERS: Mapping[str, tuple[str, Mapping[str, Tool]]] = {
    "SEG": ("cv2.grabCut, whole picture", {"SEG": tool_peers.PlainGrabCut()}),
    "TRK": ("cv2.TrackerCSRT", {"TRK": tool_peers.Csrt()}),
    "OCR": ("rapidocr defaults", {"OCR": tool_peers.DefaultRapidOcr(), "ZOOM": LanczosZoom()}),
    "ZOOM": ("cv2.resize, Lanczos", {"ZOOM": tool_peers.PlainResize()}),
    "PROP": ("skimage regionprops, no names", {"PROP": tool_peers.RegionProperties()}),
}


def _trials(registry: Registry, cases: Sequence[Case]) -> Sequence[Trial]:
    return audit(registry, cases)[0].trials


def accuracy(registry: Registry, count: int = COUNT, shared: int = SHARED) -> Iterator[Measurement]:
    """Every score beside its target; a second row beside the peer where one does the same work."""
    for tool, scores in SCORES.items():
        cases = list(CASES[tool](SEED, count))
        ours = _trials(registry, cases)
        for name, score, target in scores:
            value = round(score(ours), 4)
            yield Measurement(f"{tool}: {name}, {count} calls", value, "", target=target, met=value >= target)
        if tool in PEERS and tool != "PROP":
            peer, tools = PEERS[tool]
            name, score, _ = scores[0]
            theirs = score(_trials(Registry(tools), cases[:shared]))
            yield _beside(f"{tool}: {name}, first {shared}", score(ours[:shared]), "", peer, theirs)


def _beside(name: str, value: float, unit: str, peer: str, theirs: float) -> Measurement:
    ratio = round(value / theirs, 3) if theirs else None
    return Measurement(name, round(value, 3), unit, None, peer, round(theirs, 3), ratio)


def milliseconds(registry: Registry, made: Sequence[tuple[Workspace, Action]]) -> float:
    """Median CPU time of these calls; the first also goes before them, to warm up."""
    spent = []
    for workspace, call in [made[0], *made]:
        held = Workspace(list(workspace.images), list(workspace.observations), workspace.clip)
        cut_of.cache_clear()  # PROP is asked about the boxes that SEG was
        started = time.process_time()
        registry.call(held, call)
        spent.append(1000 * (time.process_time() - started))
    return median(spent[1:])


def _pictures(repeats: int) -> Iterator[tuple[Workspace, list[int]]]:
    """Photographs with things on them, and a box of `BOX` px around the largest."""
    for k in range(repeats):
        scene = draw_scene(np.random.default_rng([SEED, k]), width=SIDE, height=SIDE, ground="photograph")
        x0, y0, x1, y1 = max(scene.things, key=lambda thing: thing.area).box
        left, top = (min(max((a + b - BOX) // 2, 0), SIDE - BOX) for a, b in ((x0, x1), (y0, y1)))
        yield Workspace([scene.image]), list(to_wire((left, top, left + BOX, top + BOX), SIDE, SIDE))


def _crops(repeats: int) -> Iterator[Workspace]:
    """Photographs of `CROP` px with a label of three letters somewhere on them."""
    for k in range(repeats):
        rng = np.random.default_rng([SEED, 7, k])
        image = draw_scene(rng, width=CROP, height=CROP, things=1, ground="photograph").image
        label = plate("".join(rng.choice(list("ACEHKLMNPRTU"), 3)), int(rng.integers(18, 29)), k % 2 == 0)
        x, y = rng.integers(0, CROP - label.shape[1]), rng.integers(0, CROP - label.shape[0])
        image[y : y + label.shape[0], x : x + label.shape[1]] = label
        yield Workspace([image])


def _films(tool: str, count: int) -> Iterator[tuple[Workspace, Action]]:
    for case in islice(CASES[tool](SEED, 3 * count), count):
        yield case.workspace(), case.calls[-1]


def latency(registry: Registry, repeats: int = REPEATS) -> Iterator[Measurement]:
    """Median CPU time of a call beside its target, and beside the peer's in the same run."""
    seen = list(_pictures(repeats))
    for workspace, box in seen:
        registry.call(workspace, Action("SEG", {"box": box}))
    boxed = {name: [(w, Action(name, {"box": box})) for w, box in seen] for name in ("SEG", "ZOOM", "PROP")}
    by_mask = [(w, Action("PROP", {"step": 0})) for w, _ in seen if w.observations[0].valid]
    read = [(workspace, Action("OCR", {})) for workspace in _crops(repeats)]
    inside = f"{BOX} px box in {SIDE} px"
    timed: list[tuple[str, str, list[tuple[Workspace, Action]], float | None]] = [
        ("ZOOM", f"{inside}, scale 2", boxed["ZOOM"], 5.0),
        ("PROP", f"a given mask in {SIDE} px", by_mask, 5.0),
        ("PROP", f"{inside}, SEG included", boxed["PROP"], None),
        ("OCR", f"{CROP} px crop with a label", read, 60.0),
        ("SEG", inside, boxed["SEG"], 40.0),
        ("TEMP", "a question about a film of 24 frames", list(_films("TEMP", repeats)), None),
    ]
    for tool, what, made, at_most in timed:
        ours = milliseconds(registry, made)
        yield measured(f"{tool}: p50, {what}", ours, "ms", at_most)
        if tool in PEERS and at_most is not None:
            yield _peer_time(tool, what, ours, made)
    yield from _a_frame(registry, repeats)


def _peer_time(tool: str, what: str, ours: float, made: Sequence[tuple[Workspace, Action]]) -> Measurement:
    peer, tools = PEERS[tool]
    theirs = milliseconds(Registry(tools), made[:SHARED])
    return _beside(f"{tool}: calls a second, {what}", 1000 / ours, "calls/s", peer, 1000 / theirs)


def _a_frame(registry: Registry, repeats: int) -> Iterator[Measurement]:
    made = list(_films("TRK", repeats))
    frames = median(call.arguments["end"] - call.arguments["start"] + 1 for _, call in made)
    ours = milliseconds(registry, made) / frames
    yield measured("TRK: p50 a frame of 320 px", ours, "ms", 5.0)
    peer, tools = PEERS["TRK"]
    theirs = milliseconds(Registry(tools), made[:5]) / frames
    yield _beside("TRK: frames a second", 1000 / ours, "frames/s", peer, 1000 / theirs)


def suite() -> list[Measurement]:
    """Both, on one thread. ValueError, from the registry, where a backend cannot be built."""
    threads: Any = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        registry = default_registry()
        return [*accuracy(registry), *latency(registry)]
    finally:
        cv2.setNumThreads(threads)
