"""The controller against plants whose answer to β is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.settings import PidSettings
from training.rft.pid import State, start, step

SETTINGS = PidSettings()


def closed(
    steps: int, settings: PidSettings, seed: int = 0, controlled: bool = True
) -> tuple[list[float], State]:
    """A divergence that grows by learning and is pulled back by β, with noise: KL a step, and the end."""
    random = np.random.default_rng(seed)
    state, kl, told = start(settings), 0.0, []
    for _ in range(steps):
        beta = state.beta if controlled else settings.beta
        kl = max(0.0, kl + 0.02 - 0.5 * beta * kl)  # at rest where kl = .04 / β
        seen = kl * math.exp(0.1 * random.standard_normal())
        told.append(seen)
        state = step(state, seen, settings)
    return told, state


def test_the_divergence_comes_to_its_target_and_without_control_does_not() -> None:
    told, state = closed(600, SETTINGS)
    settled = np.array(told[300:])
    assert abs(np.median(settled) - SETTINGS.target) < 0.02 and np.quantile(settled, 0.95) <= 0.20
    assert SETTINGS.beta < state.beta < SETTINGS.beta_high
    assert np.median(closed(600, SETTINGS, controlled=False)[0][300:]) > 0.5


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_beta_never_leaves_its_bounds(measured: list[float]) -> None:
    state = start(SETTINGS)
    for kl in measured:
        state = step(state, kl, SETTINGS)
        assert SETTINGS.beta_low * (1 - 1e-9) <= state.beta <= SETTINGS.beta_high * (1 + 1e-9)


def test_too_far_raises_beta_and_too_near_lowers_it() -> None:
    far = on = start(SETTINGS)
    near = step(far, 0.151, SETTINGS)
    for _ in range(5):
        before = far, near
        far, near, on = step(far, 0.4, SETTINGS), step(near, 0.01, SETTINGS), step(on, 0.15, SETTINGS)
        assert far.beta > before[0].beta and near.beta < before[1].beta
    assert on.beta == pytest.approx(SETTINGS.beta)


def test_the_way_up_from_zero_is_not_paid_back() -> None:
    """However long the divergence takes to come up to its target, β then stands where it started."""

    def arrived(after: int) -> State:
        state = start(SETTINGS)
        for _ in range(after):
            state = step(state, 0.01, SETTINGS)
            assert state.beta == pytest.approx(0.05 * math.exp(-0.5 * 0.14 / 0.15))
        return step(state, 0.0101 + 10 * 0.14, SETTINGS)  # brings the average to its target

    for after in (20, 90):  # before there is a derivative
        assert arrived(after).beta == pytest.approx(SETTINGS.beta, rel=1e-3) and arrived(after).reached


def test_a_long_time_at_a_bound_is_not_paid_back() -> None:
    """The integral stands still there: once the divergence is small again β falls as soon as ever,
    however long it lay at the bound."""

    def steps_back(held: int) -> int:
        state = start(SETTINGS)
        for _ in range(held):
            state = step(state, 5.0, SETTINGS)
        assert state.beta == pytest.approx(SETTINGS.beta_high)
        for count in range(1, 500):
            state = step(state, 0.0, SETTINGS)
            if state.beta < SETTINGS.beta_high / 2:
                return count
        raise AssertionError("it stays at its bound")

    assert steps_back(5_000) <= steps_back(50) + 2


def test_no_derivative_before_its_time_and_the_written_law_after() -> None:
    """Two steps by hand, on both sides of `derivative_after`."""
    given_ = SETTINGS.model_copy(update={"ema": 0.0, "derivative_after": 1})
    one = step(start(given_), 0.30, given_)  # e = 1, no derivative yet
    assert math.log(one.beta / 0.05) == pytest.approx(0.5 * 1 + 0.05 * 1)
    two = step(one, 0.15, given_)  # e = 0, sum 1, change -1
    assert math.log(two.beta / 0.05) == pytest.approx(0.05 * 1 - 0.25)
    assert (two.steps, two.error, two.integral) == (2, 0.0, 1.0)


def test_the_average_begins_at_the_first_value_and_follows_by_its_share() -> None:
    one = step(start(SETTINGS), 0.2, SETTINGS)
    assert one.smoothed == 0.2
    assert step(one, 0.4, SETTINGS).smoothed == pytest.approx(0.9 * 0.2 + 0.1 * 0.4)


@pytest.mark.parametrize("kl", [math.nan, math.inf])
def test_what_is_no_number_is_refused(kl: float) -> None:
    with pytest.raises(ValueError, match="cannot be controlled"):
        step(start(SETTINGS), kl, SETTINGS)
