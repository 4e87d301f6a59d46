import pytest

from benchmarks import ranks


def test_every_method_finds_the_same_rank_at_a_small_size():
    found = list(ranks.ranks(600, 900))
    assert [each.peer for each in found[2:]] == [peer for peer in ranks.FULL for _ in "ab"]
    assert all("same" in each.name and "OTHER" not in each.name for each in found[2:])
    assert found[0].value > 10 and found[1].value > 0


def test_another_rank_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ranks, "FULL", {"one too many": lambda matrix: ranks.by_torch(matrix)[1:]})
    assert any("OTHER RANK" in each.name for each in ranks.ranks(300, 400))
