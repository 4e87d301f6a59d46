"""The one place where question texts are written: raw annotations in, questions out.

Training sources and the held-out benchmark go through the same program, so a policy is measured on what
it was taught to read. Texts are few and short because the smallest policy has to learn them. Answers come
from annotations and pixels, never from a tool that a trace will later be replayed with.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np

from pixelis_pipeline.media.colour import colour_shares
from pixelis_pipeline.records import ActionName, Media, Question, Sample, record_id
from pixelis_pipeline.synthesis.places import countable, distinct, fills_its_box, objects
from pixelis_pipeline.tools.contract import to_wire
from pixelis_pipeline.tools.masks import decode

Array = np.ndarray[Any, Any]
Pixels = Callable[[Media], Array]

STAGE = "questions"
VERSION = 1

COMPARE = "Which is larger, A at {a} or B at {b}?"
COLOUR = "What colour is the {part} at {box}?"
SHAPE = "What shape is the thing at {box}?"
READ_SMALL = "Which word is printed at {box}?"
COUNT = "How many objects are in {box}?"
WHEN = "When in the video: {query}"

SHAPES = ("circle", "square", "triangle", "star", "cross", "hexagon")
# What an answer cannot do without: a trace that never called them validly shows no evidence.
TOOLS: dict[str, tuple[ActionName, ...]] = {
    "compare": ("SEG",),
    "count": ("SEG",),
    "attribute": ("PROP",),
    "read": ("OCR",),
    "read_small": ("OCR",),
    "move": ("TRK",),
    "when": ("TEMP",),
}
LEAST_RATIO = 1.5  # of the compared areas
SURE_COLOUR = 0.6  # the share of an object's chroma that one palette colour must have to be its colour


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
    rng = np.random.default_rng(list(digest))
    if sample.question:
        return _authors(sample)
    match sample.origin.source:
        case "sa1b":
            return _compare(sample, rng) + _count(sample, rng)
        case "partimagenet":
            return _attribute(sample, pixels, rng)
        case "fineweb":
            return _read_small(sample, rng)
        case "ego4d":
            return _when(sample, rng)
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


def _compare(sample: Sample, rng: np.random.Generator) -> list[Question]:
    """Which of two boxed objects covers more of the picture."""
    pairs = [
        (a, b) if a["area"] > b["area"] else (b, a)
        for a, b in combinations(objects(sample), 2)
        if max(a["area"], b["area"]) >= LEAST_RATIO * min(a["area"], b["area"])
        and distinct(a["box"], b["box"])
    ]
    if not pairs:
        return []
    larger, smaller = pairs[rng.integers(len(pairs))]
    answer = "AB"[rng.integers(2)]
    first, second = (larger, smaller) if answer == "A" else (smaller, larger)
    media = sample.media[0]
    text = COMPARE.format(a=wire_text(first["box"], media), b=wire_text(second["box"], media))
    return [_question(sample, "compare", text, answer, choices=("A", "B"), answer_kind="choice")]


def _count(sample: Sample, rng: np.random.Generator) -> list[Question]:
    """How many objects stand in a box. How many is drawn first, so that no number is the usual one."""
    regions = countable(sample)
    if not regions:
        return []
    numbers = sorted({count for _, count in regions})
    number = numbers[rng.integers(len(numbers))]
    boxes = [region for region, count in regions if count == number]
    box = boxes[rng.integers(len(boxes))]
    text = COUNT.format(box=wire_text(box, sample.media[0]))
    return [_question(sample, "count", text, str(number), answer_kind="integer")]


def _attribute(sample: Sample, pixels: Pixels, rng: np.random.Generator) -> list[Question]:
    """The colour of a part by the pixels under its own mask, or the shape that its category names.

    Only a body has the shape of the whole; its other parts have shapes that no annotation names.
    """
    parts = [part for part in objects(sample) if part.get("rle")]
    media = sample.media[0]
    for index in rng.permutation(len(parts)):
        part = parts[index]
        if not fills_its_box(part, parts):
            continue
        place, name = wire_text(part["box"], media), part["category"].lower()
        whole, _, called = name.rpartition(" ")
        if called == "body" and whole in SHAPES and rng.random() < 0.5:
            return [_question(sample, "attribute", SHAPE.format(box=place), whole)]
        shares = colour_shares(pixels(media)[decode(part["rle"])])
        colour = max(shares, key=lambda name: shares[name], default="")
        if colour and shares[colour] >= SURE_COLOUR:
            return [_question(sample, "attribute", COLOUR.format(part=name, box=place), colour)]
    return []


def _read_small(sample: Sample, rng: np.random.Generator) -> list[Question]:
    """A word of a page, by its place; one that stands there once and is nothing but letters."""
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
    word = askable[rng.integers(len(askable))]
    text = READ_SMALL.format(box=wire_text(word["box"], sample.media[0]))
    return [_question(sample, "read_small", text, word["text"])]


def _when(sample: Sample, rng: np.random.Generator) -> list[Question]:
    """When one of the annotated windows is; the answer is "start-end" in seconds."""
    windows = sample.annotations.get("windows", [])
    if not windows:
        return []
    window = windows[rng.integers(len(windows))]
    start, end = float(window["start"]), float(window["end"])
    text = WHEN.format(query=window["query"])
    return [_question(sample, "when", text, span_text(start, end), span=(start, end), answer_kind="span")]


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
