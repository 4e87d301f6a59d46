"""Right answers, by the kind of answer."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pixelis_pipeline.records import Origin, Question
from pixelis_pipeline.verify.answers import right

CHOICES = ("cat", "dog", "a bird")


def asked(answer: str, kind: Any, choices: tuple[str, ...] = (), source: str = "mmvet") -> Question:
    origin = Origin(source, "r", "l", "evaluation")
    return Question("q", (), origin, (), "?", answer, "task", (), choices, kind)


CASES = [
    # kind, choices, true answer, what was said, right?
    ("choice", CHOICES, "B", "B", True),
    ("choice", CHOICES, "B", "b", True),
    ("choice", CHOICES, "B", "(B)", True),
    ("choice", CHOICES, "B", "B.", True),
    ("choice", CHOICES, "B", "Ⓑ", True),
    ("choice", CHOICES, "B", "B. dog", True),
    ("choice", CHOICES, "B", "B: because it barks", True),
    ("choice", CHOICES, "B", "Dog", True),
    ("choice", CHOICES, "dog", "B", True),
    ("choice", CHOICES, "dog", "The answer is (B).", True),
    ("choice", CHOICES, "C", "A bird", True),
    ("choice", CHOICES, "A", "a bird", False),
    ("choice", CHOICES, "B", "A", False),
    ("choice", CHOICES, "B", "D", False),
    ("choice", CHOICES, "B", "Answer: C", False),
    ("choice", CHOICES, "B", "no idea", False),
    ("choice", CHOICES, "B", "", False),
    ("choice", ("A", "B"), "A", "A", True),
    ("choice", ("A", "B"), "A", "B", False),
    ("choice", ("x", "-x"), "-x", "x", False),
    ("choice", (), "C", "c)", True),
    ("integer", (), "3", "3", True),
    ("integer", (), "3", "There are 3 of them.", True),
    ("integer", (), "3", "3.0", True),
    ("integer", (), "1200", "1,200", True),
    ("integer", (), "3", "13", False),
    ("integer", (), "3", "-3", False),
    ("integer", (), "3", "2 or 3", False),
    ("integer", (), "3", "three", False),
    ("float", (), "1.2", "1.23", True),
    ("float", (), "1.2", "1.26", False),
    ("float", (), "0.60", "0.6", True),
    ("float", (), "0.60", "0.61", False),
    ("float", (), "1.5", "9" * 60 + ".5", False),
    ("list", (), "[0, 2]", "0, 2", True),
    ("list", (), "[0, 2]", "[2, 0]", False),
    ("text", (), "Green", " green. ", True),
    ("text", (), "8.0", "8", True),
    ("text", (), "-1", "1", False),
    ("text", (), "12.5", "125", False),
    ("text", (), "green", "greenish", False),
    ("text", (), "?", "?", True),
    ("text", (), "?", "!", False),
    ("text", (), "eight <OR> 8", "8", True),
    ("text", (), "1.25 <OR> 5/4", "5/4", True),
    ("text", (), "1.25 <OR> 5/4", "4/5", False),
    ("text", (), "-1 <AND> -5", "x = -1 and x = -5", True),
    ("text", (), "-1 <AND> -5", "x = -1 and x = 5", False),
    ("text", (), "oven <AND> dishwasher", "An oven, a dishwasher.", True),
    ("text", (), "oven <AND> dishwasher", "ovens, dishwashers", False),
    ("text", (), "no <OR> empty", "Empty", True),
]


@pytest.mark.parametrize(("kind", "choices", "truth", "said", "expected"), CASES)
def test_right(kind: str, choices: tuple[str, ...], truth: str, said: str, expected: bool) -> None:
    assert right(asked(truth, kind, choices), said) is expected


def test_anls_counts_where_its_authors_use_it() -> None:
    assert right(asked("Coca Cola", "text", source="infovqa"), "CocaCola")
    assert not right(asked("Coca Cola", "text", source="infovqa"), "Coca")
    assert not right(asked("Coca Cola", "text", source="mmvet"), "Coca Colo")


REALDATA = os.environ.get("PIXELIS_REALDATA")


@pytest.mark.skipif(not REALDATA, reason="PIXELIS_REALDATA is not set")
def test_agreement_with_the_authors_grading_of_mathvista() -> None:
    """The authors take the option nearest in spelling, so they grade 11 refusals as right by luck, and the
    letter before the text, which costs one item whose options are letters."""
    graded = json.loads((Path(REALDATA or "") / "mathvista" / "output_bard.json").read_text())
    table: Counter[tuple[str, bool, bool]] = Counter()
    for item in graded.values():
        kind = "choice" if item["question_type"] == "multi_choice" else item["answer_type"]
        question = asked(str(item["answer"]), kind, tuple(item["choices"] or ()), "mathvista")
        table[kind, right(question, str(item["extraction"])), item["true_false"]] += 1
    differing = {key: count for key, count in table.items() if key[1] != key[2]}
    assert table.total() == 1000
    assert set(key[0] for key in differing) == {"choice"}
    assert sum(differing.values()) <= 12


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("2.0-6.0", True),
        ("2-6", True),
        ("2.0 – 6.0 s", True),
        ("2.9-6.9", True),  # both ends within a second
        ("2.0-4.0", True),  # half of it
        ("2.0-3.9", False),
        ("6.0-2.0", False),
        ("2.0", False),
        ("in the middle", False),
    ],
)
def test_a_span_is_right_if_it_overlaps_or_lies_near(said: str, expected: bool) -> None:
    assert right(asked("2.0-6.0", "span"), said) is expected
