"""Supervised fine-tuning as a job for `training.child`."""

from dataclasses import asdict
from pathlib import Path

from pixelis_pipeline.media.store import MediaStore
from pixelis_pipeline.records import Json, Trajectory
from training.child import Order, Tell


def sft(order: Order, tell: Tell) -> Json:
    """Fine-tune the base policy on the train split of the order's traces; the new one is `made/policy`.

    Gives the weights' sha256, the ids of the traces it learned from, the curve's points and how many traces
    there were.
    """
    from training.sft.train import train

    settings = order.settings
    traces = [t for t in order.records("training_splits", Trajectory) if t.question.media[0].kind == "image"]
    train_split = [t for t in traces if t.split == "train"]
    dev_split = [t for t in traces if t.split == "dev"]

    (base,) = order.folders("base_policy")
    curve = train(
        train_split,
        dev_split,
        base / "policy",
        order.made / "policy",
        settings.sft,
        MediaStore(Path(order.root), settings.media).view,
        tell,
    )
    return {
        "weights": curve.weights,
        "learned": [t.id for t in train_split],
        "dev": len(dev_split),
        "unlearned": curve.unlearned,
        "points": [asdict(point) for point in curve.points],
    }
