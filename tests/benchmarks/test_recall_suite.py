"""The recall suite on its smallest family, and the arithmetic of docs/RECALL.md on counts that are known."""

from pathlib import Path

import pytest

from benchmarks import recall
from pixelis_pipeline.curation.planted import Recall


def test_the_page_states_what_was_counted() -> None:
    rows = [
        Recall("f", "flip", signal, 4, found, 5)
        for signal, found in zip(recall.SIGNALS, (0, 2, 3), strict=True)
    ]
    told = recall.page({"photographs": (4, rows)})
    assert (
        "| flip | 0.00 / 0.50 / 0.75 |" in told
        and "| **false among all pairs found** | 2 of 5 (2 flip) |" in told
    )


def test_a_family_is_measured_against_its_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "PAGE", tmp_path / "RECALL.md")
    monkeypatch.setattr(recall, "PAGES", 4)
    found = {m.name: m for m in recall.suite(["world pages"], ["rescale to .5", "flip"])}
    assert found["world pages, rescale to .5: phash"].met is True
    assert (
        found["world pages, flip: verdict"].value == 0.0 and found["world pages, flip: verdict"].met is None
    )
    assert (tmp_path / "RECALL.md").is_file()
