"""Masked imitation (specification section 3): L = -sum w_t log p_t / sum w_t, with label smoothing.

Killed at any moment, a second call goes on from the last checkpoint and ends with the weights of an
undisturbed run, on the same machine with the same number of threads.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelis_pipeline.agent import policy
from pixelis_pipeline.records import Json, Media, Trajectory, canonical
from pixelis_pipeline.settings import SftSettings
from training import checkpoint
from training.schedule import rate
from training.sft.examples import Example, example

if TYPE_CHECKING:
    import torch

WEIGHT_DECAY = 0.01
SAVE = 60  # steps between checkpoints
WARM = 20  # steps

Array = np.ndarray[Any, Any]
Pixels = Callable[[Media], Array]
Progress = Callable[[int, int, Mapping[str, float]], None]


@dataclass(frozen=True, slots=True)
class Point:
    """Losses after an epoch, a token: `train` is the epoch's mean of the smoothed objective, `dev` the
    plain one (0 without dev trajectories)."""

    epoch: int
    step: int
    train: float
    dev: float


@dataclass(frozen=True, slots=True)
class Curve:
    """How a training went, and the sha256 of the weights it ended with. `unlearned` training trajectories
    held nothing to imitate (a trap whose first step is the flaw, say) and were left out."""

    points: tuple[Point, ...]
    weights: str
    unlearned: int = 0


@dataclass(frozen=True, slots=True)
class _Pool:
    """Examples with their pictures, in a fixed order."""

    examples: Sequence[Example]
    images: Sequence[Array]


def _pool(trajectories: Sequence[Trajectory], pixels: Pixels, weight: float) -> _Pool:
    """The trajectories that hold something to learn."""
    examples = [(example(each, weight), each.question.media[0]) for each in trajectories]
    kept = [(made, media) for made, media in examples if made is not None]
    return _Pool([made for made, _ in kept], [pixels(media) for _, media in kept])


def _loss(model: Any, pool: _Pool, chosen: Sequence[int], smoothing: float) -> "torch.Tensor":
    """The weighted mean loss of the chosen examples."""
    import torch

    from pixelis_pipeline.agent import nano
    from pixelis_pipeline.agent.batch import collate

    batch = collate([pool.examples[k].ids for k in chosen], [pool.images[k] for k in chosen], "right")
    weights = torch.zeros(batch.ids.shape)
    for row, k in enumerate(chosen):
        weights[row, : len(pool.examples[k].weights)] = torch.from_numpy(pool.examples[k].weights)
    weights = weights[:, 1:]
    learned = weights > 0
    hidden = nano.hidden_states(model, batch)[:, :-1][learned]
    scores = model.lm_head(hidden).log_softmax(-1)
    told = -scores.gather(1, batch.ids[:, 1:][learned][:, None])[:, 0]
    smooth = (1 - smoothing) * told - smoothing * scores.mean(-1)
    return (smooth * weights[learned]).sum() / weights.sum()


def _dev_loss(model: Any, pool: _Pool, batch: int) -> float:
    """Mean loss over the dev examples, without smoothing."""
    import torch

    count = len(pool.examples)
    with torch.inference_mode():
        parts = [range(start, min(start + batch, count)) for start in range(0, count, batch)]
        total = sum(len(part) * _loss(model, pool, part, 0.0).item() for part in parts)
    return total / count if count else 0.0


def _key(trajectories: Sequence[Trajectory], base: str, settings: SftSettings) -> str:
    """What a checkpoint must agree on to be continued."""
    ids = [trajectory.id for trajectory in trajectories]
    return hashlib.sha256(canonical([ids, base, settings.model_dump()])).hexdigest()


def train(
    trajectories: Sequence[Trajectory],
    dev: Sequence[Trajectory],
    base: Path,
    out: Path,
    settings: SftSettings,
    pixels: Pixels,
    progress: Progress | None = None,
) -> Curve:
    """Fine-tune the policy in `base` on replayed trajectories and write the new one to `out`.

    `pixels` gives an image's uint8 RGB array; `progress` is told (steps done, steps in all, the step's
    loss by name). Working state lies beside `out`, in `out`.work, until the end. Raises ValueError for a
    training set without anything to learn or a trajectory that was not replayed, RenderMismatch where `base`
    was made under another contract.
    """
    import torch

    if not trajectories:
        raise ValueError("there is no trajectory to learn from")
    start = policy.load(base)
    pool = _pool(trajectories, pixels, settings.action_weight)
    held = _pool(dev, pixels, settings.action_weight)
    if not pool.examples:
        raise ValueError(f"none of {len(trajectories)} trajectories holds anything to learn")
    model = start.model.train()
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=WEIGHT_DECAY)
    state = out.with_name(out.name + ".work") / "state.safetensors"
    key = _key(trajectories, start.digest, settings)
    done: Json = {"key": key, "step": 0, "sum": 0.0, "points": []}
    if state.is_file() and checkpoint.progress(state).get("key") == key:
        done = checkpoint.read(state, {"model": model}, optimizer)
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        _epochs(model, weights, optimizer, pool, held, settings, state, done, progress)
    finally:
        torch.set_num_threads(threads)
    digest = policy.save(model.eval(), out)
    shutil.rmtree(state.parent, ignore_errors=True)
    points = tuple(Point(**point) for point in done["points"])
    return Curve(points, digest, len(trajectories) - len(pool.examples))


def _epochs(
    model: Any,
    weights: list["torch.Tensor"],
    optimizer: "torch.optim.Optimizer",
    pool: _Pool,
    held: _Pool,
    settings: SftSettings,
    state: Path,
    done: Json,
    progress: Progress | None,
) -> None:
    """Steps `done["step"]` and on; `done` is brought up to date in place."""
    import torch

    a_pass = -(-len(pool.examples) // settings.batch)
    steps = settings.epochs * a_pass
    for step in range(done["step"], steps):
        epoch, place = divmod(step, a_pass)
        order = np.random.default_rng([settings.seed, epoch]).permutation(len(pool.examples))
        chosen = order[place * settings.batch : (place + 1) * settings.batch].tolist()
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, settings.learning_rate, WARM)
        loss = _loss(model, pool, chosen, settings.label_smoothing)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, settings.gradient_norm)
        optimizer.step()
        optimizer.zero_grad()
        told = loss.item()
        done["sum"] += told
        done["step"] = step + 1
        if place + 1 == a_pass:
            dev = _dev_loss(model, held, settings.batch)
            done["points"].append(
                {"epoch": epoch + 1, "step": step + 1, "train": done["sum"] / a_pass, "dev": dev}
            )
            done["sum"] = 0.0
        if (step + 1) % SAVE == 0 and step + 1 < steps:
            checkpoint.write(state, {"model": model}, optimizer, done)
        if progress is not None:
            progress(step + 1, steps, {"loss": told})
