"""A trajectory as token ids with one loss weight a token.

What a policy reads between its turns is what replay got back, in the tools' own words, because that is
what it will read at test time; what a teacher claimed is not shown. So what a flawed trace says in the
belief of its own flaw is not learned either: it does not follow from what the policy reads.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelis_pipeline.agent import render
from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.grammar import write_answer, write_call
from pixelis_pipeline.records import Trajectory
from pixelis_pipeline.tools.contract import spoken
from pixelis_pipeline.verify.answers import right
from training.sft.aims import Aims, aims

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """One step within an example: its action and where its tokens stand, `call` between <call> and </call>
    and `heard` between <obs> and </obs>, ends exclusive. `aims` is empty unless the step is decisive and
    learned."""

    action: str
    call: slice
    heard: slice
    aims: Aims


@dataclass(frozen=True, slots=True)
class Example:
    """`weights` float32, as long as `ids`: what the imitation of each token counts."""

    ids: tuple[int, ...]
    weights: Array
    turns: tuple[Turn, ...] = ()


def text_of(trajectory: Trajectory) -> str:
    """The trajectory as the policy sees and says it. ValueError where a step has not been replayed."""
    turns = []
    for index, step in enumerate(trajectory.steps):
        if not step.replayed:
            raise ValueError(f"step {index} of trajectory {trajectory.id} has not been replayed")
        heard = spoken(step.action.name, step.replayed)
        turns.append(render.Turn(write_call(step.thought, step.action), heard))
    question = render.asked(trajectory.question)
    return render.render(render.nano(), question, turns, write_answer(trajectory.answer))


def weigh(ids: Array, action_weight: float, learned: Array, answer: bool = True) -> Array:
    """Loss weights [n] of token ids [n]: `action_weight` inside a call, 1 on thoughts and the answer, 0 on
    all that the policy does not say itself, on steps that are not `learned` (bool [steps]), and on the
    answer where that is not either."""

    def within(name: str) -> Array:
        opens, closes = (ids == words.token(mark) for mark in (f"<{name}>", f"</{name}>"))
        return np.asarray(opens.cumsum() - closes.cumsum() + closes > 0)

    weights = 1.0 * within("think") + action_weight * within("call")
    step = (ids == words.token("</obs>")).cumsum()
    weights *= np.append(learned, True)[np.minimum(step, len(learned))]
    return (weights + answer * within("answer")).astype(np.float32)


def learned(trajectory: Trajectory) -> tuple[Array, bool]:
    """Which steps (bool [steps]) are learned, and whether the answer is: no flawed step, no wrong answer,
    and of a trap that ends wrong nothing after its flaw."""
    flawed = np.array([step.flawed for step in trajectory.steps], dtype=bool)
    trap = trajectory.kind == "process-negative"
    ends_wrong = trap and not right(trajectory.question, trajectory.answer)
    misled = np.logical_or.accumulate(flawed) if ends_wrong and len(flawed) else flawed
    return ~misled, not ends_wrong and trajectory.kind != "outcome-negative"


def example(trajectory: Trajectory, action_weight: float) -> Example | None:
    """The trajectory, ready to be learned. None where nothing in it is: a batch of such would have no loss.

    ValueError where a step has not been replayed.
    """
    ids = words.shared().encode(text_of(trajectory)).ids
    steps, answer = learned(trajectory)
    weights = weigh(np.asarray(ids), action_weight, steps, answer)
    return Example(tuple(ids), weights, _turns(trajectory, ids, steps)) if weights.any() else None


def _turns(trajectory: Trajectory, ids: list[int], steps: Array) -> tuple[Turn, ...]:
    def between(name: str) -> list[slice]:
        opens, closes = (
            [k for k, each in enumerate(ids) if each == words.token(mark)]
            for mark in (f"<{name}>", f"</{name}>")
        )
        return [slice(start + 1, stop) for start, stop in zip(opens, closes, strict=True)]

    medium = trajectory.question.media[0]
    return tuple(
        Turn(
            step.action.name,
            call,
            heard,
            aims(step, medium) if step.decisive and step.valid and known else {},
        )
        for step, call, heard, known in zip(
            trajectory.steps, between("call"), between("obs"), steps, strict=True
        )
    )
