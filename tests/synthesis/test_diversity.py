"""distinct-n and self-BLEU against values worked out by hand."""

import math
import random

import pytest

from pixelis_pipeline.records import Action, Media, Origin, Question, Step, TraceKind, Trajectory
from pixelis_pipeline.synthesis.diversity import MOST_COMPARED, distinct, diversity, self_bleu

ASKED = Question(
    "q", (), Origin("x", "r", "CC0-1.0", "training"), (Media("a", "image", "/a", 1, 1),), "?", "a", "read"
)


def trace(name: str, *thoughts: str, kind: TraceKind = "positive") -> Trajectory:
    steps = tuple(Step(thought, Action("OCR", {}), {}) for thought in thoughts)
    return Trajectory(name, (), ASKED, steps, "a", kind)


def test_distinct_counts_different_ngrams_over_all() -> None:
    texts = [["read", "the", "word"], ["read", "the", "label"]]
    assert distinct(texts, 1) == 4 / 6
    assert distinct(texts, 2) == 3 / 4
    assert distinct(texts, 3) == 1.0
    assert distinct([["one"]], 2) == 0.0


def test_equal_texts_have_a_self_bleu_of_one_and_strange_ones_of_nought() -> None:
    same = [["look", "at", "the", "red", "thing"]] * 3
    assert self_bleu(same) == pytest.approx(1.0)
    assert self_bleu([["read", "it"]] * 2) == pytest.approx(1.0), "too short for four words"
    assert self_bleu([["a", "b", "c", "d", "e"], ["f", "g", "h", "i", "j"]]) == 0.0


def test_self_bleu_is_the_value_worked_out_by_hand() -> None:
    # a: 6 words, b: 5. a against b: 5/6, 4/5, 3/4, 2/3, no penalty (6 > 5). b against a: 1, 1, 1, 1, and a
    # penalty of exp(1 - 6/5).
    a, b = ["the", "cat", "sat", "on", "the", "mat"], ["the", "cat", "sat", "on", "the"]
    first = (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25
    assert self_bleu([a, b]) == pytest.approx((first + math.exp(1 - 6 / 5)) / 2)


def test_a_repeated_word_counts_as_often_as_one_other_text_has_it() -> None:
    # the the: clipped to 1 of 2 by either other text, not to 2 by both of them
    texts = [["the", "the"], ["the", "cat"], ["the", "dog"]]
    pieces = [0.0, 0.0, 0.0]
    assert self_bleu(texts) == pytest.approx(sum(pieces) / 3), "no two share two words in a row"
    ones = [["the", "the"], ["the"], ["the"]]
    assert self_bleu(ones) == pytest.approx((0.0 + 1.0 + 1.0) / 3)


def test_it_is_told_for_all_and_for_each_kind_whatever_the_order() -> None:
    traces = [trace(f"p{n}", "Read the word.", f"Number {n}.") for n in range(300)]
    traces.append(trace("w", "Look at it.", kind="outcome-negative"))
    found = diversity(traces)
    assert found["traces"] == 301 and found["positive, traces"] == 300
    assert found["outcome-negative, distinct-1"] == 1.0
    assert "outcome-negative, self-BLEU-4" not in found
    assert 0.5 < found["self-BLEU-4"] < 1.0
    shuffled = random.Random(1).sample(traces, len(traces))
    assert diversity(shuffled) == found
    assert MOST_COMPARED == 200


def test_no_trace_has_no_diversity() -> None:
    assert diversity([]) == {"traces": 0, "distinct-1": 0.0, "distinct-2": 0.0, "distinct-3": 0.0}
