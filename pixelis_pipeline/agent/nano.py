"""`nano`: a Qwen3-VL of under two million parameters, so that a whole learning run fits on two cores.

Departures from a stock Qwen3-VL, all of them in the configuration: no deepstack mergers, 8-pixel patches
on a fixed 128 x 128 picture (so 8 x 8 merged tokens), tied embeddings, float32. The same sizes also come as
a Qwen2.5-VL (windows of 4 x 4 merged tokens, full attention in the last block) and as a text-only Qwen3.
The module is imported only where a model is wanted: it needs torch and transformers.
"""

from collections.abc import Callable
from typing import Any

import torch  # noqa: TID253
from transformers import (  # noqa: TID253
    Cache,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.batch import Batch
from pixelis_pipeline.agent.pixels import MERGE, PATCH, SIDE
from pixelis_pipeline.records import Json

Model = Qwen3VLForConditionalGeneration | Qwen2_5_VLForConditionalGeneration | Qwen3ForCausalLM
Config = Qwen3VLConfig | Qwen2_5_VLConfig | Qwen3Config
ROPE: Json = {"rope_type": "default", "rope_theta": 1e6}
# The `model_type` of config.json -> the classes of transformers.
CLASSES: dict[str, tuple[type[Any], type[Any]]] = {
    "qwen3_vl": (Qwen3VLConfig, Qwen3VLForConditionalGeneration),
    "qwen2_5_vl": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


def configuration(hidden: int = 128, layers: int = 4, vision: int = 96, depth: int = 3) -> Qwen3VLConfig:
    """The architecture; tests pass smaller sizes. Heads are 32 wide."""
    sight = _sight(hidden, vision, depth) | {
        "num_position_embeddings": (SIDE // PATCH) ** 2,
        "deepstack_visual_indexes": [],
    }
    rope = {**ROPE, "mrope_section": [6, 5, 5], "mrope_interleaved": True}
    text = _text(hidden, layers) | {"rope_parameters": rope}
    return Qwen3VLConfig(text_config=text, vision_config=sight, **_ids())


def qwen2_5(hidden: int = 128, layers: int = 4, vision: int = 96, depth: int = 3) -> Qwen2_5_VLConfig:
    """The same sizes as a Qwen2.5-VL."""
    sight = _sight(hidden, vision, depth) | {
        "window_size": 4 * MERGE * PATCH,
        "fullatt_block_indexes": [depth - 1],
    }
    text = _text(hidden, layers) | {"rope_parameters": {**ROPE, "mrope_section": [6, 5, 5]}}
    return Qwen2_5_VLConfig(text_config=text, vision_config=sight, **_ids())


def text_only(hidden: int = 128, layers: int = 4) -> Qwen3Config:
    """The same sizes as a Qwen3, which sees no picture."""
    return Qwen3Config(**_text(hidden, layers), rope_parameters=ROPE, dtype="float32")


MAKERS: dict[str, Callable[..., Config]] = {
    "qwen3_vl": configuration,
    "qwen2_5_vl": qwen2_5,
    "qwen3": text_only,
}


def _text(hidden: int, layers: int) -> Json:
    return {
        "vocab_size": words.shared().get_vocab_size(),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 32,
        "num_key_value_heads": hidden // 32,
        "head_dim": 32,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "pad_token_id": words.token(words.PAD),
        "eos_token_id": words.token("</answer>"),
        "bos_token_id": None,
    }


def _sight(hidden: int, vision: int, depth: int) -> Json:
    return {
        "depth": depth,
        "hidden_size": vision,
        "intermediate_size": 2 * vision,
        "num_heads": vision // 32,
        "patch_size": PATCH,
        "temporal_patch_size": 1,
        "spatial_merge_size": MERGE,
        "out_hidden_size": hidden,
    }


def _ids() -> Json:
    return {
        "image_token_id": words.token(words.IMAGE),
        "video_token_id": words.token(words.VIDEO),
        "vision_start_token_id": words.token("<vision>"),
        "vision_end_token_id": words.token("</vision>"),
        "tie_word_embeddings": True,
        "dtype": "float32",
    }


def build(config: Config, seed: int) -> Model:
    """A fresh model with the stock initialisation."""
    torch.manual_seed(seed)
    return CLASSES[config.model_type][1](config)


def parameters(model: Model) -> int:
    """How many weights there are, tied ones counted once."""
    return sum(weight.numel() for weight in model.parameters())


def sees(model: Model) -> bool:
    """Whether the model has a vision tower."""
    return hasattr(model.config, "vision_config")


def hidden_states(model: Model, batch: Batch, past: Cache | None = None) -> torch.Tensor:
    """Last hidden states [batch, length, hidden] of the batch's tokens; where `past` holds the tokens before
    them, its attention covers those too. ValueError where a model without sight is given pictures."""
    if not sees(model) and batch.pixels is not None:
        raise ValueError("the model has no vision tower, its batch holds pictures")
    sight = {"pixel_values": batch.pixels, "image_grid_thw": batch.grid} if sees(model) else {}
    out = model.model(
        input_ids=batch.ids,
        attention_mask=batch.attention,
        position_ids=batch.positions if sees(model) else batch.positions[0],
        past_key_values=past,
        use_cache=past is not None,
        **sight,
    )
    return out.last_hidden_state


def from_json(stored: Json) -> Config:
    """The configuration that a checkpoint's config.json holds.

    ValueError for another architecture, and for anything but the sizes that is not nano's own: the reader of
    rollouts goes by its activation, attention and positions. What is given is made anew, so that nothing of
    the file but the sizes gets into a model.
    """
    kind = str(stored.get("model_type"))
    if kind not in CLASSES:
        raise ValueError(f"config.json holds a model of type {kind!r}, not {', '.join(CLASSES)}")
    found = CLASSES[kind][0].from_dict(stored)
    text, sight = found.get_text_config(), getattr(found, "vision_config", None)
    sizes = {"hidden": text.hidden_size, "layers": text.num_hidden_layers}
    if sight is not None:
        sizes |= {"vision": sight.hidden_size, "depth": sight.depth}
    made = MAKERS[kind](**sizes)
    theirs, ours = (_plain(each.to_dict()) for each in (found, made))
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            raise ValueError(f"config.json sets {name} to {theirs.get(name)!r}; nano has {ours.get(name)!r}")
    return made


def _plain(tree: Json, before: str = "") -> Json:
    """Dotted name -> value, but for what a library notes down of itself."""
    flat: Json = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _plain(value, f"{before}{name}.")
        elif name not in ("transformers_version", "architectures", "_name_or_path"):
            flat[f"{before}{name}"] = value
    return flat
