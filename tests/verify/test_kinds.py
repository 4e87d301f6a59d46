"""Acceptance by kind: what is changed about a flawed trace is found out, each change by its own rule."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pixelis_pipeline.curation.scores import components
from pixelis_pipeline.records import Accepted, Action, Rejected, Step, Trajectory
from pixelis_pipeline.settings import CurationSettings, ReplaySettings
from pixelis_pipeline.tools.contract import Workspace
from pixelis_pipeline.tools.registry import Registry
from pixelis_pipeline.verify.replay import replay

Change = Callable[[Trajectory], Trajectory]


def run(trace: Trajectory, pixels: np.ndarray, registry: Registry) -> Trajectory | str:
    """The trace as it is kept, or the rule that it breaks."""
    outcome = replay(trace, registry, lambda media: Workspace([pixels]), ReplaySettings())
    if isinstance(outcome, Rejected):
        return outcome.rule
    assert isinstance(outcome, Accepted), outcome
    return outcome.records[0]


def other(colour: str) -> str:
    return "blue" if colour != "blue" else "red"


def lying(step: Step) -> Step:
    """The step, tagged, with a claim that no tolerance lets pass."""
    wrong = {"colour": other(step.output["colour"])} if "colour" in step.output else {"box": [0, 0, 9, 9]}
    return replace(step, output={**step.output, **wrong}, flawed=True, flaw="perceptual: misseen")


def at(trace: Trajectory, index: int, change: Callable[[Step], Step]) -> Trajectory:
    steps = list(trace.steps)
    steps[index] = change(steps[index])
    return replace(trace, steps=tuple(steps))


def tag(flawed: bool) -> Callable[[Step], Step]:
    return lambda step: replace(step, flawed=flawed)


def claim(**output: Any) -> Callable[[Step], Step]:
    return lambda step: replace(step, output={**step.output, **output})


@pytest.fixture
def trap(cases: list[Any]) -> Any:
    """SEG rightly, then PROP misseen (colour), and the answer that follows from it."""
    case = cases[0]
    trace = at(replace(case.trajectory, kind="process-negative"), 1, lying)
    return replace(case, trajectory=replace(trace, answer=trace.steps[1].output["colour"]))


@pytest.fixture
def corrected(cases: list[Any]) -> Any:
    """PROP on another thing's box, misseen; then SEG and PROP of what was asked about."""
    case, another = cases[0], cases[1].trajectory.steps[1]
    wrong = Step("Measure it.", Action("PROP", {"box": another.action.arguments["box"]}), {"colour": "grey"})
    first, second = case.trajectory.steps
    second = replace(second, action=Action("PROP", {"step": 1}))
    steps = (replace(wrong, flawed=True, flaw="perceptual: another thing"), first, second)
    return replace(case, trajectory=replace(case.trajectory, kind="self-correction", steps=steps))


def test_a_trap_is_kept_with_its_tag_whatever_its_answer(trap: Any, registry: Registry) -> None:
    for answer in (trap.trajectory.answer, trap.trajectory.question.answer):
        kept = run(replace(trap.trajectory, answer=answer), trap.pixels, registry)
        assert isinstance(kept, Trajectory)
        assert [step.verdict for step in kept.steps] == ["same", "differs"]
        assert kept.steps[1].flaw == "perceptual: misseen"
        assert components(kept, CurationSettings())[:2] == (1.0, 1.0)


TRAPS: dict[str, tuple[Change, str]] = {
    "the tag is moved": (lambda t: at(at(t, 1, tag(False)), 0, tag(True)), "trap does not spring"),
    "the tag is removed": (lambda t: at(t, 1, tag(False)), "trap does not spring"),
    "the flaw is removed": (
        lambda t: at(t, 1, claim(colour=t.question.answer)),
        "trap does not spring",
    ),
    "a second lie": (lambda t: at(t, 0, claim(box=[0, 0, 9, 9])), "replay differs: SEG"),
    "a second lie, tagged, that is none": (lambda t: at(t, 0, tag(True)), "trap does not spring"),
    "a flaw that is no claim": (lambda t: at(t, 1, claim(smell="sweet")), "trap does not spring"),
    "no trap at all": (lambda t: replace(t, kind="positive"), "replay differs: PROP"),
}


@pytest.mark.parametrize("name", TRAPS)
def test_a_changed_trap_is_refused(name: str, trap: Any, registry: Registry) -> None:
    change, rule = TRAPS[name]
    assert run(change(trap.trajectory), trap.pixels, registry) == rule


def test_a_self_correction_is_kept_and_its_error_decides_nothing(corrected: Any, registry: Registry) -> None:
    kept = run(corrected.trajectory, corrected.pixels, registry)
    assert isinstance(kept, Trajectory), kept
    assert kept.steps[0].verdict == "differs"
    assert [step.decisive for step in kept.steps] == [False, True, True]
    assert components(kept, CurationSettings())[:2] == (1.0, 1.0)


def without(index: int) -> Change:
    return lambda t: replace(t, steps=t.steps[:index] + t.steps[index + 1 :])


CORRECTIONS: dict[str, tuple[Change, str]] = {
    "the tag is moved": (lambda t: at(at(t, 0, tag(False)), 2, tag(True)), "replay differs: PROP"),
    "the tag is removed": (lambda t: at(t, 0, tag(False)), "replay differs: PROP"),
    "nothing is wrong": (without(0), "no error to correct"),
    "a second lie": (lambda t: at(t, 1, claim(box=[0, 0, 9, 9])), "replay differs: SEG"),
    "a second error, after the repair": (lambda t: at(t, 2, lying), "does not repair"),
    "the repair is removed": (without(2), "does not repair"),
    "the repair is wrong": (lambda t: at(t, 2, claim(colour="grey")), "replay differs: PROP"),
    "the repair is of something else": (
        lambda t: at(t, 2, lambda s: replace(s, output={"size": s.output["size"]})),
        "does not repair",
    ),
    "the answer is wrong": (lambda t: replace(t, answer="grey"), "wrong answer"),
}


@pytest.mark.parametrize("name", CORRECTIONS)
def test_a_changed_self_correction_is_refused(name: str, corrected: Any, registry: Registry) -> None:
    change, rule = CORRECTIONS[name]
    changed = change(corrected.trajectory)
    if name == "nothing is wrong":  # without the error the mask is the first step again
        changed = at(changed, 1, lambda s: replace(s, action=Action("PROP", {"step": 0})))
    assert run(changed, corrected.pixels, registry) == rule


def test_an_error_that_came_true_is_none(corrected: Any, registry: Registry) -> None:
    asked = corrected.trajectory.steps[0].action
    really = registry.call(Workspace([corrected.pixels]), asked).output
    honest = at(corrected.trajectory, 0, claim(colour=really["colour"]))
    assert run(honest, corrected.pixels, registry) == "no error to correct"


def test_a_call_that_failed_can_be_the_error(corrected: Any, registry: Registry) -> None:
    failing = at(corrected.trajectory, 0, lambda s: replace(s, action=Action("PROP", {"step": 9})))
    kept = run(failing, corrected.pixels, registry)
    assert isinstance(kept, Trajectory) and kept.steps[0].verdict == "invalid"


def test_one_mask_beside_a_wrong_one_compares_nothing(cases: list[Any], registry: Registry) -> None:
    """The error's mask is not one of the two that are compared: it must be made again."""
    case = cases[1]
    first, second = case.trajectory.steps
    mistaken = replace(lying(first), action=Action("SEG", {"box": [0, 0, 120, 120]}))
    short = replace(case.trajectory, kind="self-correction", steps=(mistaken, second))
    assert run(short, case.pixels, registry) == "does not repair"
    whole = run(replace(short, steps=(mistaken, first, second)), case.pixels, registry)
    assert isinstance(whole, Trajectory) and [s.decisive for s in whole.steps] == [False, True, True]


def test_an_outcome_negative_is_wrong_in_its_answer_alone(cases: list[Any], registry: Registry) -> None:
    for case in cases[:3]:
        trace = replace(case.trajectory, kind="outcome-negative")
        right = trace.question.answer
        wrong = {"A": "B", "B": "A"}.get(right, "grey")
        kept = run(replace(trace, answer=wrong), case.pixels, registry)
        assert isinstance(kept, Trajectory)
        assert components(kept, CurationSettings())[:2] == (1.0, 1.0), "its steps decide the true answer"
        assert run(trace, case.pixels, registry) == "right answer"
        lie = run(
            at(replace(trace, answer=wrong), 0, claim(image=3, box=[0, 0, 9, 9])), case.pixels, registry
        )
        assert isinstance(lie, str) and lie.startswith("replay differs")


@pytest.mark.parametrize("output", [{"colour": 7}, {"banana": "x"}, {}])
def test_nonsense_is_neither_a_trap_nor_an_error_to_correct(
    output: Any, trap: Any, corrected: Any, registry: Registry
) -> None:
    def nonsense(step: Step) -> Step:
        return replace(step, output=output)

    assert run(at(trap.trajectory, 1, nonsense), trap.pixels, registry) == "trap does not spring"
    said = run(at(corrected.trajectory, 0, nonsense), corrected.pixels, registry)
    assert said == "no error to correct"


def test_a_wrong_last_word_needs_the_looks_that_would_have_made_it_right(
    cases: list[Any], registry: Registry
) -> None:
    case = cases[0]
    answer = other(case.trajectory.question.answer)
    negative = replace(case.trajectory, kind="outcome-negative", answer=answer)
    assert isinstance(run(negative, case.pixels, registry), Trajectory)
    zoom = Step("Look.", Action("ZOOM", {"box": [0, 0, 99, 99], "scale": 2}), {"image": 1})
    assert run(replace(negative, steps=(zoom,)), case.pixels, registry) == "no evidence"


def test_a_box_that_the_question_names_must_be_looked_at(cases: list[Any], registry: Registry) -> None:
    case = cases[0]
    trace = case.trajectory
    here = trace.steps[0].action.arguments["box"]
    for box, kept in ((here, True), ([0, 0, 9, 9], False)):
        text = f"What colour is the thing at [{' '.join(map(str, box))}]?"
        question = replace(trace.question, text=text, task="attribute")
        said = run(replace(trace, question=question), case.pixels, registry)
        assert isinstance(said, Trajectory) if kept else said == "no evidence"
