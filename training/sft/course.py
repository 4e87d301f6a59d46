"""How a training goes on: where it stands, what is saved, when it looks at the dev split and what follows.

A callback of the Trainer. The order within a step matters: the look that closes an epoch comes before the
save, so that no state is saved between an epoch's last step and what follows from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch  # noqa: TID253
from transformers import TrainerCallback  # noqa: TID253

from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import SftSettings
from training import checkpoint, distributed
from training.sft import curriculum
from training.sft.drawing import Draws
from training.sft.objective import dev_loss
from training.sft.pool import Pool

SAVE = 60  # steps between checkpoints
STATE = "state.safetensors"

Progress = Callable[[int, int, Mapping[str, float]], None]


@dataclass(frozen=True, slots=True)
class Point:
    """Losses after an epoch in `phase`, in nats a token: `train` is the epoch's mean of the smoothed
    imitation, `auxiliary` that of the weighted heads, `dev` the plain imitation (0 without dev
    trajectories). `verdict`: best so far, fine, or fallen and given up for the best."""

    epoch: int
    step: int
    train: float
    auxiliary: float
    dev: float
    phase: curriculum.Phase
    verdict: curriculum.Verdict


def begun(folder: Path, key: str) -> Json:
    """How far the training of this key has come in `folder`: 0 steps where nothing of it is there."""
    state = folder / STATE
    if state.is_file() and (found := checkpoint.progress(state)).get("key") == key:
        return found
    return {
        "key": key,
        "step": 0,
        "sums": [0.0, 0.0],
        "points": [],
        "curriculum": asdict(curriculum.State()),
        "best": 0,
    }


class Course(TrainerCallback):
    """Loads and saves the state `draws.done`, judges each epoch on `held`, tells `progress` of each step."""

    def __init__(self, draws: Draws, held: Pool, folder: Path, progress: Progress | None) -> None:
        self.draws, self.held, self.folder, self.progress = draws, held, folder, progress
        self.done: Json = draws.done
        self.settings: SftSettings = draws.settings
        self.before = [0.0, 0.0]  # the epoch's sums before this step

    @property
    def _best(self) -> Path:
        """The state at the best look. Its name holds its step: a state that was saved before it still finds
        the one that it means."""
        return self.folder / f"best-{self.done['best']}.safetensors"

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Take up the saved weights and the optimizer's state."""
        if self.done["step"]:
            checkpoint.read(self.folder / STATE, {"model": given["model"]}, given["optimizer"])
            state.global_step = self.done["step"]

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Whatever a model draws within a step follows from the seed and the step too."""
        torch.manual_seed((self.settings.seed << 32) + self.done["step"])
        self.before = list(self.done["sums"])

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Count the step; close the epoch, save and tell where they are due."""
        self.done["step"] += 1
        imitated, auxiliary = (now - then for now, then in zip(self.done["sums"], self.before, strict=True))
        told = {"imitation": imitated, "auxiliary": auxiliary}
        if self.done["step"] % self.draws.steps == 0:
            self._look(given["model"], given["optimizer"])
            told["dev"] = self.done["points"][-1]["dev"]
        over = self.done["curriculum"]["phase"] == "over"
        control.should_training_stop |= over
        if self.done["step"] % SAVE == 0 and not over and self.done["step"] < state.max_steps:
            self._save(given["model"], given["optimizer"])
        if self.progress is not None:
            self.progress(self.done["step"], state.max_steps, told)

    def _look(self, model: Any, optimizer: Any) -> None:
        """Close an epoch: measure, judge, keep the best, go back to it where the curriculum says so."""
        dev = None
        if self.held.examples:
            dev = dev_loss(model.eval(), self.held, self.settings.rows)
        before = curriculum.State(**self.done["curriculum"])
        after, verdict = curriculum.look(before, dev, self.settings)
        train, auxiliary = (total / self.draws.steps for total in self.done["sums"])
        step = self.done["step"]
        self.done["points"].append(
            asdict(Point(step // self.draws.steps, step, train, auxiliary, dev or 0.0, before.phase, verdict))
        )
        self.done["sums"][:], self.done["curriculum"] = [0.0, 0.0], asdict(after)
        if verdict == "best":
            self.done["best"] = step
            checkpoint.write(self._best, {"model": model}, optimizer, {"step": step})
        elif verdict == "fallen":
            checkpoint.read(self._best, {"model": model}, optimizer)

    def _save(self, model: Any, optimizer: Any) -> None:
        checkpoint.write(self.folder / STATE, {"model": model}, optimizer, self.done)
        for path in self.folder.glob("best-*.safetensors"):
            if distributed.first() and path != self._best:
                path.unlink()
