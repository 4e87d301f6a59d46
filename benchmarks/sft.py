"""A step of SFT beside a step of plain TRL: `SFTTrainer` with its own loss, on the same batch and model.

Both trainers take the nano policy, 16 rows that were collated beforehand, the same optimizer and clipping,
and do so in turns, a few steps each, with fresh weights every time. Ours learns weighted tokens with
smoothed labels and four heads; TRL's learns the same tokens, unweighted, and measures their entropy and
accuracy. Times are of the processor, on one thread: other work on the machine moves them least.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measurement import Measurement, measured
from pixelis_pipeline.ledger.code import ROOT
from pixelis_pipeline.records import Action, Media, Origin, Question, Step, Trajectory
from pixelis_pipeline.settings import CurationSettings, SftSettings
from pixelis_pipeline.tools.contract import Workspace

BASE = ROOT / "training" / "base" / "nano"
ROWS, STEPS, ROUNDS = 16, 4, 5
SKIPPED = 1  # steps of a round, in which buffers are made
RATIO = 1.10


def trace(index: int) -> Trajectory:
    """A question with two measured things and an answer, about as long as those of the embedded world."""
    media = Media(f"{index:064x}", "image", f"{index}.png", 128, 128)
    steps = []
    for place in range(2):
        box = [10 + index, 20 + 9 * place, 500 + index, 600 + place]
        said = {"colour": "red", "shape": "star", "size": "small", "count": 1}
        steps.append(
            Step(f"Measure thing {place}.", Action("PROP", {"box": box}), said, decisive=True, replayed=said)
        )
    question = Question(
        f"q{index}",
        (),
        Origin("world", str(index), "CC0", "training"),
        (media,),
        f"What colour are the things at {steps[0].action.arguments['box']} and beside it?",
        "red",
        "attribute",
    )
    marks: Any = {"kind": "positive", "difficulty": "medium", "scores": {"weight": 1.0}}
    return Trajectory(f"t{index}", (), question, tuple(steps), "red", **marks)


def pixels(media: Media) -> np.ndarray[Any, Any]:
    """A picture of noise."""
    return np.random.default_rng(int(media.sha256, 16)).integers(0, 256, (128, 128, 3), dtype=np.uint8)


def opens(media: Sequence[Media]) -> Workspace:
    """The workspace of a question about such a picture."""
    return Workspace([pixels(media[0])])


def clock(taken: list[float]) -> Any:
    """A callback that notes the processor seconds of each step, from its batch to its new weights."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_begin(self, *given: Any, **named: Any) -> None:
            self.begun = time.process_time()

        def on_step_end(self, *given: Any, **named: Any) -> None:
            taken.append(time.process_time() - self.begun)

    return Clock()


def sft() -> Iterator[Measurement]:
    """Seconds a step of both, their ratio, and what collating a batch takes."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield from _measured(Path(folder))
    finally:
        torch.set_num_threads(threads)


def _measured(folder: Path) -> Iterator[Measurement]:
    from training.sft.course import begun
    from training.sft.drawing import Draws
    from training.sft.pool import pool

    settings = SftSettings(batch=ROWS, micro_batch=ROWS, epochs=STEPS, threads=1)
    drawn = pool([trace(n) for n in range(ROWS)], opens, settings.action_weight)
    draws = Draws(drawn, settings, CurationSettings(), begun(folder, ""))
    start = time.process_time()
    batch = draws.collate([{"place": place} for place in range(ROWS)])
    collating = time.process_time() - start
    ours, theirs, ratios = [], [], []
    for _ in range(ROUNDS):
        ours.append(_ours(folder, settings, drawn, batch))
        theirs.append(_theirs(folder, settings, batch))
        ratios.append(ours[-1] / theirs[-1])
    learned = int((batch["weights"] > 0).sum())
    told = f"{ROWS} rows of {batch['input_ids'].shape[1]} tokens, {learned} learned"
    yield measured(f"{told}: our step", statistics.median(ours), "s")
    yield measured(f"{told}: plain TRL's step", statistics.median(theirs), "s")
    yield measured("our step / plain TRL's, median of rounds", statistics.median(ratios), "", at_most=RATIO)
    yield measured("collating a batch", collating, "s")


def _ours(folder: Path, settings: SftSettings, drawn: Any, batch: Any) -> float:
    from pixelis_pipeline.agent import policy
    from pixelis_pipeline.agent import tokenizer as words
    from training.sft.course import Course, begun
    from training.sft.drawing import Draws
    from training.sft.heads import Heads
    from training.sft.pool import Pool
    from training.sft.trainer import Imitation

    model: Any = policy.load(BASE).model
    heads = Heads(model.config.get_text_config().hidden_size, settings.seed)
    model.add_module("heads", heads)
    draws = Draws(drawn, settings, CurationSettings(), begun(folder, ""))
    taken: list[float] = []
    course = Course(draws, Pool([], [], []), folder, None)
    trainer = Imitation(model, heads, words.shared(), draws, folder, [course, clock(taken)])
    trainer.data_collator = lambda rows: dict(batch)
    trainer.train()
    return statistics.median(taken[SKIPPED:])


def _theirs(folder: Path, settings: SftSettings, batch: Any) -> float:
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTTrainer

    from pixelis_pipeline.agent import policy
    from pixelis_pipeline.agent import tokenizer as words
    from training.sft.objective import LESSON
    from training.sft.trainer import configuration, reading

    class Plain(SFTTrainer):
        def _send_telemetry(self) -> None:
            pass

    model = policy.load(BASE).model
    learned = torch.nn.functional.pad(batch["weights"] > 0, (1, 0))
    given = {name: value for name, value in batch.items() if name not in LESSON}
    given["labels"] = torch.where(learned, batch["input_ids"], -100)
    taken: list[float] = []
    trainer = Plain(
        model=model,
        args=configuration(settings, folder, model.device, model.dtype),
        data_collator=lambda rows: dict(given),
        train_dataset=Dataset.from_dict({"place": range(ROWS)}),
        processing_class=reading(words.shared(), model.config),
        callbacks=[clock(taken)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return statistics.median(taken[SKIPPED:])


def suite() -> list[Measurement]:
    """All of it."""
    return list(sft())
