"""The policy that learns: the shipped base checkpoint and its supervised fine-tuning on the traces."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from assets import curation  # noqa: F401  (its stages are declared before those that read them)
from assets.stage import Project, StageError, Work, stage
from assets.traces import tool_versions
from pixelis_pipeline.ledger.code import ROOT as CHECKOUT
from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.records import Accepted, Json, Outcome, Trajectory, record_id

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
    flawed step nothing. Killed, it goes on from its last checkpoint."""
    from training.sft.train import train

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
            work.project.media.view,
            lambda done, all_: advance(1),
        )
    out.rename(work.folder / FOLDER)
    points = [asdict(point) for point in curve.points]
    _draw_curve(work.folder / "curve.png", points)
    work.digests["weights"] = curve.weights
    work.about |= {
        "train traces": len(train_split),
        "nothing to learn": curve.unlearned,
        "dev traces": len(dev_split),
    }
    parents = (base.id, *(t.id for t in train_split))
    identity = record_id("sft_policy", 1, {}, parents, curve.weights)
    yield Accepted(base.id, (Checkpoint(identity, parents, "sft", curve.weights, {"curve": points}),))


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
    held in its corridor. `steps.jsonl` has the numbers of every step, `rollouts` every rollout. Killed, it
    goes on from its last checkpoint. A few steps, as in the embedded profile, show the machinery and claim
    nothing."""
    from pixelis_pipeline.tools.opening import opened
    from pixelis_pipeline.tools.registry import default_registry
    from pixelis_pipeline.verify.answers import right
    from training.rft import record, train
    from training.rft.course import STATE
    from training.rft.recipe import Ground, Recipe

    settings, sft = work.settings, next(iter(work.read("sft_policy", Checkpoint)))
    traces = [t for t in work.read("training_splits", Trajectory) if t.question.media[0].kind == "image"]
    learned = [t for t in traces if t.split == "train"]
    questions = {t.question.id: t.question for t in learned}
    ground = Ground(
        [questions[name] for name in sorted(questions)],
        default_registry(settings.tools),
        partial(opened, work.project.media),
        right,
    )
    recipe = Recipe(settings.rft, settings.reward, settings.heads, settings.pid, settings.policy)
    base, out = work.folders("sft_policy")[0] / FOLDER, work.scratch / "rft"
    honest = [t for t in traces if t.kind == "positive"]
    held = [t for t in honest if t.split == "dev" and len(t.steps) > 1] or honest
    images = [work.project.media.view(t.question.media[0]) for t in held]
    with work.progress(settings.rft.steps) as advance:
        scales = train.measure(base, held, images, recipe, [q.task for q in ground.questions])
        run = train.train(ground, base, out, recipe, scales, lambda line: advance(1))
    shutil.copytree(out / train.POLICY, work.folder / FOLDER)
    shutil.copytree(out, work.folder / "rft", ignore=shutil.ignore_patterns(train.POLICY, STATE, "*.tmp"))
    work.digests |= {"weights": run.weights, "tools": ground.registry.versions, "scales": scales.digest}
    lines = [asdict(line) for line in record.read(out)]
    work.about |= {"ended": run.ended, "steps": run.steps, "questions": len(questions)}
    parents = (sft.id, *(t.id for t in learned))
    identity = record_id("rft_policy", 1, {}, parents, run.weights)
    about = {"ended": run.ended, "stages": run.stages, "steps": lines}
    yield Accepted(sft.id, (Checkpoint(identity, parents, "rft", run.weights, about),))
