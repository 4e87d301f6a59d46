"""The join against brute force, on inputs that were built to defeat it."""

import tracemalloc
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.curation import hamming
from pixelis_pipeline.curation.hamming import between, from_hex, within


def brute_force(left: np.ndarray, right: np.ndarray, distance: int) -> tuple[np.ndarray, ...]:
    rows = []
    for low in range(0, len(left), 512):
        i, j = np.nonzero(np.bitwise_count(left[low : low + 512, None] ^ right) <= distance)
        rows.append((i + low, j))
    i, j = (np.concatenate([row[k] for row in rows]) if rows else np.empty(0, np.int64) for k in (0, 1))
    return i, j, np.bitwise_count(left[i] ^ right[j])


def upper(pairs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    keep = pairs[0] < pairs[1]
    return tuple(column[keep] for column in pairs)


def equal(found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def random_hashes(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def planted(count: int, furthest: int) -> np.ndarray:
    """Random hashes, half of them copies of another with 0 to `furthest` bits flipped, each as often."""
    rng = np.random.default_rng(5)
    hashes = random_hashes(count, 4)
    for k in range(count // 2):
        flips = rng.choice(64, k % (furthest + 1), replace=False).astype(np.uint64)
        hashes[count - 1 - k] = hashes[k] ^ np.bitwise_or.reduce(np.uint64(1) << flips, initial=0)
    return rng.permutation(hashes)


def one_bit_chain() -> np.ndarray:
    """65 hashes, each one bit from the one before: distance is the gap in the chain."""
    return np.array([(1 << k) - 1 for k in range(65)], dtype=np.uint64)


def evenly_spread(distance: int) -> np.ndarray:
    """Pairs (k, k + 2000) at exactly `distance` bits, spread evenly: no band gets fewer than its share."""
    hashes = random_hashes(2000, 6)
    turns = np.arange(2000) % 64
    flips = [(turns + k * 64 // distance) % 64 for k in range(distance)]
    masks = np.bitwise_or.reduce([np.uint64(1) << each.astype(np.uint64) for each in flips])
    return np.concatenate([hashes, hashes ^ masks])


CASES = {
    "empty": np.empty(0, np.uint64),
    "one": np.array([7], np.uint64),
    "all identical": np.full(200, 2**63 + 5, np.uint64),
    "two floods": np.repeat(np.array([5, 4], np.uint64), 300),
    "extremes": np.array([0, 2**64 - 1, 0, 2**64 - 1], np.uint64),
    "one-bit chain": one_bit_chain(),
    "one-bit chains of many": (one_bit_chain()[:, None] ^ random_hashes(40, 9)).ravel(),
    "only high bits differ": np.arange(1500, dtype=np.uint64) << np.uint64(50),
    "only low bits differ": np.arange(1500, dtype=np.uint64),
    "planted": planted(2500, furthest=12),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("distance", [0, 2, 7, 8, 11, 64])
def test_equals_brute_force(name: str, distance: int) -> None:
    hashes = CASES[name]
    assert equal(within(hashes, distance), upper(brute_force(hashes, hashes, distance)))


@pytest.mark.slow
def test_equals_brute_force_on_many_with_pairs_at_every_distance() -> None:
    hashes = planted(20_000, furthest=10)
    i, j, bits = upper(brute_force(hashes, hashes, 10))
    assert np.bincount(bits, minlength=11).min() > 900
    for distance in (7, 8, 10):
        near = bits <= distance
        assert equal(within(hashes, distance), (i[near], j[near], bits[near]))


@pytest.mark.parametrize("distance", [7, 8])
def test_pairs_as_far_apart_in_every_band_as_can_be_are_found(distance: int) -> None:
    hashes = evenly_spread(distance)
    i, j, bits = within(hashes, distance)
    assert set(range(2000)) <= set(i[(j - i == 2000) & (bits == distance)].tolist())
    assert len(hamming._plan(len(hashes), len(hashes), distance, True)) > 1  # by bands, not by brute force


def test_a_flood_of_identical_hashes_is_all_its_pairs() -> None:
    i, j, bits = within(np.full(3000, 77, np.uint64), 8)
    assert len(i) == 3000 * 2999 // 2 and not bits.any() and (i < j).all()
    assert (np.diff(i * 3000 + j) > 0).all()  # sorted, and none twice


def test_memory_stays_bounded_where_all_share_every_band() -> None:
    hashes = (random_hashes(8000, 3) >> np.uint64(44) << np.uint64(44)) + np.uint64(12345)
    tracemalloc.start()
    found = within(hashes, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all(band.first + band.width <= 44 for band in hamming._plan(8000, 8000, 2, True))
    assert peak < 80e6 < 8 * 8000 * 7999 / 2  # below one integer for each candidate
    assert equal(found, upper(brute_force(hashes, hashes, 2)))


@st.composite
def plans(draw: st.DrawFn) -> tuple[int, tuple[hamming._Band, ...]]:
    """A distance and any bands that serve it."""
    radii = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    bands, first = [], 0
    for radius in radii:
        width = draw(st.integers(0, 10))
        bands.append(hamming._Band(first, width, radius))
        first += width + draw(st.integers(0, 6))
    return sum(radii) + len(radii) - 1, tuple(bands)


# Values close to each other in either half, so that there is something to find.
VALUES = st.builds(
    lambda high, low: (high << 40) ^ low, st.sampled_from([0, 1, 3, 2**23]), st.integers(0, 2**12 - 1)
)
LISTS = st.lists(VALUES, max_size=40).map(lambda values: np.array(values, np.uint64))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(plans(), LISTS, LISTS, st.integers(1, 9))
def test_any_bands_blocks_and_threads_find_the_same(plan: tuple, left: np.ndarray, right: np.ndarray, n: int):
    distance, bands = plan
    with (
        mock.patch.object(hamming, "_plan", lambda *_: bands),
        mock.patch.object(hamming, "BLOCK", n),
        mock.patch.object(hamming, "CHUNK", n + 2),
        mock.patch.object(hamming.os, "cpu_count", lambda: n),
    ):
        assert equal(within(left, distance), upper(brute_force(left, left, distance)))
        assert equal(between(left, right, distance), brute_force(left, right, distance))


@settings(max_examples=100, deadline=None)
@given(LISTS, LISTS, st.integers(0, 12))
def test_small_sets_equal_brute_force(left: np.ndarray, right: np.ndarray, distance: int) -> None:
    assert equal(within(left, distance), upper(brute_force(left, left, distance)))
    assert equal(between(left, right, distance), brute_force(left, right, distance))


@pytest.mark.parametrize("count", [1, 10, 1000, 10**6, 10**8])
@pytest.mark.parametrize("distance", [0, 1, 7, 8, 13, 30, 64])
def test_a_plan_is_a_pigeonhole_of_disjoint_bands(count: int, distance: int) -> None:
    bands = hamming._plan(count, count, distance, True)
    assert sum(band.radius + 1 for band in bands) == distance + 1
    bits = [bit for band in bands for bit in range(band.first, band.first + band.width)]
    assert len(set(bits)) == len(bits) and set(bits) <= set(range(64))


def test_between_lists_pairs_across_only() -> None:
    left, right = np.array([0, 1, 2**40], np.uint64), np.array([3, 2**40, 0], np.uint64)
    i, j, bits = between(left, right, 1)
    assert list(zip(i.tolist(), j.tolist(), bits.tolist(), strict=True)) == [
        (0, 1, 1),
        (0, 2, 0),
        (1, 0, 1),
        (1, 2, 1),
        (2, 1, 0),
        (2, 2, 1),
    ]
    many = planted(6000, furthest=9)
    assert equal(between(many[:1000], many[1000:], 8), brute_force(many[:1000], many[1000:], 8))


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="16 hex digits"):
        from_hex("abc")
    with pytest.raises(ValueError, match="0 to 64"):
        within(np.zeros(2, np.uint64), 65)
    with pytest.raises(ValueError, match=r"uint64 \[n\], not int64 \[2\]"):
        within(np.zeros(2, np.int64), 8)
    with pytest.raises(ValueError, match=r"uint64 \[n\], not uint64 \[2, 1\]"):
        between(np.zeros(2, np.uint64), np.zeros((2, 1), np.uint64), 8)
