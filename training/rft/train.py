"""Reinforcement of the nano policy on groups of its own rollouts (GRPO; specification section 4).

A step: rollouts of a few prompts, several each, all side by side; their rewards; advantages within each
group, groups without variance dropped; one optimiser step on A log π - β·KL to the policy that training
started from, over the tokens that the policy chose; one step of the controller of β.

Killed at any moment, a second call goes on from the last checkpoint and ends with the weights of an
undisturbed run, on the same machine with the same number of threads: every draw follows from the seed and
the number of the step.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from pixelis_pipeline.agent import policy as policies
from pixelis_pipeline.records import Json, Question, canonical
from pixelis_pipeline.settings import PidSettings, PolicySettings, RewardSettings, RftSettings
from pixelis_pipeline.tools.opening import Open
from pixelis_pipeline.tools.registry import Registry
from training import checkpoint
from training.rft import pid
from training.rft.groups import advantages
from training.rft.record import Line, Log, Rolled
from training.rft.rewards import Rewards, Rollout, Scale, rewards

if TYPE_CHECKING:
    import torch

    from pixelis_pipeline.agent.sampled import Sampled

WEIGHT_DECAY = 0.01
TOLD = tuple(field.name for field in fields(Rewards))
STATE, POLICY, STAGES = "state.safetensors", "policy", "stages"
# The intrinsic terms of each baseline: curiosity, and what is asked of neighbouring steps.
TERMS = {
    "none": (False, False),
    "curiosity": (True, False),
    "coherence": (False, True),
    "full": (True, True),
    "smoothness": (True, True),
}

Array = np.ndarray[Any, Any]
Ended = Literal["finished", "tool use collapsed"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the heads say of one rollout's steps: `embeddings` [steps, d] unit rows, and what the dynamics
    head gives, `error`, `variance`, `validity` [steps]."""

    embeddings: Array
    error: Array
    variance: Array
    validity: Array


class Heads(Protocol):
    """The step embedding and the dynamics head. `module` holds their weights, trained beside the policy;
    `scales` the frozen statistics of coherence by family."""

    module: "torch.nn.Module"
    scales: Mapping[str, Scale]

    def read(self, model: Any, batch: "Sequence[Sampled]") -> Sequence[Seen]:
        """One answer a rollout. What it draws follows from the step: the global generator is seeded by it."""
        ...

    def loss(self, model: Any, batch: "Sequence[Sampled]") -> "torch.Tensor":
        """The dynamics head's loss on the batch; no gradient reaches the policy."""
        ...


@dataclass(frozen=True, slots=True)
class Ground:
    """What rollouts are made on: questions, the tools, the media's opener, and the judge of answers."""

    questions: Sequence[Question]
    registry: Registry
    open_media: Open
    right: Callable[[Question, str], bool]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings that decide a run."""

    rft: RftSettings
    reward: RewardSettings
    pid: PidSettings
    policy: PolicySettings


@dataclass(frozen=True, slots=True)
class Run:
    """How a run ended, after how many steps, the sha256 of its last weights, and those at the end of each
    stage of its reward."""

    ended: Ended
    steps: int
    weights: str
    stages: tuple[tuple[str, int, str], ...]


@dataclass(slots=True)
class _Progress:
    """What a checkpoint holds beside tensors. `success` and `tool_use` are moving averages."""

    key: str
    step: int
    controller: pid.State
    success: float = 0.0
    tool_use: float = 0.0
    stage: str = "answer"
    stages: tuple[tuple[str, int, str], ...] = ()
    ended: Ended | None = None

    @classmethod
    def of(cls, stored: Json) -> "_Progress":
        stages = tuple((str(name), int(step), str(weights)) for name, step, weights in stored["stages"])
        return cls(**{**stored, "controller": pid.State(**stored["controller"]), "stages": stages})


class _Training:
    """The parts of a run that last from step to step."""

    def __init__(
        self,
        start: policies.Policy,
        base: Path,
        ground: Ground,
        recipe: Recipe,
        heads: Heads | None,
        key: str,
    ) -> None:
        import torch

        self.policy, self.reference = start, policies.load(base).model.requires_grad_(False)
        self.ground, self.recipe, self.rft, self.heads, self.key = ground, recipe, recipe.rft, heads, key
        self.weights = list(start.model.parameters())
        parts = [{"params": self.weights, "lr": self.rft.learning_rate}]
        if heads is not None:
            parts.append({"params": list(heads.module.parameters()), "lr": self.rft.head_learning_rate})
        self.peaks = [part["lr"] for part in parts]
        self.optimizer = torch.optim.AdamW(parts, weight_decay=WEIGHT_DECAY)

    @property
    def modules(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        own = {"model": self.policy.model}
        return own if self.heads is None else own | {"heads": self.heads.module}

    def prompts(self, step: int) -> list[Question]:
        """The step's questions. No question comes again before a pass over them is through."""
        questions, count = self.ground.questions, self.rft.prompts
        epoch, place = divmod(step, len(questions) // count)
        order = np.random.default_rng([self.rft.seed, epoch]).permutation(len(questions))
        return [questions[k] for k in order[place * count : (place + 1) * count]]

    def sample(self, step: int) -> "list[Sampled]":
        """The step's rollouts, those of one prompt side by side. The run and the step stand in place of a
        digest of weights that are never written."""
        from pixelis_pipeline.agent.sampled import sample

        return sample(
            replace(self.policy, digest=f"{self.key}/{step}"),
            self.prompts(step),
            self.rft.group,
            self.ground.registry,
            self.ground.open_media,
            self.recipe.policy,
            name=f"rft-{self.rft.intrinsic}",
            seed=self.rft.seed * 1_000_003 + step,
            right=self.ground.right,
            temperature=self.rft.temperature,
        )

    def earned(self, batch: "Sequence[Sampled]", stage: str) -> Rewards:
        """The rewards of the batch. Every term is measured; those that the baseline or the stage leaves out
        weigh nothing."""
        seen = _unseen(batch) if self.heads is None else self.heads.read(self.policy.model, batch)
        scales = (
            self.heads.scales if self.heads is not None else {_family(each): Scale(0, 1) for each in batch}
        )
        curious, neighbours = TERMS[self.rft.intrinsic] if stage == "intrinsic" else (False, False)
        weights = {
            "curiosity": self.recipe.reward.curiosity * curious,
            "coherence": self.recipe.reward.coherence * neighbours,
        }
        settings = self.recipe.reward.model_copy(update=weights)
        told = [_rollout(each, what) for each, what in zip(batch, seen, strict=True)]
        return rewards(told, scales, settings, smooth=self.rft.intrinsic == "smoothness")

    def learn(
        self, batch: "Sequence[Sampled]", worth: Array, kept: Array, beta: float, step: int
    ) -> tuple[Array, float]:
        """One optimiser step on the groups that are `kept` (bool [groups]), `worth` [rollouts] their
        advantages. Gives k3 [tokens said in the batch] before it, and the gradient's norm (0 where no group
        was kept, and no step made)."""
        import torch

        from training.rft import objective

        size, temperature = self.rft.group, self.rft.temperature
        groups = [batch[start : start + size] for start in range(0, len(batch), size)]
        with torch.inference_mode():
            reference = [objective.log_probs(self.reference, group, temperature) for group in groups]
        sampled = torch.tensor([value for each in batch for value in each.log_probs])
        apart = objective.divergence(sampled, torch.cat(reference)).double().numpy()
        if not kept.any():
            return apart, 0.0
        told = sum(len(r) for r, keep in zip(reference, kept, strict=True) if keep)
        for index, group in enumerate(groups):
            if kept[index]:
                now = objective.log_probs(self.policy.model, group, temperature)
                gain = objective.spread(worth[index * size : (index + 1) * size], group)
                (objective.loss(now, reference[index].clone(), gain, beta) / told).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.rft.gradient_norm).item()
        if self.heads is not None:
            self.heads.loss(self.policy.model, batch).backward()
            torch.nn.utils.clip_grad_norm_(self.heads.module.parameters(), self.rft.gradient_norm)
        warm = min(1.0, (step + 1) / (self.rft.warm + 1))
        for part, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            part["lr"] = peak * warm
        self.optimizer.step()
        self.optimizer.zero_grad()
        return apart, norm


def _family(each: "Sampled") -> str:
    return each.prediction.question.task


def _unseen(batch: "Sequence[Sampled]") -> list[Seen]:
    """In place of heads: nothing is known of any step, and nothing earned by it."""
    counts = [len(each.prediction.steps) for each in batch]
    return [Seen(np.zeros((n, 1)), np.zeros(n), np.zeros(n), np.zeros(n)) for n in counts]


def _rollout(each: "Sampled", seen: Seen) -> Rollout:
    """The rollout as rewards see it."""
    steps = each.prediction.steps
    boxes = [step.action.arguments.get("box") if step.valid else None for step in steps]
    return Rollout(
        each.prediction.correct,
        _family(each),
        [f"{step.action.name} {canonical(step.action.arguments).decode()}" for step in steps],
        [step.valid for step in steps],
        seen.embeddings,
        seen.error,
        seen.variance,
        seen.validity,
        np.array([box or (0, 0, 999, 999) for box in boxes], float).reshape(-1, 4) / 999,
    )


def _line(
    step: int,
    batch: "Sequence[Sampled]",
    earned: Rewards,
    kept: Array,
    kl: Array,
    done: _Progress,
    norm: float,
) -> Line:
    steps = [each.prediction.steps for each in batch]
    valid = np.array([sum(step.valid for step in each) for each in steps])
    made = np.array([len(each) for each in steps])
    return Line(
        step=step,
        stage=done.stage,
        reward=float(earned.total.mean()),
        answer=float(earned.answer.mean()),
        penalty=float(earned.penalty.mean()),
        curiosity=float(earned.curiosity.mean()),
        curiosity_scaled=float(earned.curiosity_scaled.std()),
        coherence=float(earned.coherence.mean()),
        coherence_scaled=float(earned.coherence_scaled.std()),
        kl=float(kl.mean()),
        kl_p95=float(np.percentile(kl, 95)),
        beta=done.controller.beta,
        rapr=float((valid / np.maximum(made, 1)).mean()),
        calls=float(made.mean()),
        tool_use=float((valid > 0).mean()),
        valid_calls=float(valid.sum() / made.sum()) if made.sum() else 1.0,
        group_variance=float(earned.total.reshape(len(kept), -1).var(1).mean()),
        filtered=float(1 - kept.mean()),
        success=float(earned.answer.mean()),
        smoothed_success=done.success,
        smoothed_tool_use=done.tool_use,
        tokens=len(kl),
        gradient_norm=norm,
    )


def _key(ground: Ground, base: str, recipe: Recipe) -> str:
    """What a checkpoint must agree on to be continued."""
    ids = [question.id for question in ground.questions]
    settings = [each.model_dump() for each in (recipe.rft, recipe.reward, recipe.pid, recipe.policy)]
    return hashlib.sha256(canonical([ids, base, ground.registry.digest, settings])).hexdigest()


def train(
    ground: Ground,
    base: Path,
    out: Path,
    recipe: Recipe,
    heads: Heads | None = None,
    progress: Callable[[Line], None] | None = None,
) -> Run:
    """Reinforce the policy in `base` on its own rollouts, and write to the folder `out`: `policy`,
    `stages/<name>` (the policy at the end of each stage of the reward), `steps.jsonl` and `rollouts`.

    The intrinsic terms switch on when the moving average of success passes `rft.success`. The run ends early,
    and says so, when fewer rollouts than `rft.collapse` use a tool. Raises ValueError for fewer questions
    than a step's prompts or a baseline without the heads it needs, RenderMismatch, ToolCrash.
    """
    import torch

    rft = recipe.rft
    if len(ground.questions) < rft.prompts:
        raise ValueError(f"{len(ground.questions)} questions are fewer than the {rft.prompts} of a step")
    if heads is None and rft.intrinsic != "none":
        raise ValueError(f"the baseline {rft.intrinsic!r} needs the heads that its terms are read from")
    threads = torch.get_num_threads()
    torch.set_num_threads(rft.threads)
    try:
        start = policies.load(base)
        key = _key(ground, start.digest, recipe)
        training = _Training(start, base, ground, recipe, heads, key)
        done = _Progress(key, 0, pid.start(recipe.pid))
        state = out / STATE
        if state.is_file() and checkpoint.progress(state).get("key") == key:
            done = _Progress.of(checkpoint.read(state, training.modules, training.optimizer))
        log = Log(out, done.step)
        while done.ended is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(rft.seed * 1_000_003 + done.step)
                line = _step(training, done, log, out)
            if done.ended is not None or done.step % rft.save == 0:
                checkpoint.write(state, training.modules, training.optimizer, asdict(done))
            if progress is not None:
                progress(line)
        weights = policies.save(start.model, out / POLICY)
    finally:
        torch.set_num_threads(threads)
    return Run(done.ended, done.step, weights, done.stages)


def _step(training: _Training, done: _Progress, log: Log, out: Path) -> Line:
    """One step; `done` is brought up to date in place."""
    rft, step = training.rft, done.step
    batch = training.sample(step)
    earned = training.earned(batch, done.stage)
    worth, kept = advantages(earned.total, rft.group)
    kl, norm = training.learn(batch, worth, kept, done.controller.beta, step)
    used = float(np.mean([any(step.valid for step in each.prediction.steps) for each in batch]))
    success = float(earned.answer.mean())
    done.success = success if step == 0 else rft.ema * done.success + (1 - rft.ema) * success
    done.tool_use = used if step == 0 else rft.ema * done.tool_use + (1 - rft.ema) * used
    line = _line(step, batch, earned, kept, kl, done, norm)
    log.write(line, _rolled(batch, earned, worth))
    if rft.controlled and kept.any():
        done.controller = pid.step(done.controller, line.kl, training.recipe.pid)
    done.step += 1
    if done.tool_use < rft.collapse:
        done.ended = "tool use collapsed"
    elif done.step == rft.steps:
        done.ended = "finished"
    passed = done.stage == "answer" and rft.intrinsic != "none" and done.success > rft.success
    if passed or done.ended is not None:
        weights = policies.save(training.policy.model, out / STAGES / done.stage)
        done.stages = (*done.stages, (done.stage, done.step, weights))
        done.stage = "intrinsic" if passed else done.stage
    return line


def _rolled(batch: "Sequence[Sampled]", earned: Rewards, worth: Array) -> list[Rolled]:
    """The batch as it is stored."""
    values = {name: getattr(earned, name).tolist() for name in TOLD} | {"advantage": worth.tolist()}
    return [
        Rolled(each.prediction, each.ids, each.said, each.log_probs, **{n: v[k] for n, v in values.items()})
        for k, each in enumerate(batch)
    ]
