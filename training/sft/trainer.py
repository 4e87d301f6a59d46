"""SFT on TRL: `trl.SFTTrainer` with our batches and our loss.

1. The Trainer's own checkpoints are not used. Its optimizer and random state are pickles, a checkpoint is a
   folder of files that a kill can leave in parts, data are skipped by counting, and it knows nothing of the
   curriculum. `course` saves one safetensors file, replaced atomically.
2. The loss of a batch that is taken in parts (`micro_batch`) is that of the whole batch, so its weights are
   summed before its first part is learned.
3. A step learns from the same rows however many processes share it. The backbone is called by itself, so that
   call is made the forward pass of what distributes the model (`distributed.as_forward`); its loss counts in
   the weights of all processes' rows.
4. Nothing goes to the network: no telemetry, no hub, no tracker.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch  # noqa: TID253
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, PrinterCallback, TrainerCallback  # noqa: TID253
from trl import SFTConfig, SFTTrainer  # noqa: TID253

from pixelis_pipeline.settings import SftSettings
from training import distributed
from training.schedule import rate
from training.sft.aims import Kind
from training.sft.drawing import Draws, Rest
from training.sft.heads import SIZES, Heads
from training.sft.objective import objective

WEIGHT_DECAY = 0.01
WARM = 20  # steps


def configuration(settings: SftSettings, folder: Path, device: torch.device, dtype: torch.dtype) -> SFTConfig:
    """TRL's arguments for our settings; all that it would do by itself beside training is off. ValueError
    where the processes cannot share a batch evenly."""
    if settings.batch % distributed.processes():
        raise ValueError(f"{distributed.processes()} processes cannot share sft.batch ({settings.batch})")
    share = settings.model_copy(update={"batch": settings.batch // distributed.processes()})
    made = SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=share.rows,
        gradient_accumulation_steps=share.batch // share.rows,
        ddp_find_unused_parameters=True,  # a head without anything to say
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=settings.gradient_norm,
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        bf16=dtype == torch.bfloat16,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type != "cpu",
        seed=settings.seed,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        max_length=None,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    return distributed.one_device(made)


def reading(tokenizer: Tokenizer, config: Any) -> PreTrainedTokenizerFast:
    """A tokenizer as the Trainer wants one, with the special tokens that the model's configuration names. The
    Trainer only compares them: rows come tokenized."""
    text = config.get_text_config()
    named = {
        kind: tokenizer.id_to_token(id_)
        for kind in ("pad_token", "eos_token", "bos_token")
        if isinstance(id_ := getattr(text, f"{kind}_id", None), int)
    }
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


class Imitation(SFTTrainer):
    """Weighted masked imitation with the auxiliary heads, over what `draws` gives."""

    loss_is_scaled_for_ga: Any = True  # by the weights of the whole batch: see `compute_loss`

    def __init__(
        self,
        model: Any,
        heads: Heads,
        tokenizer: Tokenizer,
        draws: Draws,
        folder: Path,
        callbacks: Sequence[TrainerCallback],
    ) -> None:
        """`model` holds `heads` as a part, so that one optimizer and one clipping see both. ValueError as
        `configuration`."""
        self.draws, self.heads, self.settings = draws, heads, draws.settings
        self._asked: Sequence[Kind] = ()  # where weights are split, all processes must use the same heads
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)  # of TRL to transformers
            super().__init__(
                model=model,
                args=configuration(draws.settings, folder, model.device, model.dtype),
                data_collator=draws.collate,
                train_dataset=draws.places(),
                processing_class=reading(tokenizer, model.config),
                callbacks=list(callbacks),
            )
        self.remove_callback(PrinterCallback)

    def _send_telemetry(self) -> None:
        pass

    def _build_accelerator_args(self, **given: Any) -> dict[str, Any]:
        if distributed.to_be_sharded():
            given["fsdp_plugin"] = distributed.sharding(self.model)
        return super()._build_accelerator_args(**given)

    def _get_train_sampler(self, train_dataset: Any = None) -> Rest:
        return Rest(self.draws)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        weights = [part["weights"].sum() for part in batch_samples]
        own = torch.stack(weights).sum().to(device) if weights else torch.zeros((), device=device)
        if distributed.sharded(self.model):
            self._asked = self._kinds(batch_samples, device)
        return self.accelerator.reduce(own, "sum")

    def _kinds(self, parts: Sequence[Any], device: torch.device) -> list[Kind]:
        """What the heads are asked for in any process' part of a batch."""
        asked = {kind for part in parts for aims in part["aims"] for kind in aims if self.settings.auxiliary}
        told = torch.tensor([float(kind in asked) for kind in SIZES], device=device)
        counts = self.accelerator.reduce(told, "sum").tolist()
        return [kind for kind, count in zip(SIZES, counts, strict=True) if count]

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch, or of a part of it; the heads' is the mean over the parts. Adds both to the
        epoch's sums. What is given back is so scaled that its mean over the processes is the loss."""
        whole, count = self.accelerator.unwrap_model(model), self.accelerator.num_processes

        def work() -> tuple[torch.Tensor, torch.Tensor]:
            smoothing, weight = self.settings.label_smoothing, self.settings.auxiliary
            imitated, told = objective(whole, self.heads, inputs, smoothing, weight, num_items_in_batch)
            return imitated, told + self.heads.nothing(self._asked)

        with self.accelerator.autocast():
            imitated, auxiliary = distributed.as_forward(model, whole, work)
        auxiliary = auxiliary / self.current_gradient_accumulation_steps
        told = torch.stack([imitated.detach(), auxiliary.detach() / count])
        for index, value in enumerate(self.accelerator.reduce(told, "sum").tolist()):
            self.draws.done["sums"][index] += value
        return imitated * count + auxiliary

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The project's own schedule, from where the training stands."""
        begun, peak = self.draws.done["step"], self.settings.learning_rate
        steered: Any = optimizer or self.optimizer
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            steered, lambda step: rate(begun + step, num_training_steps, peak, WARM) / peak
        )
        return self.lr_scheduler
