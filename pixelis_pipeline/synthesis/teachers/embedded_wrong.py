"""Plausible wrong values: an answer, a reading, a moment. Each is far enough from the true one that no
tolerance of replay or of an answer's comparison calls the two the same."""

import math
import re
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from rapidfuzz.distance import Levenshtein

from pixelis_pipeline.media.colour import COLOURS
from pixelis_pipeline.synthesis.questions import SHAPES, span_text

MISREAD = 0.3  # the share of a text's characters that a misreading changes: replay lets .15 pass
FAR = 2.0  # seconds between the ends of two moments, from which neither is taken for the other
LOOK_ALIKE = dict(
    zip(
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "odobctqnlihtnmaqgnzfvuvkvs8778165130",
        strict=True,
    )
)

Span = tuple[float, float]


def misread(text: str, rng: np.random.Generator) -> str | None:
    """The text with a few letters or digits read as ones that look like them, one letter at least. None
    where it holds neither."""
    letters = [n for n, letter in enumerate(text) if letter.isalnum()]
    wanted = max(math.ceil(MISREAD * len(text)), 1)
    said = list(text)
    for n in rng.permutation(letters).tolist() if letters else ():
        like = LOOK_ALIKE.get(said[n].lower(), "e")
        said[n] = like.upper() if said[n].isupper() else like
        if Levenshtein.distance("".join(said).casefold(), text.casefold()) >= wanted:
            break
    found = "".join(said)
    return found if found.casefold() != text.casefold() else None


def apart(one: Span, other: Span) -> bool:
    """Whether two moments share nothing and an end of theirs lies `FAR` apart: whatever is near the one by
    replay's tolerance (tIoU .5, or both ends within a second) is then not near the other."""
    far = max(abs(one[0] - other[0]), abs(one[1] - other[1])) >= FAR
    return far and min(one[1], other[1]) <= max(one[0], other[0])


def moved(true: Span, last: float, others: Sequence[Span], rng: np.random.Generator) -> Span | None:
    """Another moment of a film of `last` seconds: one of `others` where one is apart from the true one,
    else one as long or shorter. None where the film is too short."""
    places = [other for other in others if apart(true, other)]
    if not places:
        lengths = [true[1] - true[0], (true[1] - true[0]) / 2, 0.5]
        starts = np.arange(0.0, last, 0.5).tolist()
        spans = [(s, s + length) for length in lengths for s in starts if s + length <= last]
        places = [span for span in spans if apart(true, span)]
    if not places:
        return None
    start, end = places[rng.integers(len(places))]
    return round(start, 1), round(end, 1)


def span(text: str) -> Span | None:
    """The two ends of an answer "start-end"."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text)
    return (float(found[1]), float(found[2])) if found else None


def off(count: int, rng: np.random.Generator) -> int:
    """A count that is one off, or two where it is large enough; never below one."""
    steps = [-1, 1] if count < 4 else [-2, -1, 1, 2]
    near = [count + step for step in steps if count + step >= 1]
    return near[rng.integers(len(near))]


def neighbours(value: str, palette: Sequence[str]) -> list[str]:
    """The other words of a palette, the ones next to it first."""
    place, count = palette.index(value), len(palette)
    away = {word: (n - place) % count for n, word in enumerate(palette) if word != value}
    return sorted(away, key=lambda word: min(away[word], count - away[word]))


def wrong_answer(
    answer: str, choices: Sequence[str], last: float, others: Sequence[Span], rng: np.random.Generator
) -> str | None:
    """An answer of the same kind that is not the true one. `last` and `others` as in `moved`. None where
    there is none."""
    if choices:
        rest = [choice for choice in choices if choice != answer]
        return rest[rng.integers(len(rest))] if rest and answer in choices else None
    if answer.isdecimal():
        return str(off(int(answer), rng))
    if re.fullmatch(r"-?\d*\.\d+", answer):
        number = Decimal(answer)
        return str(number + max(abs(number) // 5, Decimal(3).scaleb(int(number.as_tuple().exponent))))
    if true := span(answer):
        found = moved(true, max(last, true[1] + 2 * FAR), others, rng)
        return span_text(*found) if found else None
    for palette in (COLOURS, SHAPES):
        if answer in palette:
            near = neighbours(answer, palette)[:3]
            return near[rng.integers(len(near))]
    return misread(answer, rng)
