"""The policy that learns: the shipped base checkpoint and its supervised fine-tuning on the traces."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from assets import curation  # noqa: F401  (its stages are declared before those that read them)
from assets.stage import Project, StageError, Work, stage
from pixelis_pipeline.ledger.code import ROOT as CHECKOUT
from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.records import Accepted, Json, Outcome, Trajectory, record_id

FOLDER = "policy"  # within the artifact of a policy stage
EXPORTS = "exports"  # beside it, what later phases take from SFT: heads, token normalisers, scalers


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A policy's weights, as a record that predictions can name. `about` is its run record: curve,
    measurements, seeds."""

    id: str
    parents: tuple[str, ...]
    name: str
    weights: str
    about: Json = field(default_factory=dict)


def _shipped(project: Project) -> Path:
    """The base checkpoint that settings name: the nano policy that ships with the project, or a folder."""
    policy = project.settings.policy
    if policy.weights:
        return Path(policy.weights).expanduser()
    if policy.name != "nano":
        raise StageError(f"policy.name is {policy.name}: set policy.weights to the folder of its checkpoint")
    return CHECKOUT / "training" / "base" / "nano"


def _digests(project: Project, partition: str) -> Json:
    folder = _shipped(project)
    return {path.name: sha256(path) for path in sorted(folder.glob("*")) if path.is_file()}


whole = partial(stage, record=Checkpoint, group="policies", kinds=("pytorch", "safetensors"))


@whole("base_policy", settings=("policy.name", "policy.weights"), outside=_digests)
def base_policy(work: Work) -> Iterator[Outcome[Checkpoint]]:
    """The policy before it has seen a trace. `nano` was pre-trained from nothing on the embedded world by
    `make base` and ships with its run record."""
    from pixelis_pipeline.agent import policy

    folder = _shipped(work.project)
    weights = policy.load(folder).digest
    shutil.copytree(folder, work.folder / FOLDER)
    record = folder / "run.json"
    about = json.loads(record.read_text()) if record.is_file() else {}
    work.digests["weights"] = weights
    name = work.settings.policy.name
    yield Accepted(
        weights, (Checkpoint(record_id("base_policy", 1, {}, [], weights), (), name, weights, about),)
    )


def _draw_curve(path: Path, points: list[Json]) -> None:
    """The loss curve as a picture for the asset's page."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    for name, colour in (("train", "#0072B2"), ("dev", "#D55E00")):
        axes.plot([p["step"] for p in points], [p[name] for p in points], label=name, color=colour)
    for point in points:
        if point["verdict"] == "fallen":
            axes.axvline(point["step"], color="0.6", linestyle=":")
    axes.set(xlabel="optimiser step", ylabel="loss (nats per weighted token)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


@whole(
    "sft_policy",
    inputs=("base_policy", "training_splits"),
    settings=("sft", "curation.simple", "curation.medium", "curation.hard"),
    stable=False,
)
def sft_policy(work: Work) -> Iterator[Outcome[Checkpoint]]:
    """Masked imitation of the train split: tool names and arguments weigh more, observations nothing, a
    flawed step nothing; auxiliary heads learn what decisive calls return. After a warm-up harder traces are
    drawn; where the dev loss falls back, so do the weights. Killed, it goes on from its last checkpoint."""
    from training.sft.train import exported, train

    base = next(iter(work.read("base_policy", Checkpoint)))
    traces = [t for t in work.read("training_splits", Trajectory) if t.question.media[0].kind == "image"]
    train_split = [t for t in traces if t.split == "train"]
    dev_split = [t for t in traces if t.split == "dev"]
    out = work.scratch / FOLDER
    with work.progress(0) as advance:
        curve = train(
            train_split,
            dev_split,
            work.folders("base_policy")[0] / FOLDER,
            out,
            work.settings.sft,
            work.settings.curation,
            work.project.media.view,
            lambda done, all_: advance(1),
        )
    out.rename(work.folder / FOLDER)
    exported(out).rename(work.folder / EXPORTS)
    points = [asdict(point) for point in curve.points]
    _draw_curve(work.folder / "curve.png", points)
    work.digests |= {"weights": curve.weights, "exports": curve.exports}
    work.about |= {
        "epochs": len(points),
        "fallen back": sum(point["verdict"] == "fallen" for point in points),
        "train traces": len(train_split),
        "nothing to learn": curve.unlearned,
        "dev traces": len(dev_split),
    }
    parents = (base.id, *(t.id for t in train_split))
    identity = record_id("sft_policy", 1, {}, parents, curve.weights)
    yield Accepted(base.id, (Checkpoint(identity, parents, "sft", curve.weights, {"curve": points}),))
