"""Sampling: what a weight is made of, and that drawing follows it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from pixelis_pipeline.curation.curriculum import curriculum, levels
from pixelis_pipeline.curation.sampling import Sampler, own_weight, weights
from pixelis_pipeline.records import Accepted
from pixelis_pipeline.settings import CurationSettings

some_weights = st.lists(st.floats(0, 100), min_size=1, max_size=40).filter(lambda w: sum(w) > 1e-6)


def test_negatives_that_a_policy_misses_weigh_more(gallery: Any, settings: CurationSettings) -> None:
    def weight(kind: str, error: float | None, recipe: float = 1.0) -> float:
        return own_weight(gallery.trajectory(kind=kind, sampling_weight=recipe), error, settings)

    assert weight("process-negative", None, 2.0) == 2.0
    assert weight("process-negative", 1.0, 2.0) == 4.0
    assert weight("outcome-negative", 0.5) == 1.5
    assert weight("positive", 1.0) == weight("self-correction", 1.0) == 1.0
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="sampling_weight"):
            weight("positive", None, wrong)


def test_the_schedule_is_two_medium_to_one_hard_after_the_warm_up(
    gallery: Any, settings: CurationSettings
) -> None:
    made = [
        gallery.trajectory(
            name=str(k), kind=("positive", "process-negative")[k % 2], sampling_weight=1 + k % 2
        )
        for k in range(30)
    ]
    outcomes = curriculum(made, levels(made, settings), settings)
    traces = [r for o in outcomes if isinstance(o, Accepted) for r in o.records]
    recipe = np.array([t.sampling_weight for t in traces])
    share = {"simple": 0.0, "medium": 2.0, "hard": 1.0}
    assert weights(traces, "warm-up", settings).tolist() == recipe.tolist()
    expected = recipe * [share[t.difficulty] for t in traces]
    assert weights(traces, "main", settings).tolist() == expected.tolist()
    with pytest.raises(ValueError, match="curriculum"):
        weights(made, "warm-up", settings)
    with pytest.raises(ValueError, match="none of 1"):
        weights([replace(traces[0], difficulty="simple")], "main", settings)


@given(some_weights, st.integers(0, 300), st.integers(0, 5))
def test_each_is_drawn_within_one_of_its_share(given_weights: list[float], count: int, epoch: int) -> None:
    made = np.array(given_weights)
    drawn = Sampler(made, 7).draws(count, epoch)
    counts = np.bincount(drawn, minlength=len(made))
    assert counts.sum() == count
    assert (np.abs(counts - count * made / made.sum()) < 1 + 1e-6).all()


def test_traps_are_drawn_their_weights_multiple_as_often() -> None:
    made = np.where(np.arange(100) % 10, 1.0, 2.0)
    counts = np.bincount(Sampler(made, 7).draws(11_000, 0), minlength=100)
    assert set(counts[made == 2]) == {200} and set(counts[made == 1]) == {100}


@given(some_weights, st.integers(0, 5))
def test_once_is_every_index_of_positive_weight(given_weights: list[float], epoch: int) -> None:
    made = np.array(given_weights)
    assert sorted(Sampler(made, 7).once(epoch)) == np.flatnonzero(made).tolist()


def test_the_first_of_once_follows_the_weights() -> None:
    """And the second follows those of what is left: P(j) = sum over i of w_i/W x w_j/(W - w_i)."""
    made = np.array([1.0, 2.0, 4.0, 8.0])
    share = made / made.sum()
    orders = np.array([Sampler(made, 7).once(epoch)[:2] for epoch in range(20_000)])
    second = sum(share[i] * np.where(np.arange(4) == i, 0, share) / (1 - share[i]) for i in range(4))
    for place, expected in enumerate((share, second)):
        counts = np.bincount(orders[:, place], minlength=4)
        assert chisquare(counts, expected * 20_000).pvalue > 1e-3


def test_an_epoch_repeats_and_the_next_differs() -> None:
    made = np.linspace(1, 3, 50)
    one, same, other = Sampler(made, 7), Sampler(made, 7), Sampler(made, 8)
    assert one.draws(80, 3).tolist() == same.draws(80, 3).tolist()
    assert one.once(3).tolist() == same.once(3).tolist()
    assert len({tuple(s.once(e)) for s, e in ((one, 3), (one, 4), (other, 3))}) == 3


@pytest.mark.parametrize("wrong", [[], [0.0], [-1.0, 2.0], [float("nan")], [float("inf")]])
def test_weights_that_cannot_be_drawn_by(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        Sampler(np.array(wrong), 7)
