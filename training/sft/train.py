"""Supervised fine-tuning of one policy on replayed trajectories, from a folder to a folder.

A full-size policy learns through adapters always: what is written, and what a checkpoint holds, is never a
copy of the weights under them.

Killed at any moment, a second call goes on from the last checkpoint and ends with the weights of an
undisturbed run, on the same machine with the same number of threads and processes.
"""

import copy
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch  # noqa: TID253

from pixelis_pipeline.agent import policy
from pixelis_pipeline.agent.large import LargePolicy
from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.records import Json, Trajectory, canonical
from pixelis_pipeline.settings import CurationSettings, PolicySettings, SftSettings
from pixelis_pipeline.tools.opening import Open
from training import adapters, distributed
from training.sft import calibrators, exports
from training.sft.course import Course, Point, Progress, begun
from training.sft.drawing import Draws
from training.sft.heads import Heads
from training.sft.pool import pool_for
from training.sft.ranks import RANKS, Ranks, pattern
from training.sft.trainer import Imitation


@dataclass(frozen=True, slots=True)
class Curve:
    """How a training went, and the sha256 of the weights it ended with and of each exported file.
    `unlearned` training trajectories held nothing to imitate (a trap whose first step is the flaw, say) and
    were left out."""

    points: tuple[Point, ...]
    weights: str
    unlearned: int = 0
    exports: Json = field(default_factory=dict)


def exported(out: Path) -> Path:
    """The folder of what is exported beside the policy folder `out`."""
    return out.with_name("exports")


def train(
    trajectories: Sequence[Trajectory],
    dev: Sequence[Trajectory],
    base: Path,
    out: Path,
    settings: SftSettings,
    curation: CurationSettings,
    open_media: Open,
    progress: Progress | None = None,
    ranks: Path | None = None,
    limits: PolicySettings | None = None,
) -> Curve:
    """Fine-tune the policy in `base` on replayed trajectories that have been through the curriculum; write
    the new one to `out` and heads, normalisers, scalers and calibrators to `exported(out)`.

    `open_media` gives the workspace of a question's media; `progress` is told of each step: how many are
    done, how many there are in all, and its losses by name. With a folder of `ranks` (`ranks.study`) adapters
    of these ranks are trained in place of all weights; `out` then holds them merged, `exported(out)`/adapter
    by themselves. `limits` name the kind of policy (nano by default); of a full-size one `out` holds the
    adapter and what it stands on (`agent.adapted`). Working state lies in `out`.work until the end. The
    first of several processes (`training.launch`) writes; the others' curve names no weights.

    Raises ValueError for a training set without anything to learn, a trajectory that was not replayed or has
    no difficulty, or a loss that is no number; RenderMismatch where `base` was made under another contract;
    RankError where `ranks` holds none; PolicyError.
    """
    if not trajectories:
        raise ValueError("there is no trajectory to learn from")
    # Its few answers at the end are the model's own: no server beside a learner.
    limits = (limits or PolicySettings()).model_copy(update={"rollouts": "transformers"})
    start = policy.opened(base, limits)
    drawn = pool_for(start, trajectories, open_media, settings.action_weight)
    held = pool_for(start, dev, open_media, settings.action_weight)
    if not drawn.examples:
        raise ValueError(f"none of {len(trajectories)} trajectories holds anything to learn")
    work = out.with_name(out.name + ".work")
    told = [start.digest, start.contract.digest]
    key = _key(trajectories, dev, told, settings, curation, ranks)
    draws = Draws(drawn, settings, curation, begun(work, key))
    config = copy.deepcopy(start.model.config)  # the Trainer sets `use_cache` in the model's own
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        chosen = None if ranks is None else pattern(Ranks.read(ranks / RANKS))
        model = _learner(start, chosen, settings.seed)
        _run(start, model, draws, Course(draws, held, work, progress), work)
        learned = distributed.trained(model) if distributed.sharded(model) else {}
        points = tuple(Point(**point) for point in draws.done["points"])
        unlearned = len(trajectories) - len(drawn.examples)
        if not distributed.first():
            return Curve(points, "", unlearned)
        if learned:
            model = _learner(policy.opened(base, limits), chosen, settings.seed)
            model.load_state_dict(learned, strict=False)
        heads = model.heads
        del model.heads
        model.eval()
        found = exports.statistics(model, held if held.examples else drawn, settings.rows)
    finally:
        torch.set_num_threads(threads)
    files = exports.write(exported(out), heads, *found)
    if ranks is not None and isinstance(start, policy.Policy):
        files |= exports.write_adapter(exported(out), model)
        model = model.merge_and_unload()
    digest = _save(start, model, config, out, limits)
    files |= calibrators.export(exported(out), replace(start, model=model), held, settings.rows)
    shutil.rmtree(work, ignore_errors=True)
    return Curve(points, digest, unlearned, files)


def _save(
    start: policy.Policy | LargePolicy, model: Any, config: Any, out: Path, limits: PolicySettings
) -> str:
    """Write what was learned, whole weights or an adapter; gives its sha256."""
    if isinstance(start, LargePolicy):
        from pixelis_pipeline.agent import adapted

        return adapted.save(model, out, start.contract, adapted.Base.of(start, limits))
    model.config = config
    return policy.save(model, out, start.contract)


def _key(
    trajectories: Sequence[Trajectory],
    dev: Sequence[Trajectory],
    base: Sequence[str],
    settings: SftSettings,
    curation: CurationSettings,
    ranks: Path | None,
) -> str:
    """What a checkpoint must agree on to be continued."""
    ids = [[trajectory.id for trajectory in part] for part in (trajectories, dev)]
    adapted = sha256(ranks / RANKS) if ranks else ""
    return hashlib.sha256(
        canonical([ids, base, adapted, settings.model_dump(), curation.model_dump()])
    ).hexdigest()


def _learner(start: policy.Policy | LargePolicy, ranks: Json | None, seed: int) -> Any:
    """The model that is trained, with the heads that are trained with it as its part."""
    model = adapters.learner(start, ranks, seed)
    heads = Heads(model.config.get_text_config().hidden_size, seed)
    model.add_module("heads", heads.to(model.device))
    return model


def _run(start: policy.Policy | LargePolicy, model: Any, draws: Draws, course: Course, work: Path) -> None:
    """Train to the end of the schedule or of the curriculum."""
    Imitation(model, model.heads, start.vocabulary.marks, draws, work, [course]).train()
    if draws.settings.gradient_checkpointing:
        model.activation_checkpointing_disable()
