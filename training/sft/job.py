"""Supervised fine-tuning as a job for `training.child`."""

from dataclasses import asdict
from functools import partial
from pathlib import Path

from pixelis_pipeline.media.store import MediaStore
from pixelis_pipeline.records import Json, Trajectory
from training.child import Order, Tell


def sft(order: Order, tell: Tell) -> Json:
    """Fine-tune the base policy on the train split of the order's traces; the new one is `made/policy`, and
    what later phases take from it `made/exports`.

    Gives the weights' sha256, the ids of the traces it learned from, the curve's points, how many traces
    there were, and the sha256 of each exported file.
    """
    from pixelis_pipeline.agent import policy
    from pixelis_pipeline.tools.opening import opened
    from training.sft.train import train

    settings = order.settings
    (base,) = order.folders("base_policy")
    shown = policy.contract_of(base / "policy", settings.policy)
    traces = [t for t in order.records("training_splits", Trajectory) if shown.shows(t.question.media)]
    train_split = [t for t in traces if t.split == "train"]
    dev_split = [t for t in traces if t.split == "dev"]
    (ranks,) = order.folders("lora_ranks") if settings.sft.lora != "none" else (None,)
    out = order.made / "policy"
    curve = train(
        train_split,
        dev_split,
        base / "policy",
        out,
        settings.sft,
        settings.curation,
        partial(opened, MediaStore(Path(order.root), settings.media)),
        tell,
        ranks,
        settings.policy,
    )
    return {
        "weights": curve.weights,
        "learned": [t.id for t in train_split],
        "dev": len(dev_split),
        "unlearned": curve.unlearned,
        "points": [asdict(point) for point in curve.points],
        "exports": curve.exports,
    }
