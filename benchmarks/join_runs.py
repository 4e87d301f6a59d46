"""One join by one method, in whichever environment has it: `python join_runs.py METHOD FILE LIMIT QUERIES`.

FILE holds uint64 [n] or float32 [n, d]. Prints seconds, peak memory in bytes, the number of pairs found and
their digest: pairs i < j with i < QUERIES. imagededup's own distance goes through strings bit by bit; it is
given a faster one here, `int.bit_count`.
"""

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Found = tuple[Any, Any]


def ours(hashes: Any, distance: float, queries: int) -> Found:
    from pixelis_pipeline.curation.hamming import within

    return within(hashes, int(distance))[:2]


def our_cosine(vectors: Any, threshold: float, queries: int) -> Found:
    from pixelis_pipeline.curation.cosine import within

    return within(vectors, threshold)[:2]


def gemm(vectors: Any, threshold: float, queries: int) -> Found:
    """Plain blocked NumPy: every product at full width, the upper blocks only."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = []
    for top in range(0, queries, 2048):
        for start in range(top, len(units), 2048):
            i, j = np.nonzero(units[top : top + 2048] @ units[start : start + 2048].T >= threshold)
            found.append((i + top, j + start))
    return _joined(found)


def binary_flat(hashes: Any, distance: float, queries: int) -> Found:
    import faiss

    return _faiss(faiss.IndexBinaryFlat(64), hashes.view(np.uint8).reshape(-1, 8), int(distance) + 1, queries)


def binary_multi_hash(hashes: Any, distance: float, queries: int) -> Found:
    """Four hashes of 16 bits with one flip: exact up to distance 7."""
    import faiss

    index = faiss.IndexBinaryMultiHash(64, 4, 16)
    index.nflip = 1
    return _faiss(index, hashes.view(np.uint8).reshape(-1, 8), int(distance) + 1, queries)


def flat_ip(vectors: Any, threshold: float, queries: int) -> Found:
    import faiss

    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return _faiss(faiss.IndexFlatIP(units.shape[1]), units, threshold, queries)


def imagededup(name: str) -> Callable[[Any, float, int], Found]:
    def run(hashes: Any, distance: float, queries: int) -> Found:
        from importlib import import_module

        module, kind = {
            "bktree": ("bktree", "BKTree"),
            "brute_force": ("brute_force", "BruteForce"),
            "brute_force_cython": ("brute_force_cython", "BruteForceCython"),
        }[name]
        digits = {str(k): f"{value:016x}" for k, value in enumerate(hashes.tolist())}
        kinds = vars(import_module(f"imagededup.handlers.search.{module}"))
        held = kinds[kind](digits, lambda a, b: (int(a, 16) ^ int(b, 16)).bit_count())
        met = [
            (k, int(at))
            for k in range(queries)
            for at, _ in _rows(held.search(digits[str(k)], int(distance)))
        ]
        pairs = np.array(met, np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    return run


def _rows(found: Any) -> list[tuple[Any, int]]:
    return list(found.items()) if isinstance(found, dict) else list(found)


def _faiss(index: Any, rows: Any, radius: float, queries: int) -> Found:
    index.add(rows)
    limits, _, labels = index.range_search(rows[:queries], radius)
    return np.repeat(np.arange(queries), np.diff(limits).astype(np.int64)), labels


def _joined(found: list[Found]) -> Found:
    return np.concatenate([i for i, _ in found]), np.concatenate([j for _, j in found])


METHODS: dict[str, Callable[[Any, float, int], Found]] = {
    "ours": ours,
    "our_cosine": our_cosine,
    "gemm": gemm,
    "binary_flat": binary_flat,
    "binary_multi_hash": binary_multi_hash,
    "flat_ip": flat_ip,
    **{name: imagededup(name) for name in ("bktree", "brute_force", "brute_force_cython")},
}


def main() -> None:
    method, path, limit, queries = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    rows = np.load(path)
    started = time.perf_counter()
    i, j = METHODS[method](rows, limit, queries)
    seconds = time.perf_counter() - started
    keep = (i < j) & (i < queries)
    pairs = np.unique(np.column_stack([i[keep], j[keep]]).astype(np.int64), axis=0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    digest = hashlib.sha256(pairs.tobytes()).hexdigest()
    print(json.dumps({"seconds": seconds, "peak": peak, "pairs": len(pairs), "digest": digest}))


if __name__ == "__main__":
    main()
