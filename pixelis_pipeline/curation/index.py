"""The nearest vectors by cosine: one interface, an exact search in NumPy, and faiss behind the same face."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.floating[Any]]
Found = tuple[NDArray[np.float32], NDArray[np.int64]]

ROWS, QUERIES = 8192, 1024  # of a block of cosines: 32 MB


class Index(Protocol):
    """Vectors that can be searched."""

    def search(self, queries: Vectors, k: int) -> Found:
        """(cosine [q, k], row [q, k]) of the k vectors nearest to each query (float [q, d]), highest cosine
        first. A vector of zeros has cosine 0 with all. ValueError for queries of another width or that are
        not finite, and unless 1 <= k <= the number of vectors."""
        ...


class Exact:
    """All vectors (float [n, d], any norms, may be a memmap), compared a block at a time in float32; of equal
    cosines the lower row comes first. ValueError where they are not floating, [n, d] and finite."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors
        for low in range(0, max(len(vectors), 1), ROWS):
            unit(vectors[low : low + ROWS])

    def search(self, queries: Vectors, k: int) -> Found:
        """As `Index`. Each vector is read once for every `QUERIES` queries."""
        _check(queries, k, self.vectors.shape)
        found = [self._search(queries[low : low + QUERIES], k) for low in range(0, len(queries), QUERIES)]
        empty = np.empty((0, k), np.float32), np.empty((0, k), np.int64)
        cosines, rows = zip(empty, *found, strict=True)
        return np.concatenate(cosines), np.concatenate(rows)

    def _search(self, queries: Vectors, k: int) -> Found:
        asked = unit(queries)
        best, where = np.empty((len(asked), 0), np.float32), np.empty((len(asked), 0), np.int64)
        for low in range(0, len(self.vectors), ROWS):
            cosines = asked @ unit(self.vectors[low : low + ROWS]).T
            rows = np.broadcast_to(np.arange(low, low + cosines.shape[1]), cosines.shape)
            best, where = _first(np.hstack([best, cosines]), np.hstack([where, rows]), k)
        return best, where


class Faiss:
    """An inner-product index of faiss over the unit vectors, on the CPU or on the first GPU.
    ModuleNotFoundError that names the extra where faiss is absent, RuntimeError where it has no GPU,
    ValueError as `Exact`."""

    def __init__(self, vectors: Vectors, gpu: bool = False) -> None:
        extra = "faiss-gpu" if gpu else "faiss"
        try:
            import faiss
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"faiss is not installed: pip install 'pixelis[{extra}]'") from error
        if gpu and not (hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus()):
            raise RuntimeError("this faiss sees no GPU: install 'pixelis[faiss-gpu]' where there is one")
        units = unit(vectors)
        index = faiss.IndexFlatIP(units.shape[1])
        self._index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index) if gpu else index
        self._index.add(units)

    def search(self, queries: Vectors, k: int) -> Found:
        """As `Index`; of equal cosines either row may come first."""
        _check(queries, k, (self._index.ntotal, self._index.d))
        cosines, rows = self._index.search(unit(queries), k)
        return cosines, rows


def unit(vectors: Vectors) -> NDArray[np.float32]:
    """Rows divided by their norms, in float32; zeros stay. ValueError unless floating, [n, d] and finite."""
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise ValueError(f"vectors are floating [n, d], not {vectors.dtype} {list(vectors.shape)}")
    exact = vectors.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        raise ValueError("vectors are not all finite")
    return np.divide(exact, norms, out=np.zeros_like(exact), where=norms > 0).astype(np.float32)


def _check(queries: Vectors, k: int, shape: tuple[int, ...]) -> None:
    if not 1 <= k <= shape[0]:
        raise ValueError(f"k is 1 to the {shape[0]} vectors, not {k}")
    if queries.ndim != 2 or queries.shape[1] != shape[1]:
        raise ValueError(f"queries are [q, {shape[1]}], not {list(queries.shape)}")


def _first(cosines: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Found:
    """The k highest of each line, sorted; equal cosines in the order they stand in."""
    if cosines.shape[1] > 4 * k:
        least = np.partition(cosines, -k, axis=1)[:, -k, None]
        # Those above the k-th, then as many equal to it as are left, from the front.
        above, level = cosines > least, cosines == least
        keep = above | (level & (np.cumsum(level, axis=1) <= k - above.sum(axis=1, keepdims=True)))
        cosines, rows = cosines[keep].reshape(-1, k), rows[keep].reshape(-1, k)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosines, order, axis=1), np.take_along_axis(rows, order, axis=1)
