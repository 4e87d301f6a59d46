"""Where a run of reinforcement stands, and where each step takes it: the controller of β, the curriculum of
the reward, and when to stop. Plain values, so that a checkpoint holds all of it."""

from dataclasses import dataclass, replace
from typing import Literal

from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import PidSettings, RftSettings
from training.rft import pid

STATE = "state.safetensors"  # the file of a run's folder that a checkpoint is
Stage = Literal["answer", "intrinsic"]
Ended = Literal["finished", "tool use collapsed"]


@dataclass(frozen=True, slots=True)
class Course:
    """After `step` optimiser steps. `key` is what a checkpoint must agree on to be continued; `success` and
    `tool_use` are moving averages; `stages` name each stage of the reward that is over, the step it ended at
    and the sha256 of its weights."""

    key: str
    controller: pid.State
    step: int = 0
    success: float = 0.0
    tool_use: float = 0.0
    stage: Stage = "answer"
    stages: tuple[tuple[str, int, str], ...] = ()
    ended: Ended | None = None

    @classmethod
    def of(cls, stored: Json) -> "Course":
        """What a checkpoint stored with `asdict`."""
        stages = tuple((str(name), int(step), str(weights)) for name, step, weights in stored["stages"])
        return cls(**{**stored, "controller": pid.State(**stored["controller"]), "stages": stages})


@dataclass(frozen=True, slots=True)
class Measured:
    """What a step's batch says: the share of right answers, the share of rollouts with a valid call, the mean
    divergence in nats a token said, and whether any group was learned from."""

    success: float
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
    success = batch.success if first else held * before.success + (1 - held) * batch.success
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
        stage="intrinsic" if rft.intrinsic != "none" and passed else before.stage,
        ended="tool use collapsed" if collapsed else ended,
    )
