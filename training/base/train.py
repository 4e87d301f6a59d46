"""Pre-train the nano policy from nothing: `python -m training.base.train --out training/base/nano`.

Stopped at any moment, also by SIGKILL, it goes on with --resume from its last checkpoint and ends with the
weights of an undisturbed run (on the same machine with the same number of threads). `--minutes` ends a
sitting early; the schedule is a matter of `--steps` alone.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch  # noqa: TID253

from pixelis_pipeline.agent import nano, policy
from pixelis_pipeline.records import Json
from training import checkpoint
from training.base import initial, measure, record
from training.base.data import Step, lessons
from training.base.objective import CellHead, losses
from training.schedule import rate

WEIGHT_DECAY, NORM = 0.01, 1.0
EVERY = 25  # steps between points of the curve
SAVE = 100  # steps between checkpoints
HELD_OUT = 200  # pictures that the finished policy is measured on


@dataclass(frozen=True, slots=True)
class Run:
    """What decides the weights. `rows` pictures a step; `sizes` go to `nano.configuration`."""

    steps: int
    rows: int
    peak: float
    seed: int
    threads: int
    sizes: Json


class _Training:
    """Model, head, optimizer and how far they are."""

    def __init__(self, run: Run, state: Path, resume: bool) -> None:
        self.run, self.state = run, state
        self.model = initial.model(nano.configuration(**run.sizes), run.seed)
        self.head = CellHead(self.model.lm_head.in_features)
        self.weights = [*self.model.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.weights, lr=run.peak, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY
        )
        self.done: Json = {"step": 0, "seconds": 0.0, "curve": [], "sums": [], "code": [], "run": asdict(run)}
        if resume and state.is_file():
            stored = checkpoint.progress(state)
            if stored["run"] != asdict(run):
                raise SystemExit(f"{state} belongs to another run: {stored['run']}; resume with its settings")
            self.done = checkpoint.read(state, self._modules, self.optimizer)
        if record.code_digest() not in self.done["code"]:
            self.done["code"].append(record.code_digest())

    @property
    def _modules(self) -> dict[str, Any]:
        return {"model": self.model, "head": self.head}

    def draw(self, step: int) -> Step:
        """The lessons of a step."""
        return lessons(self.run.seed, step, self.run.rows, step / self.run.steps)

    def step(self, drawn: Step) -> None:
        """One update."""
        step, run = self.done["step"], self.run
        for group in self.optimizer.param_groups:
            group["lr"] = rate(step, run.steps, run.peak)
        said, cell = losses(self.model, self.head, drawn)
        (said + cell).backward()
        torch.nn.utils.clip_grad_norm_(self.weights, NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.done["sums"].append((said.item(), cell.item()))
        self.done["step"] = step + 1

    def note(self) -> None:
        """Close a stretch of the curve."""
        sums = self.done["sums"]
        said, cell = (round(sum(column) / len(sums), 4) for column in zip(*sums, strict=True))
        seconds = round(self.done["seconds"], 1)
        point = {"step": self.done["step"], "answers": said, "cells": cell, "seconds": seconds}
        self.done["curve"].append(point)
        self.done["sums"] = []
        print(json.dumps(point), flush=True)

    def save(self) -> None:
        """Write the state to go on from."""
        checkpoint.write(self.state, self._modules, self.optimizer, self.done)


def train(run: Run, state: Path, *, minutes: float, resume: bool) -> _Training:
    """Train to the end of the schedule, or until `minutes` of this sitting are over."""
    torch.set_num_threads(run.threads)
    training = _Training(run, state, resume)
    began, before = time.monotonic(), training.done["seconds"]
    with ThreadPoolExecutor(1) as ahead:  # the next step's lessons are drawn while this one's are learned
        coming = ahead.submit(training.draw, training.done["step"])
        while training.done["step"] < run.steps:
            drawn = coming.result()
            coming = ahead.submit(training.draw, training.done["step"] + 1)
            training.step(drawn)
            training.done["seconds"] = before + time.monotonic() - began
            step = training.done["step"]
            if step % EVERY == 0 or step == run.steps:
                training.note()
            over = training.done["seconds"] - before > 60 * minutes
            if step % SAVE == 0 or step == run.steps or over:
                training.save()
            if over:
                break
    return training


def finish(training: _Training, out: Path, pictures: int = HELD_OUT) -> Json:
    """Measure the policy on held-out lessons and write its checkpoint and run record; gives the marks."""
    model = training.model.eval()
    skills = measure.skills(model, pictures)
    policy.save(model, out)
    record.write(out, model, training.done, skills)
    return skills


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the checkpoint goes")
    parser.add_argument("--state", type=Path, help="where the working state goes (default: OUT.work)")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=16, help="pictures a step")
    parser.add_argument("--peak", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=600.0, help="pause after this long")
    parser.add_argument("--resume", action="store_true")
    asked = parser.parse_args(arguments)
    state = (asked.state or asked.out.with_name(asked.out.name + ".work")) / "state.safetensors"
    run = Run(asked.steps, asked.rows, asked.peak, asked.seed, asked.threads, {})
    training = train(run, state, minutes=asked.minutes, resume=asked.resume)
    if training.done["step"] < run.steps:
        print(f"paused at step {training.done['step']} of {run.steps}; go on with --resume", file=sys.stderr)
        return 75  # EX_TEMPFAIL: call again
    print(json.dumps(finish(training, asked.out), indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
