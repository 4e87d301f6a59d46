"""What the embedded teacher says: for each form of question a short trace, worked out from exact truth.

A question is understood from its words alone, as a model would; a picture is known by its digest. Outputs
claim only what the answer needs and the truth states. A thought is written in one of the wordings that "|"
parts, whichever the question's and the picture's digest picks.
"""

import functools
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pixelis_pipeline.media.colour import COLOURS
from pixelis_pipeline.records import Json
from pixelis_pipeline.synthesis import questions
from pixelis_pipeline.synthesis.moves import MOVED, STILL
from pixelis_pipeline.synthesis.questions import SHAPES
from pixelis_pipeline.synthesis.request import CHOICES, SEPARATOR
from pixelis_pipeline.tools.contract import WIRE, to_wire
from pixelis_pipeline.tools.masks import decode, encode

READABLE = 64  # pixels: the height that ZOOM brings a word to
LARGEST_SCALE = 8
SECONDS = r"\d+(?:\.\d+)?"  # as questions write them

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
            told = answer(entry, {**found.groupdict(), "choices": choices})
            return {**told, "steps": [_worded(step, f"{words}{entry['sha256']}") for step in told["steps"]]}
    raise Unanswerable("I do not understand this question.")


def _worded(step: Json, key: str) -> Json:
    """The step with one wording of its thought: the same in every step of a trace, so that it reads as one
    voice."""
    wordings = step["thought"].split("|")
    picked = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % len(wordings)
    return {**step, "thought": wordings[picked]}


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


def _track(entry: Json, text: str) -> Json:
    """The track that begins at frame 0 in a box written in a question."""
    box = _pixels(entry, text)
    begun = [track for track in _seen(entry, "tracks") if track["frames"][0] == 0]
    found = max(begun, key=lambda track: _overlap(track["boxes"][0], box), default=None)
    if found is None or _overlap(found["boxes"][0], box) < 0.5:
        raise Unanswerable(f"I see nothing at {text}.")
    return found


def _came(track: Json, end: int) -> tuple[float, float]:
    """How far (x, y in pixels) the centre of a track came from its first frame to frame `end`."""
    if end not in track["frames"]:
        raise Unanswerable(f"I do not see the {track['label']} at frame {end}.")
    first, last = track["boxes"][0], track["boxes"][track["frames"].index(end)]
    return (last[0] + last[2] - first[0] - first[2]) / 2, (last[1] + last[3] - first[1] - first[3]) / 2


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


def _follow(entry: Json, thought: str, track: Json, end: int, box: list[int] | None = None) -> Json:
    """TRK from the first frame in which a thing is seen (in `box`, as a question has it) to frame `end`."""
    start = track["frames"][0]
    seen = dict(zip(track["frames"], track["boxes"], strict=True))
    boxes = [_wire(entry, seen[frame]) if frame in seen else None for frame in range(start, end + 1)]
    return _step(thought, "TRK", {"box": box or boxes[0], "start": start, "end": end}, {"boxes": boxes})


def _find(entry: Json, thought: str, query: str) -> Json:
    """TEMP over the whole film, claiming the window of the query, or of the thing that it names."""
    named = [track["label"] for track in entry.get("tracks", []) if track["label"] in query]
    windows = _seen(entry, "windows")
    exact = [window for window in windows if window["query"] == query]
    for window in exact or windows:
        if window["query"] == query or any(label in window["query"] for label in named):
            arguments = {"query": query, "start": 0.0, "end": entry["frames"] / entry["fps"]}
            return _step(thought, "TEMP", arguments, {"start": window["start"], "end": window["end"]})
    raise Unanswerable("I see no such moment.")


def _enlarged(entry: Json, text: str, image: int) -> tuple[list[Json], str]:
    """ZOOM on the word in a box as image `image`, and OCR on that; the word."""
    word = _at(entry, "words", text)
    height = max(word["box"][3] - word["box"][1], 1)
    scale = min(max(math.ceil(READABLE / height), 2), LARGEST_SCALE)
    at = {"box": _wire_box(text), "scale": scale}
    zoom = _step("Enlarge it.|Too small: enlarge it.|Zoom on the word.", "ZOOM", at, {"image": image})
    read = _step(
        "Read the word.|Now read it.|See what it says.", "OCR", {"image": image}, {"text": word["text"]}
    )
    return [zoom, read], word["text"]


def _wire_box(text: str) -> list[int]:
    return [int(part) for part in text.strip("[]").split()]


# --- one function per form of question ----------------------------------------------------------------


def _compare(entry: Json, said: Json) -> Json:
    """Segment each, compare their areas."""
    things = {name: _at(entry, "things", said[name.lower()]) for name in "ABC" if name.lower() in said}
    steps = [
        _segment(
            entry,
            f"Look at {name}.|Measure {name}.|How large is {name}?",
            _wire_box(said[name.lower()]),
            [thing],
        )
        for name, thing in things.items()
    ]
    return {"steps": steps, "answer": max(things, key=lambda name: int(things[name]["area"]))}


def _measured(entry: Json, name: str, box: list[int], thing: Json) -> Json:
    call = _step(
        f"Measure its {name}.|Look at its {name}.|What {name} is it?",
        "PROP",
        {"box": box},
        {name: thing[name]},
    )
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
    step = _step(
        "Read the label.|Look at the label.|Read what it says.", "OCR", arguments, {"text": thing["label"]}
    )
    return {"steps": [step], "answer": thing["label"]}


def _read_small(entry: Json, said: Json) -> Json:
    """Enlarge the word until it can be read, then read it."""
    steps, word = _enlarged(entry, said["box"], 1)
    return {"steps": steps, "answer": word}


def _read_two(entry: Json, said: Json) -> Json:
    """Enlarge and read one word, then the other."""
    one, first = _enlarged(entry, said["a"], 1)
    other, second = _enlarged(entry, said["b"], 2)
    return {"steps": one + other, "answer": f"{first}, {second}"}


def _count_in(entry: Json, said: Json) -> Json:
    """Segment each thing that stands in a region."""
    x0, y0, x1, y1 = _pixels(entry, said["box"])
    return _counted(
        entry,
        [
            thing
            for thing in _seen(entry, "things")
            if x0 <= (thing["box"][0] + thing["box"][2]) / 2 <= x1
            and y0 <= (thing["box"][1] + thing["box"][3]) / 2 <= y1
        ],
    )


def _count_shapes(entry: Json, said: Json) -> Json:
    """Segment each thing of a shape."""
    return _counted(entry, [thing for thing in _seen(entry, "things") if thing["shape"] == said["shape"]])


def _counted(entry: Json, things: list[Json]) -> Json:
    """Segment each of some things, in reading order."""
    if not things:
        raise Unanswerable("I see none.")
    things = sorted(things, key=lambda thing: (thing["box"][1], thing["box"][0]))
    steps = [
        _segment(entry, f"Count {n}.|Number {n}.|This is {n}.", _wire(entry, thing["box"]), [thing])
        for n, thing in enumerate(things, 1)
    ]
    return {"steps": steps, "answer": str(len(things))}


def _moved(entry: Json, said: Json) -> Json:
    """Follow one of the shapes that can be chosen after another, until one moves as it is asked."""
    x, y = {"left": (-1, 0), "right": (1, 0), "upwards": (0, -1), "downwards": (0, 1)}[said["way"]]

    def distance(track: Json) -> float:
        came = _came(track, track["frames"][-1])
        return x * came[0] + y * came[1]

    tracks = _seen(entry, "tracks")
    found = max(tracks, key=distance)
    choices = said["choices"].split(SEPARATOR)
    named = [track for choice in choices for track in tracks if track["label"] in choice]
    tried = named[: named.index(found) + 1] if found in named else [found]
    steps = [
        _follow(
            entry,
            f"Look at the {track['label']}.|Follow the {track['label']}.|Does the {track['label']} move?",
            track,
            track["frames"][-1],
        )
        for track in tried
    ]
    answers = [choice for choice in choices if found["label"] in choice]
    return {"steps": steps, "answer": answers[0] if answers else found["label"]}


def _way(entry: Json, said: Json) -> Json:
    """Follow it, see which way it came furthest."""
    track, end = _track(entry, said["box"]), _frame(entry, said["end"])
    x, y = _came(track, end)
    step = _follow(
        entry,
        "Follow it.|See where it is at the end.|Look where it goes.",
        track,
        end,
        _wire_box(said["box"]),
    )
    across = "right" if x > 0 else "left"
    return {"steps": [step], "answer": across if abs(x) > abs(y) else "downwards" if y > 0 else "upwards"}


def _further(entry: Json, said: Json) -> Json:
    """Follow both, compare how far they came."""
    steps, came = _followed(entry, said, "ab")
    return {"steps": steps, "answer": "A" if math.hypot(*came[0]) > math.hypot(*came[1]) else "B"}


def _moving(entry: Json, said: Json) -> Json:
    """Follow each, count those that came any way."""
    steps, came = _followed(entry, said, "abc")
    shares = [max(abs(x) / entry["width"], abs(y) / entry["height"]) for x, y in came]
    return {"steps": steps, "answer": str(sum(share > (STILL + MOVED) / 2 for share in shares))}


def _followed(entry: Json, said: Json, names: str) -> tuple[list[Json], list[tuple[float, float]]]:
    """TRK on each of the boxes that a question names, and how far each thing came (x, y in pixels)."""
    end = _frame(entry, said["end"])
    tracks = [_track(entry, said[name]) for name in names]
    steps = [
        _follow(
            entry,
            f"Follow {name.upper()}.|Look at {name.upper()}.|Does {name.upper()} move?",
            track,
            end,
            _wire_box(said[name]),
        )
        for name, track in zip(names, tracks, strict=True)
    ]
    return steps, [_came(track, end) for track in tracks]


def _frame(entry: Json, seconds: str) -> int:
    return round(float(seconds) * entry["fps"])


def _when(entry: Json, said: Json) -> Json:
    """Find the moment."""
    step = _find(entry, "Find the moment.|Find when it is.|Look for it.", said["query"])
    return {"steps": [step], "answer": questions.span_text(step["output"]["start"], step["output"]["end"])}


def _order(entry: Json, said: Json) -> Json:
    """Find both moments, compare where they begin."""
    steps = [
        _find(entry, f"Find {name}.|When is {name}?|Look for {name}.", said[name.lower()]) for name in "AB"
    ]
    return {
        "steps": steps,
        "answer": "A" if steps[0]["output"]["start"] < steps[1]["output"]["start"] else "B",
    }


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
        (_form(questions.LARGEST), _compare),
        (_form(questions.COUNT), _count_in),
        (_form(questions.COLOUR, part=".+"), _colour_at),
        (_form(questions.SHAPE), _shape_at),
        (_form(questions.READ_SMALL), _read_small),
        (_form(questions.READ_TWO), _read_two),
        (_form(questions.WHEN, query=".+"), _when),
        (_form(questions.ORDER, a=".+", b=".+"), _order),
        (_form(questions.WAY, end=SECONDS), _way),
        (_form(questions.FURTHER, end=SECONDS), _further),
        (_form(questions.MOVING, end=SECONDS), _moving),
        (re.compile(rf"What does the label on the {colour} {shape} say\?"), _read),
        (re.compile(r"What colour is the largest shape\?"), _colour_of_largest),
        (re.compile(rf"What shape is the {colour} one\?"), _shape_of_coloured),
        (re.compile(rf"How many {shape}(?:s|es) are there\?"), _count_shapes),
        (re.compile(r"Which shape moved (?:to the )?(?P<way>left|right|upwards|downwards)\?"), _moved),
    )
