"""TRL's own environment loop as a peer, on our policy, questions, tools and ends of turns.

TRL's `GRPOTrainer` gets what its `environment_factory` asks for and nothing else: a processor (stock parts),
our conversation as its chat template, our grammar as its response template, and an environment a rollout
whose methods are our tools. Its `_generate` is timed as it stands: what it does before (making and resetting
environments) and after (rewards) is not counted.
"""

import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.rollout_ground import SIDE, Ground, Made
from pixelis_pipeline.agent.policy import Policy
from pixelis_pipeline.records import Action
from pixelis_pipeline.settings import PolicySettings
from pixelis_pipeline.tools.contract import Observation

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
