from pathlib import Path

import numpy as np
import pytest

from benchmarks import joins

OURS = joins.OURS


def test_plain_products_and_the_join_find_the_same_planted_pairs(tmp_path: Path):
    for clustered in (False, True):
        np.save(tmp_path / "v.npy", joins.vectors(600, 32, clustered))
        mine, theirs = (joins.run(OURS, m, tmp_path / "v.npy", 0.95, 600) for m in ("our_cosine", "gemm"))
        assert mine["pairs"] >= 100 and mine["digest"] == theirs["digest"]
        assert mine["peak"] > 0 and mine["seconds"] > 0


def test_fewer_queries_are_the_pairs_that_begin_with_them(tmp_path: Path):
    np.save(tmp_path / "h.npy", joins.hashes(400))
    some, every = (joins.run(OURS, "ours", tmp_path / "h.npy", 8, asked) for asked in (50, 400))
    assert (some["pairs"], every["pairs"]) == (50, 100)


def test_a_failed_run_says_its_last_word(tmp_path: Path):
    with pytest.raises(RuntimeError, match="No such file"):
        joins.run(OURS, "ours", tmp_path / "absent.npy", 8, 1)
