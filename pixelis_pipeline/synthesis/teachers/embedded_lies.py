"""Traps: one step of a right trace made to claim what its call does not return, and what follows from it.

The call stays as it is, so that replay finds the flaw at this step and nowhere else. What its writer would
conclude is written after it: the answer, and where a track was lost to another thing, the look at that one.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pixelis_pipeline.media.colour import COLOURS
from pixelis_pipeline.records import Json
from pixelis_pipeline.synthesis.questions import SHAPES, span_text
from pixelis_pipeline.synthesis.teachers import embedded_wrong as wrongly
from pixelis_pipeline.synthesis.teachers.embedded_astray import astray
from pixelis_pipeline.synthesis.teachers.embedded_conclusions import concluded
from pixelis_pipeline.synthesis.teachers.embedded_surroundings import other_masks
from pixelis_pipeline.synthesis.teachers.embedded_told import Lie, Told, free

PALETTES = {"colour": COLOURS, "shape": SHAPES, "size": ("small", "medium", "large")}
TRIES = 4  # other moments


def lies(told: Told, rng: np.random.Generator) -> list[Lie]:
    """Every lie that this trace has room for, those that the answer follows first."""
    makers: dict[str, Callable[[Told, int, np.random.Generator], Iterator[Lie]]] = {
        "PROP": _prop,
        "OCR": _ocr,
        "TEMP": _temp,
        "SEG": _seg,
        "TRK": lambda told, index, rng: astray(told, index),
    }
    found = [
        lie
        for index, step in enumerate(told.steps)
        if step["action"] in makers
        for lie in makers[step["action"]](told, index, rng)
    ]
    return sorted(found, key=lambda lie: lie.answer == told.answer)


def _prop(told: Told, index: int, rng: np.random.Generator) -> Iterator[Lie]:
    step = told.steps[index]
    claimed = step["output"]
    for name, true in claimed.items():
        if name in PALETTES and true in PALETTES[name]:
            values: list[Any] = wrongly.neighbours(true, PALETTES[name])[:3]
        elif name == "count":
            values = [wrongly.off(true, rng)]
        else:
            continue
        for value in values:
            followed = _answer(told, str(true), str(value))
            if followed is None:
                continue
            counted = name == "count" and "step" in step["arguments"]
            what = f"claims {name} {value} where {true} is true"
            if counted:
                what = f"counts {value} where the mask of step {step['arguments']['step']} holds {true}"
            yield Lie(index, {**claimed, name: value}, followed, "logical" if counted else "perceptual", what)
    for choice in told.choices if told.answer in told.choices else ():
        words = set(choice.lower().strip(".").split())
        named = {
            name: next((w for w in PALETTES[name] if w in words), true)
            for name, true in claimed.items()
            if name in PALETTES
        }
        if choice != told.answer and any(claimed[name] != word for name, word in named.items()):
            said = " ".join(str(word) for word in named.values())
            what = f"sees {said} where {' '.join(str(claimed[name]) for name in named)} is true"
            yield Lie(index, {**claimed, **named}, choice, "perceptual", what)


def _answer(told: Told, true: str, said: str) -> str | None:
    """The answer of one who believes `said` in place of `true`: the same where it does not speak of it, None
    where it does and no answer fits."""
    if told.answer == true:
        return said if not told.choices or said in told.choices else None
    words = told.answer.lower().strip(".").split()
    if true.lower() not in words:
        return told.answer
    swapped = told.answer.lower().replace(true.lower(), said.lower())
    fits = [choice for choice in told.choices if choice.lower() == swapped]
    return fits[0] if fits else None if told.choices else swapped


def _ocr(told: Told, index: int, rng: np.random.Generator) -> Iterator[Lie]:
    true = told.steps[index]["output"].get("text", "")
    said = wrongly.misread(true, rng)
    if said is None:
        return
    answer = told.answer
    if true in answer:  # it is the answer, or one of the words that are
        answer = answer.replace(true, said, 1)
    elif answer in true:
        place = true.index(answer)
        answer = said[place : place + len(answer)]
    if told.choices and answer not in told.choices:
        return
    what = f"reads {said!r} where {true!r} is written"
    yield Lie(index, {**told.steps[index]["output"], "text": said}, answer, "perceptual", what)


def _temp(told: Told, index: int, rng: np.random.Generator) -> Iterator[Lie]:
    output = told.steps[index]["output"]
    true = (float(output["start"]), float(output["end"]))
    last = told.seconds or told.steps[index]["arguments"]["end"]
    for _ in range(TRIES):
        said = wrongly.moved(true, last, told.moments, rng) if free(told, index) else None
        if said is None:
            return
        what = f"takes {span_text(*said)} for the moment, which is {span_text(*true)}"
        yield from _concluding(told, index, {"start": said[0], "end": said[1]}, what)


def _concluding(told: Told, index: int, output: Json, what: str) -> Iterator[Lie]:
    """The lie, where some answer follows from it."""
    if answer := concluded(told.steps, told.answer, index, output):
        yield Lie(index, output, answer, "perceptual", what)


def _seg(told: Told, index: int, rng: np.random.Generator) -> Iterator[Lie]:
    if not free(told, index):
        return
    segs = [n for n, step in enumerate(told.steps) if step["action"] == "SEG"]
    if len(segs) == len(told.steps) > 1 and told.answer == str(len(segs)) and index == segs[-1]:
        first = segs[int(rng.integers(len(segs) - 1))]
        what = f"says that this is what step {first} outlined, where another one stands"
        again = f"That is the one of step {first} again."
        copied = dict(told.steps[first]["output"])
        yield Lie(index, copied, str(len(segs) - 1), "logical", what, thought=again)
    for said, what in other_masks(told.steps[index]["output"], told.entry):
        yield from _concluding(told, index, said, what)
