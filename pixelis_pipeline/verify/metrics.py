"""How far apart two observations are: masks, boxes, texts, time spans."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

Array = np.ndarray[Any, Any]
ANLS_FLOOR = 0.5
_PUNCTUATION = re.compile(r"(?!(?<=\d)[.,:/](?=\d)|(?<!\w)-(?=[\w.]))[^\w\s]|_")


def mask_iou(a: Array, b: Array) -> float:
    """|A and B| / |A or B| of two bool masks of one shape; two empty masks agree (1). ValueError for
    different shapes."""
    if a.shape != b.shape:
        raise ValueError(f"masks of different size: {a.shape} and {b.shape}")
    union = int(np.logical_or(a, b).sum())
    return 1.0 if not union else int(np.logical_and(a, b).sum()) / union


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes [left, top, right, bottom], exclusive ends."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inner = max(0.0, width) * max(0.0, height)
    outer = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner
    return inner / outer if outer > 0 else 0.0


def span_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """tIoU: intersection over union of two time spans [start, end] in seconds."""
    inner = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    outer = (a[1] - a[0]) + (b[1] - b[0]) - inner
    return inner / outer if outer > 0 else 0.0


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance in code points."""
    return Levenshtein.distance(a, b)


def similarity(a: str, b: str) -> float:
    """1 - edit distance / length of the longer text; two empty texts agree (1)."""
    longest = max(len(a), len(b))
    return 1.0 - edit_distance(a, b) / longest if longest else 1.0


def anls(truths: Sequence[str], answer: str) -> float:
    """ANLS of one answer (Biten et al., ICCV 2019): the best similarity to any truth, lower-cased and
    with spaces collapsed, or 0 where the normalised distance is not below .5. The mean over a data set
    is its ANLS."""
    said = " ".join(answer.lower().split())
    best = max((similarity(" ".join(truth.lower().split()), said) for truth in truths), default=0.0)
    return best if 1.0 - best < ANLS_FLOOR else 0.0


def plain(text: str) -> str:
    """Text for comparing readings: NFKC, casefolded, punctuation dropped, single spaces.

    Punctuation inside numbers stays, and so does their sign: "-1" is not "1", nor "12.5" "125".
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = _PUNCTUATION.sub(
        lambda hit: hit[0] if not unicodedata.category(hit[0]).startswith("P") else "", folded
    )
    return " ".join(kept.split())
