"""Leading singular values of what a fine-tuning changed in one matrix, as far as they tell its rank.

A randomised SVD (Halko, Martinsson & Tropp 2011, algorithm 4.4) with two departures: the sketch grows until
it holds the energy asked for, and power iterations go on until the rank is decided, by a bound on what the
sketch can still miss, in place of a number of iterations set beforehand.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

SKETCH = 64  # columns of the first sketch; it doubles
TURNS = 8  # power iterations before the sketch doubles all the same
WORTH = 4  # a sketch wider than the shorter side over this costs more than the full SVD


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Leading singular values of a matrix, in falling order, and the sum of squares of all of them, which is
    its squared Frobenius norm. Values that are not needed to tell the rank are left out; of a sketch each is
    at most the true one, so a share of the energy that they reach is reached."""

    values: tuple[float, ...]
    energy: float
    shape: tuple[int, int]

    def kept(self, rank: int) -> float:
        """The share of the energy that the best approximation of this rank keeps, at least; 1 of nothing."""
        held = float(np.sum(np.square(self.values[:rank])))
        return min(held / self.energy, 1.0) if self.energy else 1.0


def rank_of(spectrum: Spectrum, energy: float = 0.9) -> int | None:
    """The smallest rank that keeps this share of the energy, 0 for a matrix of zeros; None where it is more
    than there are values."""
    if not spectrum.energy:
        return 0
    reached = np.cumsum(np.square(spectrum.values)) >= energy * spectrum.energy
    return int(reached.argmax()) + 1 if reached.any() else None


def spectrum(
    before: "torch.Tensor", after: "torch.Tensor", energy: float = 0.9, most: int | None = None, seed: int = 0
) -> Spectrum:
    """The spectrum of `after` - `before`, both [out, in], far enough to tell its rank at `energy`, or that
    this is over `most`: float32 on the tensors' device, its sums float64.

    Decided are a lower and an upper bound of the energy that k singular values hold. The sketch's own energy
    is the lower one. With Ritz values l_1 >= l_2 ... of D D^T on the sketch, r_i the residuals of their
    vectors and any j >= k, the k largest eigenvalues sum to at most

        l_1 + ... + l_k + (|r_1|^2 + ... + |r_j|^2) / (l_k - l_(j+1))

    (D D^T in the basis of j Ritz vectors and their complement is at most the block diagonal of A + C^T C /
    (l_k - |F|) and l_k I, by the Schur complement; |F|, the norm on the complement, is taken to be the next
    Ritz value.) Where a sketch would be no cheaper, the SVD is a full one.
    Raises ValueError for shapes that differ or numbers that are not finite.
    """
    import torch

    if before.shape != after.shape or before.ndim != 2:
        raise ValueError(f"shapes differ: {list(before.shape)} before, {list(after.shape)} after")
    if not (before.is_floating_point() and after.is_floating_point()):
        raise ValueError(f"{before.dtype} and {after.dtype}: a difference is taken of floating-point weights")
    difference = after.float() - before.float()
    shape = (difference.shape[0], difference.shape[1])
    total = float(torch.linalg.vector_norm(difference, dtype=torch.float64).square())
    if not np.isfinite(total):
        raise ValueError("holds numbers that are not finite")
    if not total:
        return Spectrum((), 0.0, shape)
    if shape[0] > shape[1]:
        difference = difference.T
    squares = _sketched(difference, energy * total, most or min(shape), seed)
    values = torch.linalg.svdvals(difference).double() if squares is None else squares.clamp(min=0).sqrt()
    return Spectrum(tuple(values.tolist()), total, shape)


def _sketched(matrix: "torch.Tensor", wanted: float, most: int, seed: int) -> "torch.Tensor | None":
    """Leading squared singular values of a wide matrix [m, n], once they tell where their sum reaches
    `wanted`, or that `most` do not reach it. None where that takes too wide a sketch."""
    import torch

    generator = torch.Generator(matrix.device).manual_seed(seed)
    seen, size = matrix[:, :0], SKETCH
    while size * WORTH <= len(matrix):
        fresh = torch.randn(matrix.shape[1], size - seen.shape[1], generator=generator, device=matrix.device)
        seen = torch.cat([seen, matrix @ fresh], 1)
        for _ in range(TURNS):
            basis = torch.linalg.qr(seen).Q
            across = matrix.T @ basis
            seen = matrix @ across
            wide = across.double()
            inner = wide.T @ wide
            ritz, turn = (part.flip(-1) for part in torch.linalg.eigh(inner))
            residual = ((seen.double() - basis.double() @ inner) @ turn).square().sum(0)
            sums = ritz.cumsum(0)
            k = min(int((sums < wanted).sum()), most)
            if 2 * k > size:
                break
            if k == 0 or _at_most(ritz, sums, residual, k) < wanted:
                return ritz[: max(k + 1, size // 2)][:most]
        size *= 2
    return None


def _at_most(ritz: "torch.Tensor", sums: "torch.Tensor", residual: "torch.Tensor", k: int) -> float:
    """An upper bound of the sum of the k largest eigenvalues (`spectrum`), the best over j."""
    gaps = ritz[k - 1] - ritz[k:]
    missed = residual.cumsum(0)[k - 1 : -1] / gaps
    return float(sums[k - 1] + missed[gaps > 0].min()) if (gaps > 0).any() else float("inf")
