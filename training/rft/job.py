"""Reinforcement as a job for `training.child`."""

import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path

from pixelis_pipeline.media.store import MediaStore
from pixelis_pipeline.records import Json, Trajectory
from training.child import Order, Tell


def rft(order: Order, tell: Tell) -> Json:
    """Reinforce the fine-tuned policy on its rollouts over the questions of the train split: `made/policy`,
    and the run's steps, stages and rollouts in `made/rft`.

    Gives the weights' sha256, those of the tools and of the frozen statistics, how the run ended, its steps
    and stages, and the ids of the traces whose questions it was asked.
    """
    from pixelis_pipeline.agent import policy
    from pixelis_pipeline.tools.opening import opened
    from pixelis_pipeline.tools.registry import default_registry
    from pixelis_pipeline.verify.answers import right
    from training import distributed
    from training.rft import record, train
    from training.rft.course import STATE
    from training.rft.recipe import Ground, Recipe
    from training.sft import scalers

    settings = order.settings
    media = MediaStore(Path(order.root), settings.media)
    taught, out = order.folders("sft_policy")[0], Path(order.folder) / "rft"
    base, counts = taught / "policy", scalers.read(taught / "exports")
    shown = policy.contract_of(base, settings.policy)
    traces = [t for t in order.records("training_splits", Trajectory) if shown.shows(t.question.media)]
    learned = [t for t in traces if t.split == "train"]
    questions = {t.question.id: t.question for t in learned}
    asked = [questions[name] for name in sorted(questions)]
    ground = Ground(asked, default_registry(settings.tools), partial(opened, media), right)
    recipe = Recipe(settings.rft, settings.reward, settings.heads, settings.pid, settings.policy, counts)
    honest = [t for t in traces if t.kind == "positive"]
    held = [t for t in honest if t.split == "dev" and len(t.steps) > 1] or honest
    tell(0, settings.rft.steps, {})
    families = [question.task for question in asked]
    reads = settings.policy.name == "nano"
    scales = train.measure(base, held, ground.open_media, recipe, families) if reads else None
    run = train.train(
        ground, base, out, recipe, scales, lambda line: tell(line.step + 1, settings.rft.steps, line.scalars)
    )
    if not distributed.first():
        return {}
    shutil.copytree(out / train.POLICY, order.made / "policy", dirs_exist_ok=True)
    left = shutil.ignore_patterns(train.POLICY, STATE, "*.tmp")
    shutil.copytree(out, order.made / "rft", ignore=left, dirs_exist_ok=True)
    return {
        "weights": run.weights,
        "tools": ground.registry.versions,
        "scales": scales.digest if scales else "none",
        "ended": run.ended,
        "steps": run.steps,
        "stages": run.stages,
        "questions": len(questions),
        "lines": [asdict(line) for line in record.read(out)],
        "learned": [t.id for t in learned],
    }
