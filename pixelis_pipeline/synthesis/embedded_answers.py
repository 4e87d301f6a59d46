"""What the embedded teacher says: for each form of question a short trace, worked out from exact truth.

A question is understood from its words alone, as a model would; a picture is known by its digest. Outputs
claim only what the answer needs and the truth states.
"""

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pixelis_pipeline.media.colour import COLOURS
from pixelis_pipeline.records import Json
from pixelis_pipeline.synthesis import questions
from pixelis_pipeline.synthesis.questions import SHAPES
from pixelis_pipeline.synthesis.request import CHOICES, SEPARATOR
from pixelis_pipeline.tools.contract import WIRE, to_wire
from pixelis_pipeline.tools.masks import decode, encode

READABLE = 64  # pixels: the height that ZOOM brings a word to
LARGEST_SCALE = 8

Box = Sequence[float]


class Unanswerable(ValueError):
    """A question or a picture that the teacher does not know; the text is its refusal."""


def reply(question: str, digests: Sequence[str], truths: Mapping[str, Json]) -> Json:
    """{"steps", "answer"} for a question's text about the pictures with these sha256. Raises Unanswerable."""
    entry = next((truths[digest] for digest in digests if digest in truths), None)
    if entry is None:
        raise Unanswerable("I do not know this picture.")
    words, _, choices = question.partition(CHOICES)
    for pattern, answer in _forms():
        if found := pattern.fullmatch(words.strip()):
            return answer(entry, {**found.groupdict(), "choices": choices})
    raise Unanswerable("I do not understand this question.")


# --- geometry -----------------------------------------------------------------------------------------


def _pixels(entry: Json, text: str) -> list[float]:
    """A box as written in a question, in (fractional) pixels."""
    x0, y0, x1, y1 = (int(part) for part in text.strip("[]").split())
    wide, high = entry["width"] / WIRE, entry["height"] / WIRE
    return [x0 * wide, y0 * high, x1 * wide, y1 * high]


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    wide = max(min(one[2], other[2]) - max(one[0], other[0]), 0)
    high = max(min(one[3], other[3]) - max(one[1], other[1]), 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return wide * high / max(areas - wide * high, 1e-9)


def _seen(entry: Json, kind: str) -> list[Json]:
    """The things, words, tracks or windows of an entry. Unanswerable where there are none."""
    found: list[Json] = entry.get(kind, [])
    if not found:
        raise Unanswerable(f"I see no {kind}.")
    return found


def _at(entry: Json, kind: str, text: str) -> Json:
    """The thing or word that stands in a box written in a question."""
    box = _pixels(entry, text)
    found = max(_seen(entry, kind), key=lambda item: _overlap(item["box"], box))
    if _overlap(found["box"], box) < 0.5:
        raise Unanswerable(f"I see nothing at {text}.")
    return found


def _named(entry: Json, **wanted: str) -> Json:
    """The one thing of which all of `wanted` is true."""
    found = [thing for thing in _seen(entry, "things") if all(thing[key] == wanted[key] for key in wanted)]
    if len(found) != 1:
        raise Unanswerable(f"I see {len(found)} things that are {' '.join(wanted.values())}.")
    return found[0]


def _wire(entry: Json, box: Box) -> list[int]:
    return list(to_wire((box[0], box[1], box[2], box[3]), entry["width"], entry["height"]))


# --- steps --------------------------------------------------------------------------------------------


def _step(thought: str, action: str, arguments: Json, output: Json) -> Json:
    return {"thought": thought, "action": action, "arguments": arguments, "output": output}


def _segment(entry: Json, thought: str, box: list[int], things: Sequence[Json]) -> Json:
    """SEG over `box`, claiming the exact mask of the things in it."""
    mask = functools.reduce(np.logical_or, (decode(thing["rle"]) for thing in things))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    tight = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    claimed = {
        "box": _wire(entry, tight),
        "area": round(1000 * float(mask.mean())),
        "mask": encode(mask),
    }
    return _step(thought, "SEG", {"box": box}, claimed)


def _wire_box(text: str) -> list[int]:
    return [int(part) for part in text.strip("[]").split()]


# --- one function per form of question ----------------------------------------------------------------


def _compare(entry: Json, said: Json) -> Json:
    """Segment both, compare their areas."""
    one, other = _at(entry, "things", said["a"]), _at(entry, "things", said["b"])
    steps = [
        _segment(entry, f"Look at {name}.", _wire_box(said[name.lower()]), [thing])
        for name, thing in (("A", one), ("B", other))
    ]
    return {"steps": steps, "answer": "A" if one["area"] > other["area"] else "B"}


def _measured(entry: Json, name: str, box: list[int], thing: Json) -> Json:
    call = _step(f"Measure its {name}.", "PROP", {"box": box}, {name: thing[name]})
    return {"steps": [call], "answer": thing[name]}


def _colour_at(entry: Json, said: Json) -> Json:
    return _measured(entry, "colour", _wire_box(said["box"]), _at(entry, "things", said["box"]))


def _shape_at(entry: Json, said: Json) -> Json:
    return _measured(entry, "shape", _wire_box(said["box"]), _at(entry, "things", said["box"]))


def _colour_of_largest(entry: Json, said: Json) -> Json:
    thing = max(_seen(entry, "things"), key=lambda item: int(item["area"]))
    return _measured(entry, "colour", _wire(entry, thing["box"]), thing)


def _shape_of_coloured(entry: Json, said: Json) -> Json:
    thing = _named(entry, colour=said["colour"])
    return _measured(entry, "shape", _wire(entry, thing["box"]), thing)


def _read(entry: Json, said: Json) -> Json:
    """Find the thing that is named, read its label."""
    thing = _named(entry, colour=said["colour"], shape=said["shape"])
    if not thing["label"]:
        raise Unanswerable("I see no label on it.")
    arguments = {"box": _wire(entry, thing["label_box"])}
    step = _step("Read the label.", "OCR", arguments, {"text": thing["label"]})
    return {"steps": [step], "answer": thing["label"]}


def _read_small(entry: Json, said: Json) -> Json:
    """Enlarge the word until it can be read, then read it."""
    word = _at(entry, "words", said["box"])
    height = max(word["box"][3] - word["box"][1], 1)
    scale = min(max(math.ceil(READABLE / height), 2), LARGEST_SCALE)
    zoom = _step("Enlarge it.", "ZOOM", {"box": _wire_box(said["box"]), "scale": scale}, {"image": 1})
    read = _step("Read the word.", "OCR", {"image": 1}, {"text": word["text"]})
    return {"steps": [zoom, read], "answer": word["text"]}


def _count_in(entry: Json, said: Json) -> Json:
    """Segment all that stands in a region, count the pieces of the mask."""
    x0, y0, x1, y1 = _pixels(entry, said["box"])
    things = [
        thing
        for thing in _seen(entry, "things")
        if x0 <= (thing["box"][0] + thing["box"][2]) / 2 <= x1
        and y0 <= (thing["box"][1] + thing["box"][3]) / 2 <= y1
    ]
    if not things:
        raise Unanswerable("I see none.")
    steps = [
        _segment(entry, "Find them all.", _wire_box(said["box"]), things),
        _step("Count them.", "PROP", {"step": 0}, {"count": len(things)}),
    ]
    return {"steps": steps, "answer": str(len(things))}


def _count_shapes(entry: Json, said: Json) -> Json:
    """Segment each thing of a shape, in reading order."""
    things = [thing for thing in _seen(entry, "things") if thing["shape"] == said["shape"]]
    if not things:
        raise Unanswerable("I see none.")
    things.sort(key=lambda thing: (thing["box"][1], thing["box"][0]))
    steps = [
        _segment(entry, f"Count {number}.", _wire(entry, thing["box"]), [thing])
        for number, thing in enumerate(things, 1)
    ]
    return {"steps": steps, "answer": str(len(things))}


def _moved(entry: Json, said: Json) -> Json:
    """Follow the shape that moves furthest in the direction that is asked for, measure what it is."""
    x, y = {"left": (-1, 0), "right": (1, 0), "upwards": (0, -1), "downwards": (0, 1)}[said["way"]]

    def distance(track: Json) -> float:
        first, last = track["boxes"][0], track["boxes"][-1]
        return float(x * (last[0] - first[0]) + y * (last[1] - first[1]))

    track = max(_seen(entry, "tracks"), key=distance)
    start, end = track["frames"][0], track["frames"][-1]
    seen = dict(zip(track["frames"], track["boxes"], strict=True))
    boxes = [_wire(entry, seen[frame]) if frame in seen else None for frame in range(start, end + 1)]
    colour, shape = track["label"].split()
    steps = [
        _step("Follow what moves.", "TRK", {"box": boxes[0], "start": start, "end": end}, {"boxes": boxes}),
        _step(
            "See what it is.", "PROP", {"box": boxes[-1], "frame": end}, {"colour": colour, "shape": shape}
        ),
    ]
    answers = [choice for choice in said["choices"].split(SEPARATOR) if track["label"] in choice]
    return {"steps": steps, "answer": answers[0] if answers else track["label"]}


def _when(entry: Json, said: Json) -> Json:
    """Find the window of the query, or of the thing that it names."""
    query = said["query"]
    named = [track["label"] for track in _seen(entry, "tracks") if track["label"] in query]
    for window in _seen(entry, "windows"):
        if window["query"] == query or any(label in window["query"] for label in named):
            arguments = {"query": query, "start": 0.0, "end": entry["frames"] / entry["fps"]}
            claimed = {"start": window["start"], "end": window["end"]}
            step = _step("Find the moment.", "TEMP", arguments, claimed)
            return {"steps": [step], "answer": questions.span_text(window["start"], window["end"])}
    raise Unanswerable("I see no such moment.")


def _form(template: str, **groups: str) -> re.Pattern[str]:
    """The pattern of a question template: each {name} becomes a group of that name."""
    pattern = re.escape(template)
    for name in re.findall(r"{(\w+)}", template):
        group = groups.get(name, r"\[\d+ \d+ \d+ \d+\]")
        pattern = pattern.replace(re.escape(f"{{{name}}}"), f"(?P<{name}>{group})", 1)
    return re.compile(pattern)


@functools.cache
def _forms() -> tuple[tuple[re.Pattern[str], Callable[[Json, Json], Any]], ...]:
    """Every form of question the teacher understands, with what answers it."""
    shape, colour = (f"(?P<{name}>{'|'.join(of)})" for name, of in (("shape", SHAPES), ("colour", COLOURS)))
    return (
        (_form(questions.COMPARE), _compare),
        (_form(questions.COUNT), _count_in),
        (_form(questions.COLOUR, part=".+"), _colour_at),
        (_form(questions.SHAPE), _shape_at),
        (_form(questions.READ_SMALL), _read_small),
        (_form(questions.WHEN, query=".+"), _when),
        (re.compile(rf"What does the label on the {colour} {shape} say\?"), _read),
        (re.compile(r"What colour is the largest shape\?"), _colour_of_largest),
        (re.compile(rf"What shape is the {colour} one\?"), _shape_of_coloured),
        (re.compile(rf"How many {shape}(?:s|es) are there\?"), _count_shapes),
        (re.compile(r"Which shape moved (?:to the )?(?P<way>left|right|upwards|downwards)\?"), _moved),
    )
