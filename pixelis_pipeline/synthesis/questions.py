"""The one place where question texts are written: raw annotations in, questions out.

Training sources and the held-out benchmark go through the same program, so a policy is measured on what
it was taught to read. Texts are few and short because the smallest policy has to learn them. Answers come
from annotations and pixels, never from a tool that a trace will later be replayed with.

A sample gives several questions. The first is what the held-out benchmark asks, so what comes after it is
drawn from a generator of its own: a family that is added moves no question that was asked before.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np

from pixelis_pipeline.media.colour import colour_shares
from pixelis_pipeline.records import ActionName, Json, Media, Question, Sample, record_id
from pixelis_pipeline.synthesis.moves import WAYS, ends, further, ways
from pixelis_pipeline.synthesis.places import countable, distinct, fills_its_box, objects
from pixelis_pipeline.tools.contract import to_wire
from pixelis_pipeline.tools.masks import decode

Array = np.ndarray[Any, Any]
Generator = np.random.Generator
Pixels = Callable[[Media], Array]

STAGE = "questions"
VERSION = 1

COMPARE = "Which is larger, A at {a} or B at {b}?"
LARGEST = "Which is largest, A at {a}, B at {b} or C at {c}?"
COLOUR = "What colour is the {part} at {box}?"
SHAPE = "What shape is the thing at {box}?"
READ_SMALL = "Which word is printed at {box}?"
READ_TWO = "Which words are printed at {a} and at {b}?"
COUNT = "How many objects are in {box}?"
WHEN = "When in the video: {query}"
ORDER = "Which is first, A: {a} or B: {b}?"
WAY = "Which way does the thing at {box} move in the first {end} s?"
FURTHER = "Which moves further in the first {end} s, A at {a} or B at {b}?"
MOVING = "How many of the things at {a}, {b} and {c} move in the first {end} s?"

SHAPES = ("circle", "square", "triangle", "star", "cross", "hexagon")
# What an answer cannot do without: a trace that never called them validly shows no evidence.
TOOLS: dict[str, tuple[ActionName, ...]] = {
    "compare": ("SEG",),
    "largest": ("SEG",),
    "count": ("SEG",),
    "attribute": ("PROP",),
    "read": ("OCR",),
    "read_small": ("OCR",),
    "read_two": ("OCR",),
    "move": ("TRK",),
    "way": ("TRK",),
    "further": ("TRK",),
    "moving": ("TRK",),
    "when": ("TEMP",),
    "order": ("TEMP",),
}
LEAST_RATIO = 1.5  # of the compared areas
SURE_COLOUR = 0.6  # the share of an object's chroma that one palette colour must have to be its colour
MOST_ASKED = 8  # questions of one form about one picture, page or film
MOST_COMPARED = 8  # objects that threes are drawn from, the largest
ONE_MOMENT = 0.5  # the share from which two annotators mean one moment, as answers are compared
APART = 1.5  # seconds between two beginnings, to be asked which is first


def wire_text(box: list[float] | tuple[float, ...], media: Media) -> str:
    """A pixel box as a question writes it: "[x0 y0 x1 y1]" in wire coordinates."""
    x0, y0, x1, y1 = to_wire((box[0], box[1], box[2], box[3]), media.width, media.height)
    return f"[{x0} {y0} {x1} {y1}]"


def span_text(start: float, end: float) -> str:
    """A time span as an answer: "1.5-4.0", in seconds."""
    return f"{start:.1f}-{end:.1f}"


def questions(sample: Sample, pixels: Pixels, *, seed: int) -> list[Question]:
    """The questions that `sample` supports, none where it supports none; the same seed, the same ones.

    `pixels` gives an image's uint8 RGB array [height, width, 3]; it is only called where an answer is a
    colour. Raises what `pixels` raises.
    """
    if not sample.media:
        return []
    digest = hashlib.sha256(f"{seed} {sample.id}".encode()).digest()
    rng, more = np.random.default_rng(list(digest)), np.random.default_rng([*digest, 1])
    if sample.question:
        return _authors(sample) + (_moves(sample, more) if sample.origin.source == "starqa" else [])
    match sample.origin.source:
        case "sa1b" if sample.media[0].kind == "video":  # SA-V
            return _moves(sample, more)
        case "sa1b":
            return _compare(sample, rng, more) + _count(sample, rng, more) + _largest(sample, more)
        case "partimagenet":
            return _attribute(sample, pixels, rng)
        case "fineweb":
            return _read_small(sample, rng, more)
        case "ego4d":
            return _when(sample, rng, more) + _order(sample, more)
    return []


def _question(sample: Sample, task: str, text: str, answer: str, **more: Any) -> Question:
    payload = {"task": task, "text": text, "answer": answer, **more}
    return Question(
        id=record_id(STAGE, VERSION, {}, [sample.id], payload),
        parents=(sample.id,),
        origin=sample.origin,
        media=sample.media,
        tools=TOOLS.get(task, ()),
        **payload,
    )


def _some(count: int, first: int, more: Generator) -> list[int]:
    """`first` and other numbers below `count` in random order, MOST_ASKED in all at most."""
    others = [number for number in more.permutation(count).tolist() if number != first]
    return [first, *others[: MOST_ASKED - 1]]


# --- pictures -----------------------------------------------------------------------------------------


def _compare(sample: Sample, rng: Generator, more: Generator) -> list[Question]:
    """Which of two boxed objects covers more of the picture."""
    pairs = [
        (a, b) if a["area"] > b["area"] else (b, a)
        for a, b in combinations(objects(sample), 2)
        if _larger(a, b) or _larger(b, a)
        if distinct(a["box"], b["box"])
    ]
    if not pairs:
        return []
    asked: list[Question] = []
    for number in _some(len(pairs), int(rng.integers(len(pairs))), more):
        larger, smaller = pairs[number]
        answer = "AB"[(more if asked else rng).integers(2)]
        first, second = (larger, smaller) if answer == "A" else (smaller, larger)
        media = sample.media[0]
        text = COMPARE.format(a=wire_text(first["box"], media), b=wire_text(second["box"], media))
        asked.append(_choice(sample, "compare", text, answer, ("A", "B")))
    return asked


def _larger(one: Json, other: Json) -> bool:
    return bool(one["area"] >= LEAST_RATIO * other["area"])


def _largest(sample: Sample, more: Generator) -> list[Question]:
    """Which of three boxed objects covers most of the picture."""
    tried = sorted(objects(sample), key=lambda o: -o["area"])[:MOST_COMPARED]
    threes = [
        three
        for three in combinations(tried, 3)
        if _larger(three[0], three[1])
        and all(distinct(a["box"], b["box"]) for a, b in combinations(three, 2))
    ]
    asked = []
    for number in more.permutation(len(threes)).tolist()[:MOST_ASKED]:
        order = more.permutation(3).tolist()
        places = [wire_text(threes[number][n]["box"], sample.media[0]) for n in order]
        text = LARGEST.format(a=places[0], b=places[1], c=places[2])
        asked.append(_choice(sample, "largest", text, "ABC"[order.index(0)], ("A", "B", "C")))
    return asked


def _choice(
    sample: Sample, task: str, text: str, answer: str, choices: tuple[str, ...], **more: Any
) -> Question:
    return _question(sample, task, text, answer, choices=choices, answer_kind="choice", **more)


def _count(sample: Sample, rng: Generator, more: Generator) -> list[Question]:
    """How many objects stand in a box. How many is drawn first, so that no number is the usual one."""
    regions = countable(sample)
    if not regions:
        return []
    numbers = sorted({count for _, count in regions})
    asked = []
    for draw, index in enumerate(_some(len(numbers), int(rng.integers(len(numbers))), more)):
        boxes = [region for region, count in regions if count == numbers[index]]
        box = boxes[(more if draw else rng).integers(len(boxes))]
        text = COUNT.format(box=wire_text(box, sample.media[0]))
        asked.append(_question(sample, "count", text, str(numbers[index]), answer_kind="integer"))
    return asked


def _attribute(sample: Sample, pixels: Pixels, rng: Generator) -> list[Question]:
    """The colour of a part by the pixels under its own mask, or the shape that its category names.

    Only a body has the shape of the whole; its other parts have shapes that no annotation names.
    """
    parts = [part for part in objects(sample) if part.get("rle")]
    media = sample.media[0]
    image: Array | None = None
    asked: list[Question] = []
    for index in rng.permutation(len(parts)):
        part = parts[index]
        if len(asked) == MOST_ASKED:
            break
        if not fills_its_box(part, parts):
            continue
        place, name = wire_text(part["box"], media), part["category"].lower()
        whole, _, called = name.rpartition(" ")
        if called == "body" and whole in SHAPES and rng.random() < 0.5:
            asked.append(_question(sample, "attribute", SHAPE.format(box=place), whole))
            continue
        image = pixels(media) if image is None else image
        shares = colour_shares(image[decode(part["rle"])])
        colour = max(shares, key=lambda name: shares[name], default="")
        if colour and shares[colour] >= SURE_COLOUR:
            asked.append(_question(sample, "attribute", COLOUR.format(part=name, box=place), colour))
    return asked


# --- pages --------------------------------------------------------------------------------------------


def _read_small(sample: Sample, rng: Generator, more: Generator) -> list[Question]:
    """A word of a page, or two, by their places; such as stand there once and are nothing but letters."""
    words = sample.annotations.get("words", [])
    times = Counter(word["text"].lower() for word in words)
    askable = [
        word
        for word in words
        if len(word["text"]) >= 4
        and word["text"].isascii()
        and word["text"].isalpha()
        and times[word["text"].lower()] == 1
    ]
    if not askable:
        return []
    drawn = _some(len(askable), int(rng.integers(len(askable))), more)
    places = [wire_text(askable[number]["box"], sample.media[0]) for number in drawn]
    texts = [askable[number]["text"] for number in drawn]
    one = [
        _question(sample, "read_small", READ_SMALL.format(box=place), text)
        for place, text in zip(places, texts, strict=True)
    ]
    two = [
        _question(
            sample,
            "read_two",
            READ_TWO.format(a=places[n], b=places[n + 1]),
            f"{texts[n]}, {texts[n + 1]}",
            answer_kind="list",
        )
        for n in range(0, len(drawn) - 1, 2)
    ]
    return one + two


# --- films --------------------------------------------------------------------------------------------


def _meant(sample: Sample) -> list[Json]:
    """The annotated windows whose query means one moment of the film: the first of each query whose windows
    all share ONE_MOMENT of what they take together. What happens twice is no answer to "when"."""
    alike: dict[str, list[Json]] = {}
    for window in sample.annotations.get("windows", []):
        words = " ".join(re.findall(r"\w+", window["query"].casefold()))
        alike.setdefault(words, []).append(window)

    def one(a: Json, b: Json) -> bool:
        shared = min(a["end"], b["end"]) - max(a["start"], b["start"])
        return bool(shared >= ONE_MOMENT * (max(a["end"], b["end"]) - min(a["start"], b["start"])))

    return [same[0] for same in alike.values() if all(one(a, b) for a, b in combinations(same, 2))]


def _when(sample: Sample, rng: Generator, more: Generator) -> list[Question]:
    """When an annotated window is; the answer is "start-end" in seconds."""
    windows = _meant(sample)
    if not windows:
        return []
    asked = []
    for number in _some(len(windows), int(rng.integers(len(windows))), more):
        start, end = float(windows[number]["start"]), float(windows[number]["end"])
        text = WHEN.format(query=windows[number]["query"])
        answer = span_text(start, end)
        asked.append(_question(sample, "when", text, answer, span=(start, end), answer_kind="span"))
    return asked


def _order(sample: Sample, more: Generator) -> list[Question]:
    """Which of two moments is first. Only moments told in plain words: a question inside a question is
    none. The span is what both take, from the first one's start."""
    told = [window for window in _meant(sample) if not window["query"].endswith("?")]
    pairs = [
        (a, b) if a["start"] < b["start"] else (b, a)
        for a, b in combinations(told, 2)
        if abs(a["start"] - b["start"]) >= APART and a["query"] != b["query"]
    ]
    asked = []
    for number in more.permutation(len(pairs)).tolist()[:MOST_ASKED]:
        earlier, later = pairs[number]
        answer = "AB"[more.integers(2)]
        first, second = (earlier, later) if answer == "A" else (later, earlier)
        text = ORDER.format(a=first["query"], b=second["query"])
        span = (float(earlier["start"]), float(max(earlier["end"], later["end"])))
        asked.append(_choice(sample, "order", text, answer, ("A", "B"), span=span))
    return asked


def _moves(sample: Sample, more: Generator) -> list[Question]:
    """Which way an annotated thing moves, which of two moves further, how many of three move; each from the
    film's first frame to a frame that is annotated too."""
    media = sample.media[0]
    way, two, three = [], [], []
    for end in ends(sample):
        found = ways(sample, end)
        places = {each.label: wire_text(each.box, media) for each in found}
        until, span = f"{end / media.fps:.4g}", (0.0, end / media.fps)
        for each in found:
            if each.way:
                text = WAY.format(box=places[each.label], end=until)
                way.append(_choice(sample, "way", text, each.way, WAYS, span=span))
        for most, least in further(found):
            answer = "AB"[more.integers(2)]
            a, b = (most, least) if answer == "A" else (least, most)
            text = FURTHER.format(end=until, a=places[a.label], b=places[b.label])
            two.append(_choice(sample, "further", text, answer, ("A", "B"), span=span))
        for chosen in combinations(found, 3):
            if moving := sum(bool(each.way) for each in chosen):
                named = dict(zip("abc", (places[each.label] for each in chosen), strict=True))
                text = MOVING.format(**named, end=until)
                three.append(_question(sample, "moving", text, str(moving), span=span, answer_kind="integer"))
    return [
        asked[number]
        for asked in (way, two, three)
        for number in more.permutation(len(asked)).tolist()[:MOST_ASKED]
    ]


def _authors(sample: Sample) -> list[Question]:
    """The question its authors ask, as they ask it."""
    windows = sample.annotations.get("windows", [])
    span = (float(windows[0]["start"]), float(windows[0]["end"])) if windows else ()
    named = [sample.category, *sample.annotations.get("skills", [])]
    task = next((name for name in named if name in TOOLS), sample.category or "other")
    if sample.origin.source == "starqa":
        task = "move"
    return [
        _question(
            sample,
            task,
            sample.question,
            sample.answer,
            choices=sample.choices,
            answer_kind=sample.answer_kind,
            span=span,
        )
    ]
