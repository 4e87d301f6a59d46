"""The join of cosines against float64 brute force, on spectra that the bound prunes and on others."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.curation import cosine
from pixelis_pipeline.curation.cosine import between, within


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Float64, NaN where a side is zero."""
    with np.errstate(invalid="ignore"):
        a, b = (
            v.astype(float) / np.linalg.norm(v.astype(float), axis=1, keepdims=True) for v in (left, right)
        )
        return a @ b.T


def assert_exact(found: tuple, left: np.ndarray, right: np.ndarray, threshold: float, same: bool) -> None:
    """None missed from threshold + 1e-6, none reported below threshold - 1e-6, sorted, each once."""
    truth = cosines(left, right)
    if same:
        truth[np.tril_indices(len(left))] = np.nan
    i, j, values = found
    seen = np.zeros(truth.shape, bool)
    seen[i, j] = True
    assert seen[truth >= threshold + 1e-6].all()
    assert not seen[~(truth >= threshold - 1e-6)].any()
    assert np.allclose(values, truth[i, j], atol=1e-9, rtol=0) and values.dtype == np.float64
    assert (np.diff(i * len(right) + j) > 0).all()


def spectrum(count: int, width: int, decay: float, seed: int = 0) -> np.ndarray:
    """Vectors of any norm around some centres, axis k of strength k^-decay, a tenth of them near copies."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((width, width)))[0]
    strength = np.arange(1, width + 1.0) ** -decay
    centres = rng.standard_normal((count // 50, width))[rng.integers(0, count // 50, count)] if decay else 0
    vectors = (centres + rng.standard_normal((count, width))) * strength
    copies, noise = count // 10, rng.standard_normal((count // 10, width)) * strength
    vectors[:copies] = vectors[copies : 2 * copies] + rng.uniform(0, 0.6, (copies, 1)) * noise
    return (rng.permutation(vectors) @ turn * rng.uniform(0.01, 100, (count, 1))).astype(np.float32)


@pytest.mark.parametrize("decay", [0, 0.7, 2])
@pytest.mark.parametrize("threshold", [0.93, 0.95, 0.999])
def test_equals_brute_force(decay: float, threshold: float) -> None:
    vectors = spectrum(3000, 96, decay)
    found = within(vectors, threshold)
    assert len(found[0]) >= 10
    assert_exact(found, vectors, vectors, threshold, same=True)


def test_the_bound_prunes_a_spectrum_and_steps_aside_where_it_would_not() -> None:
    flat = np.random.default_rng(0).standard_normal((3000, 256)).astype(np.float32)
    steep = flat / np.sqrt(np.arange(1, 257, dtype=np.float32))
    axes = cosine._axes([(steep, cosine._norms(steep, 0.95))], 0.95)
    assert axes is not None and axes.shape[1] <= 64
    assert cosine._axes([(flat, cosine._norms(flat, 0.2))], 0.2) is None


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 30), st.floats(-1, 1), st.integers(1, 9))
def test_any_axes_and_tiles_find_the_same(
    seed: int, count: int, width: int, threshold: float, n: int
) -> None:
    """Also axes of some other data, with rows of zeros, copies, opposites and multiples."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, (count, width)).astype(np.float32)
    vectors[rng.random(count) < 0.5] *= np.float32(rng.uniform(0.001, 1000))
    axes = np.linalg.qr(rng.standard_normal((width, width)))[0][:, : rng.integers(1, width + 1)]
    half = count // 2
    with (
        mock.patch.multiple(cosine, ROWS=n, COLUMNS=n + 2, EXACT=n),
        mock.patch.object(cosine, "_axes", lambda *_: axes if seed % 3 else None),
    ):
        assert_exact(within(vectors, threshold), vectors, vectors, threshold, same=True)
        left, right = vectors[:half], vectors[half:]
        assert_exact(between(left, right, threshold), left, right, threshold, same=False)


def test_copies_are_found_at_the_threshold_of_1() -> None:
    """A multiple by a power of two is the same direction exactly; float64 may still round 1 down."""
    vectors = spectrum(1500, 64, 1)
    i, j, values = within(np.concatenate([vectors, 4 * vectors]), 1 - 1e-9)
    assert {(k, k + 1500) for k in range(1500)} <= set(zip(i.tolist(), j.tolist(), strict=True))
    assert np.allclose(values, 1)


def test_between_is_across_only_and_each_side_may_be_empty() -> None:
    vectors = spectrum(4000, 64, 1)
    left, right = vectors[:1500], vectors[1500:]
    assert_exact(between(left, right, 0.95), left, right, 0.95, same=False)
    for sides in ((left, right[:0]), (left[:0], right), (left[:0], right[:0])):
        assert [len(column) for column in between(*sides, 0.95)] == [0, 0, 0]


def test_rows_of_zeros_match_nothing_even_at_minus_1() -> None:
    vectors = np.array([[0, 0], [1, 0], [0, 0], [-2, 0]], np.float32)
    i, j, values = within(vectors, -1)
    assert (i.tolist(), j.tolist(), values.tolist()) == ([1], [3], [-1.0])


def test_a_memmap_of_float16_gives_what_its_numbers_give(tmp_path: Path) -> None:
    vectors = spectrum(2500, 64, 1).astype(np.float16)
    np.save(tmp_path / "vectors.npy", vectors)
    found = within(np.load(tmp_path / "vectors.npy", mmap_mode="r"), 0.95)
    assert_exact(found, vectors, vectors, 0.95, same=True)


def test_wrong_input_is_named() -> None:
    vectors = np.ones((4, 3), np.float32)
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="1 vectors are not finite, the first in row 2"):
            within(np.where(np.arange(4)[:, None] == 2, np.float32(value), vectors), 0.9)
    with pytest.raises(ValueError, match=r"floating \[n, d\], not float32 \[3\]"):
        within(vectors[0], 0.9)
    with pytest.raises(ValueError, match="not int64"):
        within(np.ones((2, 2), np.int64), 0.9)
    with pytest.raises(ValueError, match="of 3 and of 2 numbers"):
        between(vectors, vectors[:, :2], 0.9)
    with pytest.raises(ValueError, match=r"-1 to 1, not 1.5"):
        within(vectors, 1.5)
