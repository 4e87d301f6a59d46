"""What is shown of a training under way, by planted clocks."""

import math

import pytest

from assets.live import BARS, POINTS, Live, said


def test_the_rest_is_estimated_at_the_pace_of_this_process():
    """It went on at step 60 of 600 after 50 s of loading, and then took 2 s a step."""
    live = Live(60.0, now=0.0)
    live.add(50.0, 61, 600, {})
    assert live.left is None and live.description == "step 61 of 600"
    live.add(70.0, 71, 600, {})
    assert live.left == pytest.approx(2.0 * 529)
    assert live.description == "step 71 of 600, 18 min left"
    assert live.numbers == {"step": 71, "steps": 600, "seconds left": 1058.0}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5400, "1 h 30 min"), (90_060, "25 h 01 min")],
)
def test_lengths_of_time(seconds, words):
    assert said(seconds) == words


def test_ten_days_of_steps_come_to_a_few_hundred_events():
    live, shown = Live(60.0, now=0.0), []
    for step in range(1, 864_001):
        live.add(float(step), step, 864_000, {})
        if live.due():
            shown.append(step)
    assert shown[:3] == [1, 61, 121] and shown[-1] == 864_000 and len(shown) < 700


def test_a_curve_keeps_its_shape_in_few_points():
    live = Live(60.0, now=0.0)
    for step in range(1, 100_001):
        live.add(float(step), step, 100_000, {"falls": 1.0 - step / 100_000, "flat": 3.0, "broken": math.nan})
    _, _, falls, flat, broken = live.curves.splitlines()
    drawn = falls.split("|")[3].strip()
    assert POINTS <= len(drawn) < 2 * POINTS and list(drawn) == sorted(drawn, reverse=True)
    assert set(drawn) == set(BARS)
    assert set(flat.split("|")[3].strip()) == {BARS[0]}
    assert broken == "| broken | nan |  |"
    assert "broken" not in live.numbers and live.numbers["flat"] == 3.0
