"""Attribute match at its edges."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.verify.attributes import attribute_agreement, attribute_match

SEEN: dict[str, str | float] = {"colour": "red", "orientation": 2, "count": 40, "length": 40, "area": 12}


@pytest.mark.parametrize(
    ("name", "claimed", "same"),
    [
        ("colour", "red", True),
        ("colour", "Red", False),
        ("colour", 3, False),
        ("count", 40.0, True),
        ("count", 41, False),
        ("length", 42, True),
        ("length", 43, False),
        ("length", 38.0, True),
        ("count", "40", False),
        ("count", True, False),
        ("count", None, False),
        ("count", float("nan"), False),
        ("count", 10**400, False),
        ("area", 13, True),
        ("area", 14, False),
        ("orientation", 173, True),
        ("orientation", 172, False),
        ("orientation", 11, True),
        ("orientation", 12, False),
        ("orientation", 272, False),
    ],
)
def test_edges(name: str, claimed: object, same: bool) -> None:
    assert attribute_match(name, claimed, SEEN[name]) is same


def test_agreement_counts_what_is_claimed() -> None:
    assert attribute_agreement(dict(SEEN), SEEN) == 1.0
    assert attribute_agreement({"colour": "red", "count": 1}, SEEN) == 0.5
    for claimed in ({}, None, "red", {"colour": "red", "weight": 1}):
        assert attribute_agreement(claimed, SEEN) == 0.0


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 180), st.floats(0, 180), st.sampled_from([0.0, 0.05, 0.5]))
def test_orientation_is_an_axis(a: float, b: float, tolerance: float) -> None:
    assert attribute_match("orientation", a, a, tolerance)
    assert attribute_match("orientation", a, b, 0.5)
    assert attribute_match("orientation", a, b, tolerance) == attribute_match("orientation", b, a, tolerance)


def test_a_square_looks_alike_every_quarter_turn() -> None:
    assert attribute_agreement({"orientation": 89}, {"shape": "square", "orientation": 0}) == 1
    assert attribute_agreement({"orientation": 89}, {"shape": "other", "orientation": 0}) == 0
    assert attribute_agreement({"orientation": 45}, {"shape": "square", "orientation": 0}) == 0
