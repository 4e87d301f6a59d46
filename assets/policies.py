"""The policy that learns: the shipped base checkpoint and its supervised fine-tuning on the traces."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from assets import (
    child,
    curation,  # noqa: F401  (its stages are declared before those that read them)
)
from assets.stage import Project, StageError, Work, stage
from pixelis_pipeline.ledger.code import ROOT as CHECKOUT
from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.records import Accepted, Json, Outcome, record_id

FOLDER = "policy"  # within the artifact of a policy stage


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
    from pixelis_pipeline.agent.policy import fetched

    policy = project.settings.policy
    if policy.weights or policy.hub:
        return fetched(policy)
    if policy.name != "nano":
        raise StageError(f"policy.name is {policy.name}: set policy.weights to the folder of its checkpoint")
    return CHECKOUT / "training" / "base" / "nano"


def _digests(project: Project, partition: str) -> Json:
    if project.settings.policy.hub:
        return {}  # its commit is part of the setting, and asking for a status must not download
    folder = _shipped(project)
    return {path.name: sha256(path) for path in sorted(folder.glob("*")) if path.is_file()}


whole = partial(stage, record=Checkpoint, group="policies", kinds=("pytorch", "safetensors"))


@whole("base_policy", settings=("policy.name", "policy.weights", "policy.hub"), outside=_digests)
def base_policy(work: Work) -> Iterator[Outcome[Checkpoint]]:
    """The policy before it has seen a trace. `nano` was pre-trained from nothing on the embedded world by
    `make base` and ships with its run record."""
    from pixelis_pipeline.agent import policy

    folder = _shipped(work.project)
    weights = policy.opened(folder, work.settings.policy).digest
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
    axes.set(xlabel="optimiser step", ylabel="loss (nats per weighted token)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


@whole(
    "sft_policy",
    inputs=("base_policy", "training_splits"),
    settings=("sft",),
    stable=False,
)
def sft_policy(work: Work) -> Iterator[Outcome[Checkpoint]]:
    """Masked imitation of the train split: tool names and arguments weigh more, observations nothing, a
    flawed step nothing. Trained by a process of its own; killed, it goes on from its last checkpoint."""
    from training.sft import job

    base = next(iter(work.read("base_policy", Checkpoint)))
    with child.run(work, job.sft, work.settings.sft.threads) as done:
        done.into(work.folder)
    weights, told = done.proof.weights, done.proof.result
    _draw_curve(work.folder / "curve.png", told["points"])
    work.digests["weights"] = weights
    work.about |= {
        "train traces": len(told["learned"]),
        "nothing to learn": told["unlearned"],
        "dev traces": told["dev"],
    }
    parents = (base.id, *told["learned"])
    identity = record_id("sft_policy", 1, {}, parents, weights)
    yield Accepted(base.id, (Checkpoint(identity, parents, "sft", weights, {"curve": told["points"]}),))
