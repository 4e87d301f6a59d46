"""The sketched spectrum against the full SVD: planted ranks, random spectra, what `most` cuts short."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from training.sft import spectrum as spectra
from training.sft.spectrum import Spectrum, rank_of, spectrum


def matrix(values: np.ndarray, rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """A float32 matrix [rows, columns] with exactly these singular values."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((n, len(values))))[0] for n in (rows, columns))
    return torch.from_numpy((left * values @ right.T).astype(np.float32))


def changed_by(difference: torch.Tensor, energy: float = 0.9, most: int | None = None) -> Spectrum:
    before = torch.zeros_like(difference)
    return spectrum(before, before + difference, energy, most)


def full(difference: torch.Tensor, energy: float) -> tuple[int, np.ndarray]:
    """Rank by the full SVD in float64, and the shares that the first values keep."""
    squares = torch.linalg.svdvals(difference.double()).square().numpy()
    shares = squares.cumsum() / squares.sum()
    return int((shares < energy).sum()) + 1, shares


@pytest.fixture
def no_full_svd(monkeypatch):
    """What follows must come from the sketch."""

    def refuse(*_: object) -> None:
        raise AssertionError("a full SVD was taken")

    monkeypatch.setattr(torch.linalg, "svdvals", refuse)


@pytest.mark.parametrize(("rows", "columns"), [(400, 700), (700, 400), (512, 512)])
@pytest.mark.parametrize("planted", [1, 12, 30])
def test_a_planted_rank_under_small_noise_is_recovered(rows, columns, planted, no_full_svd):
    values = np.linspace(2, 1, planted)
    difference = matrix(values, rows, columns) + 1e-5 * torch.randn(rows, columns)
    shares = np.square(values).cumsum() / np.square(values).sum()
    for energy, rank in ((0.9999, planted), (0.9, int((shares < 0.9).sum()) + 1)):
        found = changed_by(difference, energy)
        assert rank_of(found, energy) == rank
        assert found.values[:planted] == pytest.approx(values, rel=1e-4)
        assert found.energy == pytest.approx(np.square(values).sum(), rel=1e-4)
        assert found.shape == (rows, columns) and found.kept(rank) >= energy


decays = st.one_of(
    st.floats(0.3, 2.0).map(lambda a: lambda i: i**-a),
    st.floats(0.02, 0.5).map(lambda a: lambda i: np.exp(-a * i) + 0.003),
    st.tuples(st.integers(1, 30), st.floats(0.0, 0.3)).map(
        lambda step: lambda i: np.where(i <= step[0], 1.0, step[1] + 1e-6)
    ),
)


@settings(max_examples=60, deadline=None)
@given(
    decay=decays,
    rows=st.integers(60, 220),
    columns=st.integers(60, 220),
    energy=st.floats(0.5, 0.97),
    scale=st.floats(-5, 3),
    seed=st.integers(0, 2**20),
    most=st.none() | st.integers(1, 40),
)
def test_sketched_and_full_ranks_are_the_same(decay, rows, columns, energy, scale, seed, most):
    values = decay(np.arange(1.0, min(rows, columns) + 1)) * 10**scale
    difference = matrix(values, rows, columns, seed)
    rank, shares = full(difference, energy)
    assume(np.abs(shares - energy).min() > 1e-5)  # float32 tells no closer shares apart
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectra, "SKETCH", 8)
        found = changed_by(difference, energy, most)
    measured = rank_of(found, energy)
    assert measured == rank or (measured is None and most is not None and rank > most)
    true = torch.linalg.svdvals(difference.double()).numpy()[: len(found.values)]
    assert (np.array(found.values) <= true * (1 + 1e-4) + 1e-6 * true[0]).all()


def test_it_is_known_without_more_values_that_a_rank_is_over_the_most(no_full_svd):
    flat = torch.randn(600, 800)
    found = changed_by(flat, most=20)
    assert rank_of(found) is None and len(found.values) == 20
    assert 0 < found.kept(20) < 0.9


def test_a_matrix_too_flat_for_a_sketch_is_taken_whole():
    flat = torch.randn(150, 150)
    found = changed_by(flat)
    assert len(found.values) == 150 and found.kept(150) == pytest.approx(1)
    assert rank_of(found) == full(flat, 0.9)[0]


def test_the_same_seed_gives_the_same_bits():
    difference = matrix(np.arange(1, 401.0) ** -0.9, 400, 500)
    assert changed_by(difference) == changed_by(difference)
    other = spectrum(torch.zeros(400, 500), difference, seed=1)
    assert other != changed_by(difference) and rank_of(other) == rank_of(changed_by(difference))


def test_half_precision_weights_are_subtracted_in_full(no_full_svd):
    before = torch.randn(300, 400).bfloat16()
    after = (before.float() + matrix(np.array([3.0, 2.0]), 300, 400)).bfloat16()
    found = spectrum(before, after, 0.9, 10)
    assert found == spectrum(before.float(), after.float(), 0.9, 10)
    assert found.energy == pytest.approx(float((after.double() - before.double()).square().sum()), rel=1e-6)


def test_no_difference_has_no_rank_and_lacks_nothing():
    found = changed_by(torch.zeros(8, 6))
    assert (found, rank_of(found), found.kept(0)) == (Spectrum((), 0.0, (8, 6)), 0, 1.0)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (torch.zeros(4, 5), torch.zeros(5, 4), r"\[4, 5\] before, \[5, 4\] after"),
        (torch.zeros(4), torch.zeros(4), "shapes differ"),
        (torch.zeros(4, 4), torch.full((4, 4), float("nan")), "not finite"),
        (torch.zeros(4, 4), torch.full((4, 4), float("inf")), "not finite"),
        (torch.zeros(4, 4, dtype=torch.int8), torch.ones(4, 4), "floating-point"),
    ],
)
def test_what_cannot_be_compared_is_an_error(before, after, told):
    with pytest.raises(ValueError, match=told):
        spectrum(before, after)
