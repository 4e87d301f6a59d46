"""Run lengths: exact against pycocotools, and safe where pycocotools trusts."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from pixelis_pipeline.tools.masks import LARGEST, decode, encode


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (130, 90)])
def test_decoding_is_exact(density: float, shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(3).random(shape) < density
    rle = encode(mask)
    assert (decode(rle) == mask).all()
    theirs = coco.decode({"size": rle["size"], "counts": rle["counts"].encode()})
    assert (decode(rle) == theirs.astype(bool)).all()


@pytest.mark.parametrize(
    "rle",
    [
        None,
        "abc",
        {},
        {"size": [4, 4]},
        {"size": [4, 4], "counts": [16]},
        {"size": [4], "counts": "`0"},
        {"size": [True, 16], "counts": "`0"},
        {"size": [4, 5], "counts": encode(np.ones((4, 4), bool))["counts"]},
        {"size": [0, 4], "counts": ""},
        {"size": [LARGEST, 2], "counts": "0"},
        {"size": [4, 4], "counts": "\x00\x01"},
        {"size": [4, 4], "counts": "oooooooooooooooooooo"},
        {"size": [4, 4], "counts": "P"},
    ],
)
def test_what_is_no_mask_is_refused(rle: object) -> None:
    with pytest.raises(ValueError, match="mask"):
        decode(rle)


@given(st.text(max_size=60), st.integers(1, 40), st.integers(1, 40))
def test_any_counts_are_decoded_or_refused(counts: str, height: int, width: int) -> None:
    with contextlib.suppress(ValueError):
        assert decode({"size": [height, width], "counts": counts}).shape == (height, width)


@given(
    st.integers(1, 24), st.integers(1, 24), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.6, 1.0])
)
def test_any_mask_comes_back(height: int, width: int, seed: int, density: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < density
    stored = encode(mask)
    assert stored["size"] == [height, width] and (decode(stored) == mask).all()
