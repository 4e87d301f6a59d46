"""How varied the thoughts of traces are, by the words alone: distinct-n and self-BLEU.

distinct-n is the number of different n-grams over the number of all (Li et al. 2016). Self-BLEU is the mean
BLEU-4 of a text with all others as its references (Zhu et al. 2018, Texygen): 1 where all say the same. Every
text is compared with every other one, so it is taken over a fixed sample of at most MOST_COMPARED texts.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from pixelis_pipeline.records import Trajectory

MOST_COMPARED = 200
ORDERS = (1, 2, 3, 4)
Grams = Counter[tuple[str, ...]]


def diversity(traces: Iterable[Trajectory]) -> dict[str, float]:
    """{"traces": n, "distinct-1": ..., "distinct-2": ..., "distinct-3": ..., "self-BLEU-4": ...} over the
    thoughts of all traces, and under "<kind>, <name>" over those of each kind. Self-BLEU is absent where
    there are fewer than two traces."""
    ordered = sorted(traces, key=lambda trace: (trace.kind, _drawn(trace)))
    kinds = {kind: [words(t) for t in mine] for kind, mine in groupby(ordered, key=lambda t: t.kind)}
    every = [words(trace) for trace in sorted(ordered, key=_drawn)]
    found = _measured(every, "")
    for kind, mine in kinds.items():
        found |= _measured(mine, f"{kind}, ")
    return found


def words(trace: Trajectory) -> list[str]:
    """The words of a trace's thoughts, in lower case; numbers are words, marks are not."""
    return [word for step in trace.steps for word in re.findall(r"\w+", step.thought.lower())]


def distinct(texts: Iterable[Sequence[str]], order: int) -> float:
    """Different n-grams of `order` words over all of them; 0 where there are none."""
    counts = Counter(gram for text in texts for gram in _grams(text, order).elements())
    return len(counts) / max(counts.total(), 1)


def self_bleu(texts: Sequence[Sequence[str]]) -> float:
    """The mean over the texts of BLEU-4 (uniform weights, brevity penalty by the closest length, zero where
    an order has no match) against all others. ValueError for fewer than two texts.

    A text shorter than four words is weighed by the orders that it has, so that two equal short texts
    score 1.
    """
    if len(texts) < 2:
        raise ValueError("self-BLEU compares a text with others: there must be two")
    grams = [[_grams(text, order) for order in ORDERS] for text in texts]
    # A text's own counts must not be among its references': the highest count is not enough, the two
    # highest are (with the text that has the first).
    tops = [_tops([each[n] for each in grams]) for n in range(len(ORDERS))]
    lengths = [len(text) for text in texts]
    scores = []
    for index, mine in enumerate(grams):
        orders = [n for n in range(len(ORDERS)) if mine[n]]
        precisions = [_precision(mine[n], tops[n], index) for n in orders]
        if not orders or not all(precisions):
            scores.append(0.0)
            continue
        others = lengths[:index] + lengths[index + 1 :]
        closest = min(others, key=lambda length: (abs(length - lengths[index]), length))
        brevity = min(0.0, 1 - closest / lengths[index])
        scores.append(math.exp(brevity + sum(math.log(p) for p in precisions) / len(precisions)))
    return sum(scores) / len(scores)


def _measured(texts: list[list[str]], prefix: str) -> dict[str, float]:
    found: dict[str, float] = {f"{prefix}traces": len(texts)}
    for order in (1, 2, 3):
        found[f"{prefix}distinct-{order}"] = round(distinct(texts, order), 4)
    if len(texts) > 1:
        found[f"{prefix}self-BLEU-4"] = round(self_bleu(texts[:MOST_COMPARED]), 4)
    return found


def _drawn(trace: Trajectory) -> str:
    """The place of a trace in the sample: a hash, the same on every run."""
    return hashlib.sha256(f"diversity {trace.id}".encode()).hexdigest()


def _grams(text: Sequence[str], order: int) -> Grams:
    return Counter(tuple(text[n : n + order]) for n in range(len(text) - order + 1))


def _tops(grams: Sequence[Grams]) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """n-gram -> (the highest count in any text, which text has it, the highest count in the others)."""
    tops: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for index, mine in enumerate(grams):
        for gram, count in mine.items():
            first, where, second = tops.get(gram, (0, -1, 0))
            tops[gram] = (count, index, first) if count > first else (first, where, max(second, count))
    return tops


def _precision(mine: Grams, tops: dict[tuple[str, ...], tuple[int, int, int]], index: int) -> float:
    """The share of a text's n-grams that stand in others, each counted as often as one of them has it."""
    matched = 0
    for gram, count in mine.items():
        first, where, second = tops[gram]
        matched += min(count, second if where == index else first)
    return matched / mine.total()
