"""Turns of full-size policies by vLLM (extra `vllm`; `policy.rollouts = "vllm"`).

It was never run with vLLM itself: what is called was read in the source of vLLM 0.33.0.

1. Token in, token out. What was said goes on as the ids that were chosen, so a turn begins with the whole of
   the one before it, and the prefix cache reads nothing twice.
2. A picture is one image token in what vLLM is given, which writes the rest out itself (already written out,
   they would be written out again: TRL issue 6294). What it says the prompt was is then held against ours,
   token by token. A picture comes at the size that the render contract gives it, resized by PIL.
3. An adapter that learns is written to a folder and loaded from there under a number and a name that no state
   before it had: weights are kept by the one, keys and values by the other. After sleep it is read again
   also if it is the same, since waking lost adapters (vLLM issue 53888).
4. Log-probabilities are those of the sampler, at its temperature and without the marks that are never said.
   They differ a little from the learner's, which are what losses are made of (`training.rft.objective`).
5. The engine lives in this process, so that it ends with it and its schedule follows from what it is given.
   While a learner needs the GPU it sleeps: its weights lie in the host's memory, its cache is dropped.

The module is imported only where a server is wanted. What of vLLM it uses is stated in protocols.
"""

import itertools
import os
import random
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, cast

import torch  # noqa: TID253
from PIL import Image as pil

from pixelis_pipeline.agent import adapted, pixels, render
from pixelis_pipeline.agent.batch import ImageTokenMismatch, check_tokens
from pixelis_pipeline.agent.grammar import ENDS
from pixelis_pipeline.agent.large import LargePolicy, Speak
from pixelis_pipeline.agent.pixels import Image
from pixelis_pipeline.agent.policy import PolicyError, Said
from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import PolicySettings

RANK = 64  # the most that an adapter may have: `ranks.most`, and what even ranks are


class Logprob(Protocol):
    """`vllm.logprobs.Logprob`."""

    logprob: float


class Completion(Protocol):
    """`vllm.CompletionOutput`: the ids that were chosen, the one that ended them among them, and for each the
    log-probabilities that were asked for, by id."""

    token_ids: Sequence[int]
    logprobs: Sequence[Mapping[int, Logprob]]


class Output(Protocol):
    """`vllm.RequestOutput`: the prompt as the model read it, and its completions."""

    prompt_token_ids: Sequence[int]
    outputs: Sequence[Completion]


class Engine(Protocol):
    """`vllm.LLM`."""

    def generate(
        self,
        prompts: Sequence[Json],
        sampling_params: Sequence[Any],
        *,
        use_tqdm: bool,
        lora_request: Any,
    ) -> Sequence[Output]:
        """One output a prompt, in order."""

    def sleep(self, level: int) -> None:
        """Give the GPU's memory back; at level 1 the weights are kept in the host's."""

    def wake_up(self) -> None:
        """Take it again."""


class Vllm(Protocol):
    """The package."""

    def LLM(
        self,
        *,
        model: str,
        dtype: str,
        load_format: str,
        trust_remote_code: bool,
        generation_config: str,
        max_model_len: int,
        gpu_memory_utilization: float,
        enable_prefix_caching: bool,
        enable_sleep_mode: bool,
        enable_lora: bool,
        max_lora_rank: int,
        logprobs_mode: str,
        limit_mm_per_prompt: dict[str, int] = ...,
        mm_processor_kwargs: Json = ...,
    ) -> Engine:
        """An engine over a folder of weights."""

    def SamplingParams(
        self,
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
        stop: Sequence[str],
        include_stop_str_in_output: bool,
        skip_special_tokens: bool,
        stop_token_ids: Sequence[int],
        ignore_eos: bool,
        bad_words: Sequence[str],
        logprobs: int,
    ) -> Any:
        """How one prompt is gone on with. `stop` is looked for in the text, so vLLM reads it too."""


class Requests(Protocol):
    """`vllm.lora.request`."""

    def LoRARequest(self, *, lora_name: str, lora_int_id: int, lora_path: str) -> Any:
        """An adapter: its name, its number from 1 on, and its folder as peft writes it."""


class Server:
    """vLLM over the weights in `folder`, for a policy that is shown what `shown` says. The engine is made
    when it is first asked."""

    def __init__(self, folder: Path, shown: render.Contract, settings: PolicySettings) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise PolicyError('policy.rollouts = "vllm" serves one process; several learn by "transformers"')
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # read when vllm is imported
        try:
            self._vllm = cast(Vllm, import_module("vllm"))
            self._requests = cast(Requests, import_module("vllm.lora.request"))
        except ModuleNotFoundError as error:
            raise PolicyError(
                "policy.rollouts is 'vllm', which is not installed: pip install 'pixelis[vllm]', into an "
                "environment of its own"
            ) from error
        self._folder, self._shown, self._settings = folder, shown, settings
        self._engine: Engine | None = None
        self._asleep = False
        self._numbers = itertools.count(1)
        self._digest, self._adapter = "", None
        self._written: TemporaryDirectory[str] | None = None

    def speaks(self, policy: LargePolicy) -> Speak:
        """How the policy, as it is now, says its turns. What it may raise: ImageTokenMismatch, PolicyError
        for a conversation that `policy.server_tokens` has no room for."""
        return partial(self._turns, policy, self._request(policy))

    def rest(self) -> None:
        """Leave the GPU to a learner, until the next turn is asked for."""
        if self._engine is not None and not self._asleep:
            self._engine.sleep(level=1)
            self._asleep, self._digest = True, ""

    def _awake(self) -> Engine:
        torch.cuda.empty_cache()  # what the learner has freed and torch still holds
        if self._engine is None:
            self._engine = self._vllm.LLM(
                model=str(self._folder),
                dtype=self._settings.dtype,
                load_format="safetensors",
                trust_remote_code=False,
                generation_config="vllm",  # not the checkpoint's own
                max_model_len=self._settings.server_tokens,
                gpu_memory_utilization=self._settings.server_memory,
                enable_prefix_caching=True,
                enable_sleep_mode=True,
                enable_lora=True,
                max_lora_rank=RANK,
                logprobs_mode="processed_logprobs",
                **self._sight(),
            )
        elif self._asleep:
            self._engine.wake_up()
        self._asleep = False
        return self._engine

    def _sight(self) -> dict[str, Any]:
        """The contract's bounds, and as many pictures as there is room for."""
        if not (told := self._shown.pixels):
            return {}
        area = told["unit"] ** 2
        return {
            "limit_mm_per_prompt": {"image": self._settings.server_tokens // told["least"], "video": 0},
            "mm_processor_kwargs": {
                "size": {"shortest_edge": told["least"] * area, "longest_edge": told["most"] * area}
            },
        }

    def _request(self, policy: LargePolicy) -> Any:
        """The adapter that the policy has learned through up to now; None where it is whole weights."""
        if not hasattr(policy.model, "peft_config"):
            return None
        written = TemporaryDirectory(prefix="pixelis-adapter-")
        folder, base = Path(written.name) / "adapter", adapted.Base.of(policy, self._settings)
        digest = adapted.save(policy.model, folder, policy.contract, base)
        if digest == self._digest:
            written.cleanup()
            return self._adapter
        if self._written is not None:
            self._written.cleanup()
        number = next(self._numbers)
        self._digest, self._written = digest, written
        self._adapter = self._requests.LoRARequest(
            lora_name=f"{number}-{digest}", lora_int_id=number, lora_path=str(folder)
        )
        return self._adapter

    def _turns(
        self,
        policy: LargePolicy,
        adapter: Any,
        rows: Sequence[Sequence[int]],
        images: Sequence[Sequence[Image]],
        tokens: int,
        temperature: float,
        seed: int,
    ) -> list[Said]:
        sizes = [image.shape[:2] for shown in images for image in shown]
        check_tokens(rows, policy.image, [self._shown.tokens(*size) for size in sizes])
        room = self._settings.server_tokens
        if (longest := max(map(len, rows)) + tokens) > room:
            raise PolicyError(f"a turn may end at token {longest}, policy.server_tokens has room for {room}")
        asked = [
            self._vllm.SamplingParams(
                max_tokens=tokens,
                temperature=temperature,
                # Rows of one prompt would all say the same by one seed.
                seed=random.Random(f"{seed} {row}").getrandbits(32),
                stop=list(ENDS),
                include_stop_str_in_output=True,
                skip_special_tokens=False,
                stop_token_ids=policy.ends,
                ignore_eos=True,  # what ends a turn is said by the line before
                bad_words=list(policy.never.values()),
                logprobs=0,  # of the chosen token alone
            )
            for row in range(len(rows))
        ]
        prompts = [self._prompt(policy, row, shown) for row, shown in zip(rows, images, strict=True)]
        device = policy.model.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):  # an engine seeds its process
            found = self._awake().generate(prompts, asked, use_tqdm=False, lora_request=adapter)
        for index, (row, output) in enumerate(zip(rows, found, strict=True)):
            if list(output.prompt_token_ids) != list(row):
                raise ImageTokenMismatch(
                    f"row {index} is {len(row)} tokens, {list(row).count(policy.image)} of them of pictures; "
                    f"vLLM read {len(output.prompt_token_ids)} and "
                    f"{list(output.prompt_token_ids).count(policy.image)}"
                )
        return [_said(policy, output.outputs[0]) for output in found]

    def _prompt(self, policy: LargePolicy, row: Sequence[int], images: Sequence[Image]) -> Json:
        runs = ((id_, list(run)) for id_, run in itertools.groupby(row))
        ids = [each for id_, run in runs for each in ([id_] if id_ == policy.image else run)]
        if not images:
            return {"prompt_token_ids": ids}
        shown = [resized(image, self._shown) for image in images]
        return {"prompt_token_ids": ids, "multi_modal_data": {"image": shown}}


def resized(image: Image, shown: render.Contract) -> pil.Image:
    """A picture (uint8 RGB) as large as its tokens, by the filter that `large.pictures` uses."""
    told, (height, width) = shown.pixels, image.shape[:2]
    rows, columns = pixels.merged(height, width, told["unit"], told["least"], told["most"])
    size = columns * told["unit"], rows * told["unit"]
    return pil.fromarray(image).resize(size, pil.Resampling.BICUBIC)


def _said(policy: LargePolicy, found: Completion) -> Said:
    """The turn, without what may have been said after its end before the engine was told to stop."""
    said = policy.said(found.token_ids, policy.ends)
    ids = said.ids
    while any(end in policy.vocabulary.decode(ids[:-1]) for end in ENDS):
        ids = ids[:-1]
    chosen = zip(ids, found.logprobs, strict=False)
    return Said(said.text, ids, tuple(told[id_].logprob for id_, told in chosen))


_RUNNING: list[tuple[Any, Server]] = []  # one at most: an engine takes its share of the GPU until the end


def server(folder: Path, shown: render.Contract, settings: PolicySettings) -> Server:
    """The process's one server. Raises PolicyError where vLLM is not installed, in one of several processes
    that learn together, and for other weights or settings than those that are served already."""
    place = (folder.resolve(), shown, settings.dtype, settings.server_memory, settings.server_tokens)
    if not _RUNNING:
        _RUNNING.append((place, Server(folder, shown, settings)))
    (held, running), *_ = _RUNNING
    if held != place:
        raise PolicyError(f"this process serves {held[0]} already, and a process serves one policy")
    return running
