"""All pairs of 64-bit hashes within a Hamming distance, exactly.

Pigeonhole: disjoint bands of the bits, with radii r so that the sum of r + 1 over the bands is distance + 1.
Two hashes at `distance` bits or less then differ by at most r bits in some band (r + 1 or more in each would
be distance + 1). So each hash is looked up in each band's table under all masks of up to r bits, and a pair
counts in its first such band only. Which bands cost least depends on how many hashes there are: for a million
at distance 8, three of 21 or 22 bits with radius 2. Bands need not cover all 64 bits, and one band of no bits
is brute force.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, combinations, combinations_with_replacement
from math import comb

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]
Pairs = tuple[Indices, Indices, NDArray[np.uint8]]

BLOCK = 1 << 16  # hashes looked up at once, so that they and what they meet stay in a core's cache
CHUNK = 1 << 18  # candidate pairs held at once by a thread, beside those of one hash
WIDEST = 24  # bits of a band; a table has 2^bits slots of 8 bytes
# Nanoseconds of one core for a mask, a look-up, a candidate and a slot. They choose bands and nothing else.
MASK, LOOK_UP, CANDIDATE, SLOT = 20_000.0, 3.0, 12.0, 5.0


_HEX = frozenset("0123456789abcdefABCDEF")


def from_hex(digits: str) -> int:
    """A hash as `imagehash` prints it (16 hex digits) as an unsigned integer. ValueError otherwise."""
    if len(digits) != 16 or not _HEX.issuperset(digits):
        raise ValueError(f"a 64-bit hash has 16 hex digits, not {len(digits)} characters: {digits!r}")
    return int(digits, 16)


def within(hashes: Hashes, distance: int) -> Pairs:
    """Every pair i < j of `hashes` (uint64 [n]) that differs by at most `distance` bits.

    Returns (i, j, distance), sorted by (i, j). Exact for any input: the time grows with the pairs that share
    a band, the memory with the pairs found. So n equal hashes cost their n (n - 1) / 2 pairs; where groups
    are enough, join the distinct ones: `np.unique(hashes, return_inverse=True)`. ValueError unless
    0 <= distance <= 64 and the hashes are uint64 [n].
    """
    _check(distance, hashes)
    found = _Distinct.of(hashes)
    a, b = _near(found.values, found.values, distance, same=True)
    x, y = _spread(a, b, found, found)
    at = np.arange(len(hashes))
    which, equal = _runs(at + 1, np.repeat(found.starts + found.counts, found.counts) - at - 1)
    x, y = np.concatenate([x, found.rows[which]]), np.concatenate([y, found.rows[equal]])
    return _sorted(hashes, hashes, np.minimum(x, y), np.maximum(x, y))


def between(left: Hashes, right: Hashes, distance: int) -> Pairs:
    """Every pair (i in `left`, j in `right`) that differs by at most `distance` bits, sorted by (i, j).
    Costs and ValueError as of `within`; pairs inside one side cost nothing."""
    _check(distance, left, right)
    mine, theirs = _Distinct.of(left), _Distinct.of(right)
    a, b = _near(mine.values, theirs.values, distance, same=False)
    return _sorted(left, right, *_spread(a, b, mine, theirs))


def _check(distance: int, *sides: Hashes) -> None:
    if not 0 <= distance <= 64:
        raise ValueError(f"a distance between 64-bit hashes is 0 to 64, not {distance}")
    for hashes in sides:
        if hashes.ndim != 1 or hashes.dtype != np.uint64:
            raise ValueError(f"hashes are uint64 [n], not {hashes.dtype} {list(hashes.shape)}")


@dataclass(frozen=True, slots=True)
class _Distinct:
    """Distinct values and the rows of each: rows[starts[k] : starts[k] + counts[k]]."""

    values: Hashes
    starts: Indices
    counts: Indices
    rows: Indices

    @staticmethod
    def of(hashes: Hashes) -> "_Distinct":
        rows = np.argsort(hashes, kind="stable")
        values, starts, counts = np.unique(hashes[rows], return_index=True, return_counts=True)
        return _Distinct(values, starts, counts, rows)


def _spread(a: Indices, b: Indices, left: _Distinct, right: _Distinct) -> tuple[Indices, Indices]:
    """Pairs of distinct values as pairs of the rows that hold them."""
    which, x = _runs(left.starts[a], left.counts[a])
    b = b[which]
    which, y = _runs(right.starts[b], right.counts[b])
    return left.rows[x[which]], right.rows[y]


def _sorted(left: Hashes, right: Hashes, i: Indices, j: Indices) -> Pairs:
    both = i * np.int64(len(right)) + j
    both.sort()
    i, j = np.divmod(both, max(len(right), 1))
    return i, j, np.bitwise_count(left[i] ^ right[j])


@dataclass(frozen=True, slots=True)
class _Band:
    """`width` bits from bit `first`, of which two hashes may differ in `radius`."""

    first: int
    width: int
    radius: int

    def of(self, values: Hashes) -> NDArray[np.int32]:
        bits = (values >> np.uint64(self.first)) & np.uint64((1 << self.width) - 1)
        return bits.astype(np.int32)

    def masks(self) -> Iterator[tuple[int, list[int]]]:
        """All words of up to `radius` ones, by their highest bit: (0, [0]), (1, [1]), (2, [2, 3]), ..."""
        yield 0, [0]
        for top in range(self.width if self.radius else 0):
            ones = range(min(self.radius - 1, top) + 1)
            below = (bits for n in ones for bits in combinations(range(top), n))
            yield 1 << top, [(1 << top) + sum(1 << bit for bit in bits) for bits in below]


@lru_cache
def _plan(left: int, right: int, distance: int, same: bool) -> tuple[_Band, ...]:
    """The bands that cost least for so many hashes."""

    def cost(width: int, radius: int) -> float:
        masks = sum(comb(width, ones) for ones in range(min(radius, width) + 1))
        rows = left / 2 if same else left
        each = MASK * (1 + rows // BLOCK) + rows * LOOK_UP + rows * right / 2**width * CANDIDATE
        return masks * each + 2**width * SLOT

    plans = []
    for count in range(1, min(distance, 8) + 2):
        radius, more = divmod(distance + 1 - count, count)  # `more` bands have a radius greater by one
        costs = [[cost(width, radius + extra) for width in range(WIDEST + 1)] for extra in (0, 1)]
        for narrow, wide in combinations_with_replacement(range(WIDEST + 1), 2):
            if (count - more) * narrow + more * wide <= 64:
                shape = [(wide, radius + 1)] * more + [(narrow, radius)] * (count - more)
                plans.append(((count - more) * costs[0][narrow] + more * costs[1][wide], shape))
    _, shape = min(plans)
    firsts = accumulate((width for width, _ in shape), initial=0)
    return tuple(_Band(first, *each) for first, each in zip(firsts, shape, strict=False))


@dataclass(frozen=True, slots=True)
class _Table:
    """Values in the order of their keys in a band; those of slot s stand from starts[s], counts[s] of them.
    In this order the partners of neighbours are neighbours: look-ups read memory forwards."""

    values: Hashes
    keys: NDArray[np.int32]
    order: Indices
    starts: NDArray[np.int32]
    counts: NDArray[np.int32]

    @staticmethod
    def of(values: Hashes, band: _Band) -> "_Table":
        keys = band.of(values)
        order = np.argsort(keys, kind="stable")
        counts = np.bincount(keys, minlength=1 << band.width).astype(np.int32)
        starts = np.cumsum(counts, dtype=np.int32) - counts
        return _Table(values[order], keys[order], order, starts, counts)


def _near(left: Hashes, right: Hashes, distance: int, same: bool) -> tuple[Indices, Indices]:
    """Pairs (a, b) of positions in two sets of distinct values, or each pair of one set once if `same`."""
    if not len(left) or not len(right):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    bands = _plan(len(left), len(right), distance, same)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy works outside the GIL
        waiting = []
        for k, band in enumerate(bands):
            mine = _Table.of(left, band)
            theirs = mine if same else _Table.of(right, band)
            for top, masks in band.masks():
                task = (mine, theirs, top, masks, distance, bands[:k])
                waiting.append(pool.submit(_met, *task))
        found = [task.result() for task in waiting]
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


def _met(
    left: _Table, right: _Table, top: int, masks: list[int], distance: int, earlier: Sequence[_Band]
) -> tuple[Indices, Indices]:
    """What the hashes of `left` meet under these masks with highest bit `top`, each pair of slots once."""
    same = left is right
    # Of two slots that differ by the mask just one has its highest bit unset; mask 0 is dealt with below.
    rows = np.flatnonzero((left.keys & top) == 0) if same else np.arange(len(left.keys))
    a, b = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for low in range(0, len(rows), BLOCK):
        at = rows[low : low + BLOCK]
        keys = left.keys[at]
        for mask in masks:
            slots = keys ^ np.int32(mask)
            counts = right.counts[slots]
            hit = np.flatnonzero(counts)
            x, first, count = at[hit], right.starts[slots[hit]].astype(np.int64), counts[hit]
            if same and not mask:  # the rest of the own slot
                count = (first + count - x - 1).astype(np.int32)
                first = x + 1
            for part in _parts(count):
                which, y = _runs(first[part], count[part])
                met = x[part][which]
                near = np.bitwise_count(left.values[met] ^ right.values[y]) <= distance
                for band in earlier if near.any() else ():
                    seen = np.flatnonzero(near)
                    apart = band.of(left.values[met[seen]]) ^ band.of(right.values[y[seen]])
                    near[seen] = np.bitwise_count(apart) > band.radius
                if near.any():
                    a.append(left.order[met[near]])
                    b.append(right.order[y[near]])
    return np.concatenate(a), np.concatenate(b)


def _parts(counts: NDArray[np.int32]) -> Iterator[slice]:
    """Slices of the runs that hold about CHUNK pairs each, one run at least."""
    ends = np.cumsum(counts, dtype=np.int64)
    low, total = 0, int(ends[-1]) if len(ends) else 0
    while low < len(ends) and total:
        before = int(ends[low - 1]) if low else 0
        high = max(int(np.searchsorted(ends, before + CHUNK, side="right")), low + 1)
        yield slice(low, high)
        low = high


def _runs(first: Indices, counts: NDArray[np.integer]) -> tuple[Indices, Indices]:
    """(k, position) of every position of the runs first[k], ..., first[k] + counts[k] - 1, in order."""
    ends = np.cumsum(counts, dtype=np.int64)
    which = np.repeat(np.arange(len(counts)), counts)
    return which, np.arange(len(which)) + (first - ends + counts)[which]
