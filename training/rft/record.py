"""What a reinforcement run leaves behind of each step: one line of numbers, and its rollouts whole."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pixelis_pipeline.columns import from_table, to_table
from pixelis_pipeline.records import Prediction

LINES, ROLLOUTS, BOARD = "steps.jsonl", "rollouts", "tensorboard"


@dataclass(frozen=True, slots=True)
class Rolled:
    """A rollout as it was learned from: what it did, the ids of the whole conversation and which of them the
    policy chose, and what it earned: the sum, its parts raw and, of the intrinsic ones, on the batch's scale.
    `advantage` is 0 in a group that was dropped."""

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
    advantage: float


@dataclass(frozen=True, slots=True)
class Line:
    """One step. Rewards are means over the batch, and `*_scaled` the deviation of a term on the batch's
    scale (its mean there is 0; single values stand in the rollouts). `kl` is the batch mean of k3 in nats a
    token said and `kl_p95` its 95th percentile; `beta` what this step's loss used. RaPR is a mean over
    rollouts, `valid_calls` the valid share of all calls (1 without any), `tool_use` the share of rollouts
    with a valid call, `calls` calls a rollout (the chain length). `group_variance` is the mean variance of
    rewards within a group, `filtered` the share of groups dropped for having none. `smoothed_*` are moving
    averages."""

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


def read(folder: Path) -> list[Line]:
    """The lines of the run in `folder`, in order."""
    file = folder / LINES
    return [Line(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


class Log:
    """The lines and rollouts of a run, on disk as they come; a run that goes on from `step` writes over what
    came after it. TensorBoard's files are written beside them where the package is there."""

    def __init__(self, folder: Path, step: int) -> None:
        self._folder = folder
        (folder / ROLLOUTS).mkdir(parents=True, exist_ok=True)
        for file in (folder / ROLLOUTS).glob("*.parquet"):
            if int(file.stem) >= step:
                file.unlink()
        kept = (folder / LINES).read_text().splitlines()[:step] if step else []
        self._replace(folder / LINES, "".join(line + "\n" for line in kept).encode())
        self._board = _board(folder / BOARD, step)

    def write(self, line: Line, rolled: Sequence[Rolled]) -> None:
        """Keep a step."""
        file = self._folder / ROLLOUTS / f"{line.step:05}.parquet"
        staged = file.with_suffix(".tmp")
        pq.write_table(to_table(Rolled, rolled), staged, compression="zstd")
        os.replace(staged, file)
        with (self._folder / LINES).open("a") as lines:
            lines.write(json.dumps(asdict(line), sort_keys=True) + "\n")
        if self._board is not None:
            for name, value in asdict(line).items():
                if not isinstance(value, str) and name != "step":
                    self._board.add_scalar(f"rft/{name}", value, line.step)
            self._board.flush()

    @staticmethod
    def _replace(path: Path, data: bytes) -> None:
        staged = path.with_suffix(".tmp")
        staged.write_bytes(data)
        os.replace(staged, path)


def _board(folder: Path, step: int) -> Any:
    """A TensorBoard writer, None without the package. Points from `step` on replace earlier ones."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step)


def rollouts(folder: Path) -> Iterator[Rolled]:
    """The rollouts of the run in `folder`, step after step."""
    for file in sorted((folder / ROLLOUTS).glob("*.parquet")):
        yield from from_table(Rolled, pq.read_table(file))
