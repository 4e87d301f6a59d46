"""Boundary-F against TrackEval's port of DAVIS' evaluation; masks of SA-V against their authors' figures."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.tools.masks import decode, encode
from pixelis_pipeline.verify.masks import boundary_f, outline
from pixelis_pipeline.verify.metrics import mask_iou

REALDATA = os.environ.get("PIXELIS_REALDATA")
Array = np.ndarray[Any, Any]


def _theirs(truth: Array, said: Array) -> float:
    from trackeval.metrics import JAndF

    return float(JAndF._compute_f([[encode(truth)]], [[encode(said)]], 0, 0, 0.008)[0])


def _blob(draw: np.random.Generator, height: int, width: int) -> Array:
    """A few overlapping ellipses, some of them cut by the border."""
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), bool)
    for _ in range(draw.integers(1, 4)):
        cy, cx = draw.uniform(0, height), draw.uniform(0, width)
        ry, rx = draw.uniform(2, height / 2), draw.uniform(2, width / 2)
        mask |= ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
    return mask


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from([(12, 20), (90, 120), (130, 60), (200, 260)]), st.integers(0, 6)
)
def test_boundary_f_is_davis(seed: int, size: tuple[int, int], shift: int) -> None:
    draw = np.random.default_rng(seed)
    truth = _blob(draw, *size)
    said = np.roll(truth, shift, axis=1) if seed % 2 else _blob(draw, *size)
    value = boundary_f(truth, said)
    assert 0.0 <= value <= 1.0
    assert value == boundary_f(said, truth)
    assert boundary_f(truth, truth) == 1.0
    if outline(truth).any() or outline(said).any():
        assert value == pytest.approx(_theirs(truth, said), abs=1e-12)


def test_the_tolerance_is_a_share_of_the_diagonal() -> None:
    """600 x 800: a diagonal of 1000, so 8 pixels."""
    truth = np.zeros((600, 800), bool)
    truth[100:400, 100:300] = True
    assert boundary_f(truth, np.roll(truth, 8, axis=1)) == 1.0
    moved = np.roll(truth, 9, axis=1)
    assert 0.3 < boundary_f(truth, moved) < 0.5  # the long sides no longer meet
    assert mask_iou(truth, moved) > 0.9
    assert boundary_f(truth, moved) == pytest.approx(_theirs(truth, moved), abs=1e-12)
    assert boundary_f(truth, moved, tolerance=0.009) == 1.0
    assert boundary_f(truth, np.roll(truth, 300, axis=1)) < 0.1


def test_masks_without_an_outline() -> None:
    none, whole, some = np.zeros((20, 30), bool), np.ones((20, 30), bool), np.zeros((20, 30), bool)
    some[5:9, 5:9] = True
    assert boundary_f(none, none) == boundary_f(whole, whole) == 1.0
    assert boundary_f(none, whole) == 0.0  # DAVIS' own code: 1
    assert boundary_f(none, some) == boundary_f(some, none) == boundary_f(whole, some) == 0.0
    with pytest.raises(ValueError, match="size"):
        boundary_f(some, some[:5])


@pytest.mark.skipif(not REALDATA, reason="PIXELIS_REALDATA names no folder of real files")
def test_sav_masks_through_the_decoder_of_the_wire() -> None:
    document = json.loads((Path(REALDATA or "") / "sav" / "sav_000001_manual.json").read_bytes())
    rows = document["masklet"]
    assert [len(row) for row in rows] == [5] * 121
    tracks = [[decode(row[n]) for row in rows] for n in range(5)]
    areas = np.array([[mask.sum() for mask in track] for track in tracks])
    assert {mask.shape for track in tracks for mask in track} == {(848, 480)}
    assert (areas == 0).sum() == 125
    for track, mean in zip(areas, document["masklet_size_abs"], strict=True):
        assert track[track > 0].mean() == pytest.approx(mean, abs=1e-9)
    seen = [(tracks[n][row], tracks[n][row + 1]) for n in range(5) for row in (0, 40, 119)]
    for truth, said in seen:
        if truth.any() or said.any():
            assert boundary_f(truth, said) == pytest.approx(_theirs(truth, said), abs=1e-12)
