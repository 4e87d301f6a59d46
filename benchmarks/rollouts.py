"""Rollouts of ours beside those of TRL's own environment loop: one policy, the same prompts, pictures, tools
and ends of turns.

The shipped nano base is taught to call tools in one order with boxes of its own choice, and to answer then.
Every integer is one token, so whatever boxes are drawn, a turn that can be read is equally long on both sides
and copies of a question come different ways. A turn that cannot be read ends a rollout of TRL's, while ours
goes on with the error: there turns and tokens differ, so rates are compared and the counts are told.

TRL's `GRPOTrainer` gets what its `environment_factory` asks for and nothing else: a processor (stock parts),
our conversation as its chat template, our grammar as its response template, and an environment a rollout
whose methods are our tools. Its `_generate` is timed as it stands: what it does before (making and resetting
environments) and after (rewards) is not counted.

Only tokens that the policy chose are counted. Times are by the clock, the model on one thread, both sides in
turns; the tools' share is measured apart: our rollouts share a call that TRL makes once each, and make the
calls of a turn on all cores.
"""

import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measurement import Measurement, measured
from pixelis_pipeline.agent.grammar import write_answer, write_call
from pixelis_pipeline.agent.policy import Policy, load
from pixelis_pipeline.agent.render import Turn, made, spans
from pixelis_pipeline.ledger.code import ROOT
from pixelis_pipeline.records import Action, Media, Origin, Question
from pixelis_pipeline.settings import PolicySettings, RftSettings
from pixelis_pipeline.tools.contract import Observation, Workspace
from pixelis_pipeline.tools.registry import Registry, default_registry
from pixelis_pipeline.world.scene import draw_scene

BASE = ROOT / "training" / "base" / "nano"
SIDE, SEED = 128, 61
PROMPTS, COPIES, TEMPERATURE = RftSettings().prompts, RftSettings().group, RftSettings().temperature
CALLS = ("SEG", "PROP", "PROP")  # and the answer: a chain is 3.7 steps long after reinforcement
THOUGHTS = {"SEG": "Segment the thing.", "ZOOM": "Look closer.", "PROP": "Measure it."}
# Conversations to learn from, steps of teaching, conversations a step, learning rate.
KNOWN, LESSONS, ROWS, RATE = 32, 160, 4, 3e-3
ROUNDS, RATIO = 5, 3.0

CHAT = (
    "{% for message in messages %}"
    "{% set ends = {'system': ('<system>', '</system>'), 'user': ('<user>', '</user>'),"
    " 'tool': ('<obs>', '</obs>'), 'assistant': ('', '')}[message.role] %}"
    "{{ ends[0] }}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<vision><image></vision>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}"
    "{% for call in message.tool_calls or [] %}"
    "<think></think><call>{{ call.function.name }} {{ call.function.arguments | tojson }}</call>"
    "{% endfor %}"
    "{{ ends[1] }}"
    "{% endfor %}"
)
RESPONSE = {
    "defaults": {"role": "assistant"},
    "start_anchor_pattern": "</user>|</obs>",
    "fields": {
        "thinking": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open_pattern": "<call>(?P<name>[A-Z]+) ",
            "close": "</call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"open": "<answer>", "close": "</answer>", "content": "text"},
    },
}


class Clocked(Registry):
    """A registry that counts the seconds of its calls, and how many there were."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry._tools, registry._limits)
        self.seconds, self.calls = 0.0, 0

    def call_all(self, calls: Sequence[tuple[Workspace, Action]]) -> list[Observation]:
        start = time.perf_counter()
        found = super().call_all(calls)
        self.seconds += time.perf_counter() - start
        self.calls += len(calls)
        return found


@dataclass(frozen=True, slots=True)
class Ground:
    """The questions, what they are about (uint8 RGB, by the medium's digest), and the calls before an
    answer."""

    questions: tuple[Question, ...]
    pictures: dict[str, Any]
    calls: tuple[str, ...]
    registry: Clocked

    def opens(self, media: Sequence[Media]) -> Workspace:
        """A workspace of the question about these media."""
        return Workspace([self.pictures[media[0].sha256]])


@dataclass(frozen=True, slots=True)
class Made:
    """Rollouts of one side: ids and what the policy chose of them [rollouts][tokens], and what they took."""

    ids: list[list[int]]
    said: list[list[bool]]
    seconds: float
    tools: float
    calls: int

    @property
    def tokens(self) -> int:
        """How many tokens the policy chose."""
        return sum(map(sum, self.said))

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds

    @property
    def alone(self) -> float:
        """Tokens a second that was not spent in tools."""
        return self.tokens / (self.seconds - self.tools)


def ground(calls: Sequence[str], prompts: int = PROMPTS) -> Ground:
    """`prompts` questions about scenes of the embedded world."""
    questions, pictures = [], {}
    for index in range(prompts):
        scene = draw_scene(np.random.default_rng([SEED, index]), width=SIDE, height=SIDE)
        media = Media(f"{index:064x}", "image", f"{index}.png", SIDE, SIDE)
        pictures[media.sha256] = scene.image
        origin = Origin("world", str(index), "CC0", "training")
        text = f"What colour is thing {index} on the picture?"
        questions.append(Question(f"q{index}", (), origin, (media,), text, "red", "attribute"))
    return Ground(tuple(questions), pictures, tuple(calls), Clocked(default_registry()))


def conversation(rng: np.random.Generator, policy: Policy, given: Ground) -> tuple[list[int], list[Any]]:
    """One to learn from: its ids and its pictures. Boxes are drawn, what the tools say is theirs."""
    question = given.questions[rng.integers(len(given.questions))]
    workspace = given.opens(question.media)
    turns = []
    for name in given.calls:
        box = [*rng.integers(0, 400, 2).tolist(), *rng.integers(600, 1000, 2).tolist()]
        seen = given.registry.call(workspace, action := Action(name, {"box": box}))
        turns.append(Turn(write_call(THOUGHTS[name], action), seen.text, made(name, seen.output)))
    answer = write_answer(question.answer)
    return policy.vocabulary.encode(
        spans(policy.contract, question.text, turns, answer, (SIDE, SIDE))
    ), workspace.images[: 1 + sum(turn.picture is not None for turn in turns)]


def teach(policy: Policy, given: Ground, lessons: int = LESSONS) -> None:
    """Have the policy call the tools in their order and answer then."""
    import torch

    from pixelis_pipeline.agent import nano
    from pixelis_pipeline.agent import tokenizer as words
    from pixelis_pipeline.agent.batch import collate

    rng, model = np.random.default_rng(SEED), policy.model
    opens, closes = words.token("<obs>"), words.token("</obs>")
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    known = [conversation(rng, policy, given) for _ in range(KNOWN)]
    for _ in range(lessons):
        drawn = rng.choice(len(known), ROWS, replace=False)
        rows, pictures = zip(*(known[place] for place in drawn), strict=True)
        batch = collate(rows, [image for shown in pictures for image in shown], "right")
        ids = batch.ids
        asked = (ids == words.token("</user>")).cumsum(1) - (ids == words.token("</user>")).long()
        heard = (ids == opens).cumsum(1) - (ids == closes).cumsum(1) + (ids == closes)
        learned = ((asked > 0) & (heard == 0) & batch.attention.bool())[:, 1:]
        scores = model.lm_head(nano.hidden_states(model, batch)[:, :-1][learned])
        torch.nn.functional.cross_entropy(scores, ids[:, 1:][learned]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def ours(policy: Policy, given: Ground, copies: int, temperature: float, seed: int) -> Made:
    """`copies` rollouts of each question, by `sample`."""
    from pixelis_pipeline.agent.sampled import sample

    settings = PolicySettings(turns=len(given.calls) + 1)
    tools, calls, start = given.registry.seconds, given.registry.calls, time.perf_counter()
    found = sample(
        policy,
        given.questions,
        copies,
        given.registry,
        given.opens,
        settings,
        name="nano",
        seed=seed,
        right=lambda asked, answer: answer == asked.answer,
        temperature=temperature,
    )
    seconds = time.perf_counter() - start
    return Made(
        [list(each.ids) for each in found],
        [list(each.said) for each in found],
        seconds,
        given.registry.seconds - tools,
        given.registry.calls - calls,
    )


def reader(policy: Policy) -> Any:
    """Tokenizer, pictures, chat and response template of the policy as a processor of transformers: that of
    Qwen3-VL without its video part, which needs torchvision."""
    from transformers import PreTrainedTokenizerFast, Qwen3VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from pixelis_pipeline.agent import pixels
    from pixelis_pipeline.agent import tokenizer as words

    class Pictures(Qwen2VLImageProcessorPil):
        """Gives tensors unasked, as the stock processor does that needs torchvision: TRL counts on it."""

        def __call__(self, images: Any, *args: Any, **named: Any) -> Any:
            return super().__call__(images, *args, **{**named, "return_tensors": "pt"})

    class Reader(Qwen3VLProcessor):
        def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None):
            super().__init__(image_processor, tokenizer, None, chat_template)

        @classmethod
        def get_attributes(cls) -> list[str]:
            return ["image_processor", "tokenizer"]

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words.shared(),
        pad_token=words.PAD,
        eos_token="</answer>",
        padding_side="left",
        extra_special_tokens={
            "image_token": words.IMAGE,
            "video_token": words.VIDEO,
            "vision_start_token": "<vision>",
            "vision_end_token": "</vision>",
        },
    )
    tokenizer.response_template = RESPONSE
    pictures = Pictures(
        patch_size=pixels.PATCH,
        temporal_patch_size=1,
        merge_size=pixels.MERGE,
        image_mean=[pixels.MEAN] * 3,
        image_std=[pixels.DEVIATION] * 3,
        min_pixels=pixels.SIDE**2,
        max_pixels=pixels.SIDE**2,
    )
    return Reader(pictures, tokenizer, CHAT)


class Environment:
    """A rollout of TRL's: a workspace, and our tools as its methods."""

    def __init__(self, given: Ground) -> None:
        self._given = given

    def reset(self, **row: Any) -> None:
        """Open the picture of the question at the row's `place`."""
        self._workspace = self._given.opens(self._given.questions[row["place"]].media)

    def get_reward(self) -> float:
        """None is needed here."""
        return 0.0

    def SEG(self, box: list[int]) -> str:
        """Segment the one object that a box surrounds.

        Args:
            box: left, top, right, bottom
        """
        return self._call("SEG", box).text

    def PROP(self, box: list[int]) -> str:
        """Measure what stands in a box.

        Args:
            box: left, top, right, bottom
        """
        return self._call("PROP", box).text

    def ZOOM(self, box: list[int]) -> list[dict[str, Any]]:
        """Crop a box and enlarge it; the crop is shown.

        Args:
            box: left, top, right, bottom
        """
        import cv2
        from PIL import Image

        seen = self._call("ZOOM", box)
        words = {"type": "text", "text": seen.text}
        if seen.image is None:
            return [words]
        shrinks = seen.image.shape[0] * seen.image.shape[1] > SIDE * SIDE
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR  # as pixels.patches does
        crop = Image.fromarray(cv2.resize(seen.image, (SIDE, SIDE), interpolation=how))
        return [{"type": "image", "image": crop}, words]

    def _call(self, name: str, box: list[int]) -> Observation:
        return self._given.registry.call(self._workspace, Action(name, {"box": box}))


class Theirs:
    """TRL's trainer, for its rollouts alone."""

    def __init__(self, policy: Policy, given: Ground, copies: int, temperature: float, folder: Path) -> None:
        import torch
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        from pixelis_pipeline.agent import tokenizer as words
        from pixelis_pipeline.agent.decode import NEVER
        from pixelis_pipeline.agent.grammar import ENDS

        class Timed(GRPOTrainer):
            def _send_telemetry(self) -> None:
                pass

            def _generate(self, prompts: Any) -> Any:
                registry = given.registry
                tools, calls, start = registry.seconds, registry.calls, time.perf_counter()
                found = super()._generate(prompts)
                seconds = time.perf_counter() - start
                prompt, completion, said = found[:3]
                self.made = Made(
                    [[*a, *b] for a, b in zip(prompt, completion, strict=True)],
                    [[*[False] * len(a), *map(bool, b)] for a, b in zip(prompt, said, strict=True)],
                    seconds,
                    registry.seconds - tools,
                    registry.calls - calls,
                )
                return found

        from PIL import Image

        self._rows = [
            {
                "prompt": [
                    {"role": "system", "content": policy.contract.system},
                    {"role": "user", "content": question.text},
                ],
                "image": Image.fromarray(given.pictures[question.media[0].sha256]),
                "place": place,
            }
            for place, question in enumerate(given.questions)
            for _ in range(copies)
        ]
        policy.model.generation_config.eos_token_id = [words.token(mark) for mark in ENDS]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._trainer = Timed(
                model=policy.model,
                args=GRPOConfig(
                    output_dir=str(folder),
                    per_device_train_batch_size=len(self._rows),
                    num_generations=copies,
                    max_completion_length=1024,
                    max_tool_calling_iterations=len(given.calls),
                    temperature=temperature,
                    generation_kwargs={
                        "max_new_tokens": PolicySettings().tokens_per_turn,
                        "suppress_tokens": [words.token(mark) for mark in NEVER],
                    },
                    gradient_checkpointing=False,
                    use_cpu=policy.model.device.type == "cpu",
                    bf16=policy.model.dtype == torch.bfloat16,
                    report_to="none",
                    disable_tqdm=True,
                ),
                train_dataset=Dataset.from_list(
                    [{"prompt": row["prompt"], "place": row["place"]} for row in self._rows]
                ),
                processing_class=reader(policy),
                environment_factory=partial(Environment, given),
            )

    def roll(self, seed: int) -> Made:
        """As many rollouts of each question, by TRL's loop."""
        import torch

        torch.manual_seed(seed)
        self._trainer._generate_and_score_completions([dict(row) for row in self._rows])
        made: Made = self._trainer.made
        return made


def rollouts(policy: Policy, given: Ground, copies: int = COPIES) -> Iterator[Measurement]:
    """Tokens a second of both sides on a taught policy and their ratio, with the tools' time and without."""
    pairs: list[tuple[Made, Made]] = []
    with tempfile.TemporaryDirectory() as folder:
        theirs = Theirs(policy, given, copies, TEMPERATURE, Path(folder))
        for seed in range(ROUNDS + 1):
            pairs.append((ours(policy, given, copies, TEMPERATURE, seed), theirs.roll(seed)))
    counted = pairs[1:]  # the first warms up
    told = f"{len(given.questions)} x {copies} rollouts of {len(given.calls)} calls"
    for side, name in enumerate(("ours", "TRL's")):
        made = [pair[side] for pair in counted]
        yield measured(f"{told}: {name}", statistics.median(each.rate for each in made), "tokens/s")
        yield measured(f"{name}: tokens chosen", statistics.median(each.tokens for each in made), "")
        yield measured(f"{name}: calls of tools", statistics.median(each.calls for each in made), "")
        yield measured(f"{name}: in tools", statistics.median(each.tools for each in made), "s")
    ratio = statistics.median(a.rate / b.rate for a, b in counted)
    yield measured("ours / TRL's, median of rounds", ratio, "", at_least=RATIO)
    alone = statistics.median(a.alone / b.alone for a, b in counted)
    yield measured("ours / TRL's without the time in tools, median of rounds", alone, "")


def suite() -> list[Measurement]:
    """The shipped base, taught."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        policy, given = load(BASE), ground(CALLS)
        teach(policy, given)
        return list(rollouts(policy, given))
    finally:
        torch.set_num_threads(threads)
