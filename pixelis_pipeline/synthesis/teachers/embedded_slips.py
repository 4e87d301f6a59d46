"""Self-corrections: the early error that is put before a right step of a trace.

The error looks somewhere else than the right step does, and claims what it does not return there; the right
step then has something to repair, and a policy that reads what the wrong look really returned learns to
look again. Where nothing else can be looked at, the same call is misread and made again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelis_pipeline.records import Json
from pixelis_pipeline.synthesis.questions import span_text
from pixelis_pipeline.synthesis.teachers.embedded_lies import PALETTES, lies
from pixelis_pipeline.synthesis.teachers.embedded_surroundings import (
    Neighbour,
    beside,
    overlap,
    shifted,
    things,
    writing,
)
from pixelis_pipeline.synthesis.teachers.embedded_told import Told
from pixelis_pipeline.synthesis.teachers.embedded_wrong import misread, neighbours, off

NEAREST = 3  # neighbours that are taken for what is asked for


@dataclass(frozen=True, slots=True)
class Slip:
    """The wrong step `made` before step `before`, which opens with the thought `noticed`. `elsewhere`: it
    is another call than the right one."""

    before: int
    made: Json
    noticed: str
    type: str
    what: str
    elsewhere: bool = True


def slips(told: Told, rng: np.random.Generator) -> list[Slip]:
    """Every early error that this trace has room for."""
    makers: dict[str, Callable[[Told, int, np.random.Generator], Iterator[Slip]]] = {
        "PROP": _prop,
        "OCR": _ocr,
        "SEG": _seg,
        "TRK": _trk,
        "TEMP": _temp,
    }
    found = [
        slip
        for index, step in enumerate(told.steps)
        if step["action"] in makers
        for slip in makers[step["action"]](told, index, rng)
    ]
    return found + [
        Slip(
            lie.step,
            {**told.steps[lie.step], "output": lie.output},
            "That does not fit what is seen: look at it again.",
            lie.type,
            lie.what,
            elsewhere=False,
        )
        for lie in lies(told, rng)
        if not lie.thought
    ]


def _around(told: Told, step: Json) -> list[Neighbour]:
    """The things beside the box of a call, where it is on the question's own picture. What the trace looks
    at anyway is no wrong place."""
    asked = step["arguments"]
    if "box" not in asked or asked.get("image"):
        return []
    frame = asked.get("frame", asked.get("start"))
    looks = [each["arguments"]["box"] for each in told.steps if "box" in each["arguments"]]
    found = beside(things(told.entry, frame), asked["box"])
    return [each for each in found if all(overlap(each.box, box) < 0.5 for box in looks)][:NEAREST]


def _prop(told: Told, index: int, rng: np.random.Generator) -> Iterator[Slip]:
    step = told.steps[index]
    for other in _around(told, step):
        said = {name: _not(other.attributes.get(name), true, rng) for name, true in step["output"].items()}
        if any(name not in other.attributes or value is None for name, value in said.items()):
            continue
        wrong = {**step["arguments"], "box": other.box}
        noticed = f"That is not it: this box holds the {other.name}."
        yield _slip(told, index, wrong, said, noticed, f"takes the {other.name} beside it for what is asked")
    masked = step["arguments"].get("step")
    count = step["output"].get("count", 0)
    if masked is None or count < 2:
        return
    region = told.steps[masked]["arguments"]
    if "box" not in region or region.get("image") or region.get("frame"):
        return
    for one in things(told.entry, None):
        if one.rle is not None and overlap(one.box, region["box"]) > 0.95:
            noticed = "That box holds one of them only: all of them are in the mask."
            what = f"claims a count of {count} for a box that holds the {one.name} alone"
            yield _slip(told, index, {"box": one.box}, {"count": count}, noticed, what, "logical")
            return


def _not(true: Any, wished: Any, rng: np.random.Generator) -> Any:
    """A value that is not `true`: the one that is looked for where that differs. None where there is none."""
    if wished != true:
        return wished
    palette = next((p for p in PALETTES.values() if true in p), None)
    if palette:
        return neighbours(true, palette)[0]
    return off(true, rng) if isinstance(true, int) else None


def _ocr(told: Told, index: int, rng: np.random.Generator) -> Iterator[Slip]:
    step = told.steps[index]
    asked = step["arguments"]
    if "box" in asked and not asked.get("image"):
        for other in beside(writing(told.entry), asked["box"])[:NEAREST]:
            if text := misread(other.text, rng):
                noticed = f"That is not it: this is the {other.name}."
                what = f"reads the {other.name} beside it, and as {text!r}"
                yield _slip(told, index, {**asked, "box": other.box}, {"text": text}, noticed, what)
    made = [n for n, each in enumerate(told.steps) if each["action"] == "ZOOM"]
    image = asked.get("image", 0)
    text = misread(step["output"].get("text", ""), rng)
    if text and 0 < image <= len(made) and "box" not in asked and made[image - 1] < index:
        zoom = made[image - 1]
        small = {k: v for k, v in told.steps[zoom]["arguments"].items() if k != "scale"}
        noticed = "That is no sure reading, it is too small."
        what = f"reads {text!r} where {step['output']['text']!r} is written"
        call = {**step, "arguments": small, "output": {"text": text}, "thought": "Read it."}
        yield Slip(zoom, call, noticed, "perceptual", what)


def _seg(told: Told, index: int, rng: np.random.Generator) -> Iterator[Slip]:
    step = told.steps[index]
    places = [(other.box, f"the {other.name} beside it") for other in _around(told, step)]
    if not places and "box" in step["arguments"] and (box := shifted(step["arguments"]["box"])):
        places = [(box, "the ground beside it")]
    for box, name in places:
        noticed = f"That is not it: this box holds {name}."
        what = f"claims its outline for a box that holds {name}"
        yield _slip(told, index, {**step["arguments"], "box": box}, step["output"], noticed, what)


def _trk(told: Told, index: int, rng: np.random.Generator) -> Iterator[Slip]:
    step = told.steps[index]
    for other in _around(told, step):
        noticed = f"That is not it: the {other.name} stands where this track begins."
        what = f"claims its track for a call that follows the {other.name}"
        wrong = {**step["arguments"], "box": other.box}
        yield _slip(told, index, wrong, step["output"], noticed, what)


def _temp(told: Told, index: int, rng: np.random.Generator) -> Iterator[Slip]:
    """The search of a stretch of the film that does not hold the moment."""
    step = told.steps[index]
    start, end = float(step["output"]["start"]), float(step["output"]["end"])
    low, high = step["arguments"]["start"], step["arguments"]["end"]
    if end - start <= 1.0:
        return
    for a, b in ((low, start), (end, high)):
        if b - a >= 1.0:
            noticed = f"That cannot be: {span_text(start, end)} s lies outside the part that was searched."
            what = f"claims {span_text(start, end)} for a search of {span_text(a, b)}"
            wrong = {**step["arguments"], "start": a, "end": b}
            yield _slip(told, index, wrong, step["output"], noticed, what, "logical")


def _slip(
    told: Told, index: int, arguments: Json, output: Json, noticed: str, what: str, type_: str = "perceptual"
) -> Slip:
    made = {**told.steps[index], "arguments": arguments, "output": output}
    return Slip(index, made, noticed, type_, what)
