import pytest

from benchmarks import sft


def test_both_trainers_are_timed_on_one_batch_and_the_ratio_has_its_bar(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sft, "ROUNDS", 1)
    monkeypatch.setattr(sft, "STEPS", 2)
    monkeypatch.setattr(sft, "ROWS", 2)
    ours, theirs, ratio, collating = sft.suite()
    assert ours.value > 0 and theirs.value > 0 and collating.value > 0
    assert ratio.value == pytest.approx(ours.value / theirs.value, rel=0.1)
    assert ratio.target == 1.10 and ratio.met == (ratio.value <= 1.10)
