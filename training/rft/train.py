"""Reinforcement of a policy on groups of its own rollouts (GRPO; specification section 4).

A step: rollouts of a few prompts, several each, all side by side; their rewards; advantages within each
group, groups without variance dropped; one optimiser step on A log π - β·KL to the policy that training
started from, over the tokens that the policy chose; one step of the dynamics head, one of the controller of
β.

Killed at any moment, a second call goes on from the last checkpoint and ends with the weights of an
undisturbed run, on the same machine with the same number of threads and processes.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelis_pipeline.agent import policy as policies
from pixelis_pipeline.records import Trajectory, canonical
from pixelis_pipeline.tools.opening import Open
from training import checkpoint
from training.rft import pid
from training.rft.course import STATE, Course, Ended
from training.rft.recipe import Ground, Recipe
from training.rft.record import Line

if TYPE_CHECKING:
    from pixelis_pipeline.agent.large import LargePolicy
    from training.rft.heads import Heads
    from training.rft.scales import Scales

POLICY, SCALES = "policy", "scales.json"


@dataclass(frozen=True, slots=True)
class Run:
    """How a run ended, after how many steps, the sha256 of its last weights, and those at the end of each
    stage of its reward. Of several processes the first alone writes weights, and names them."""

    ended: Ended
    steps: int
    weights: str
    stages: tuple[tuple[str, int, str], ...]


def _key(ground: Ground, base: str, recipe: Recipe, scales: "Scales | None") -> str:
    """What a checkpoint must agree on to be continued."""
    ids = [question.id for question in ground.questions]
    parts = (recipe.rft, recipe.reward, recipe.heads, recipe.pid, recipe.policy)
    settings = [each.model_dump() for each in parts]
    measured = scales.digest if scales else ""
    told = [ids, base, ground.registry.digest, measured, settings, dict(recipe.scalers)]
    return hashlib.sha256(canonical(told)).hexdigest()


def _begun(
    base: Path, ground: Ground, recipe: Recipe, scales: "Scales | None"
) -> "tuple[policies.Policy | LargePolicy, Any, Heads | None]":
    """The policy that is to learn, the model that its divergence is measured from (None where that is a copy
    of its adapter), and the heads. Errors as `train`."""
    from pixelis_pipeline.agent import nano
    from training.rft.heads import Heads
    from training.rft.scales import ScaleError

    start = policies.opened(base, recipe.policy)
    if not isinstance(start, policies.Policy):
        from training import adapters

        if scales is not None or recipe.rft.intrinsic != "none":
            raise ValueError(
                f"rft.intrinsic is {recipe.rft.intrinsic!r}: curiosity and coherence read the states of the "
                f'nano policy only; with policy.name = "{recipe.policy.name}" set it to "none"'
            )
        return replace(start, model=adapters.learner(start, None, recipe.rft.seed)), None, None
    heads = Heads(start.model.config.get_text_config().hidden_size, recipe.heads)
    if scales is None or scales.embedding != heads.digest:
        raise ScaleError("the statistics were measured with another embedding; measure again")
    if missing := {question.task for question in ground.questions} - set(scales.families):
        raise ScaleError(f"the statistics lack the families {sorted(missing)}")
    if nano.sees(start.model):
        start.model.model.visual.requires_grad_(False)
    return start, policies.load(base).model.requires_grad_(False), heads


def measure(
    base: Path, dev: Sequence[Trajectory], open_media: Open, recipe: Recipe, families: Sequence[str]
) -> "Scales":
    """The frozen statistics of coherence: of dev trajectories as the policy in `base` sees them, for these
    families of questions. Raises ScaleError where dev has too few steps."""
    from training.pictures import pictures
    from training.rft.heads import Heads
    from training.rft.scales import scales
    from training.rft.states import states

    start = policies.load(base)
    model, contract = start.model, start.contract
    heads = Heads(model.config.get_text_config().hidden_size, recipe.heads)
    step = 64
    found = [
        rollout
        for part in (dev[begin : begin + step] for begin in range(0, len(dev), step))
        for rollout in heads.judge(
            states(model, contract, part, [pictures(contract, t, open_media) for t in part], recipe.heads),
            [True] * len(part),
        )
    ]
    return scales(found, heads.digest, families)


def train(
    ground: Ground,
    base: Path,
    out: Path,
    recipe: Recipe,
    scales: "Scales | None",
    progress: Callable[[Line], None] | None = None,
) -> Run:
    """Reinforce the policy in `base` on its own rollouts, and write to the folder `out`: `policy`,
    `stages/<name>` (the policy at the end of each stage of the reward), `scales.json`, `steps.jsonl` and
    `rollouts`. `scales` are the frozen statistics of coherence, as `measure` finds them on `base`.

    A full-size policy learns through its adapter, the copy of which is the reference, or through a new one.
    Its states are not read (`states` knows the nano policy only): `scales` is None, and `rft.intrinsic` must
    be "none".

    The intrinsic terms switch on when the moving average of success passes `rft.success`. The run ends early,
    and says so, when fewer rollouts than `rft.collapse` use a tool. Raises ValueError for fewer questions
    than a step's prompts, ScaleError for statistics of another embedding or without a family of the
    questions, RenderMismatch, ToolCrash, PolicyError.
    """
    import torch

    from training import distributed
    from training.rft.trainer import Reinforcement

    rft = recipe.rft
    if len(ground.questions) < rft.prompts:
        raise ValueError(f"{len(ground.questions)} questions are fewer than the {rft.prompts} of a step")
    start, reference, heads = _begun(base, ground, recipe, scales)
    key = _key(ground, start.digest, recipe, scales)
    course, state = Course(key, pid.start(recipe.pid)), out / STATE
    if resumed := state.is_file() and checkpoint.progress(state).get("key") == key:
        course = Course.of(checkpoint.progress(state))
    out.mkdir(parents=True, exist_ok=True)
    if scales is not None and distributed.first():
        scales.write(out / SCALES)
    threads = torch.get_num_threads()
    torch.set_num_threads(rft.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            trainer = Reinforcement(start, reference, ground, recipe, heads, scales, course, out, progress)
            if resumed:
                trainer.go_on()
            if course.ended is None:
                trainer.train()
        weights = trainer.keep(out / POLICY)
    finally:
        torch.set_num_threads(threads)
    course = trainer.course
    assert course.ended is not None
    return Run(course.ended, course.step, weights, course.stages)
