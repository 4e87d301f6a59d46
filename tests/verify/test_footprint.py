"""Soft-DTW against the sum over every alignment, written out."""

import math
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.verify.footprint import Footprint, footprint_cost, footprint_distance, soft_dtw

Matrix = list[list[float]]
matrices = st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda size: st.lists(
        st.lists(st.floats(0, 1, allow_subnormal=False), min_size=size[1], max_size=size[1]),
        min_size=size[0],
        max_size=size[0],
    )
)
ends = st.integers(0, 9)
footprints = st.one_of(
    st.text("ab c", max_size=4),
    st.tuples(ends, ends, ends, ends).map(lambda b: (b[0], b[1], b[0] + b[2] + 1, b[1] + b[3] + 1)),
    st.tuples(ends, ends).map(lambda s: (s[0], s[0] + s[1] + 1)),
)
traces = st.lists(footprints, min_size=1, max_size=4)


def _alignments(cost: Matrix, i: int = 0, j: int = 0) -> Iterator[float]:
    """The cost of each monotone path from (i, j) to the last corner, one path at a time."""
    if i == len(cost) - 1 and j == len(cost[0]) - 1:
        yield cost[i][j]
    for di, dj in ((1, 0), (0, 1), (1, 1)):
        if i + di < len(cost) and j + dj < len(cost[0]):
            yield from (cost[i][j] + rest for rest in _alignments(cost, i + di, j + dj))


@settings(max_examples=100, deadline=None)
@given(matrices, st.sampled_from([0.05, 0.2, 1.0, 5.0]))
def test_soft_dtw_is_the_sum_over_alignments(cost: Matrix, temperature: float) -> None:
    paths = list(_alignments(cost))
    written_out = -temperature * math.log(sum(math.exp(-path / temperature) for path in paths))
    value = soft_dtw(cost, temperature)
    assert value == pytest.approx(written_out, abs=1e-9)
    assert min(paths) - temperature * math.log(len(paths)) - 1e-9 <= value <= min(paths) + 1e-9
    assert value == pytest.approx(soft_dtw([list(column) for column in zip(*cost, strict=True)], temperature))


@settings(max_examples=60, deadline=None)
@given(matrices)
def test_without_temperature_it_is_dtw(cost: Matrix) -> None:
    cheapest = min(_alignments(cost))
    assert soft_dtw(cost, 0.0) == pytest.approx(cheapest, abs=1e-12)
    assert soft_dtw(cost, 1e-4) == pytest.approx(cheapest, abs=1e-3)


def test_numbers_of_alignments() -> None:
    """Costs of 0 leave the count of paths: the Delannoy numbers."""
    for size, count in ((1, 1), (2, 3), (3, 13), (4, 63)):
        assert soft_dtw([[0.0] * size] * size, 1.0) == pytest.approx(-math.log(count))
    assert math.isfinite(soft_dtw([[500.0] * 60] * 60, 1e-3))


def test_nothing() -> None:
    assert soft_dtw([]) == footprint_distance([], []) == 0.0
    assert soft_dtw([[], []]) == footprint_distance([], ["a"]) == footprint_distance(["a"], []) == math.inf
    for wrong in (-0.1, math.nan):
        with pytest.raises(ValueError, match="temperature"):
            soft_dtw([[0.0]], wrong)


def test_costs_of_footprints() -> None:
    assert footprint_cost((0, 0, 4, 4), (0, 0, 4, 2)) == 0.5
    assert footprint_cost((0, 10), (5, 10)) == 0.5
    assert footprint_cost("Green", " green ") == footprint_cost("", "") == 0.0
    assert footprint_cost("abcd", "abcx") == pytest.approx(0.25)
    assert footprint_cost("abcd", "abxx") == 1.0  # as ANLS cuts it
    assert footprint_cost("abcd", (0, 0, 4, 4)) == footprint_cost((0, 4), (0, 0, 4, 4)) == 1.0
    with pytest.raises(ValueError, match="footprint"):
        footprint_cost((1, 2, 3), (0, 4))


@settings(max_examples=100, deadline=None)
@given(traces, traces)
def test_distances_of_traces(a: list[Footprint], b: list[Footprint]) -> None:
    assert all(0.0 <= footprint_cost(x, y) == footprint_cost(y, x) <= 1.0 for x in a for y in b)
    assert footprint_distance(a, b) == pytest.approx(footprint_distance(b, a), abs=1e-9)
    assert footprint_distance(a, a, 0.0) == 0.0
    assert footprint_distance(a, a) <= 0.0


def test_a_detour_costs_and_a_repeat_does_not() -> None:
    """Looking twice at one place aligns with looking once; looking somewhere else does not."""
    here, there, text = (0, 0, 10, 10), (50, 50, 60, 60), "exit"
    plan: list[Footprint] = [here, text]
    assert footprint_distance(plan, [here, here, text], 0.0) == 0.0
    assert footprint_distance(plan, [here, there, text], 0.0) == 1.0
    assert footprint_distance(plan, [here, there, text]) > footprint_distance(plan, [here, here, text])
