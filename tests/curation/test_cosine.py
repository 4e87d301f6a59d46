"""The cosine join equals brute force, whatever the vectors' spectrum, norms and number format."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pixelis_pipeline.curation.cosine import between, within

Array = np.ndarray[Any, Any]


def brute(left: Array, right: Array) -> Array:
    """Cosines of all pairs in float64; -2 for a row of zeros."""
    x, y = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1)[None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norms > 0, x @ y.T / norms, -2.0)


def spectrum(rng: np.random.Generator, kind: str, count: int, width: int) -> Array:
    made = rng.normal(size=(count, width))
    if kind == "decaying":
        made *= 1.0 / np.arange(1, width + 1)
    if kind == "clusters":
        made = rng.normal(size=(12, width))[rng.integers(12, size=count)] + 0.25 * made
    return made.astype(np.float32)


@pytest.mark.parametrize("kind", ["isotropic", "decaying", "clusters"])
@pytest.mark.parametrize("threshold", [0.8, 0.95])
def test_planted_and_chance_pairs_equal_brute_force(kind: str, threshold: float) -> None:
    rng = np.random.default_rng(3)
    vectors = spectrum(rng, kind, 5000, 96)
    vectors[4000:4300] = vectors[:300] + 0.2 * spectrum(rng, kind, 300, 96)
    vectors[4300:4400] = 7 * vectors[100:200]  # norms do not count
    vectors[4500] = 0
    i, j, value = within(vectors, threshold)
    truth = brute(vectors, vectors)
    np.fill_diagonal(truth, -2)
    sure, maybe = (np.triu(truth >= threshold + slack) for slack in (1e-6, -1e-6))
    found = np.zeros_like(sure)
    found[i, j] = True
    assert found.sum() == len(i) >= 100
    assert not (sure & ~found).any() and not (found & ~maybe).any()
    assert np.abs(value - truth[i, j]).max() < 1e-9
    assert (np.lexsort((j, i)) == np.arange(len(i))).all()


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(0, 9), st.just(5)), elements=st.floats(-4, 4, width=32)),
    arrays.arrays(np.float32, st.tuples(st.integers(0, 9), st.just(5)), elements=st.floats(-4, 4, width=32)),
    st.sampled_from([-0.5, 0.0, 0.7, 0.95]),
)
@settings(max_examples=60, deadline=None)
def test_between_any_two_sides(left: Array, right: Array, threshold: float) -> None:
    i, j, _ = between(left, right, threshold)
    truth = brute(left, right)
    found = np.zeros(truth.shape, bool)
    found[i, j] = True
    assert not ((truth >= threshold + 1e-6) & ~found).any()
    assert not (found & (truth < threshold - 1e-6)).any()


def test_half_precision_and_a_file_on_disk_are_read_as_they_are(tmp_path: Any) -> None:
    rng = np.random.default_rng(1)
    vectors = spectrum(rng, "decaying", 400, 32).astype(np.float16)
    np.save(tmp_path / "vectors.npy", vectors)
    held = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    for one, other in zip(within(vectors, 0.9), within(held, 0.9), strict=True):
        assert len(one) and (one == other).all()


def test_what_is_no_vector_is_refused() -> None:
    good = np.ones((3, 4), np.float32)
    bad = good.copy()
    bad[1, 2] = np.nan
    for vectors, words in (
        (bad, "not finite"),
        (np.ones(4, np.float32), "floating"),
        (good.astype(int), "floating"),
    ):
        with pytest.raises(ValueError, match=words):
            within(vectors, 0.9)
    with pytest.raises(ValueError, match="cosine"):
        between(good, np.ones((2, 5), np.float32), 0.9)
    with pytest.raises(ValueError, match="-1 to 1"):
        within(good, 1.5)
    assert all(len(column) == 0 for column in within(np.zeros((0, 4), np.float32), 0.5))
