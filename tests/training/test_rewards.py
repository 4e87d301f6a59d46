"""Rewards by hand, and that no trick earns more than the honest rollout it is made from."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelis_pipeline.settings import RewardSettings
from training.rft.rewards import Rollout, Scale, coherence, curiosities, curiosity, penalty, rewards

SETTINGS = RewardSettings()
SCALES = {"count": Scale(0.5, 0.2)}


def rollout(seed: int, steps: int = 3, correct: bool = True) -> Rollout:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((steps, 8)) + 1
    return Rollout(
        correct,
        "count",
        tuple(f"SEG {seed} {k}" for k in range(steps)),
        ("SEG",) * steps,
        (True,) * steps,
        rows / np.linalg.norm(rows, axis=1, keepdims=True),
        random.uniform(0.1, 1, steps),
        random.uniform(0.1, 1, steps),
        random.uniform(-1, 3, steps),
    )


def more(of: Rollout, steps: list[int], **fields: Any) -> Rollout:
    """The rollout with these of its steps made again at its end."""
    order = [*range(len(of.calls)), *steps]
    again = replace(
        of,
        calls=tuple(of.calls[k] for k in order),
        tools=tuple(of.tools[k] for k in order),
        valid=tuple(of.valid[k] for k in order),
        **{name: getattr(of, name)[order] for name in ("embeddings", "error", "variance", "validity")},
    )
    return replace(again, **fields)


def test_the_terms_by_hand() -> None:
    unit = np.eye(3)[[0, 0, 1]]
    one = Rollout(
        True, "count", ("a", "b", "c"), ("SEG",) * 3, (True,) * 3, unit, np.ones(3), np.ones(3), np.zeros(3)
    )
    # cosines 1 and 0, mean .5 and deviation .2: both lie 2.5 deviations from the mean.
    typical = np.sqrt(2 / np.pi)
    assert coherence(one, SCALES["count"], SETTINGS) == pytest.approx(typical - 2.5)
    assert coherence(replace(one, calls=("a", "b", "a")), Scale(0.8, 0.2), SETTINGS) == pytest.approx(
        typical - 1
    )
    doubted, clip = replace(one, expected=np.array([0.5, 1, 2])), np.percentile([2, 1, 0.5], 95)
    assert curiosity([doubted], SETTINGS.model_copy(update={"gate": 0.0})) == pytest.approx(
        np.mean(np.minimum([1, 0.5, 0.25], clip / 2))
    )
    assert curiosity([one], SETTINGS) == pytest.approx(np.exp(-1) * 0.5)
    valid = (True,) * 7 + (False,)
    long = Rollout(False, "count", tuple("abcdefgh"), ("",) * 8, valid, np.eye(8), *[np.ones(8)] * 3)
    assert penalty(long, SETTINGS) == pytest.approx(0.3 + 0.02 * 2)


def test_terms_are_on_one_scale_over_the_batch_and_answers_are_not() -> None:
    batch = [rollout(k, correct=k % 2 == 0) for k in range(16)]
    found = rewards(batch, SCALES, SETTINGS)
    for scaled in (found.curiosity_scaled, found.coherence_scaled):
        assert scaled.mean() == pytest.approx(0, abs=1e-9) and scaled.std() == pytest.approx(1)
    assert set(found.answer) == {0.0, 1.0}
    told = found.answer + 0.1 * (found.curiosity_scaled + found.coherence_scaled) - found.penalty
    assert np.allclose(found.total, told)


def test_a_tool_earns_and_pays_by_its_scaler() -> None:
    """Two of three steps call ZOOM, one of them in vain; that the third is of another tool changes nothing
    for it. The bound of the batch holds for what was reweighted."""
    free = SETTINGS.model_copy(update={"clip_percentile": 100.0})
    mixed = replace(rollout(1), tools=("SEG", "ZOOM", "ZOOM"), valid=(True, True, False))
    batch = [mixed, *[rollout(50 + k) for k in range(6)]]
    plain, scaled = (rewards(batch, SCALES, free, scalers=each) for each in ({}, {"ZOOM": 0.5, "SEG": 1.0}))
    assert scaled.curiosity_steps[0] == pytest.approx(plain.curiosity_steps[0] * [1, 0.5, 1])
    assert plain.curiosity_steps[0].tolist()[2] == 0 < plain.curiosity_steps[0][1]
    assert (plain.penalty[0], scaled.penalty[0]) == pytest.approx((0.3, 0.15))
    assert scaled.penalty_steps[0] == pytest.approx([0, 0, 0.15])
    assert (scaled.coherence == plain.coherence).all() and (scaled.answer == plain.answer).all()
    assert (scaled.curiosity[1:] == plain.curiosity[1:]).all()
    for tool, count in (("ZOOM", 4.0), ("OCR", 1.0)):
        long = replace(rollout(2, 8), tools=(tool,) * 8, valid=(True,) * 7 + (False,))
        assert penalty(long, SETTINGS, {"ZOOM": 4.0}) == pytest.approx(0.3 * count + 0.02 * 2), (
            "not by length"
        )
    loud = curiosities(batch, SETTINGS, {"ZOOM": 100.0})
    steps = np.concatenate(curiosities(batch, free, {"ZOOM": 100.0}))
    assert max(each.max() for each in loud) == np.percentile(steps, 95) < steps.max()


@given(st.permutations(range(4)))
def test_the_same_faults_in_another_order_cost_the_same_to_the_last_bit(order: list[int]) -> None:
    tools, counts = ("SEG", "OCR", "ZOOM", "TEMP"), {"SEG": 0.6282, "OCR": 0.9687, "ZOOM": 2.0, "TEMP": 0.1}
    faults = replace(rollout(4, 4), tools=tools, valid=(False,) * 4)
    other = replace(faults, tools=tuple(tools[k] for k in order))
    assert penalty(other, SETTINGS, counts) == penalty(faults, SETTINGS, counts)


@pytest.mark.parametrize("smooth", [False, True])
def test_what_steps_add_sums_to_what_their_rollout_earns(smooth: bool) -> None:
    random = np.random.default_rng(0)
    batch = [more(rollout(k, k % 5), [0, 0] if k % 5 else []) for k in range(20)]
    batch = [
        replace(each, boxes=random.uniform(size=(len(each.calls), 4)), valid=(*each.valid[:-1], False))
        if each.calls
        else each
        for each in batch
    ]
    found = rewards(batch, SCALES, SETTINGS, smooth)
    for name in ("penalty", "curiosity", "coherence"):
        steps = getattr(found, f"{name}_steps")
        assert [len(each) for each in steps] == [len(each.calls) for each in batch]
        assert np.allclose([each.sum() for each in steps], getattr(found, name)), name
        assert any(each.any() for each in steps), name
    for each, curious, joined, paid in zip(
        batch, found.curiosity_steps, found.coherence_steps, found.penalty_steps, strict=True
    ):
        assert ((curious > 0) == each.fresh).all(), "a call made again, or invalid, adds nothing"
        assert not joined[~each.fresh].any()
        assert not joined[np.flatnonzero(each.fresh)[:1]].any(), "the first has no neighbour before it"
        assert ((paid >= SETTINGS.invalid) == ~np.array(each.valid, dtype=bool)).all()


@given(st.integers(0, 500), st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_calls_made_again_earn_nothing(seed: int, again: list[int]) -> None:
    """Whether one after the other or turn about: the same terms, and the penalty of length on top."""
    honest = rollout(seed)
    padded = more(honest, again)
    others = [rollout(1_000 + k) for k in range(6)]
    found = rewards([honest, padded, *others], SCALES, SETTINGS)
    assert found.total[1] <= found.total[0] + 1e-12
    assert found.coherence[1] == found.coherence[0] and found.curiosity[1] == found.curiosity[0]


@given(st.integers(0, 500), st.floats(2, 1e6))
def test_noise_that_the_head_is_unsure_of_does_not_pay(seed: int, loud: float) -> None:
    """Steps that nothing can predict are chosen: their error is large, and so is the spread of the passes.
    The gate falls faster than the error grows, and the percentile holds what is left."""
    batch = [rollout(1_000 + k) for k in range(15)]
    honest = rollout(seed)
    noise = replace(honest, error=honest.error * loud, variance=honest.variance + 40 * loud)
    plain, noisy = (curiosity([each, *batch], SETTINGS)[0] for each in (honest, noise))
    assert noisy <= max(plain, 1e-3)


def test_calls_that_fail_cost_and_earn_nothing() -> None:
    """Hopping through tools with arguments that no tool takes."""
    honest = rollout(3)
    hopping = more(honest, [0, 1, 2, 0, 1], calls=(*honest.calls, *(f"TRK {k}" for k in range(5))))
    hopping = replace(hopping, valid=(True,) * 3 + (False,) * 5)
    found = rewards([honest, hopping, *[rollout(50 + k) for k in range(6)]], SCALES, SETTINGS)
    assert found.total[1] <= found.total[0] - 5 * SETTINGS.invalid


def test_rollouts_without_a_call_are_scored_too() -> None:
    empty = Rollout(True, "count", (), (), (), np.zeros((0, 8)), *[np.zeros(0)] * 3)
    found = rewards([empty, empty], SCALES, SETTINGS)
    assert found.total.tolist() == [1.0, 1.0]
