"""The embedded teacher's flawed traces: a right one turned into the kind that is asked for.

Deterministic by the generator it is given; what a question has no room for it refuses, as a model would.
"""

import re
from collections.abc import Sequence
from typing import get_args

import numpy as np

from pixelis_pipeline.records import Json, TraceKind
from pixelis_pipeline.synthesis.reply import MOST_STEPS
from pixelis_pipeline.synthesis.teachers.embedded_answers import Unanswerable
from pixelis_pipeline.synthesis.teachers.embedded_lies import lies
from pixelis_pipeline.synthesis.teachers.embedded_slips import slips
from pixelis_pipeline.synthesis.teachers.embedded_told import Lie, Told
from pixelis_pipeline.synthesis.teachers.embedded_wrong import wrong_answer


def kind_of(system: str) -> TraceKind:
    """The kind of trace that a system prompt asks for, by its line "Kind: ..."; positive without one."""
    found = re.search(r"^Kind: ([a-z-]+)\.", system, re.MULTILINE)
    kinds: dict[str, TraceKind] = {kind: kind for kind in get_args(TraceKind)}
    return kinds.get(found[1], "positive") if found else "positive"


def as_kind(
    kind: TraceKind, right: Json, choices: Sequence[str], entry: Json, rng: np.random.Generator
) -> Json:
    """The reply `right` ({"steps", "answer"}) as a trace of `kind`; `entry` is the truth of its picture.
    Raises Unanswerable."""
    told = Told(right["steps"], right["answer"], tuple(choices), entry)
    match kind:
        case "outcome-negative":
            return {**right, "answer": _wrong(told, rng)}
        case "process-negative":
            return _trap(told, rng)
        case "self-correction":
            return _corrected(told, rng)
    return right


def _wrong(told: Told, rng: np.random.Generator) -> str:
    found = wrong_answer(told.answer, told.choices, told.seconds, told.moments, rng)
    if found is None:
        raise Unanswerable("I see no wrong answer that one could believe.")
    return found


def _trap(told: Told, rng: np.random.Generator) -> Json:
    """One lie: of those that the answer follows where there are any, each step as likely as another."""
    found = lies(told, rng)
    best = [lie for lie in found if lie.answer != told.answer] or found
    if not best:
        raise Unanswerable("I see no step here that one could get subtly wrong.")
    places = sorted({lie.step for lie in best})
    place = places[rng.integers(len(places))]
    here = [lie for lie in best if lie.step == place]
    return _told_with(told, here[rng.integers(len(here))])


def _told_with(told: Told, lie: Lie) -> Json:
    steps = list(told.steps)
    thought = lie.thought or steps[lie.step]["thought"]
    steps[lie.step] = {**steps[lie.step], "thought": thought, "output": lie.output}
    for index, step in lie.later:
        steps[index] = step
    if lie.ends:
        steps = steps[: lie.step + 1]
    flaw = {"step": lie.step, "type": lie.type, "what": lie.what}
    return {"steps": steps, "answer": lie.answer, "flaw": flaw}


def _corrected(told: Told, rng: np.random.Generator) -> Json:
    """One step more: a wrong look before a right one, and the right one says what was wrong with it."""
    found = slips(told, rng)
    if not found or len(told.steps) >= MOST_STEPS:
        raise Unanswerable("I see no early error here that one could make and repair.")
    best = [slip for slip in found if slip.elsewhere] or found
    slip = best[rng.integers(len(best))]
    steps = [dict(step) for step in told.steps]
    for step in steps[slip.before :]:
        if step["arguments"].get("step", -1) >= slip.before:
            step["arguments"] = {**step["arguments"], "step": step["arguments"]["step"] + 1}
    steps[slip.before]["thought"] = f"{slip.noticed} {steps[slip.before]['thought']}"
    steps.insert(slip.before, slip.made)
    flaw = {"step": slip.before, "type": slip.type, "what": slip.what}
    return {"steps": steps, "answer": told.answer, "flaw": flaw}
