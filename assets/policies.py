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
from assets.traces import tool_versions
from pixelis_pipeline.ledger.chain import Input
from pixelis_pipeline.ledger.code import ROOT as CHECKOUT
from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.records import Accepted, Hardness, Json, Outcome, Trajectory, record_id
from pixelis_pipeline.tools.opening import opened

FOLDER = "policy"  # within the artifact of a policy stage
SHOWN = ("policy.picture_tokens_least", "policy.picture_tokens_most", "policy.dtype")


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
    `make base` and ships with its run record. Of a full-size policy the weights stay where they are, and
    their sha256 is kept."""
    from pixelis_pipeline.agent import policy

    folder, settings = _shipped(work.project), work.settings.policy
    if settings.name == "nano":
        weights = policy.load(folder).digest
        shutil.copytree(folder, work.folder / FOLDER)
    else:
        from pixelis_pipeline.agent import adapted

        base = adapted.Base.at(folder, settings)
        weights = base.digest
        (work.folder / FOLDER).mkdir()
        base.write(work.folder / FOLDER)
    record = folder / "run.json"
    about = json.loads(record.read_text()) if record.is_file() else {}
    work.digests["weights"] = weights
    identity = record_id("base_policy", 1, {}, [], weights)
    yield Accepted(weights, (Checkpoint(identity, (), settings.name, weights, about),))


@dataclass(frozen=True, slots=True)
class LayerRank:
    """The LoRA rank of one module: `measured` at the energy asked for (None: more than was looked at), `rank`
    the one chosen, `kept` the share of the energy that this keeps, at least."""

    id: str
    parents: tuple[str, ...]
    module: str
    measured: int | None
    rank: int
    kept: float


def _traces(work: Work, split: str, checkpoint: Path) -> list[Trajectory]:
    """The traces of a split that the policy in a folder sees whole."""
    from pixelis_pipeline.agent import policy

    shown = policy.contract_of(checkpoint, work.settings.policy)
    traces = work.read("training_splits", Trajectory)
    return [t for t in traces if t.split == split and shown.shows(t.question.media)]


@stage(
    "lora_ranks",
    record=LayerRank,
    group="policies",
    kinds=("pytorch", "json"),
    inputs=("base_policy", "training_splits"),
    settings=("ranks", "sft", "curation.simple", "curation.medium", "curation.hard"),
    stable=False,
    aside=True,
)
def lora_ranks(work: Work) -> Iterator[Outcome[LayerRank]]:
    """LoRA ranks from data: all weights are fine-tuned for one short epoch, and the spectrum of what that
    changed in each matrix says which rank holds 90 % of it. `sft.lora` may name a version."""
    from training.sft.ranks import study
    from training.sft.train import exported, train

    if work.settings.policy.name != "nano":
        raise StageError(
            f"policy.name is {work.settings.policy.name}: its ranks take a fine-tuning of all its weights "
            "(docs/COMPUTE_BUDGET.md), which is not done here; without them all its adapters have one rank"
        )
    base = next(iter(work.read("base_policy", Checkpoint)))
    before, after = work.folders("base_policy")[0] / FOLDER, work.scratch / FOLDER
    traces = _traces(work, "train", before)
    evenly = traces[:: -(-len(traces) // work.settings.ranks.traces)]
    short = work.settings.sft.model_copy(update={"epochs": 1, "lora": "none"})
    with work.progress(0) as advance:
        curve = train(
            evenly,
            [],
            before,
            after,
            short,
            work.settings.curation,
            partial(opened, work.project.media),
            lambda *_: advance(1),
        )
        found = study(before, after, work.folder, work.settings.ranks, lambda *_: advance(1))
    for folder in (after, exported(after)):
        shutil.rmtree(folder)
    work.digests["weights"] = curve.weights
    work.about |= {"traces": len(evenly), "ranks": [layer.rank for layer in found.layers.values()]}
    made = []
    for module, layer in found.layers.items():
        told = (module, layer.measured, layer.rank, layer.kept)
        identity = record_id("lora_ranks", 1, {}, [base.id], [*told, curve.weights])
        made.append(LayerRank(identity, (base.id,), *told))
    yield Accepted(base.id, tuple(made))


def _ranks(project: Project) -> tuple[Input, ...]:
    """The ranks that `sft.lora` names. StageError where there are none."""
    version = project.settings.sft.lora
    if version == "none":
        return ()
    for record in project.ledger.chain("lora_ranks"):
        if record.version == version:
            return (Input("lora_ranks", record.partition, version),)
    raise StageError(
        f"sft.lora names {version}, which is no version of `lora_ranks` here: make one with "
        '`pixelis run --to lora_ranks`, or set it to "none" to train all weights'
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
    settings=("sft", "curation.simple", "curation.medium", "curation.hard", *SHOWN),
    stable=False,
    pinned=_ranks,
)
def sft_policy(work: Work) -> Iterator[Outcome[Checkpoint]]:
    """Masked imitation of the train split: tool names and arguments weigh more, observations nothing, a
    flawed step nothing; auxiliary heads learn what decisive calls return. After a warm-up harder traces are
    drawn; where the dev loss falls back, so do the weights. Adapters where `sft.lora` names their ranks, else
    all weights. Trained by a process of its own; killed, it goes on from its last checkpoint."""
    from training.sft import job

    base = next(iter(work.read("base_policy", Checkpoint)))
    together = work.settings.operations
    sharded = together.strategy == "fsdp"
    with child.run(work, job.sft, work.settings.sft.threads, together.processes, sharded) as done:
        done.into(work.folder)
    weights, told = done.proof.weights, done.proof.result
    _draw_curve(work.folder / "curve.png", told["points"])
    work.digests |= {"weights": weights, "exports": told["exports"]}
    work.about |= {
        "epochs": len(told["points"]),
        "fallen back": sum(point["verdict"] == "fallen" for point in told["points"]),
        "train traces": len(told["learned"]),
        "nothing to learn": told["unlearned"],
        "dev traces": told["dev"],
        "processes": together.processes,
    }
    parents = (base.id, *told["learned"])
    identity = record_id("sft_policy", 1, {}, parents, weights)
    yield Accepted(base.id, (Checkpoint(identity, parents, "sft", weights, {"curve": told["points"]}),))


@stage(
    "trace_hardness",
    record=Hardness,
    group="policies",
    kinds=("pytorch", "parquet"),
    inputs=("sft_policy", "training_splits"),
    settings=("sft.action_weight", "sft.batch", "sft.micro_batch", "sft.threads"),
    stable=False,
    aside=True,
)
def trace_hardness(work: Work) -> Iterator[Outcome[Hardness]]:
    """How hard each training trace is for the policy that was taught it. `curation.predictor` may name a
    version, and the next curriculum then follows it; nothing in the graph reads the newest."""
    from training.sft.hardness import errors

    taught = next(iter(work.read("sft_policy", Checkpoint)))
    folder = work.folders("sft_policy")[0] / FOLDER
    traces, opens = _traces(work, "train", folder), partial(opened, work.project.media)
    made = []
    with work.progress(len(traces)) as advance:
        for trace, error in errors(folder, traces, work.settings.sft, opens, advance, work.settings.policy):
            parents = (trace.id, taught.id)
            identity = record_id("trace_hardness", 1, {}, parents, error)
            made.append(Hardness(identity, parents, trace.question, error))
    work.about |= {"traces": len(traces), "mean error": sum(each.error for each in made) / max(len(made), 1)}
    yield Accepted(taught.id, tuple(made))


@whole(
    "rft_policy",
    inputs=("sft_policy", "training_splits"),
    settings=("rft", "reward", "heads", "pid", "policy", "tools", "media"),
    outside=tool_versions,
    stable=False,
)
def rft_policy(work: Work) -> Iterator[Outcome[Checkpoint]]:
    """Reinforcement on the fine-tuned policy's own rollouts, over the questions of the train split: answers
    judged by verifiers, curiosity and coherence once success is there, divergence from the fine-tuned policy
    held in its corridor. `steps.jsonl` has the numbers of every step, `rollouts` every rollout. Trained by
    a process of its own; killed, it goes on from its last checkpoint. A few steps, as in the embedded
    profile, show the machinery and claim nothing."""
    from training.rft import job

    sft = next(iter(work.read("sft_policy", Checkpoint)))
    processes = work.settings.operations.processes
    with child.run(work, job.rft, work.settings.rft.threads, processes) as done:
        done.into(work.folder)
    weights, told = done.proof.weights, done.proof.result
    work.digests |= {"weights": weights, "tools": told["tools"], "scales": told["scales"]}
    work.about |= {name: told[name] for name in ("ended", "steps", "questions")}
    work.about["processes"] = processes
    parents = (sft.id, *told["learned"])
    identity = record_id("rft_policy", 1, {}, parents, weights)
    about = {"ended": told["ended"], "stages": told["stages"], "steps": told["lines"]}
    yield Accepted(sft.id, (Checkpoint(identity, parents, "rft", weights, about),))
