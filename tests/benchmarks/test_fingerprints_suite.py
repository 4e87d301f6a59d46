import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import fingerprints
from benchmarks.fingerprints import Hashed

HERE = Path(sys.executable)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return fingerprints.pictures(tmp_path_factory.mktemp("pictures"), 4, width=640, height=480)


def test_pictures_are_distinct_jpegs_with_the_bytes_of_photographs(paths: list[Path]) -> None:
    assert [Image.open(path).size for path in paths] == [(640, 480)] * 4
    assert np.array_equal(fingerprints.picture(1, 64, 48), fingerprints.picture(1, 64, 48))
    assert len({path.read_bytes() for path in paths}) == 4
    whole = fingerprints.picture(3)
    fresh = paths[0].with_name("whole.jpg")
    Image.fromarray(whole).save(fresh, quality=fingerprints.QUALITY)
    assert 0.6 < 8 * fresh.stat().st_size / whole[..., 0].size < 2.2


@pytest.mark.slow
def test_every_method_hashes_the_same_files_in_their_order(paths: list[Path]) -> None:
    methods = dict.fromkeys(("ours", "our_look", "imagehash"), HERE)
    found = fingerprints.in_turns(methods, paths, processes=2, part=3)
    assert found["ours"].digits == found["our_look"].digits and len(set(found["ours"].digits)) == 4
    assert max(fingerprints.apart(found["ours"].digits, found["imagehash"].digits)) <= 4
    assert min(fingerprints.apart(found["ours"].digits, found["imagehash"].digits[::-1])) > 8
    assert all(each.seconds > 0 and each.cpu > 0 for each in found.values())


def test_parts_add_up_and_bits_are_counted() -> None:
    assert Hashed(1.0, 2.0, ("a",)) + Hashed(0.5, 0.25, ("b",)) == Hashed(1.5, 2.25, ("a", "b"))
    assert fingerprints.apart(["00000000000000ff", "8000000000000000"], ["0000000000000000"] * 2) == [8, 1]


def test_rates_are_of_all_files_and_the_target_is_of_the_plain_hashes(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours takes 1 s for the four, with descriptors 2 s, the peer 4 s and half as much CPU a process."""
    seconds = {"ours": 1.0, "our_look": 2.0, "imagehash": 4.0}

    def timed(python: Path, method: str, some: list[Path], processes: int) -> Hashed:
        share = seconds[method] * len(some) / 4
        return Hashed(share, share / 2 if method == "imagehash" else share, ("0" * 16,) * len(some))

    monkeypatch.setattr(fingerprints, "hashed", timed)
    rows = [row for row in fingerprints.compare(paths, {"imagehash": HERE}, part=2) if row.peer]
    assert [(row.value, row.ratio, row.met) for row in rows[:2]] == [(4.0, 4.0, True), (4.0, 2.0, False)]
    assert [(row.value, row.ratio, row.met) for row in rows[2:4]] == [(2.0, 2.0, None), (2.0, 1.0, None)]


def test_a_failed_run_says_its_last_word(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"imagehash: FileNotFoundError: .*absent\.jpg"):
        fingerprints.hashed(HERE, "imagehash", [tmp_path / "absent.jpg"], 1)
