"""Why a replayed trajectory is not kept: the rules of acceptance, by kind of trace."""

import re
from collections.abc import Sequence
from dataclasses import replace

from pixelis_pipeline.records import Json, Rejected, Step, Trajectory
from pixelis_pipeline.settings import ReplaySettings
from pixelis_pipeline.tools.contract import ARGUMENTS
from pixelis_pipeline.tools.registry import NO_TOOL
from pixelis_pipeline.verify.answers import right, wrong
from pixelis_pipeline.verify.decisive import decisive
from pixelis_pipeline.verify.tolerance import compare

STAGE = "replayed_trajectories"

# Tasks that name boxes each of which must be looked at; those of a count are looked at in parts.
NAMED = ("compare", "largest", "attribute", "read_small", "read_two", "way", "further", "moving")
HALF = 0.5  # of a named box that a call's own box covers
BOX = re.compile(r"\[(\d+) (\d+) (\d+) (\d+)\]")

SAME, DIFFERS, INVALID, OTHER_VERSION = "same", "differs", "invalid", "other version"


def refusal(judged: Trajectory) -> Rejected | None:
    """The first rule that a replayed trajectory breaks (`of` and `record` are the caller's to fill in);
    None where it is kept.

    Kept are a positive or self-correction whose unflawed steps replay, whose answer is right and rests on
    what a tool returned; an outcome-negative whose unflawed steps replay and whose answer is proven wrong; a
    trap that differs at exactly its tagged step, so that what it teaches is that step. A self-correction
    needs an error, and a later step that repairs it.
    """
    for index, step in enumerate(judged.steps):
        if step.action.name not in ARGUMENTS:
            return _rejected("unknown action", index, step)
        if step.verdict == NO_TOOL:
            return _rejected(NO_TOOL, index, step)
        if not step.valid and not _parses(step):
            return _rejected("arguments", index, step)
    if judged.kind == "process-negative":
        return _trap(judged)
    for index, step in enumerate(judged.steps):
        if step.verdict != SAME and not _excused(judged, step):
            return _rejected(_rule(step), index, step)
    if judged.kind == "outcome-negative":
        if not wrong(judged.question, judged.answer):
            return _answer("right answer", judged)
        return _evidence(_led(judged))  # the true answer must follow: only the last word is wrong
    if not right(judged.question, judged.answer):
        return _answer("wrong answer", judged)
    return _correction(judged) or _evidence(judged)


def _excused(judged: Trajectory, step: Step) -> bool:
    return judged.kind in ("self-correction", "outcome-negative") and step.flawed


def _correction(judged: Trajectory) -> Rejected | None:
    """A self-correction teaches how an error is repaired: there must be one, and each must be followed by a
    step that does its work, right, and that decides something without the error's help.

    A step does an error's work if it calls the same action, or one that the question cannot do without: the
    error may have been to call the wrong one.
    """
    if judged.kind != "self-correction":
        return None
    errors = [index for index, step in enumerate(judged.steps) if step.flawed]
    for index in errors:
        step = judged.steps[index]
        if step.verdict != INVALID and not (step.verdict == DIFFERS and _claims(step)):
            return _rejected("no error to correct", index, step)
    if not errors:
        return Rejected("", STAGE, "no error to correct", detail="no step is tagged as flawed")
    for index in errors:
        work = {judged.steps[index].action.name, *judged.question.tools}
        if not any(
            step.action.name in work and step.valid and step.decisive and not step.flawed
            for step in judged.steps[index + 1 :]
        ):
            told = f"step {index}: nothing after it does what {judged.steps[index].action.name} got wrong"
            return Rejected("", STAGE, "does not repair", detail=told)
    return None


def _evidence(judged: Trajectory) -> Rejected | None:
    """A right answer that no call led to was guessed, or was told the teacher: nothing to learn from."""
    seen = [step for step in judged.steps if step.valid and not _excused(judged, step)]
    if missing := sorted(set(judged.question.tools) - {step.action.name for step in seen}):
        needed = f"{judged.question.task} needs {missing[0]}, which was never validly called"
        return Rejected("", STAGE, "no evidence", detail=needed)
    for named in BOX.findall(judged.question.text) if judged.question.task in NAMED else ():
        box = [int(edge) for edge in named]
        if not any(_looked(step.action.arguments, box) for step in seen):
            return Rejected(
                "", STAGE, "no evidence", detail=f"the question names {box}: nothing looked there"
            )
    if not any(step.decisive for step in seen):
        return Rejected("", STAGE, "no evidence", detail="nothing that a call returned is referred to")
    return None


def _looked(arguments: Json, box: Sequence[float]) -> bool:
    """Whether a call on the question's own picture covers HALF of a box, or points into it."""
    if arguments.get("image"):
        return False
    if look := arguments.get("box"):
        wide, high = (max(min(box[n + 2], look[n + 2]) - max(box[n], look[n]), 0) for n in (0, 1))
        return bool(wide * high >= HALF * (box[2] - box[0]) * (box[3] - box[1]))
    points = arguments.get("points") or ()
    return any(box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3] for point in points)


def _trap(judged: Trajectory) -> Rejected | None:
    if not any(step.flawed for step in judged.steps):
        return Rejected("", STAGE, "trap does not spring", detail="no step is tagged as flawed")
    for index, step in enumerate(judged.steps):
        if step.flawed and not (step.verdict == DIFFERS and _claims(step)):
            return _rejected("trap does not spring", index, step)
        if not step.flawed and step.verdict != SAME:
            return _rejected(_rule(step), index, step)
    return None


def _claims(step: Step) -> bool:
    """Whether a flawed step's claim is one: a whole output of such a call, which would agree had the call
    returned it. So it is no broken piece of evidence, no nonsense, and no part of the truth."""
    if step.metric == "artifact" or step.action.name == "ZOOM":
        return False
    for name, value in step.output.items():
        if name not in step.replayed or isinstance(value, str) != isinstance(step.replayed[name], str):
            return False
    return compare(step.action.name, step.output, {**step.replayed, **step.output}, ReplaySettings()).same


def _led(judged: Trajectory) -> Trajectory:
    """The trace as it would be with the true answer."""
    flags = decisive(judged.question, judged.steps, judged.question.answer)
    pairs = zip(judged.steps, flags, strict=True)
    return replace(judged, steps=tuple(replace(step, decisive=flag) for step, flag in pairs))


def _parses(step: Step) -> bool:
    """Whether the call itself is well formed, whatever came of it."""
    try:
        ARGUMENTS[step.action.name].model_validate(step.action.arguments)
    except (ValueError, RecursionError):
        return False
    return True


def _rule(step: Step) -> str:
    rules = {
        OTHER_VERSION: OTHER_VERSION,
        INVALID: f"invalid call: {step.action.name}",
        DIFFERS: f"replay differs: {step.action.name}",
    }
    return rules[step.verdict]


def _rejected(rule: str, index: int, step: Step) -> Rejected:
    said = f"step {index}: {str(step.action.name)[:40]}"
    if "error" in step.replayed:
        said += f": {step.replayed['error']}"
    if not step.metric:
        return Rejected("", STAGE, rule, detail=said)
    return Rejected("", STAGE, rule, step.measured, step.threshold, detail=said)


def _answer(rule: str, judged: Trajectory) -> Rejected:
    said, truth = judged.answer[:80], judged.question.answer[:80]
    return Rejected("", STAGE, rule, detail=f"said {said!r}, true is {truth!r}")
