"""Character and word error rates, as dinglehopper counts them.

A character is a grapheme cluster (`\\X`), so a letter and its combining marks are one, after a Unicode
normal form that the caller states: NFC keeps ligatures and circled digits apart from what they stand for,
NFKC folds them. A word is what UAX 29 says, unless it is nothing but spaces and signs.

Both rates are the edit distance over the length of the truth. They are not symmetric, and lie above 1 where
more is said than is true.
"""

import math
import unicodedata
from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Literal

import regex
from rapidfuzz.distance import Levenshtein

Form = Literal["NFC", "NFKC"]
_CLUSTER = regex.compile(r"\X")
_BOUNDARY = regex.compile(r"(?V1w)\b")
_NO_WORD = regex.compile(r"[\p{P}\p{Z}\p{S}\p{M}\p{Cc}\p{Cf}]*")
_PRIVATE = regex.compile(r"\p{Co}")


def characters(text: str, form: Form) -> list[str]:
    """The grapheme clusters of `text` in a normal form."""
    return _CLUSTER.findall(unicodedata.normalize(form, text))


def words(text: str, form: Form) -> list[str]:
    """The words of `text` in a normal form: UAX 29, without those that hold only spaces, punctuation,
    symbols or controls. Code points of private use are letters, as in transcripts of old print."""
    text = unicodedata.normalize(form, text)
    ends = [hit.start() for hit in _BOUNDARY.finditer(_PRIVATE.sub("x", text))]
    pieces = [text[a:b] for a, b in pairwise(ends)]
    return [piece for piece in pieces if not _NO_WORD.fullmatch(piece)]


def distance(truth: Sequence[Hashable], said: Sequence[Hashable]) -> int:
    """Levenshtein distance between two sequences of anything hashable."""
    # Numbered first: rapidfuzz compares hashes, which two different strings may share.
    number: dict[Hashable, int] = {}
    a, b = ([number.setdefault(item, len(number)) for item in side] for side in (truth, said))
    return Levenshtein.distance(a, b)


def cer(truth: str, said: str, *, form: Form) -> float:
    """Character error rate: the truth comes first. Infinite where the truth is empty and something is said,
    0 where both are empty."""
    return _rate(characters(truth, form), characters(said, form))


def wer(truth: str, said: str, *, form: Form) -> float:
    """Word error rate: the truth comes first; empty truths as in `cer`."""
    return _rate(words(truth, form), words(said, form))


def _rate(truth: Sequence[str], said: Sequence[str]) -> float:
    if not truth:
        return math.inf if said else 0.0
    return distance(truth, said) / len(truth)
