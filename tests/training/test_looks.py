"""Footprints of places known by construction, and which calls count as made again."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelis_pipeline.agent.pixels import GRID, TOKENS
from pixelis_pipeline.records import Action, Json, Step
from pixelis_pipeline.tools.masks import encode
from training.rft.looks import calls, footprints, looks

LEFT = [0, 0, 500, 999]
coordinates = st.integers(0, 998)
boxes = st.tuples(coordinates, coordinates, st.integers(1, 999), st.integers(1, 999)).map(
    lambda b: [b[0], b[1], min(999, b[0] + b[2]), min(999, b[1] + b[3])]
)


def step(name: str, output: Json | None = None, valid: bool = True, **arguments: Any) -> Step:
    return Step("Look.", Action(name, arguments), output or {}, valid=valid)


def grids(*steps: Step, tiny: float = 1.0) -> np.ndarray:
    return footprints(looks(steps), tiny).reshape(-1, GRID, GRID)


def test_a_box_counts_its_cells_and_no_place_the_whole_picture() -> None:
    half, whole, cut = grids(
        step("PROP", box=LEFT), step("OCR", {"lines": []}), step("PROP", box=[0, 0, 999, 187])
    )
    assert half[:, :4] == pytest.approx(np.full((GRID, 4), 1 / 32), rel=0.01)
    assert half[:, 5:].sum() == 0
    assert np.all(whole == np.float32(1 / TOKENS))
    # One and a half rows: the second counts half as much.
    assert cut[1] / cut[0] == pytest.approx(np.full(GRID, 0.5), abs=0.01) and cut[2:].sum() == 0


def test_what_the_output_gives_comes_before_the_box() -> None:
    mask = np.zeros((64, 64), bool)
    mask[40:, 48:] = True
    seg = step("SEG", {"box": [750, 624, 999, 999], "area": 5, "mask": encode(mask)}, box=[0, 0, 999, 999])
    lines = step("OCR", {"lines": [{"box": [0, 0, 999, 124]}]})
    seen, read = grids(seg, lines)
    assert seen[5:, 6:].sum() == pytest.approx(1) and np.ptp(seen[5:, 6:]) == 0
    assert read[0].sum() == pytest.approx(1, abs=0.01)


def test_a_place_in_a_crop_is_a_place_in_the_picture() -> None:
    zoomed, inside = grids(
        step("ZOOM", {"image": 1}, box=[500, 500, 999, 999]),
        step("PROP", box=[500, 500, 999, 999], image=1),
    )
    assert zoomed[4:, 4:].sum() == pytest.approx(1) and inside[6:, 6:].sum() == pytest.approx(1, abs=0.01)


def test_a_call_that_names_a_step_looks_where_that_one_did() -> None:
    first, again, later, lost = grids(
        step("SEG", {"error": "nothing"}, box=LEFT),
        step("PROP", step=0),
        step("PROP", step=1),
        step("PROP", step=9),
    )
    assert (first == again).all() and (first == later).all()
    assert np.all(lost == np.float32(1 / TOKENS))


def test_a_tiny_place_is_dilated() -> None:
    centre, corner, point = grids(
        step("PROP", box=[440, 440, 460, 460]),  # inside cell (3, 3)
        step("PROP", box=[0, 0, 20, 20]),
        step("SEG", {"error": "nothing"}, points=[[999, 999]]),
    )
    assert np.argwhere(centre > 0).min(0).tolist() == [2, 2] and (centre > 0).sum() == 9
    assert centre[centre > 0] == pytest.approx(1 / 9)
    assert (corner > 0).sum() == 4 and (point[6:, 6:] > 0).all() and (point > 0).sum() == 4
    (kept,) = grids(step("PROP", box=[440, 440, 460, 460]), tiny=0.0)
    assert (kept > 0).sum() == 1


@given(st.lists(st.tuples(st.sampled_from(["SEG", "PROP", "ZOOM", "??", ""]), boxes), max_size=4))
def test_every_step_has_a_footprint(made: list[tuple[str, list[int]]]) -> None:
    found = grids(*[step(name, box=box) for name, box in made])
    assert found.shape == (len(made), GRID, GRID)
    assert found.sum((1, 2)) == pytest.approx(np.ones(len(made)), abs=1e-5) and (found >= 0).all()


@pytest.mark.parametrize(
    "arguments", [[], "box", {"box": "x"}, {"step": True}, {"step": -1}, {"box": [1e9] * 4}]
)
def test_arguments_may_be_anything(arguments: Any) -> None:
    steps = [step("PROP", box=LEFT), Step("", Action("PROP", arguments), {}, valid=False)]
    assert grids(*steps)[1] == pytest.approx(np.full((GRID, GRID), 1 / TOKENS))


def told(*steps: Step) -> list[int]:
    """For each step the first one whose call it makes."""
    texts = calls(steps, looks(steps), 0.5)
    return [texts.index(text) for text in texts]


def test_a_box_moved_by_a_hair_is_the_same_call() -> None:
    moved = [[100 + d, 100, 400 + d, 400] for d in (0, 3, -5)]
    assert told(*[step("PROP", box=box) for box in moved]) == [0, 0, 0]
    assert told(step("PROP", box=moved[0]), step("PROP", box=[500, 500, 800, 800])) == [0, 1]
    assert told(step("SEG", box=moved[0]), step("PROP", box=moved[1])) == [0, 1]


def test_the_same_thing_cut_out_again_and_named_by_the_new_step_is_the_same_call() -> None:
    seg = {"box": [100, 100, 400, 400], "area": 9}
    chain = [step("SEG", seg, points=[[p, p]]) for p in (200, 201)]
    props = [step("PROP", step=k) for k in (0, 2)]
    assert told(chain[0], props[0], chain[1], props[1]) == [0, 1, 0, 1]


def test_a_call_that_failed_is_not_what_its_repair_makes_again() -> None:
    wrong = step("PROP", valid=False, box=LEFT, colour="red")
    assert told(wrong, step("PROP", box=LEFT)) == [0, 1]
