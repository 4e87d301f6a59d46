"""What a reinforcement run leaves behind of each step: one line of numbers, and its rollouts whole."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from pixelis_pipeline.columns import from_table, to_table
from pixelis_pipeline.records import Prediction
from training.rft.course import Course
from training.rft.rewards import Rewards

if TYPE_CHECKING:
    from pixelis_pipeline.agent.sampled import Sampled
    from training.rft.trainer import Batch

LINES, ROLLOUTS = "steps.jsonl", "rollouts"


@dataclass(frozen=True, slots=True)
class Rolled:
    """A rollout as it was learned from: what it did, the ids of the whole conversation and which of them the
    policy chose, and what it earned: the sum, its parts raw and, of the intrinsic ones, on the batch's scale.
    `*_steps` say what each of its steps added to the raw part. `advantage` is 0 in a group that was dropped.
    """

    prediction: Prediction
    ids: tuple[int, ...]
    said: tuple[bool, ...]
    log_probs: tuple[float, ...]
    total: float
    answer: float
    penalty: float
    curiosity: float
    coherence: float
    curiosity_scaled: float
    coherence_scaled: float
    penalty_steps: tuple[float, ...]
    curiosity_steps: tuple[float, ...]
    coherence_steps: tuple[float, ...]
    advantage: float


@dataclass(frozen=True, slots=True)
class Line:
    """One step. Rewards are means over the batch, and `*_scaled` the deviation of a term on the batch's
    scale (its mean there is 0; single values stand in the rollouts). `kl` is the batch mean of k3 in nats a
    token said and `kl_p95` its 95th percentile; `beta` what this step's loss used. RaPR is a mean over
    rollouts, `valid_calls` the valid share of all calls (1 without any), `tool_use` the share of rollouts
    with a valid call, `calls` calls a rollout (the chain length). `group_variance` is the mean variance of
    rewards within a group, `filtered` the share of groups dropped for having none. `smoothed_*` are moving
    averages. `head_error` and `head_validity` are the dynamics head's losses, before its update; both 0 where
    no step was made."""

    step: int
    stage: str
    reward: float
    answer: float
    penalty: float
    curiosity: float
    curiosity_scaled: float
    coherence: float
    coherence_scaled: float
    kl: float
    kl_p95: float
    beta: float
    rapr: float
    calls: float
    tool_use: float
    valid_calls: float
    group_variance: float
    filtered: float
    success: float
    smoothed_success: float
    smoothed_tool_use: float
    tokens: int
    gradient_norm: float
    head_error: float
    head_validity: float

    @property
    def scalars(self) -> dict[str, float]:
        """Its numbers by name."""
        return {name: value for name, value in asdict(self).items() if name not in ("step", "stage")}


def line(before: Course, after: Course, batch: "Batch", norm: float) -> Line:
    """The step that led from one course to the next, by what was found of its batch; `norm` is the
    gradient's, before it was clipped."""
    steps = [each.prediction.steps for each in batch.rollouts]
    valid = np.array([sum(step.valid for step in each) for each in steps])
    made = np.array([len(each) for each in steps])
    earned, measured, loss = batch.earned, batch.measured, batch.heads
    return Line(
        step=before.step,
        stage=before.stage,
        reward=float(earned.total.mean()),
        answer=float(earned.answer.mean()),
        penalty=float(earned.penalty.mean()),
        curiosity=float(earned.curiosity.mean()),
        curiosity_scaled=float(earned.curiosity_scaled.std()),
        coherence=float(earned.coherence.mean()),
        coherence_scaled=float(earned.coherence_scaled.std()),
        kl=measured.kl,
        kl_p95=float(np.percentile(batch.kl, 95)),
        beta=before.controller.beta,
        rapr=float((valid / np.maximum(made, 1)).mean()),
        calls=float(made.mean()),
        tool_use=measured.tool_use,
        valid_calls=float(valid.sum() / made.sum()) if made.sum() else 1.0,
        group_variance=float(earned.total.reshape(len(batch.kept), -1).var(1).mean()),
        filtered=float(1 - batch.kept.mean()),
        success=float(earned.answer.mean()),
        smoothed_success=after.success,
        smoothed_tool_use=after.tool_use,
        tokens=len(batch.kl),
        gradient_norm=float(norm),
        head_error=loss.error if loss else 0.0,
        head_validity=loss.validity if loss else 0.0,
    )


def rolled(rollouts: "Sequence[Sampled]", earned: Rewards, worth: Any) -> list[Rolled]:
    """A batch as it is stored; `worth` [rollouts] are its advantages."""
    values = {field.name: getattr(earned, field.name) for field in fields(Rewards)} | {"advantage": worth}

    def plain(value: Any) -> Any:
        return tuple(value.tolist()) if value.ndim else float(value)

    return [
        Rolled(
            each.prediction,
            each.ids,
            each.said,
            each.log_probs,
            **{name: plain(value[k]) for name, value in values.items()},
        )
        for k, each in enumerate(rollouts)
    ]


def read(folder: Path) -> list[Line]:
    """The lines of the run in `folder`, in order."""
    file = folder / LINES
    return [Line(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


class Log:
    """The lines and rollouts of a run, on disk as they come; a run that goes on from `step` writes over what
    came after it."""

    def __init__(self, folder: Path, step: int) -> None:
        self._folder = folder
        (folder / ROLLOUTS).mkdir(parents=True, exist_ok=True)
        for file in (folder / ROLLOUTS).glob("*.parquet"):
            if int(file.stem) >= step:
                file.unlink()
        kept = (folder / LINES).read_text().splitlines()[:step] if step else []
        self._replace(folder / LINES, "".join(line + "\n" for line in kept).encode())

    def write(self, line: Line, rolled: Sequence[Rolled]) -> None:
        """Keep a step."""
        file = self._folder / ROLLOUTS / f"{line.step:05}.parquet"
        staged = file.with_suffix(".tmp")
        pq.write_table(to_table(Rolled, rolled), staged, compression="zstd")
        os.replace(staged, file)
        with (self._folder / LINES).open("a") as lines:
            lines.write(json.dumps(asdict(line), sort_keys=True) + "\n")

    @staticmethod
    def _replace(path: Path, data: bytes) -> None:
        staged = path.with_suffix(".tmp")
        staged.write_bytes(data)
        os.replace(staged, path)


def steps(folder: Path) -> list[int]:
    """The steps whose rollouts are stored in `folder`, in order."""
    return sorted(int(file.stem) for file in (folder / ROLLOUTS).glob("*.parquet"))


def asked(folder: Path, step: int) -> list[tuple[str, str]]:
    """The questions of one step, in order: (id, task). Reads nothing else of its rollouts."""
    columns = [f"prediction.question.{name}" for name in ("id", "task")]
    rows = pq.ParquetFile(folder / ROLLOUTS / f"{step:05}.parquet").read(columns=columns).to_pylist()
    found = ((row["prediction"]["question"]["id"], row["prediction"]["question"]["task"]) for row in rows)
    return list(dict.fromkeys(found))


def at(folder: Path, step: int) -> list[Rolled]:
    """The rollouts of one step."""
    return from_table(Rolled, pq.read_table(folder / ROLLOUTS / f"{step:05}.parquet"))


def stored(folder: Path) -> Iterator[Rolled]:
    """The rollouts of the run in `folder`, step after step."""
    for step in steps(folder):
        yield from at(folder, step)
