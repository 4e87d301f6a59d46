"""One thing changed in a replayed trace, by somebody who covers his tracks as well as he can.

Every mutation starts from a trace that replay accepted: its steps hold the claim (`output`), the evidence
(`replayed`) and the evidence's digest (`artifact`), and its id is a hash over all of it. `mutated` returns
the forger's best: where he changed evidence the digest is computed again, where he took a step out the
later ones are renumbered, and the id is computed again. What he cannot do is make a tool return what he
wrote. A mutant whose calls still return exactly the evidence that it holds (a box moved by a little where
PROP says the same of both), or without a step that the answer does not need, is a true record of other
calls: re-execution lets it pass, and only the recorded id tells that it is not the record that was made.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pixelis_pipeline.records import Action, Json, Step, Trajectory
from pixelis_pipeline.tools.contract import ARGUMENTS, Observation
from pixelis_pipeline.tools.masks import decode, encode
from pixelis_pipeline.verify.replay import identity

Random = np.random.Generator
LEAST, MOST = 20, 300  # wire units by which a box is moved: 2 to 30 % of the picture


def mutated(kind: str, trace: Trajectory, others: Sequence[Trajectory], random: Random) -> Trajectory | None:
    """The trace with one mutation of `kind`; None where it has nothing that can be changed so. `others`
    lend queries and media."""
    changed = KINDS[kind](trace, others, random)
    return None if changed is None or changed == trace else replace(changed, id=identity(changed))


def argument(trace: Trajectory, others: Sequence[Trajectory], random: Random) -> Trajectory | None:
    """One argument of one call has another value that is valid: a box elsewhere by 2 to 30 % of the
    picture, another scale, image, frame, step, end or query. The evidence stays."""
    index, step = _one(trace, random)
    asked = step.action.arguments
    name = str(random.choice(sorted(asked)))
    for _ in range(20):
        value = _other(name, asked[name], others, random)
        changed = asked | {name: value}
        if value != asked[name] and _valid(step.action.name, changed):
            return _with(trace, index, action=Action(step.action.name, changed))
    return None


def output(trace: Trajectory, others: Sequence[Trajectory], random: Random) -> Trajectory | None:
    """One value that one call is recorded to have returned is another: a box or area by one unit, a mask
    by one pixel, one character of a text or a digest, one property, one box of a track, one end of a
    span. The claim stays; the digest is computed again."""
    index, step = _one(trace, random)
    evidence = _lied(step.replayed, random)
    return _with(trace, index, replayed=evidence, artifact=Observation(evidence, "").artifact)


def claim(trace: Trajectory, others: Sequence[Trajectory], random: Random) -> Trajectory | None:
    """The same in what the teacher claims (`output`), which the tolerance table alone is to judge: a claim
    that is off by one unit is within it."""
    index, step = _one(trace, random)
    return _with(trace, index, output=_lied(step.output, random))


def media(trace: Trajectory, others: Sequence[Trajectory], random: Random) -> Trajectory | None:
    """The question is about another picture (or film) of the world, of the same source."""
    mine = trace.question.media
    same = [
        other.question.media
        for other in others
        if other.question.origin.source == trace.question.origin.source and other.question.media != mine
    ]
    if not same:
        return None
    chosen = same[int(random.integers(len(same)))]
    return replace(trace, question=replace(trace.question, media=chosen))


def removed(trace: Trajectory, others: Sequence[Trajectory], random: Random) -> Trajectory | None:
    """One step is gone. Later calls that count steps or images are renumbered; those that named what is
    gone keep the number and so name what is not there, or something else."""
    index, step = _one(trace, random)
    image = step.replayed.get("image") if step.action.name == "ZOOM" else None
    later = [_renumbered(each, index, image) for each in trace.steps[index + 1 :]]
    return replace(trace, steps=(*trace.steps[:index], *later))


KINDS: dict[str, Callable[[Trajectory, Sequence[Trajectory], Random], Trajectory | None]] = {
    "one altered argument": argument,
    "one altered output": output,
    "one swapped image": media,
    "one step removed": removed,
    "one altered claim": claim,
}
FOUR = tuple(KINDS)[:4]


def _one(trace: Trajectory, random: Random) -> tuple[int, Step]:
    index = int(random.integers(len(trace.steps)))
    return index, trace.steps[index]


def _with(trace: Trajectory, index: int, **changes: Any) -> Trajectory:
    steps = list(trace.steps)
    steps[index] = replace(steps[index], **changes)
    return replace(trace, steps=tuple(steps))


def _valid(name: str, asked: Json) -> bool:
    try:
        ARGUMENTS[name].model_validate(asked)
    except ValueError:
        return False
    return True


def _other(name: str, value: Any, others: Sequence[Trajectory], random: Random) -> Any:
    """Another value for an argument; it may be invalid, then another is drawn."""
    if name == "box":
        dx, dy = (int(random.choice((-1, 1)) * random.integers(LEAST, MOST + 1)) for _ in "xy")
        return [value[0] + dx, value[1] + dy, value[2] + dx, value[3] + dy]
    if name == "query":
        asked = [s.action.arguments.get("query") for other in others for s in other.steps]
        return random.choice([query for query in asked if query])
    if isinstance(value, float):
        return round(value + float(random.uniform(-3, 3)), 1)
    return value + int(random.integers(-3, 4))


def _lied(told: Json, random: Random) -> Json:
    """An output with one of its values changed by the least there is."""
    name = str(random.choice(sorted(told)))
    return told | {name: _next(told[name], random)}


def _next(value: Any, random: Random) -> Any:
    if isinstance(value, dict) and "counts" in value:
        return encode(np.roll(decode(value), 1, int(random.integers(2))))
    if isinstance(value, dict):
        return _lied(value, random)
    if isinstance(value, list):
        filled = [k for k, item in enumerate(value) if item is not None]
        at = int(random.choice(filled)) if filled else 0
        return [_next(item, random) if k == at else item for k, item in enumerate(value)] or [0]
    if isinstance(value, str):
        at = int(random.integers(len(value))) if value else 0
        return value[:at] + ("x" if value[at : at + 1] != "x" else "y") + value[at + 1 :]
    return round(value + 0.1, 3) if isinstance(value, float) else value + 1


def _renumbered(step: Step, gone: int, image: int | None) -> Step:
    asked = dict(step.action.arguments)
    if (asked.get("step") or 0) > gone:
        asked["step"] -= 1
    if image is not None and asked.get("image", 0) > image:
        asked["image"] -= 1
    step = replace(step, action=Action(step.action.name, asked))
    if image is None or step.action.name != "ZOOM":
        return step
    evidence = step.replayed | {"image": step.replayed["image"] - 1}
    return replace(step, replayed=evidence, artifact=Observation(evidence, "").artifact)
