"""Full-size policies: their weights from a local folder, their pictures, their turns.

1. Safetensors only, and no code out of a checkpoint. What is loaded must be the model that settings name.
2. Pictures are prepared by transformers' PIL processor also where torchvision, which resizes in a way of its
   own, is installed: a policy sees the same pixels on every machine.
3. Image tokens are written out by the render contract and counted here against the pictures; the stock
   processors, given a prompt that does not fit, drop pictures without a word.
4. A conversation is kept as ids and read again each turn; there is no cache between turns. Where settings
   say so, its turns are said by a server, which has one (`served`).

The module is imported only where a model is wanted: it needs torch and transformers.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch  # noqa: TID253
from transformers import GenerationConfig, StoppingCriteria  # noqa: TID253

from pixelis_pipeline.agent import render
from pixelis_pipeline.agent.batch import check_tokens, runs
from pixelis_pipeline.agent.grammar import ENDS
from pixelis_pipeline.agent.nano import CLASSES
from pixelis_pipeline.agent.pixels import Image
from pixelis_pipeline.agent.policy import CONFIG, RENDER, TOKENIZER, PolicyError, Said
from pixelis_pipeline.agent.published import POLICIES, Published
from pixelis_pipeline.agent.vocabulary import Vocabulary, both
from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import PolicySettings
from pixelis_pipeline.tools.weights import weights_digest

if TYPE_CHECKING:
    from pixelis_pipeline.agent.served import Server

# One turn of each row of ids, with the pictures each holds places for: at most so many tokens long, greedy at
# temperature 0, else sampled from a seed.
Speak = Callable[[Sequence[Sequence[int]], Sequence[Sequence[Image]], int, float, int], list[Said]]

SETTING = "policy.weights"
INDEX = "model.safetensors.index.json"
SAID = ("<think>", "</think>")  # special tokens of Qwen3 that are the policy's own
TURN_ENDS, TEXT_ENDS = "<|im_end|>", "<|endoftext|>"
TAIL = 12  # tokens in which an end mark is looked for: it is at most nine letters


def contract(named: Published, tokenizer: str, settings: PolicySettings) -> render.Contract:
    """What the named policy is shown; `tokenizer` is the sha256 of its tokenizer.json."""
    if not named.vision:
        return render.qwen(tokenizer, {})
    return render.qwen(
        tokenizer,
        {
            "unit": named.unit,
            "least": settings.picture_tokens_least,
            "most": settings.picture_tokens_most,
            "patch": named.vision["patch_size"],
            "temporal": named.vision["temporal_patch_size"],
            "merge": named.vision["spatial_merge_size"],
            "mean": list(named.mean),
            "deviation": list(named.deviation),
            "resize": "aspect ratio kept; PIL bicubic",
        },
    )


def pictures(shown: render.Contract) -> Any:
    """The image processor that a contract describes. ValueError for a policy without sight."""
    if not shown.pixels:
        raise ValueError("the policy is shown no pictures")
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    told, area = shown.pixels, shown.pixels["unit"] ** 2
    return Qwen2VLImageProcessorPil(
        patch_size=told["patch"],
        temporal_patch_size=told["temporal"],
        merge_size=told["merge"],
        image_mean=told["mean"],
        image_std=told["deviation"],
        min_pixels=told["least"] * area,
        max_pixels=told["most"] * area,
    )


def check_files(folder: Path, named: Published) -> str:
    """The sha256 hex over configuration, tokenizer and weights of a checkpoint of the named policy.

    Raises PolicyError for what is missing, for pickled weights, and where config.json is of another model.
    """
    model = f"{named.hub}, or of what was trained from it"
    try:
        digest = weights_digest(str(folder), SETTING, model, (CONFIG, TOKENIZER))
        stored = json.loads((folder / CONFIG).read_text())
        shards = _shards(folder)
    except ValueError as error:
        raise PolicyError(str(error)) from error
    if missing := sorted(name for name in shards if not (folder / name).is_file()):
        raise PolicyError(f"{SETTING}: {folder} lacks {missing[0]}, which {INDEX} names")
    if wrong := _differences(stored, named):
        raise PolicyError(f"{SETTING}: {folder / CONFIG} is not of {named.hub}: {wrong[0]}")
    return digest


def _shards(folder: Path) -> set[str]:
    index = folder / INDEX
    return set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else set()


def _differences(stored: Json, named: Published) -> list[str]:
    """What in a config.json, of any age of the format, is not as published."""
    kind = stored.get("model_type")
    if kind != named.kind:
        return [f"its model_type is {kind!r}, not {named.kind!r}"]
    read = CLASSES[named.kind][0].from_dict(stored)
    parts = [(read.get_text_config(), named.text)]
    if named.vision:
        parts.append((read.vision_config, named.vision))
    return [
        f"{name} is {found}, not {wanted}"
        for part, published in parts
        for name, found, wanted in _compared(part.to_dict(), published)
    ]


def _compared(found: Json, published: Json) -> Iterator[tuple[str, Any, Any]]:
    for name, wanted in published.items():
        held = found.get(name)
        if isinstance(wanted, dict):
            yield from _compared(held or {}, wanted)
        elif (list(held) if isinstance(held, tuple) else held) != wanted:
            yield name, held, wanted


def load(folder: Path, settings: PolicySettings, named: Published | None = None) -> "LargePolicy":
    """The policy that `settings.name` names (or `named`), from `folder`, on `settings.device`.

    A checkpoint of ours holds its render contract, which must be the one that settings make; published
    weights hold none. Raises PolicyError for a folder that is no such checkpoint, RenderMismatch for another
    contract.
    """
    from tokenizers import Tokenizer

    named = named or POLICIES[settings.name]
    digest = check_files(folder, named)
    shown = contract(named, hashlib.sha256((folder / TOKENIZER).read_bytes()).hexdigest(), settings)
    if (folder / RENDER).is_file():
        shown.check(folder / RENDER)
    words = both(Tokenizer.from_file(str(folder / TOKENIZER)))
    server = None
    if settings.rollouts == "vllm":
        from pixelis_pipeline.agent import served

        server = served.server(folder, shown, settings)
    model = _model(folder, named, settings)
    _check_vocabulary(words, model.config, folder)
    return LargePolicy(model, words, shown, digest, digest, server)


def _model(folder: Path, named: Published, settings: PolicySettings) -> Any:
    placed: Json = {"device_map": "auto"} if settings.device == "auto" else {}
    model, report = CLASSES[named.kind][1].from_pretrained(
        folder,
        dtype=getattr(torch, settings.dtype),
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        attn_implementation="sdpa",  # a checkpoint's own choice may be code from the hub
        output_loading_info=True,
        **placed,
    )
    for trouble in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found := sorted(map(str, report[trouble])):
            what = trouble.partition("_")[0]
            raise PolicyError(f"{SETTING}: {folder} has {len(found)} {what} weights, such as {found[0]}")
    model.eval()
    model.generation_config = GenerationConfig()  # a checkpoint's own would fill in what a turn leaves open
    return model if placed else model.to(settings.device)


def _check_vocabulary(words: Vocabulary, config: Any, folder: Path) -> None:
    """Raises PolicyError unless the template's marks are single tokens, the image's the model's own."""
    sees = hasattr(config, "vision_config")
    marks = (TURN_ENDS, "<|im_start|>", *(("<|vision_start|>", "<|vision_end|>") if sees else ()))
    try:
        for mark in marks:
            words.id(mark)
        image = words.id(render.QWEN.image) if sees else None
    except KeyError as error:
        raise PolicyError(f"{folder / TOKENIZER}: {error.args[0]}, and the template writes it") from error
    if sees and image != config.image_token_id:
        raise PolicyError(
            f"{folder / TOKENIZER}: {render.QWEN.image} is {image}, and {config.image_token_id} in {CONFIG}"
        )


@dataclass(frozen=True, slots=True)
class Inputs:
    """Padded rows: `ids`, `attention` and `kinds` (1 at an image token) [batch, length] int64; `pixels`
    [patches, patch size] float32 and `grid` [pictures, 3] int64, None without pictures."""

    ids: torch.Tensor
    attention: torch.Tensor
    kinds: torch.Tensor
    pixels: torch.Tensor | None
    grid: torch.Tensor | None

    def arguments(self) -> dict[str, torch.Tensor]:
        """What a model of transformers is called with."""
        words = {"input_ids": self.ids, "attention_mask": self.attention}
        if self.pixels is None or self.grid is None:
            return words
        return words | {
            "mm_token_type_ids": self.kinds,
            "pixel_values": self.pixels,
            "image_grid_thw": self.grid,
        }


@dataclass(frozen=True, slots=True)
class LargePolicy:
    """As `policy.Policy`, with its own vocabulary and pictures of any size. `base` is the sha256 over the
    files of its weights; `digest` the same, or the sha256 of the adapter that it learned through. `server`
    says its turns where it is not the model itself that does."""

    model: Any
    vocabulary: Vocabulary
    contract: render.Contract
    digest: str
    base: str = ""
    server: "Server | None" = None

    @property
    def image(self) -> int:
        """The id of an image token; -1 where the policy is shown no pictures."""
        return self.vocabulary.id(render.QWEN.image) if self.contract.pixels else -1

    @property
    def ends(self) -> list[int]:
        """The ids that end a turn and are no part of it."""
        return [id_ for id_, mark in self._special.items() if mark in (TURN_ENDS, TEXT_ENDS)]

    @property
    def never(self) -> dict[int, str]:
        """The marks that only the environment may write."""
        return {id_: m for id_, m in self._special.items() if m not in (*SAID, TURN_ENDS, TEXT_ENDS)}

    @property
    def _special(self) -> dict[int, str]:
        added = self.vocabulary.marks.get_added_tokens_decoder()
        return {id_: token.content for id_, token in added.items()}

    def converse(
        self, prompts: Sequence[Sequence[int]], images: Sequence[Image], copies: int = 1
    ) -> "Conversation":
        """As `policy.Policy.converse`."""
        speak = self.speak if self.server is None else self.server.speaks(self)
        return Conversation(speak, self.image, prompts, images, copies)

    def speak(
        self,
        rows: Sequence[Sequence[int]],
        images: Sequence[Sequence[Image]],
        tokens: int,
        temperature: float,
        seed: int,
    ) -> list[Said]:
        """As `Speak`, by the model itself. Raises ImageTokenMismatch."""
        given = self.collate(rows, [image for shown in images for image in shown])
        return self.turns(given, tokens, temperature, seed)

    def collate(
        self,
        rows: Sequence[Sequence[int]],
        images: Sequence[Image],
        side: Literal["left", "right"] = "left",
    ) -> Inputs:
        """Rows of ids, padded on `side`, and the pictures (uint8 RGB) they hold a place for, in their order.

        Raises ImageTokenMismatch where a run of image tokens is not as long as its picture needs.
        """
        pixels = grid = None
        counts: list[int] = []
        if images:
            read = pictures(self.contract)
            # Told where the channels lie: it would guess, of a picture 1 or 3 pixels high wrongly.
            made = read(images=list(images), input_data_format="channels_last", return_tensors="pt")
            pixels, grid = made["pixel_values"], made["image_grid_thw"]
            counts = (grid.prod(-1) // self.contract.pixels["merge"] ** 2).tolist()
        check_tokens(rows, self.image, counts)
        length = max(len(row) for row in rows)
        ids = torch.full((len(rows), length), self.vocabulary.id(TURN_ENDS))
        attention = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            where = slice(length - len(row), None) if side == "left" else slice(len(row))
            ids[index, where] = torch.tensor(row)
            attention[index, where] = 1
        return Inputs(ids, attention, torch.eq(ids, self.image).long(), pixels, grid)

    def turns(self, given: Inputs, tokens: int, temperature: float, seed: int) -> list[Said]:
        """One turn of each row, at most `tokens` long: greedy at temperature 0, else sampled from `seed`.

        Marks that only the environment may write are never chosen.
        """
        device, ends = self.model.device, self.ends
        chance = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        asked = GenerationConfig(
            max_new_tokens=tokens,
            eos_token_id=ends,
            pad_token_id=ends[0],
            suppress_tokens=list(self.never) or None,
            use_cache=True,  # within the turn; a model that learns has it off
            **(chance if temperature else {"do_sample": False}),
        )
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.inference_mode():
            torch.manual_seed(seed)
            rows = self.model.generate(
                generation_config=asked,
                stopping_criteria=[_TurnEnds(self.vocabulary, given.ids.shape[1])],
                **{name: value.to(device) for name, value in given.arguments().items()},
            )[:, given.ids.shape[1] :].tolist()
        return [self.said(row, ends) for row in rows]

    def said(self, row: Sequence[int], ends: Sequence[int]) -> Said:
        """The turn without what pads it; its text up to and with its end mark, which need not be a token's
        end."""
        ids = tuple(itertools.takewhile(lambda id_: id_ not in ends, row))
        text = self.vocabulary.decode(ids)
        stops = [text.index(end) + len(end) for end in ENDS if end in text]
        return Said(text[: min(stops, default=len(text))], ids)


class Conversation:
    """As `decode.Conversation`; its turns are said by `speak`, and `image` is the id of an image token."""

    def __init__(
        self,
        speak: Speak,
        image: int,
        prompts: Sequence[Sequence[int]],
        images: Sequence[Image],
        copies: int = 1,
    ) -> None:
        self._speak, self._image = speak, image
        self._rows = [list(prompt) for prompt in prompts]
        self._images: list[list[Image]] = [[] for _ in prompts]
        self._show(prompts, images)
        self._rows = [list(row) for row in self._rows for _ in range(copies)]
        self._images = [list(shown) for shown in self._images for _ in range(copies)]

    def say(self, tokens: int, temperature: float, seed: int) -> list[Said]:
        """One turn of each row, as `Speak`. Raises ImageTokenMismatch."""
        said = self._speak(self._rows, self._images, tokens, temperature, seed)
        for row, turn in zip(self._rows, said, strict=True):
            row += turn.ids
        return said

    def hear(self, rows: Sequence[Sequence[int]], images: Sequence[Image] = ()) -> None:
        """Add to each row the ids that its environment says; `images` as in the prompts."""
        for row, heard in zip(self._rows, rows, strict=True):
            row += heard
        self._show(rows, images)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order."""
        self._rows = [self._rows[row] for row in rows]
        self._images = [self._images[row] for row in rows]

    def _show(self, rows: Sequence[Sequence[int]], images: Sequence[Image]) -> None:
        """Lay each picture beside the row that holds its place; one too many beside the last."""
        left = list(images)
        for shown, row in zip(self._images, rows, strict=True):
            places = len(runs(row, self._image))
            shown += left[:places]
            del left[:places]
        self._images[-1] += left


class _TurnEnds(StoppingCriteria):
    """True for each row whose last tokens, of those from `start` on, spell an end mark."""

    def __init__(self, words: Vocabulary, start: int) -> None:
        self._words, self._start = words, start

    def __call__(self, ids: torch.Tensor, scores: Any, **given: Any) -> torch.Tensor:
        tails = ids[:, max(self._start, ids.shape[1] - TAIL) :].tolist()
        texts = [self._words.decode(tail) for tail in tails]
        return torch.tensor([any(end in text for end in ENDS) for text in texts], device=ids.device)
