"""Statistics of neighbouring steps, by hand, and that none is used with another embedding."""

import json
from pathlib import Path

import numpy as np
import pytest

from training.frozen import Changed
from training.rft.rewards import Rollout
from training.rft.scales import ENOUGH, ScaleError, read, scales


def rollout(family: str, *cosines: float, valid: bool = True) -> Rollout:
    """Steps in a plane, each turned from the last so that their cosine is the given one."""
    turns = np.cumsum([0.0, *np.arccos(cosines)])
    rows = np.stack([np.cos(turns), np.sin(turns)], 1)
    steps = len(rows)
    texts = tuple(f"{family} {k}" for k in range(steps))
    return Rollout(True, family, texts, ("PROP",) * steps, (valid,) * steps, rows, *[np.zeros(steps)] * 3)


def test_each_family_has_its_own_where_there_are_enough_pairs() -> None:
    many = [rollout("count", 0.2, 0.6) for _ in range(ENOUGH // 2)]
    few = [rollout("read", 1.0), rollout("name")]
    found = scales([*many, *few], "e")
    assert found.families["count"].mean == pytest.approx(0.4)
    assert found.families["count"].deviation == pytest.approx(0.2)
    assert found.families["read"] == found.families["name"]
    assert found.families["read"].mean == pytest.approx((0.4 * ENOUGH + 1) / (ENOUGH + 1))
    assert found.pairs == {"count": ENOUGH, "name": 0, "read": 1}


def test_steps_that_earn_nothing_are_not_measured() -> None:
    honest, failed = rollout("count", 0.5), rollout("count", 0.9, valid=False)
    assert scales([honest, failed], "e").families == scales([honest], "e").families
    with pytest.raises(ScaleError, match="two steps"):
        scales([failed, rollout("count")], "e")


def test_stored_statistics_come_back_and_are_refused_where_they_do_not_fit(tmp_path: Path) -> None:
    path, found = tmp_path / "scales.json", scales([rollout("count", 0.1, 0.7)], "e" * 64)
    found.write(path)
    assert read(path, "e" * 64) == found
    with pytest.raises(ScaleError, match="measure again"):
        read(path, "f" * 64)
    stored = json.loads(path.read_text())
    stored["families"]["count"]["mean"] += 1e-9
    path.write_text(json.dumps(stored))
    with pytest.raises(Changed, match="was changed"):
        read(path, "e" * 64)


def test_the_version_follows_from_what_was_measured() -> None:
    one = scales([rollout("count", 0.1, 0.7)], "e")
    assert one.digest == scales([rollout("count", 0.1, 0.7)], "e").digest
    assert one.digest != scales([rollout("count", 0.1, 0.7)], "f").digest
    assert one.digest != scales([rollout("count", 0.1, 0.6)], "e").digest
