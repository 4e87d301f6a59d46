"""GRPO as TRL's trainer does it, on our rollouts and with our loss (specification section 4).

What is TRL's and the Trainer's: the loop, accumulation over groups, clipping, the optimiser, devices and
processes, the reference adapter of a LoRA policy, when to log and to save. What is ours, and why:

1. Rollouts. TRL's loop re-encodes text from turn to turn and asks tools one by one; ours keep the ids that
   were chosen, step together, and ask the tools as a batch.
2. The loss. A group is read with its prompt and picture once; tokens are weighed alike over the whole batch;
   a group whose answers and penalties are all one is left out, with its divergence.
3. Rewards. They need the whole batch and the heads, so they are no reward functions of single completions.
4. Rows of a TRL batch are groups here, not rollouts: its shuffle then keeps a group's rollouts together.
5. Log-probabilities that a server told are not the learner's: those are read again, as TRL does, and the
   gradient is weighed by the ratio of both. A server sleeps while there is something to learn.
6. Checkpoints are safetensors, and every draw follows from the seed and the number of the step, so a run
   that goes on ends where an undisturbed one does. The data set is what is left of the run, in order.
7. No telemetry.

The module is imported only where a policy is trained.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: TID253
from accelerate.utils import gather_object, is_peft_model  # noqa: TID253
from datasets import Dataset  # noqa: TID253
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, PrinterCallback, TrainerCallback  # noqa: TID253
from trl import GRPOConfig, GRPOTrainer  # noqa: TID253
from trl.trainer.utils import use_adapter  # noqa: TID253

from pixelis_pipeline.agent import adapted
from pixelis_pipeline.agent import policy as policies
from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.large import TURN_ENDS, LargePolicy
from pixelis_pipeline.agent.sampled import Sampled, sample
from pixelis_pipeline.records import Question
from pixelis_pipeline.settings import RftSettings
from training import checkpoint, distributed
from training.rft import objective
from training.rft.course import STATE, Course, Measured, Task, advance
from training.rft.groups import advantages
from training.rft.heads import Heads, Loss
from training.rft.recipe import Ground, Recipe
from training.rft.record import Line, Log, line, rolled
from training.rft.rewards import Rewards, rewards, unseen
from training.rft.scales import Scales
from training.rft.states import states

HEADS, STAGES, WEIGHT_DECAY = "heads-{:05}.safetensors", "stages", 0.01
# The intrinsic terms of each baseline: curiosity, and what is asked of neighbouring steps.
TERMS = {
    "none": (False, False),
    "curiosity": (True, False),
    "coherence": (False, True),
    "full": (True, True),
    "smoothness": (True, True),
}

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """Rollouts of one question, what each is worth [rollouts], and of what they said [tokens] how likely the
    reference finds it and how far it is trusted. `share` is what a token of theirs counts in the batch's
    loss: 0 where the group is dropped."""

    rollouts: Sequence[Sampled]
    worth: Array
    reference: torch.Tensor
    trust: torch.Tensor
    share: float


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's rollouts of all processes, in groups of neighbours, and what was found of them."""

    rollouts: Sequence[Sampled]
    earned: Rewards
    worth: Array
    kept: Array
    kl: Array
    heads: Loss | None

    @property
    def measured(self) -> Measured:
        used = [any(step.valid for step in each.prediction.steps) for each in self.rollouts]
        shares = self.earned.answer.reshape(len(self.kept), -1).mean(1).tolist()
        tasks = [
            each.prediction.question.task for each in self.rollouts[:: len(self.rollouts) // len(shares)]
        ]
        groups = list(zip(tasks, shares, strict=True))
        return Measured(groups, float(np.mean(used)), float(self.kl.mean()), bool(self.kept.any()))


def _elsewhere(**given: Any) -> list[float | None]:
    raise NotImplementedError("rewards are found with the rollouts, over the whole batch")


class Reinforcement(GRPOTrainer):
    """A run from `course.step` on. `policy` learns; `reference` is the model that it started from, None for a
    LoRA policy, of whose adapter TRL keeps a copy. Without `heads` (they read the nano policy only) nothing
    intrinsic is measured. Several processes only with a full-size policy: the nano's backbone is called past
    what would share its gradients. Each rolls out its share of a step's prompts and learns from these groups;
    what is found of them is found over all, and the first process writes."""

    def __init__(
        self,
        policy: policies.Policy | LargePolicy,
        reference: Any | None,
        ground: Ground,
        recipe: Recipe,
        heads: Heads | None,
        scales: Scales | None,
        course: Course,
        out: Path,
        progress: Callable[[Line], None] | None,
    ) -> None:
        rft = recipe.rft
        self.policy, self.ground, self.recipe, self.heads, self.scales = policy, ground, recipe, heads, scales
        self.course, self.before, self.out, self.progress = course, course, out, progress
        self.batch: Batch | None = None
        # Which question stands at a place of a step follows from the course, and is seen to when it comes.
        asked = [
            {"prompt": "", "place": k} for _ in range(course.step, rft.steps) for k in range(rft.prompts)
        ]
        adapted = is_peft_model(policy.model)
        super().__init__(
            policy.model,
            reward_funcs=_elsewhere,
            args=_arguments(recipe, out, policy.model, course.controller.beta if adapted else 0.0),
            train_dataset=Dataset.from_list(asked),
            processing_class=_processor(policy),
        )
        if self.accelerator.num_processes > 1 and isinstance(policy, policies.Policy):
            raise RuntimeError("the nano policy learns in one process: set operations.processes = 1")
        if reference is not None:
            self.ref_model = self.accelerator.prepare_model(reference, evaluation_mode=True)
        self.beta = course.controller.beta
        self.remove_callback(PrinterCallback)
        self.add_callback(_Steps(self))
        self.record = Log(out, course.step) if self.accelerator.is_main_process else None

    def _send_telemetry(self) -> None:
        """Nothing is told to anyone."""

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """A linear warm-up, and from there a linear way to 0 after the last step, from the step on that the
        run goes on with. At a constant rate a policy ends with the noise of its last few batches."""
        first, warm, steps = self.course.step, self.recipe.rft.warm, self.recipe.rft.steps

        def share(k: int) -> float:
            step = first + k
            return min((step + 1) / (warm + 1), (steps - step) / max(1, steps - warm), 1.0)

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.create_optimizer(), share)
        return self.lr_scheduler

    def bare(self, model: Any) -> Any:
        """A model out of what distributes it and adapts it."""
        inner = self.accelerator.unwrap_model(model)
        return inner.get_base_model() if is_peft_model(inner) else inner

    @contextmanager
    def reference(self) -> Iterator[Any]:
        """The model that the divergence is measured from."""
        if self.ref_model is not None:
            yield self.ref_model
        else:
            with use_adapter(self.accelerator.unwrap_model(self.model), "ref"):
                yield self.model_wrapped

    def read(self, model: Any, group: Sequence[Sampled]) -> torch.Tensor:
        """How likely the policy, or the reference, finds what the group said [tokens]."""
        if isinstance(self.policy, LargePolicy):
            return objective.fused_log_probs(self.policy, model, group)
        return objective.log_probs(self.bare(model), group, self.recipe.rft.temperature)

    def keep(self, folder: Path) -> str:
        """Write the policy, or its adapter, as it is now; gives the sha256 of the weights, and nothing in
        all processes but the first."""
        if not self.accelerator.is_main_process:
            return ""
        whole = self.accelerator.unwrap_model(self.model)
        if not is_peft_model(whole):
            return policies.save(whole, folder, self.policy.contract)
        base = adapted.Base.of(self.policy, self.recipe.policy)
        return adapted.save(whole, folder, self.policy.contract, base)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """The rows' rollouts as groups, ready for the loss; `batch` holds what all processes found."""
        rft, index = self.recipe.rft, self.accelerator.process_index
        torch.manual_seed(rft.seed * 1_000_003 + self.course.step)  # TRL draws the order of groups
        asked = prompts([each.task for each in self.ground.questions], self.course, rft)
        questions = [self.ground.questions[asked[row["place"]]] for row in inputs[:: rft.group]]
        mine = self._sample(questions, index)
        parts = [mine[start : start + rft.group] for start in range(0, len(mine), rft.group)]
        with torch.no_grad():
            with self.reference() as model:
                known = [self.read(model, group) for group in parts]
            now = [self._said(group) for group in parts]
        apart = objective.divergence(torch.cat(now), torch.cat(known)).double().tolist()
        whole, kl = gather_object(mine), np.array(gather_object(apart))
        earned, loss = self._earned(whole)
        worth, kept = advantages(earned.total, rft.group, earned.answer - earned.penalty)
        self.batch = Batch(whole, earned, worth, kept, kl, loss)
        lengths = np.array([sum(each.said) for each in whole])
        told = lengths[kept.repeat(rft.group)].sum() / self.accelerator.num_processes
        own = slice(index * len(parts), (index + 1) * len(parts))
        groups = [
            Group(part, value, reference, objective.trust(found, part), 1 / told if keep else 0.0)
            for part, value, reference, found, keep in zip(
                parts, worth.reshape(-1, rft.group)[own], known, now, kept[own], strict=True
            )
        ]
        return {"order": torch.arange(len(groups)), "groups": groups}

    def _said(self, group: Sequence[Sampled]) -> torch.Tensor:
        """How likely the policy found what the group said [tokens]: it told, or is asked now."""
        if isinstance(self.policy, policies.Policy) and all(each.log_probs for each in group):
            return torch.tensor([value for each in group for value in each.log_probs])
        return self.read(self.model_wrapped, group)

    def _sample(self, questions: Sequence[Question], process: int) -> list[Sampled]:
        """The run and the step stand in place of a digest of weights that are never kept. What a full-size
        policy has learned is its adapter, which is not taken off."""
        rft, large = self.recipe.rft, isinstance(self.policy, LargePolicy)
        model = self.accelerator.unwrap_model(self.model) if large else self.bare(self.model)
        learning = model.training
        model.eval()
        try:
            return sample(
                replace(self.policy, model=model, digest=f"{self.course.key}/{self.course.step}"),
                questions,
                rft.group,
                self.ground.registry,
                self.ground.open_media,
                self.recipe.policy,
                name=f"rft-{rft.intrinsic}",
                seed=(rft.seed * 1_000_003 + self.course.step) * self.accelerator.num_processes + process,
                right=self.ground.right,
                temperature=rft.temperature,
                errors=rft.errors,
            )
        finally:
            model.train(learning)
            if isinstance(self.policy, LargePolicy) and self.policy.server is not None:
                self.policy.server.rest()

    def _earned(self, batch: Sequence[Sampled]) -> tuple[Rewards, Loss | None]:
        """The batch's rewards, and one update of the dynamics head. Every term is measured; those that the
        baseline or the stage leaves out weigh nothing."""
        recipe = self.recipe
        told = [each.prediction for each in batch]
        if self.heads is None or self.scales is None:
            return rewards(*unseen(told), recipe.reward, scalers=recipe.scalers), None
        with self.reference() as model:
            found = states(
                self.bare(model), self.policy.contract, told, [each.images for each in batch], recipe.heads
            )
        seen = self.heads.judge(found, [each.correct for each in told])
        intrinsic = self.course.stage == "intrinsic"
        curious, neighbours = TERMS[recipe.rft.intrinsic] if intrinsic else (False, False)
        weights = {
            "curiosity": recipe.reward.curiosity * curious,
            "coherence": recipe.reward.coherence * neighbours,
        }
        settings = recipe.reward.model_copy(update=weights)
        smooth = recipe.rft.intrinsic == "smoothness"
        earned = rewards(seen, self.scales.families, settings, smooth, recipe.scalers)
        return earned, self.heads.update(found)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """The summed loss of one group, as its share of the batch's mean over tokens."""
        assert self.batch is not None
        (group,) = inputs["groups"]
        if not group.share and (self.accelerator.num_processes == 1 or not self.batch.kept.any()):
            # Not read at all, so that where all are dropped no weight has a gradient and the optimiser leaves
            # it alone: a gradient of zeros would still let momentum and decay move it. Else several processes
            # read them, since gradients are shared at the same group by all.
            return torch.zeros((), device=self.accelerator.device, requires_grad=True)
        with self.accelerator.autocast():
            now = self.read(model, group.rollouts)
        gain = objective.spread(group.worth, group.rollouts).to(now.device) * group.trust.to(now.device)
        return objective.loss(now, group.reference, gain, self.beta) * group.share

    def step_taken(self) -> None:
        """Bring the course up to date; a stage that is over leaves its policy behind."""
        assert self.batch is not None
        self.before, rft = self.course, self.recipe.rft
        now = advance(self.before, self.batch.measured, rft, self.recipe.pid)
        if now.stage != self.before.stage or now.ended is not None:
            weights = self.keep(self.out / STAGES / self.before.stage)
            now = replace(now, stages=(*now.stages, (self.before.stage, now.step, weights)))
        self.course, self.beta = now, now.controller.beta

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """A step's line and its rollouts go to disk; its numbers also to whatever the Trainer reports to."""
        if "grad_norm" in logs and self.batch is not None:
            batch = self.batch
            told = line(self.before, self.course, batch, logs["grad_norm"])
            if self.record is not None:
                self.record.write(told, rolled(batch.rollouts, batch.earned, batch.worth))
            if self.progress is not None:
                self.progress(told)
            logs = {name: value for name, value in asdict(told).items() if not isinstance(value, str)}
        super().log(logs, start_time)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """The heads first, under the step's number: the state, which names that step, makes them count."""
        heads = self.out / HEADS.format(self.course.step)
        if self.heads is not None:
            self.heads.save(heads)
        checkpoint.write(self.out / STATE, self._parts, self.optimizer, asdict(self.course))
        for old in self.out.glob("heads-*.safetensors"):
            if self.accelerator.is_main_process and old != heads:
                old.unlink()

    def go_on(self) -> None:
        """Take up weights, optimiser and heads where the course's checkpoint left them."""
        checkpoint.read(self.out / STATE, self._parts, self.create_optimizer())
        if self.heads is not None:
            self.heads.load(self.out / HEADS.format(self.course.step))

    @property
    def _parts(self) -> dict[str, Any]:
        return {"policy": self.accelerator.unwrap_model(self.model)}


class _Steps(TrainerCallback):
    """Tells the trainer of each step, and the Trainer where the run stands."""

    def __init__(self, trainer: Reinforcement) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        state.global_step = self._trainer.course.step

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._trainer.step_taken()
        if self._trainer.course.ended is not None:
            control.should_training_stop = control.should_save = True


def prompts(tasks: Sequence[str], course: Course, rft: RftSettings) -> list[int]:
    """The next step's questions, by number; `tasks` has the task of each.

    Tasks are drawn in proportion to their spread, p (1 - p), and at least to `rft.least`: a group of rollouts
    that are all right or all wrong teaches nothing, and of a few tasks nearly every group is one or the other
    (Foster and Foerster 2025, arXiv 2502.12272, sample questions by the same measure). No task comes twice
    in a step before all have come, no question again before its task's have all come.
    """
    known, of = {each.name: each for each in course.tasks}, np.array(tasks)
    kinds = sorted(set(tasks))
    random = np.random.default_rng([rft.seed, 0, course.step])
    worth = np.array([max(known.get(name, Task(name)).spread, rft.least) for name in kinds])
    asked = {name: known.get(name, Task(name)).asked for name in kinds}
    chosen: list[int] = []
    while len(chosen) < rft.prompts:
        count = min(rft.prompts - len(chosen), len(kinds))
        for kind in random.choice(len(kinds), count, replace=False, p=worth / worth.sum()):
            alike = np.flatnonzero(of == kinds[kind])
            epoch, at = divmod(asked[kinds[kind]], len(alike))
            asked[kinds[kind]] += 1
            order = np.random.default_rng([rft.seed, 1, int(kind), epoch]).permutation(alike)
            chosen.append(int(order[at]))
    return chosen


def _processor(policy: policies.Policy | LargePolicy) -> PreTrainedTokenizerFast:
    """What TRL asks for to pad and to decode. It is given a copy: it would set up the shared one anew."""
    end, pad = (TURN_ENDS, TURN_ENDS) if isinstance(policy, LargePolicy) else ("</answer>", words.PAD)
    copy = Tokenizer.from_str(policy.vocabulary.marks.to_str())
    return PreTrainedTokenizerFast(tokenizer_object=copy, eos_token=end, pad_token=pad, padding_side="left")


def _arguments(recipe: Recipe, out: Path, model: Any, beta: float) -> GRPOConfig:
    """One micro-batch a group. TRL makes a reference of its own only for a LoRA policy, by `beta`. ValueError
    where the processes cannot share a step's prompts evenly."""
    rft, limits = recipe.rft, recipe.policy
    if rft.prompts % distributed.processes():
        raise ValueError(f"{distributed.processes()} processes cannot share rft.prompts ({rft.prompts})")
    half = model.dtype == torch.bfloat16
    made = GRPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=rft.group,
        gradient_accumulation_steps=rft.prompts // distributed.processes(),
        ddp_find_unused_parameters=False,
        num_generations=rft.group,
        max_completion_length=limits.turns * limits.tokens_per_turn,
        max_steps=rft.steps,
        learning_rate=rft.learning_rate,
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=rft.gradient_norm,
        temperature=rft.temperature,
        beta=beta,
        shuffle_dataset=False,
        seed=rft.seed,
        use_cpu=model.device.type == "cpu",
        bf16=half,
        activation_checkpointing=half,
        disable_tqdm=True,
        logging_steps=1,
        save_strategy="steps",
        save_steps=rft.save,
        report_to="none",
    )
    return distributed.one_device(made)
