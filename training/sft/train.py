"""Supervised fine-tuning: `objective` over what `curriculum` and the sampler draw, with `hiding`.

Killed at any moment, a second call goes on from the last checkpoint and ends with the weights of an
undisturbed run, on the same machine with the same number of threads. What a step draws and hides follows
from the seed and the step alone.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: TID253

from pixelis_pipeline.agent import policy
from pixelis_pipeline.agent.pixels import Image
from pixelis_pipeline.curation import sampling
from pixelis_pipeline.records import Json, Media, Trajectory, canonical
from pixelis_pipeline.settings import CurationSettings, SftSettings
from training import checkpoint
from training.schedule import rate
from training.sft import curriculum, exports
from training.sft.examples import Example, example
from training.sft.heads import Heads
from training.sft.hiding import hidden
from training.sft.objective import dev_loss, inputs, objective

WEIGHT_DECAY = 0.01
SAVE = 60  # steps between checkpoints
WARM = 20  # steps

Pixels = Callable[[Media], Image]
Progress = Callable[[int, int], None]


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


@dataclass(frozen=True, slots=True)
class Curve:
    """How a training went, and the sha256 of the weights it ended with and of each exported file.
    `unlearned` training trajectories held nothing to imitate (a trap whose first step is the flaw, say) and
    were left out."""

    points: tuple[Point, ...]
    weights: str
    unlearned: int = 0
    exports: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pool:
    """Trajectories that hold something to learn, in a fixed order, with their pictures."""

    trajectories: Sequence[Trajectory]
    examples: Sequence[Example]
    images: Sequence[Image]


def pool(trajectories: Sequence[Trajectory], pixels: Pixels, action_weight: float) -> Pool:
    """The trajectories that hold something to learn. ValueError where one was not replayed."""
    made = [(each, example(each, action_weight)) for each in trajectories]
    kept = [(each, ready) for each, ready in made if ready is not None]
    images = [pixels(each.question.media[0]) for each, _ in kept]
    return Pool([each for each, _ in kept], [ready for _, ready in kept], images)


def exported(out: Path) -> Path:
    """The folder of what is exported beside the policy folder `out`."""
    return out.with_name(out.name + ".exports")


def train(
    trajectories: Sequence[Trajectory],
    dev: Sequence[Trajectory],
    base: Path,
    out: Path,
    settings: SftSettings,
    curation: CurationSettings,
    pixels: Pixels,
    progress: Progress | None = None,
) -> Curve:
    """Fine-tune the policy in `base` on replayed trajectories that have been through the curriculum; write
    the new one to `out` and heads, normalisers and scalers to `exported(out)`.

    `pixels` gives an image's uint8 RGB array; `progress` is told (steps done, steps in all). Working state
    lies in `out`.work until the end. Raises ValueError for a training set without anything to learn, a
    trajectory that was not replayed or has no difficulty, or a loss that is no number; RenderMismatch where
    `base` was made under another contract.
    """
    if not trajectories:
        raise ValueError("there is no trajectory to learn from")
    start = policy.load(base)
    drawn = pool(trajectories, pixels, settings.action_weight)
    held = pool(dev, pixels, settings.action_weight)
    if not drawn.examples:
        raise ValueError(f"none of {len(trajectories)} trajectories holds anything to learn")
    key = _key(trajectories, dev, start.digest, settings, curation)
    work = out.with_name(out.name + ".work")
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        training = _Training(start.model, drawn, held, settings, curation, work, key)
        training.run(progress)
        measured = held if held.examples else drawn
        found = exports.statistics(training.model.eval(), measured.examples, measured.images, settings.batch)
    finally:
        torch.set_num_threads(threads)
    digest = policy.save(training.model, out)
    files = exports.write(exported(out), training.heads, *found)
    shutil.rmtree(work, ignore_errors=True)
    points = tuple(Point(**point) for point in training.done["points"])
    return Curve(points, digest, len(trajectories) - len(drawn.examples), files)


def _key(
    trajectories: Sequence[Trajectory],
    dev: Sequence[Trajectory],
    base: str,
    settings: SftSettings,
    curation: CurationSettings,
) -> str:
    """What a checkpoint must agree on to be continued."""
    ids = [[trajectory.id for trajectory in part] for part in (trajectories, dev)]
    return hashlib.sha256(canonical([ids, base, settings.model_dump(), curation.model_dump()])).hexdigest()


class _Training:
    """Policy, heads, optimizer and how far they are (`done`)."""

    def __init__(
        self,
        model: Any,
        drawn: Pool,
        held: Pool,
        settings: SftSettings,
        curation: CurationSettings,
        work: Path,
        key: str,
    ) -> None:
        self.model, self.drawn, self.held = model.train(), drawn, held
        self.settings, self.curation, self.work = settings, curation, work
        self.heads = Heads(model.lm_head.in_features, settings.seed)
        if settings.gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        self.weights = [*model.parameters(), *self.heads.parameters()]
        self.optimizer = torch.optim.AdamW(self.weights, lr=settings.learning_rate, weight_decay=WEIGHT_DECAY)
        self.an_epoch = -(-len(drawn.examples) // settings.batch)
        self.steps = settings.epochs * self.an_epoch
        self.done: Json = {
            "key": key,
            "step": 0,
            "sums": [0.0, 0.0],
            "points": [],
            "curriculum": asdict(curriculum.State()),
            "best": 0,
        }
        if self._state.is_file() and checkpoint.progress(self._state).get("key") == key:
            self.done = checkpoint.read(self._state, self._modules, self.optimizer)

    @property
    def _modules(self) -> dict[str, Any]:
        return {"model": self.model, "heads": self.heads}

    @property
    def _state(self) -> Path:
        return self.work / "state.safetensors"

    def _best(self) -> Path:
        """The state at the best look. Its name holds its step: a state that was saved before it still finds
        the one that it means."""
        return self.work / f"best-{self.done['best']}.safetensors"

    def run(self, progress: Progress | None) -> None:
        """To the end of the schedule or of the curriculum."""
        order, epoch = np.empty(0, np.int64), -1
        while self.done["step"] < self.steps and self.done["curriculum"]["phase"] != "over":
            at, place = divmod(self.done["step"], self.an_epoch)
            if at != epoch:
                order, epoch = self._order(at), at
            size = self.settings.batch
            self._step(order[place * size : (place + 1) * size].tolist())
            if place + 1 == self.an_epoch:
                self._look()
            if self.done["step"] % SAVE == 0:
                self._save()
            if progress is not None:
                progress(self.done["step"], self.steps)
        if self.settings.gradient_checkpointing:
            self.model.activation_checkpointing_disable()

    def _order(self, epoch: int) -> np.ndarray[Any, Any]:
        """The epoch's draws, as many as there are examples."""
        phase = self.done["curriculum"]["phase"]
        weights = sampling.weights(self.drawn.trajectories, phase, self.curation)
        return sampling.Sampler(weights, self.settings.seed).draws(len(weights), epoch)

    def _step(self, chosen: list[int]) -> None:
        step, settings = self.done["step"], self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = rate(step, self.steps, settings.learning_rate, WARM)
        random = np.random.default_rng([settings.seed, step])
        shown = [hidden(self.drawn.examples[k], settings, random) for k in chosen]
        given = inputs(shown, [self.drawn.images[k] for k in chosen])
        loss, imitated = objective(
            self.model, self.heads, given, settings.label_smoothing, settings.auxiliary
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, settings.gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.done["sums"][0] += imitated.item()
        self.done["sums"][1] += loss.item() - imitated.item()
        self.done["step"] = step + 1

    def _look(self) -> None:
        """Close an epoch: measure, judge, keep the best, go back to it where the curriculum says so."""
        held, dev = self.held, None
        if held.examples:
            dev = dev_loss(self.model, held.examples, held.images, self.settings.batch)
        before = curriculum.State(**self.done["curriculum"])
        after, verdict = curriculum.look(before, dev, self.settings)
        train, auxiliary = (total / self.an_epoch for total in self.done["sums"])
        step = self.done["step"]
        self.done["points"].append(
            asdict(Point(step // self.an_epoch, step, train, auxiliary, dev or 0.0, before.phase, verdict))
        )
        self.done["sums"], self.done["curriculum"] = [0.0, 0.0], asdict(after)
        if verdict == "best":
            self.done["best"] = step
            checkpoint.write(self._best(), self._modules, self.optimizer, {"step": step})
        elif verdict == "fallen":
            checkpoint.read(self._best(), self._modules, self.optimizer)

    def _save(self) -> None:
        checkpoint.write(self._state, self._modules, self.optimizer, self.done)
        for path in self.work.glob("best-*.safetensors"):
            if path != self._best():
                path.unlink()
