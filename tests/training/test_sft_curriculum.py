import json
import math
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.settings import SftSettings
from training.sft.curriculum import State, look

SETTINGS = SftSettings(warm_up=1)


def with_(**changes) -> SftSettings:
    return SETTINGS.model_copy(update=changes)


def through(losses, settings: SftSettings = SETTINGS, state: State | None = None):
    """The states and verdicts after each loss."""
    state, seen = state or State(), []
    for dev in losses:
        state, verdict = look(state, dev, settings)
        seen.append((state, verdict))
    return seen


def test_one_epoch_on_the_full_pool_then_the_main_phase():
    assert State().phase == "warm-up"
    assert [state.phase for state, _ in through([1.0, 0.8, 0.6])] == ["main"] * 3
    longer = with_(warm_up=3)
    assert [state.phase for state, _ in through([1.0, 0.8, 0.6], longer)] == ["warm-up", "warm-up", "main"]


def test_it_is_over_when_the_mean_gains_under_a_percent_twice_running():
    falling = [0.9**k for k in range(12)]
    assert all(state.phase == "main" for state, _ in through(falling))
    phases = [state.phase for state, _ in through([1.0, 1.0, 1.0])]
    assert phases == ["main", "main", "over"]


def test_one_good_epoch_ends_a_stall():
    seen = through([1.0, 1.0, 0.5, 0.5, 0.45])
    assert [state.stalled for state, _ in seen] == [0, 1, 0, 0, 0]


def test_a_stall_of_the_warm_up_does_not_count_for_the_main_phase():
    seen = through([1.0, 1.0, 1.0, 1.0], with_(warm_up=3))
    assert [state.phase for state, _ in seen] == ["warm-up", "warm-up", "main", "main"]
    assert seen[-1][0].stalled == 1


def test_falling_back_returns_to_the_full_pool_and_to_the_best_loss():
    (_, best), (fallen, verdict), (after, fine) = through([1.0, 1.06, 1.01])
    assert (best, verdict, fine) == ("best", "fallen", "fine")
    assert (fallen.phase, fallen.mean, fallen.best) == ("warm-up", 1.0, 1.0)
    assert after.phase == "main"
    assert through([1.0, 1.0499])[-1][1] == "fine"


def test_a_loss_that_is_no_number_falls_back_and_as_the_first_one_is_an_error():
    for wrong in (math.nan, math.inf):
        assert through([1.0, wrong])[-1][1] == "fallen"
        with pytest.raises(ValueError, match="learning_rate"):
            look(State(), wrong, SETTINGS)


def test_without_a_dev_split_only_epochs_count():
    seen = through([None] * 9)
    assert [state.phase for state, _ in seen] == ["main"] * 9
    assert {verdict for _, verdict in seen} == {"fine"}


def test_the_mean_is_the_weighted_mean_of_all_losses_so_far():
    losses = [3.0, 2.5, 2.9, 1.0, 0.5]
    settings = with_(fall_back=10.0, least_gain=0.0)
    weights = [0.9 ** (len(losses) - 1 - k) for k in range(len(losses))]
    expected = sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights)
    assert through(losses, settings)[-1][0].mean == pytest.approx(expected)


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=30))
def test_whatever_comes_the_best_is_remembered_and_a_state_survives_json(losses):
    seen = through(losses)
    for n, (state, verdict) in enumerate(seen):
        assert state.best == min(losses[: n + 1])
        assert (verdict == "best") == (losses[n] < min(losses[:n], default=math.inf))
        assert (verdict == "fallen") == (n > 0 and losses[n] > min(losses[:n]) + SETTINGS.fall_back)
        assert State(**json.loads(json.dumps(asdict(state)))) == state
