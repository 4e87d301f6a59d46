"""All pairs of vectors whose cosine reaches a threshold, exactly.

1. Unit vectors are turned onto the principal axes of a sample; the first k coordinates stay and one more
   holds the norm of the rest. By Cauchy-Schwarz x.y <= x1.y1 + |x2| |y2|, which is the product of these k + 1
   columns: where it stays below the threshold, so does the cosine. k is what a sample says is cheapest; where
   nothing is gained (vectors without a spectrum at low thresholds), the product is taken at full width.
2. Pairs that pass are computed in float64 from the vectors as given, and these cosines decide.

The k + 1 columns are unit vectors of float32 themselves, so a product is off by at most (k + 2) 2^-24
(Higham, Accuracy and Stability of Numerical Algorithms, 3.1; first order); the bound gives way by four times
that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.floating[Any]]
Columns = NDArray[np.float32]
Indices = NDArray[np.int64]
Pairs = tuple[Indices, Indices, NDArray[np.float64]]

ROWS, COLUMNS = 1024, 2048  # of a tile of products: 8 MB
EXACT = 256  # pairs recomputed at once: 2 MB at 512 numbers, which stay in the cache
SAMPLE = 8192  # rows that choose axes and k, one half and the other
# In units of one column of one product: reading a product, recomputing a pair by itself. They choose k only.
SCAN, RECOMPUTE = 40.0, 100_000.0


def within(vectors: Vectors, threshold: float) -> Pairs:
    """Every pair i < j of `vectors` (float [n, d], any norms, may be a memmap) with cosine >= `threshold`.

    Returns (i, j, cosine), sorted by (i, j). Cosines are float64; a row of zeros is in no pair. Memory beside
    the input: k + 1 float32 columns, at most d, and the pairs found. ValueError unless -1 <= threshold <= 1
    and all are floating and finite.
    """
    norms = _norms(vectors, threshold)
    axes = _axes([(vectors, norms)], threshold)
    columns = _columns(vectors, norms, axes)
    return _joined(_Side(vectors, norms, columns), None, threshold)


def between(left: Vectors, right: Vectors, threshold: float) -> Pairs:
    """Every pair (i in `left` [n, d], j in `right` [m, d]) with cosine >= `threshold`; else as `within`."""
    if left.ndim == right.ndim == 2 and left.shape[1] != right.shape[1]:
        raise ValueError(f"vectors of {left.shape[1]} and of {right.shape[1]} numbers have no cosine")
    norms = [_norms(vectors, threshold) for vectors in (left, right)]
    axes = _axes(list(zip((left, right), norms, strict=True)), threshold)
    sides = [_Side(v, n, _columns(v, n, axes)) for v, n in zip((left, right), norms, strict=True)]
    return _joined(sides[0], sides[1], threshold)


@dataclass(frozen=True, slots=True)
class _Side:
    """Vectors, their norms (0: in no pair) and their unit columns."""

    vectors: Vectors
    norms: NDArray[np.float64]
    columns: Columns

    def exactly(self, rows: Indices) -> NDArray[np.float64]:
        return self.vectors[rows].astype(np.float64)


def _norms(vectors: Vectors, threshold: float) -> NDArray[np.float64]:
    if not -1 <= threshold <= 1:
        raise ValueError(f"a cosine is -1 to 1, not {threshold}")
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise ValueError(f"vectors are floating [n, d], not {vectors.dtype} {list(vectors.shape)}")
    norms = np.empty(len(vectors))
    for low in range(0, len(vectors), ROWS):
        block = vectors[low : low + ROWS].astype(np.float64)
        norms[low : low + ROWS] = np.sqrt(np.vecdot(block, block))
    if len(bad := np.flatnonzero(~np.isfinite(norms))):
        raise ValueError(f"{len(bad)} vectors are not finite, the first in row {bad[0]}")
    return norms


def _axes(sides: list[tuple[Vectors, NDArray[np.float64]]], threshold: float) -> NDArray[np.float64] | None:
    """The axes [d, k] on which products of k + 1 columns cost least; None where all d columns do."""
    random, drawn = np.random.default_rng(0), []
    for vectors, norms in sides:
        rows = np.flatnonzero(norms)
        rows = np.sort(random.choice(rows, min(len(rows), SAMPLE // len(sides)), replace=False))
        drawn.append(vectors[rows].astype(np.float64) / norms[rows, None])
    sample = np.concatenate(drawn)
    width = sample.shape[1]
    if len(sample) < 2 * ROWS:  # too few to be worth it
        return None
    # The axes fit the rows they are made from better than others: k is judged by rows they have not seen.
    seen, left, right = np.split(random.permutation(sample), [len(sample) // 2, len(sample) * 3 // 4])
    axes = np.linalg.eigh(seen.T @ seen)[1][:, ::-1]
    best, chosen = SCAN + width, None
    for k in (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024):
        if k + 1 >= width:
            break
        passing = np.mean(_turned(left, axes[:, :k]) @ _turned(right, axes[:, :k]).T >= threshold)
        if (cost := SCAN + k + 1 + passing * RECOMPUTE) < best:
            best, chosen = cost, axes[:, :k]
    return chosen


def _turned(units: NDArray[np.float64], axes: NDArray[np.float64] | None) -> Columns:
    """Unit vectors [n, d] as k coordinates and the norm of the rest, in float32; as they are without axes."""
    if axes is None:
        return units.astype(np.float32)
    near = units @ axes
    rest = np.sqrt(np.maximum(1 - np.vecdot(near, near), 0))
    return np.column_stack([near, rest]).astype(np.float32)


def _columns(vectors: Vectors, norms: NDArray[np.float64], axes: NDArray[np.float64] | None) -> Columns:
    """`_turned` of all rows, a block at a time; zeros for a row of zeros."""
    columns = np.zeros((len(vectors), vectors.shape[1] if axes is None else axes.shape[1] + 1), np.float32)
    for low in range(0, len(vectors), ROWS):
        rows = low + np.flatnonzero(norms[low : low + ROWS])
        columns[rows] = _turned(vectors[rows].astype(np.float64) / norms[rows, None], axes)
    return columns


def _joined(left: _Side, right: _Side | None, threshold: float) -> Pairs:
    """The pairs of the two sides, or with none on the right those of the left one."""
    other = left if right is None else right
    slack = 4 * (left.columns.shape[1] + 2) * 2.0**-24 + 1e-7  # 1e-7: the root of a rest that is nearly 0
    parts: list[Pairs] = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for i, j in _passing(left.columns, other.columns, np.float32(threshold - slack), right is None):
        keep = (left.norms[i] > 0) & (other.norms[j] > 0)
        if right is None:
            keep &= i < j
        i, j = i[keep], j[keep]
        for low in range(0, len(i), EXACT):
            a, b = i[low : low + EXACT], j[low : low + EXACT]
            cosine = np.vecdot(left.exactly(a), other.exactly(b)) / (left.norms[a] * other.norms[b])
            met = cosine >= threshold
            parts.append((a[met], b[met], cosine[met]))
    i, j, cosine = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.lexsort((j, i))
    return i[order], j[order], cosine[order]


def _passing(
    left: Columns, right: Columns, least: np.float32, same: bool
) -> Iterator[tuple[Indices, Indices]]:
    """Pairs whose product is at least `least`, by tiles; of one side with itself, the upper tiles only."""
    tile = np.empty((ROWS, COLUMNS), np.float32)
    for top in range(0, len(left), ROWS):
        rows = left[top : top + ROWS]
        for start in range(top if same else 0, len(right), COLUMNS):
            columns = right[start : start + COLUMNS]
            product = np.matmul(rows, columns.T, out=tile[: len(rows), : len(columns)])
            some = np.flatnonzero(product.max(axis=1) >= least)  # most rows of most tiles have none
            if len(some):
                i, j = np.divmod(np.flatnonzero(product[some] >= least), len(columns))
                yield top + some[i], start + j
