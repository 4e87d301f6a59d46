"""What else the embedded teacher knows to be in a picture: what a wrong look falls on.

Boxes are wire boxes of image 0, or of the frame that a call names.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelis_pipeline.media.colour import COLOURS
from pixelis_pipeline.records import Json
from pixelis_pipeline.synthesis.questions import SHAPES
from pixelis_pipeline.tools.contract import WIRE, to_wire
from pixelis_pipeline.tools.masks import decode, encode

PART = 0.15  # of a mask: replay asks for an IoU of .5, so also half a mask does not agree with this part

Array = np.ndarray[Any, Any]
Box = Sequence[float]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Something at `box`. `attributes` are true of it (as PROP says them), `text` is written there."""

    box: list[int]
    name: str
    attributes: Json
    text: str = ""
    rle: Json | None = None


def overlap(one: Box, other: Box) -> float:
    """Intersection of two boxes over the smaller one's area."""
    wide = max(min(one[2], other[2]) - max(one[0], other[0]), 0)
    high = max(min(one[3], other[3]) - max(one[1], other[1]), 0)
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return wide * high / max(smaller, 1e-9)


def wire(entry: Json, box: Box) -> list[int]:
    return list(to_wire((box[0], box[1], box[2], box[3]), entry["width"], entry["height"]))


def things(entry: Json, frame: int | None) -> Iterator[Neighbour]:
    """The things of a picture, or those that are followed through a video, as they stand at a frame. Only
    what is known of them is true of them: annotations leave much open."""
    for thing in entry.get("things", []):
        told = {name: thing[name] for name in ("colour", "shape", "size") if thing.get(name)}
        name = f"{thing.get('colour', '')} {thing.get('shape', '')}".strip()
        name = name or thing.get("category") or "thing"
        yield Neighbour(wire(entry, thing["box"]), name, {**told, "count": 1}, rle=thing.get("rle"))
    for track in entry.get("tracks", []):
        if (at := frame or 0) in track["frames"]:
            box = wire(entry, track["boxes"][track["frames"].index(at)])
            yield Neighbour(box, track["label"], {**named(track["label"]), "count": 1})


def named(label: str) -> Json:
    """The colour and shape that a label like "red star" names."""
    colour, _, shape = label.partition(" ")
    return {"colour": colour, "shape": shape} if colour in COLOURS and shape in SHAPES else {}


def writing(entry: Json) -> Iterator[Neighbour]:
    """The words and labels of a picture."""
    for word in entry.get("words", []):
        yield Neighbour(wire(entry, word["box"]), f"word {word['text']!r}", {}, word["text"])
    for thing in entry.get("things", []):
        if thing.get("label"):
            box = wire(entry, thing["label_box"])
            yield Neighbour(box, f"label {thing['label']!r}", {}, thing["label"])


def beside(found: Iterator[Neighbour], box: Box) -> list[Neighbour]:
    """Those that stand clear of a box, the nearest first."""
    clear = [each for each in found if overlap(each.box, box) < 0.05]
    return sorted(clear, key=lambda each: _distance(each.box, box))


def shifted(box: Box) -> list[int] | None:
    """A box of the same size, clear of this one, moved no further than that takes. None without room."""
    wide, high = int(box[2] - box[0]), int(box[3] - box[1])
    x, y = int(box[0]), int(box[1])
    for dx, dy in ((wide + 8, 0), (-wide - 8, 0), (0, high + 8), (0, -high - 8)):
        moved = [x + dx, y + dy, x + dx + wide, y + dy + high]
        if min(moved) >= 0 and max(moved) <= WIRE:
            return moved
    return None


def claim_of(mask: Array, like: Json) -> Json:
    """What SEG says of a mask (bool [height, width]), as far as `like` claims it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    tight = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    whole = {
        "box": list(to_wire(tight, mask.shape[1], mask.shape[0])),
        "area": round(1000 * float(mask.mean())),
        "mask": encode(mask),
    }
    return {name: whole[name] for name in like if name in whole}


def other_masks(output: Json, entry: Json) -> Iterator[tuple[Json, str]]:
    """(what SEG did not return, what is wrong with it): a part of its mask, and the masks of others."""
    if "mask" not in output:
        return
    mask = decode(output["mask"])
    for axis, edges in ((1, ("upper", "lower")), (0, ("left", "right"))):
        for edge, way in zip(edges, (1, -1), strict=True):
            grown = np.cumsum(mask.sum(axis=axis)[::way]) / mask.sum()
            kept = (np.arange(len(grown)) < np.searchsorted(grown, PART))[::way]
            part = mask & (kept[:, None] if axis else kept[None])
            if part.any():
                yield claim_of(part, output), f"takes the {edge} edge of it for the whole"
    for each in things(entry, None):
        if each.rle is not None and each.rle["size"] == output["mask"]["size"]:
            other = decode(each.rle)
            if (mask & other).sum() <= 0.1 * min(mask.sum(), other.sum()):
                yield claim_of(other, output), f"takes the outline of the {each.name} for it"
    for axis in (1, 0):
        width = int(np.ptp(np.flatnonzero(mask.any(axis=1 - axis)))) + 1
        for way in (width, -width):
            rolled = np.roll(mask, way, axis)
            if not (rolled & mask).any():
                yield claim_of(rolled, output), "draws the outline of it beside where it stands"
                return


def _distance(one: Box, other: Box) -> float:
    return abs(one[0] + one[2] - other[0] - other[2]) + abs(one[1] + one[3] - other[1] - other[3])
