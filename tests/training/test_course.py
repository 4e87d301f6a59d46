"""The curriculum of the reward, and when a run ends: on planted courses."""

from dataclasses import asdict, replace

import pytest

from pixelis_pipeline.settings import PidSettings, RftSettings
from training.rft import pid
from training.rft.course import Course, Measured, advance

CONTROL = PidSettings()
START = Course("k", pid.start(CONTROL))


def after(batches: list[Measured], **changes: object) -> list[Course]:
    settings, courses = RftSettings(steps=100).model_copy(update=changes), [START]
    for batch in batches:
        courses.append(advance(courses[-1], batch, settings, CONTROL))
    return courses[1:]


def measured(success: float = 0.5, tool_use: float = 1.0, kl: float = 0.1, learned: bool = True) -> Measured:
    return Measured([("read", success)], tool_use, kl, learned)


def test_averages_start_at_what_is_first_measured() -> None:
    first, second = after([measured(0.4, 0.8), measured(0.8, 0.4)])
    assert (first.success, first.tool_use) == (0.4, 0.8)
    assert (second.success, second.tool_use) == pytest.approx((0.48, 0.76))


def test_success_is_that_of_the_tasks_alike_however_often_each_is_asked() -> None:
    batch = Measured([("when", 1.0), ("count", 0.0), ("count", 0.0), ("count", 0.0)], 1.0, 0.1, True)
    (course,) = after([batch])
    assert course.success == 0.5
    assert [(each.name, each.asked, each.right) for each in course.tasks] == [("count", 3, 0), ("when", 1, 1)]


def test_the_spread_of_a_task_is_the_most_until_it_is_known() -> None:
    def spread(shares: list[float]) -> float:
        return after([Measured([("read", share)], 1.0, 0.1, True) for share in shares])[-1].tasks[0].spread

    assert spread([0.5] * 3) == 0.25
    assert spread([1.0]) == pytest.approx(0.2) and spread([0.0, 1.0]) == pytest.approx(0.16)
    assert spread([1.0, 0.25]) == pytest.approx(0.8 * 0.2 + 0.2 * 0.1875)


def test_intrinsic_terms_come_on_once_success_has_passed_and_stay() -> None:
    courses = after([*[measured(0.6)] * 9, *[measured(1.0)] * 5, *[measured(0.0)] * 9])
    assert courses[9].success < 0.7 < courses[10].success
    assert [course.stage for course in courses] == ["answer"] * 10 + ["intrinsic"] * 13
    assert courses[-1].success < 0.7
    assert {course.stage for course in after([measured(1.0)] * 30, intrinsic="none")} == {"answer"}


def test_one_batch_decides_nothing() -> None:
    """The averages start at the first batch's values, but are judged when they span ten."""
    lucky = after([measured(1.0), *[measured(0.5)] * 19])
    assert {course.stage for course in lucky} == {"answer"} and lucky[0].success > 0.7
    dry = after([measured(tool_use=0.0), *[measured()] * 19])
    assert {course.ended for course in dry} == {None}
    assert [course.stage for course in after([measured(1.0)] * 11)] == ["answer"] * 9 + ["intrinsic"] * 2


def test_a_run_ends_after_its_steps_or_where_tools_are_given_up() -> None:
    assert [course.ended for course in after([measured()] * 3, steps=3)] == [None, None, "finished"]
    falling = after([measured(), *[measured(tool_use=0.0)] * 20])
    ended = [course.ended for course in falling]
    assert ended.index("tool use collapsed") == 16, "one dry batch does not end a run: .9 ** 16 < .2"
    last = after([measured(tool_use=0.0)] * 10, steps=10)
    assert [course.ended for course in last] == [None] * 9 + ["tool use collapsed"], "this comes first"


def test_the_controller_moves_with_the_weights_only() -> None:
    idle = after([measured(kl=1.0, learned=False)] * 5)[-1]
    assert idle.controller == START.controller and idle.step == 5
    assert after([measured(kl=1.0)] * 5, controlled=False)[-1].controller == START.controller
    assert after([measured(kl=1.0)] * 5)[-1].controller.beta > CONTROL.beta


def test_a_course_comes_back_from_what_is_stored_of_it() -> None:
    course = replace(after([measured(0.9)] * 3)[-1], stages=(("answer", 1, "w"),))
    assert Course.of(asdict(course)) == course
