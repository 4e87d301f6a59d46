"""Splits: disjoint by media and group, at their shares in every stratum, unmoved by what comes later."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pixelis_pipeline.columns import from_table, to_table
from pixelis_pipeline.curation.splits import SPLITS, Outline, assign, shares, split, stratum, uniform
from pixelis_pipeline.records import Accepted, Media, Outcome, Rejected, Trajectory
from pixelis_pipeline.settings import CurationSettings


def picture(k: int) -> Media:
    return Media(f"{k:064x}", "image", f"{k}.png", 8, 8)


def divided(made: Sequence[Trajectory], settings: CurationSettings) -> list[Outcome[Trajectory]]:
    return list(split(made, assign(made, settings), settings))


def off(made: Sequence[Trajectory], settings: CurationSettings) -> dict[str, float]:
    """By how many traces the worst split of each stratum is off its share."""
    counts = Counter((stratum(t.question), t.split) for t in kept(divided(made, settings)))
    return {name: row["off by"] for name, row in shares(counts, settings).items()}


def kept(outcomes: list[Outcome[Trajectory]]) -> list[Trajectory]:
    return [record for o in outcomes if isinstance(o, Accepted) for record in o.records]


@pytest.mark.parametrize("batches", [1, 20])
def test_one_stratum_of_single_traces_is_never_off_by_four_thirds(
    gallery: Any, settings: CurationSettings, batches: int
) -> None:
    made = [gallery.trajectory(picture(k), batch=f"{k % batches:03d}") for k in range(400)]
    assert all(max(off(made[:n], settings).values()) <= 4 / 3 for n in (1, 7, 99, 400))


def test_shares_hold_in_the_whole_and_in_every_stratum(gallery: Any, settings: CurationSettings) -> None:
    """Sixteen strata from common to rare, several traces a group: a draw would be off by twenty traces in
    the whole (one standard deviation of 400 groups of five), and is measured beside it."""
    made = []
    for k in range(400):
        for n in range(1 + k % 9):
            task = f"task{int(uniform(f'{k}/{n}', settings) ** 2 * 16)}"
            made.append(gallery.trajectory(picture(k), name=str(n), task=task))
    found = off(made, settings)
    assert len(found) == 17
    assert found["all"] <= 5 and max(found.values()) <= 5
    hashed = Counter(uniform(picture(k).sha256, settings) < 0.1 for k in range(400) for _ in range(1 + k % 9))
    assert abs(hashed[True] - 0.1 * len(made)) > found["all"]


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 12), min_size=1, max_size=2, unique=True), st.sampled_from("012")),
        max_size=25,
    ),
    st.randoms(use_true_random=False),
)
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_disjoint_stable_and_conserving(
    gallery: Any, settings: CurationSettings, drawn_items: Any, random: Any
) -> None:
    """For any mix of shared pictures and batches: no medium in two splits, nothing lost, no item of an
    earlier batch moved by a later one, and the order of arrival does not show."""
    even = settings.model_copy(update={"dev_share": 0.3, "test_share": 0.3})
    made = [
        gallery.trajectory(*map(picture, media), name=str(k), batch=batch)
        for k, (media, batch) in enumerate(drawn_items)
    ]
    outcomes = divided(made, even)
    assert sorted(o.of for o in outcomes) == sorted(t.id for t in made)
    where: dict[str, set[str]] = {}
    for record in kept(outcomes):
        for media in record.question.media:
            where.setdefault(media.sha256, set()).add(record.split)
    assert all(len(names) == 1 for names in where.values())
    found = {o.of: o for o in outcomes}
    for last in ("0", "1"):
        earlier = divided([t for t in made if t.batch <= last], even)
        assert [found[o.of] for o in earlier] == earlier
    shuffled = list(made)
    random.shuffle(shuffled)
    assert {o.of: o for o in divided(shuffled, even)} == found


def test_ids_that_move_with_the_tertiles_move_no_split(gallery: Any, settings: CurationSettings) -> None:
    """Adding a batch gives the curriculum's records of earlier batches new ids."""
    made = [gallery.trajectory(picture(k // 2), name=str(k), task=f"t{k % 3}") for k in range(90)]
    renamed = [replace(t, id=t.id[::-1]) for t in made]
    assert [t.split for t in kept(divided(made, settings))] == [
        t.split for t in kept(divided(renamed, settings))
    ]


def test_an_outline_is_read_from_the_columns_of_a_trajectory(
    gallery: Any, settings: CurationSettings
) -> None:
    made = [gallery.trajectory(picture(k), steps=(gallery.step(),), group=f"g{k % 7}") for k in range(20)]
    table = to_table(Trajectory, made)
    outlines = from_table(Outline, table.select(["id", "question", "request", "batch", "group"]))
    assert assign(outlines, settings) == assign(made, settings)


def test_what_would_bridge_two_splits_is_rejected(gallery: Any, settings: CurationSettings) -> None:
    made = [gallery.trajectory(picture(k), batch="0") for k in range(40)]
    where = {t.question.media[0].sha256: t.split for t in kept(divided(made, settings))}
    train, test = (next(k for k in range(40) if where[picture(k).sha256] == s) for s in ("train", "test"))
    bridge = gallery.trajectory(picture(train), picture(test), batch="1")
    (rejected,) = [o for o in divided([bridge, *made], settings) if isinstance(o, Rejected)]
    assert (rejected.of, rejected.rule, rejected.measured) == (bridge.id, "spans splits", 2.0)
    assert f"{picture(test).sha256} in test" in rejected.detail


def test_a_group_stays_together_in_later_batches_too(gallery: Any, settings: CurationSettings) -> None:
    made = [
        gallery.trajectory(picture(k), group=f"g{k % 10}", task=f"t{k % 3}", batch=f"{k // 25}")
        for k in range(100)
    ]
    where = {(t.group, t.split) for t in kept(divided(made, settings))}
    assert len(where) == 10


def test_a_share_of_nothing_gets_nothing_and_the_seed_moves_the_rest(
    gallery: Any, settings: CurationSettings
) -> None:
    made = [gallery.trajectory(picture(k)) for k in range(100)]
    none = settings.model_copy(update={"dev_share": 0.0})
    assert Counter(t.split for t in kept(divided(made, none))) == {"train": 90, "test": 10}
    other = settings.model_copy(update={"seed": settings.seed + 1})
    assert [t.split for t in kept(divided(made, settings))] != [t.split for t in kept(divided(made, other))]
    assert set(assign(made, settings).values()) == set(SPLITS)
