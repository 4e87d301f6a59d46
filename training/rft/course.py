"""Where a run of reinforcement stands, and where each step takes it: the controller of β, the curriculum of
the reward, what is known of each task, and when to stop. Plain values, so that a checkpoint holds all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import PidSettings, RftSettings
from training.rft import pid

STATE = "state.safetensors"  # the file of a run's folder that a checkpoint is
Stage = Literal["answer", "intrinsic"]
Ended = Literal["finished", "tool use collapsed"]


@dataclass(frozen=True, slots=True)
class Task:
    """Of one task: how many of its questions were `asked`, and moving averages over them: of the share of
    `right` answers, and of p (1 - p), the `spread`, where the share p of a question's rollouts is right."""

    name: str
    asked: int = 0
    right: float = 0.0
    spread: float = 0.25  # the most there is: a task is tried until it is known to teach nothing


@dataclass(frozen=True, slots=True)
class Course:
    """After `step` optimiser steps. `key` is what a checkpoint must agree on to be continued; `success`, over
    the tasks alike, and `tool_use` are moving averages; `stages` name each stage of the reward that is over,
    the step it ended at and the sha256 of its weights; `tasks` are those that were asked, by name."""

    key: str
    controller: pid.State
    step: int = 0
    success: float = 0.0
    tool_use: float = 0.0
    stage: Stage = "answer"
    stages: tuple[tuple[str, int, str], ...] = ()
    tasks: tuple[Task, ...] = ()
    ended: Ended | None = None

    @classmethod
    def of(cls, stored: Json) -> "Course":
        """What a checkpoint stored with `asdict`."""
        stages = tuple((str(name), int(step), str(weights)) for name, step, weights in stored["stages"])
        tasks = tuple(Task(**each) for each in stored["tasks"])
        controller = pid.State(**stored["controller"])
        return cls(**{**stored, "controller": controller, "stages": stages, "tasks": tasks})


@dataclass(frozen=True, slots=True)
class Measured:
    """What a step's batch says: of each group its task and the share of right answers, the share of rollouts
    with a valid call, the mean divergence in nats a token said, and whether any group was learned from."""

    groups: Sequence[tuple[str, float]]
    tool_use: float
    kl: float
    learned: bool


def advance(before: Course, batch: Measured, rft: RftSettings, control: PidSettings) -> Course:
    """The course after one more step.

    Intrinsic terms switch on, for good, once the average of success has passed `rft.success`. The run ends
    where fewer rollouts than `rft.collapse` still use a tool. Both are judged from the step on that the
    averages span as many batches as they remember: before it one batch would decide. A step in which nothing
    was learned moves no weight, and so not the controller either.
    """
    first, held = before.step == 0, rft.ema
    tasks = {each.name: each for each in before.tasks}
    for name, share in batch.groups:
        tasks[name] = _told(tasks.get(name, Task(name)), share, rft.task_ema)
    success = sum(each.right for each in tasks.values()) / len(tasks)
    tool_use = batch.tool_use if first else held * before.tool_use + (1 - held) * batch.tool_use
    moved = rft.controlled and batch.learned
    judged = (before.step + 1) * (1 - held) > 1 - 1e-9
    passed, collapsed = judged and success > rft.success, judged and tool_use < rft.collapse
    ended: Ended | None = "finished" if before.step + 1 == rft.steps else None
    return replace(
        before,
        controller=pid.step(before.controller, batch.kl, control) if moved else before.controller,
        step=before.step + 1,
        success=success,
        tool_use=tool_use,
        tasks=tuple(tasks[name] for name in sorted(tasks)),
        stage="intrinsic" if rft.intrinsic != "none" and passed else before.stage,
        ended="tool use collapsed" if collapsed else ended,
    )


def _told(task: Task, share: float, held: float) -> Task:
    """What is known of a task after one more question, of whose rollouts `share` were right."""
    right = held * task.right + (1 - held) * share if task.asked else share
    spread = held * task.spread + (1 - held) * share * (1 - share)
    return Task(task.name, task.asked + 1, right, spread)
