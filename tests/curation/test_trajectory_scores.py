"""Scores: what each component sees, frozen statistics, and ties at the percentile."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pixelis_pipeline.columns import from_table, to_table
from pixelis_pipeline.curation.scores import (
    ENOUGH,
    FAMILY,
    ScoreError,
    ScoreStatistics,
    fit,
    logic,
    reference,
    score,
    structure,
    total,
    visual,
)
from pixelis_pipeline.records import Accepted, Media, Rejected
from pixelis_pipeline.settings import CurationSettings


def pool(gallery: Any, fidelity: list[float], **fields: Any) -> list[Any]:
    """One trajectory per value, each of its own group, replayed at that fidelity."""
    made = []
    for k, value in enumerate(fidelity):
        media = Media(f"{k:064x}", "image", "p.png", 8, 8)
        steps = (gallery.step(measured=value), gallery.step(box=(0, 0, 9, 9), measured=value))
        made.append(gallery.trajectory(media, steps=steps, group=f"g{k}", **fields))
    return made


def test_logic_follows_the_kind_of_trace(gallery: Any) -> None:
    steps = (gallery.step(), gallery.step(box=(0, 0, 9, 9), decisive=False))
    right = (
        gallery.trajectory(steps=steps, answer_kind="integer") if False else gallery.trajectory(steps=steps)
    )
    wrong = replace(right, answer="4")
    assert logic(right) == 0.75
    assert logic(wrong) == 0.25
    assert logic(replace(wrong, kind="outcome-negative")) == 0.75
    assert logic(replace(right, kind="outcome-negative")) == 0.25
    assert logic(gallery.trajectory()) == 0.5


def test_structure_falls_with_invalid_repeated_and_many_calls(
    gallery: Any, settings: CurationSettings
) -> None:
    boxes = [(0, 0, k + 1, 9) for k in range(12)]
    whole = gallery.trajectory(steps=tuple(gallery.step(box=b) for b in boxes[:4]))
    assert structure(whole, settings) == 1.0
    invalid = replace(whole, steps=(*whole.steps[:3], replace(whole.steps[3], valid=False)))
    assert structure(invalid, settings) == pytest.approx((0.75 + 1 + 1) / 3)
    repeated = replace(whole, steps=whole.steps[:1] * 4)
    assert structure(repeated, settings) == pytest.approx((1 + 0.25 + 1) / 3)
    long = gallery.trajectory(steps=tuple(gallery.step(box=b) for b in boxes))
    assert structure(long, settings) == pytest.approx((1 + 1 + 0.5) / 3)


def test_visual_is_how_far_above_the_threshold(gallery: Any) -> None:
    def seen(*steps: Any) -> float:
        return visual(gallery.trajectory(steps=steps))

    assert seen(gallery.step(measured=0.5)) == 0.0
    assert seen(gallery.step(measured=1.0)) == 1.0
    assert seen(gallery.step(measured=0.9), gallery.step(measured=0.7)) == pytest.approx(0.6)
    assert seen(gallery.step(measured=0.2)) == 0.0
    assert seen(gallery.step(measured=1.0, threshold=1.0)) == 1.0
    assert seen(gallery.step(metric="")) == 0.0
    assert seen(gallery.step(measured=1.0), gallery.step(measured=0.1, flawed=True)) == 1.0


def test_statistics_come_from_drawn_positives_alone(gallery: Any, settings: CurationSettings) -> None:
    made = pool(gallery, np.linspace(0.6, 1.0, 300).tolist())
    dev = [t for t in made if reference(t, settings)]
    statistics = fit(made, settings)
    assert statistics.fitted_on == "draw"
    assert statistics.families[0].count == len(dev)
    assert statistics == fit(dev, settings)
    assert statistics == fit([*made, *pool(gallery, [0.5] * 9, kind="process-negative")], settings)
    scores = [total(t, statistics, settings) for t in dev]
    assert statistics.threshold == np.percentile(scores, 10, method="lower")
    assert from_table(ScoreStatistics, to_table(ScoreStatistics, [statistics])) == [statistics]


def test_accepts_from_the_percentile_up(gallery: Any, settings: CurationSettings) -> None:
    made = pool(gallery, np.linspace(0.5, 1.0, 400).tolist())
    statistics = fit(made, settings)
    outcomes = list(score(made, statistics, settings))
    removed = [o for o in outcomes if isinstance(o, Rejected)]
    assert len(outcomes) == len(made)
    assert 0.03 < len(removed) / len(made) < 0.2
    assert {o.threshold for o in removed} == {statistics.threshold}
    assert all((o.measured or 0.0) < statistics.threshold for o in removed)
    worst_kept = min(r.scores["score"] for o in outcomes if isinstance(o, Accepted) for r in o.records)
    assert worst_kept >= statistics.threshold


def test_a_constant_pool_is_kept_whole(gallery: Any, settings: CurationSettings) -> None:
    """Equal scores are ties at the percentile, not a tenth to throw away; a worse one still goes."""
    made = pool(gallery, [0.93] * 200)
    statistics = fit(made, settings)
    assert all(isinstance(o, Accepted) for o in score(made, statistics, settings))
    (worse,) = score(pool(gallery, [0.8]), statistics, settings)
    assert isinstance(worse, Rejected)


def test_a_small_family_borrows_from_all(gallery: Any, settings: CurationSettings) -> None:
    many = pool(gallery, np.linspace(0.6, 1, 200).tolist(), task="count")
    few = [replace(t, group="g-few") for t in pool(gallery, [0.9] * (FAMILY - 1), task="read")]
    statistics = fit(many + few, settings)
    assert [family.task for family in statistics.families] == ["", "count"]


def test_no_dev_and_no_positive(gallery: Any, settings: CurationSettings) -> None:
    train = [t for t in pool(gallery, [0.9] * 30) if not reference(t, settings)]
    assert fit(train[:3], settings).fitted_on == "pool"
    with pytest.raises(ScoreError, match=r"none of 2 .* rejections of replayed_trajectories"):
        fit(pool(gallery, [0.9, 0.8], kind="process-negative"), settings)


def test_what_is_frozen_is_changed_by_no_later_batch(gallery: Any, settings: CurationSettings) -> None:
    """Nor by a task that is new, nor by where in the pool the earlier batches stand."""
    first = pool(gallery, np.linspace(0.6, 1.0, 400).tolist(), batch="000")
    later = pool(gallery, np.linspace(0.5, 0.7, 400).tolist(), batch="001", task="read")
    statistics = fit(first, settings)
    assert statistics.frozen and statistics.batches == ("000",)
    assert fit([*later, *first], settings) == statistics
    scored = list(score([*first, *later], statistics, settings))
    assert scored[: len(first)] == list(score(first, statistics, settings))


def test_too_few_positives_are_a_draft_that_the_next_batch_completes(
    gallery: Any, settings: CurationSettings
) -> None:
    made = pool(gallery, np.linspace(0.6, 1.0, 400).tolist())
    drawn = [t for t in made if reference(t, settings)]
    few = [replace(t, batch="000") for t in drawn[: ENOUGH - 1]]
    more = [replace(t, batch="001") for t in drawn[ENOUGH - 1 :]]
    draft = fit(few, settings)
    assert not draft.frozen and draft.batches == ("000",)
    both = fit([*few, *more], settings)
    assert both.frozen and both.batches == ("000", "001") and both.threshold != draft.threshold
