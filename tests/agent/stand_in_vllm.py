"""What `agent.served` uses of vLLM, over transformers: vLLM itself needs a GPU and a torch of its own.

It behaves as vLLM does where that matters: a picture's one token is written out here, an adapter is read once
a number and never again, an engine that sleeps answers nothing and has lost its adapters when it wakes, stop
strings are found in the text, log-probabilities are of what is sampled from.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from pixelis_pipeline.agent.nano import CLASSES
from pixelis_pipeline.agent.published import POLICIES


@dataclass(frozen=True)
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str

    def __post_init__(self) -> None:
        assert self.lora_int_id > 0


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    max_tokens: int
    temperature: float
    seed: int
    stop: list[str]
    include_stop_str_in_output: bool
    skip_special_tokens: bool
    stop_token_ids: list[int]
    ignore_eos: bool
    bad_words: list[str]
    logprobs: int

    def __post_init__(self) -> None:
        assert 0 <= self.temperature <= 2 and self.max_tokens >= 1 and 0 <= self.seed < 2**63
        assert isinstance(self.stop, list) and isinstance(self.stop_token_ids, list)


@dataclass(frozen=True)
class Logprob:
    logprob: float


@dataclass(frozen=True)
class Completion:
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]]


@dataclass(frozen=True)
class Output:
    prompt_token_ids: list[int]
    outputs: list[Completion]


class LLM:
    """`events` are what was asked of it, in order; `scripts` what it says in the turns to come, marks and
    all, where its model is not to choose; `late` tokens are said after a stop string."""

    made: ClassVar[list["LLM"]] = []

    def __init__(self, *, model: str, dtype: str, limit_mm_per_prompt=None, mm_processor_kwargs=None, **rest):
        assert rest.pop("max_model_len") > 0 and 0 < rest.pop("gpu_memory_utilization") < 1
        assert rest == {
            "load_format": "safetensors",
            "trust_remote_code": False,
            "generation_config": "vllm",
            "enable_prefix_caching": True,
            "enable_sleep_mode": True,
            "enable_lora": True,
            "max_lora_rank": 64,
            "logprobs_mode": "processed_logprobs",
        }
        self.config = AutoConfig.from_pretrained(model)
        self.kind = self.config.model_type
        self.folder, self.dtype = model, getattr(torch, dtype)
        self.words = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
        self.limit = (limit_mm_per_prompt or {}).get("image", 0)
        self.pictures = None
        if hasattr(self.config, "vision_config"):
            sees = self.config.vision_config
            named = next(each for each in POLICIES.values() if each.kind == self.kind)
            self.pictures = Qwen2VLImageProcessorPil(
                patch_size=sees.patch_size,
                temporal_patch_size=sees.temporal_patch_size,
                merge_size=sees.spatial_merge_size,
                image_mean=named.mean,
                image_std=named.deviation,
                **mm_processor_kwargs,
            )
        self.base = self._model()
        self.adapters: dict[int, Any] = {}
        self.asleep = False
        self.events: list[Any] = []
        self.scripts: list[str] = []
        self.late = 0
        self.names: dict[str, int] = {}
        self.made.append(self)

    def _model(self) -> Any:
        return CLASSES[self.kind][1].from_pretrained(self.folder, dtype=self.dtype).eval()

    def sleep(self, level: int) -> None:
        assert level == 1 and not self.asleep
        self.asleep = True
        self.events.append("sleep")

    def wake_up(self) -> None:
        assert self.asleep
        self.asleep = False
        self.adapters = dict.fromkeys(self.adapters, self.base)
        self.events.append("wake")

    def generate(self, prompts, sampling_params, *, use_tqdm, lora_request):
        assert not self.asleep
        torch.manual_seed(0)  # as an engine that is made does to its process
        self.events.append(lora_request and lora_request.lora_int_id)
        model = self.base if lora_request is None else self._adapted(lora_request)
        asked = zip(prompts, sampling_params, strict=True)
        return [self._answer(model, prompt, how) for prompt, how in asked]

    def _adapted(self, request: LoRARequest) -> Any:
        assert self.names.setdefault(request.lora_name, request.lora_int_id) == request.lora_int_id
        if request.lora_int_id not in self.adapters:
            config = PeftConfig.from_pretrained(request.lora_path)
            model = get_peft_model(self._model(), config)
            weights = load_file(Path(request.lora_path) / "adapter_model.safetensors")
            assert not set_peft_model_state_dict(model, weights).unexpected_keys
            self.adapters[request.lora_int_id] = model.eval()
        return self.adapters[request.lora_int_id]

    @torch.inference_mode()
    def _answer(self, model: Any, prompt: dict[str, Any], how: SamplingParams) -> Output:
        images = prompt.get("multi_modal_data", {}).get("image", [])
        assert len(images) <= self.limit or not images
        seen: dict[str, Any] = {}
        left: list[int] = []
        if images:
            made = self.pictures(images=images, return_tensors="pt")
            grid = made["image_grid_thw"]
            seen = {"pixel_values": made["pixel_values"].to(self.dtype), "image_grid_thw": grid}
            left = (grid.prod(-1) // self.pictures.merge_size**2).tolist()
        ids: list[int] = []
        for token in prompt["prompt_token_ids"]:
            picture = images and left and token == self.config.image_token_id
            ids += [token] * (left.pop(0) if picture else 1)
        assert not left, "fewer places than pictures"
        start, logprobs = len(ids), []
        script = self.words.encode(self.scripts.pop(0)).ids if self.scripts else []
        never = [self.words.token_to_id(word) for word in how.bad_words]
        chance = torch.Generator().manual_seed(how.seed)
        end, ended = start + how.max_tokens, False
        while len(ids) < end:
            row = torch.tensor([ids])
            kinds = {"mm_token_type_ids": torch.eq(row, self.config.image_token_id).long()} if images else {}
            scores = model(input_ids=row, **seen, **kinds).logits[0, -1].float()
            scores[never] = -torch.inf
            likely = (scores / (how.temperature or 1.0)).log_softmax(-1)
            if len(script) > len(ids) - start:
                chosen = script[len(ids) - start]
            elif how.temperature == 0:
                chosen = int(likely.argmax())
            else:
                chosen = int(torch.multinomial(likely.exp(), 1, generator=chance))
            ids.append(chosen)
            logprobs.append({chosen: Logprob(float(likely[chosen]))})
            text = self.words.decode(ids[start:], skip_special_tokens=how.skip_special_tokens)
            if chosen in how.stop_token_ids:
                break
            if not ended and any(stop in text for stop in how.stop):
                ended, end = True, min(end, len(ids) + self.late)
        return Output(ids[:start], [Completion(ids[start:], logprobs)])


def modules() -> dict[str, ModuleType]:
    """As `sys.modules` holds them where vLLM is installed."""
    whole, lora, request = (ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request"))
    whole.LLM, whole.SamplingParams, request.LoRARequest = LLM, SamplingParams, LoRARequest
    return {each.__name__: each for each in (whole, lora, request)}


def install(monkeypatch: Any) -> list[LLM]:
    """Put it in vLLM's place for a test; gives the engines that are made."""
    from pixelis_pipeline.agent import served

    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(served, "_RUNNING", [])
    monkeypatch.setattr(LLM, "made", [])
    return LLM.made
