"""Search against sorting all cosines, and faiss against the exact search."""

import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from pixelis_pipeline.curation import index
from pixelis_pipeline.curation.index import Exact, Faiss, Index


def vectors(count: int, width: int = 24, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, width)) * rng.uniform(0.1, 50, (count, 1))).astype(np.float32)


def by_sorting(held: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    units = [
        v / np.linalg.norm(v, axis=1, keepdims=True) for v in (queries.astype(float), held.astype(float))
    ]
    cosines = units[0] @ units[1].T
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosines, rows, axis=1), rows


@pytest.mark.parametrize("k", [1, 7, 500])
def test_exact_equals_sorting_all(k: int) -> None:
    held, queries = vectors(500), vectors(60, seed=1)
    with mock.patch.object(index, "ROWS", 64), mock.patch.object(index, "QUERIES", 13):
        cosines, rows = Exact(held).search(queries, k)
    expected, order = by_sorting(held, queries, k)
    assert np.array_equal(rows, order) and np.allclose(cosines, expected, atol=1e-6)
    assert cosines.dtype == np.float32 and rows.dtype == np.int64


def test_equal_cosines_come_in_the_order_of_rows_and_zeros_have_cosine_0() -> None:
    held = np.zeros((100, 4), np.float32)
    held[[5, 40, 99]] = [0, 3, 0, 0]
    with mock.patch.object(index, "ROWS", 16):
        cosines, rows = Exact(held).search(np.array([[0, 1, 0, 0]], np.float32), 6)
    assert rows.tolist() == [[5, 40, 99, 0, 1, 2]]
    assert cosines.tolist() == [[1, 1, 1, 0, 0, 0]]


def test_a_memmap_of_float16_is_searched_as_it_lies(tmp_path: Path) -> None:
    held = vectors(300).astype(np.float16)
    np.save(tmp_path / "held.npy", held)
    mapped = np.load(tmp_path / "held.npy", mmap_mode="r")
    found, expected = Exact(mapped).search(held[:9], 3), Exact(held.astype(np.float32)).search(held[:9], 3)
    assert np.array_equal(found[1], expected[1]) and (found[1][:, 0] == np.arange(9)).all()


def test_no_queries_find_nothing() -> None:
    cosines, rows = Exact(vectors(5)).search(np.empty((0, 24), np.float32), 2)
    assert cosines.shape == rows.shape == (0, 2)


def test_wrong_input_is_named() -> None:
    held = Exact(vectors(5))
    with pytest.raises(ValueError, match="1 to the 5 vectors, not 6"):
        held.search(vectors(1), 6)
    with pytest.raises(ValueError, match=r"\[q, 24\], not \[1, 3\]"):
        held.search(vectors(1, 3), 1)
    with pytest.raises(ValueError, match="not all finite"):
        held.search(np.full((1, 24), np.nan, np.float32), 1)
    with pytest.raises(ValueError, match="floating"):
        Exact(np.ones((2, 2), np.int64))


@pytest.mark.parametrize(("gpu", "extra"), [(False, "faiss"), (True, "faiss-gpu")])
def test_without_faiss_the_extra_is_named(gpu: bool, extra: str) -> None:
    absent = mock.patch.dict(sys.modules, {"faiss": None})
    with absent, pytest.raises(ModuleNotFoundError, match=rf"pixelis\[{extra}\]"):
        Faiss(vectors(3), gpu)


@pytest.mark.parametrize("gpu", [False, True])
def test_faiss_finds_what_the_exact_search_finds(gpu: bool) -> None:
    faiss = pytest.importorskip("faiss")
    if gpu and not (hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus()):
        with pytest.raises(RuntimeError, match="no GPU"):
            Faiss(vectors(3), gpu)
        return
    held, queries = vectors(2000), vectors(50, seed=1)
    both: list[Index] = [Exact(held), Faiss(held, gpu)]
    (cosines, rows), (theirs, found) = (each.search(queries, 10) for each in both)
    assert np.array_equal(rows, found) and np.allclose(cosines, theirs, atol=1e-5)
    with pytest.raises(ValueError, match="1 to the 2000"):
        both[1].search(queries, 2001)
