"""`nano`: a Qwen3-VL of under two million parameters, so that a whole learning run fits on two cores.

Departures from a stock Qwen3-VL, all of them in the configuration: no deepstack mergers, 8-pixel patches
on a fixed 128 x 128 picture (so 8 x 8 merged tokens), tied embeddings, float32. The module is imported only
where a model is wanted: it needs torch and transformers.
"""

import torch  # noqa: TID253
from transformers import Cache, Qwen3VLConfig, Qwen3VLForConditionalGeneration  # noqa: TID253

from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.batch import Batch
from pixelis_pipeline.agent.pixels import MERGE, PATCH, SIDE
from pixelis_pipeline.records import Json

Model = Qwen3VLForConditionalGeneration


def configuration(hidden: int = 128, layers: int = 4, vision: int = 96, depth: int = 3) -> Qwen3VLConfig:
    """The architecture; tests pass smaller sizes. Heads are 32 wide."""
    text = {
        "vocab_size": words.shared().get_vocab_size(),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 32,
        "num_key_value_heads": hidden // 32,
        "head_dim": 32,
        "max_position_embeddings": 2048,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        },
        "tie_word_embeddings": True,
        "pad_token_id": words.token(words.PAD),
        "eos_token_id": words.token("</answer>"),
        "bos_token_id": None,
    }
    sight = {
        "depth": depth,
        "hidden_size": vision,
        "intermediate_size": 2 * vision,
        "num_heads": vision // 32,
        "patch_size": PATCH,
        "temporal_patch_size": 1,
        "spatial_merge_size": MERGE,
        "out_hidden_size": hidden,
        "num_position_embeddings": (SIDE // PATCH) ** 2,
        "deepstack_visual_indexes": [],
    }
    return Qwen3VLConfig(
        text_config=text,
        vision_config=sight,
        image_token_id=words.token(words.IMAGE),
        video_token_id=words.token(words.VIDEO),
        vision_start_token_id=words.token("<vision>"),
        vision_end_token_id=words.token("</vision>"),
        tie_word_embeddings=True,
        dtype="float32",
    )


def build(config: Qwen3VLConfig, seed: int) -> Model:
    """A fresh model with the stock initialisation."""
    torch.manual_seed(seed)
    return Qwen3VLForConditionalGeneration(config)


def parameters(model: Model) -> int:
    """How many weights there are, tied ones counted once."""
    return sum(weight.numel() for weight in model.parameters())


def hidden_states(model: Model, batch: Batch, past: Cache | None = None) -> torch.Tensor:
    """Last hidden states [batch, length, hidden] of a whole prompt batch."""
    out = model.model(
        input_ids=batch.ids,
        attention_mask=batch.attention,
        position_ids=batch.positions,
        pixel_values=batch.pixels,
        image_grid_thw=batch.grid,
        past_key_values=past,
        use_cache=past is not None,
    )
    return out.last_hidden_state


def next_states(
    model: Model, ids: torch.Tensor, attention: torch.Tensor, places: torch.Tensor, past: Cache
) -> torch.Tensor:
    """Hidden states [batch, n, hidden] of n more tokens a row: ids and rotary places [batch, n], attention
    [batch, all tokens so far with these]. All of them are text."""
    out = model.model(
        input_ids=ids,
        attention_mask=attention,
        position_ids=places.expand(3, -1, -1),
        past_key_values=past,
        use_cache=True,
    )
    return out.last_hidden_state


def from_json(stored: Json) -> Qwen3VLConfig:
    """The configuration that a checkpoint's config.json holds."""
    return Qwen3VLConfig.from_dict(stored)
