"""The full-size architectures of a few thousand weights, with a tokenizer of Qwen's marks, on disk."""

from dataclasses import replace
from pathlib import Path

import torch

from pixelis_pipeline.agent import render, skeleton
from pixelis_pipeline.agent.nano import CLASSES
from pixelis_pipeline.agent.published import POLICIES, Published
from pixelis_pipeline.settings import PolicySettings

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<tool_response>"),
    *("</tool_response>", "<think>", "</think>"),
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32768,
    "vocab_size": 256 + len(SPECIAL),
}
SIGHT = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}


def tokenizer():
    """Letters are bytes; the marks of the Qwen models are one token each."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in SPECIAL])
    return made


def small(name: str) -> Published:
    """The published policy, shrunk: patches, windows and layout stay."""
    whole = POLICIES[name]
    rope = {**whole.text["rope_parameters"]}
    if "mrope_section" in rope:
        rope["mrope_section"] = [4, 2, 2]
    text = {**whole.text, **TEXT, "rope_parameters": rope}
    if "head_dim" in text:
        text["head_dim"] = 16
    vision = {**whole.vision, **SIGHT} if whole.vision else {}
    if "fullatt_block_indexes" in vision:
        vision["fullatt_block_indexes"] = [1]
    if "deepstack_visual_indexes" in vision:
        vision["deepstack_visual_indexes"] = [0]
    return replace(whole, text=text, vision=vision)


def write(name: str, folder: Path) -> Published:
    """Shaken weights, so that what is said depends on what is shown; gives the numbers they have."""
    named, words = small(name), tokenizer()
    config = skeleton.configuration(named)
    for mark in ("image", "video"):
        setattr(config, f"{mark}_token_id", words.token_to_id(f"<|{mark}_pad|>"))
    torch.manual_seed(5)
    model = CLASSES[named.kind][1](config).float()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn_like(weight)
    model.save_pretrained(folder)
    words.save(str(folder / "tokenizer.json"))
    return named


def known(name: str, patch) -> None:
    """The small one goes by the published one's name for as long as `patch` (pytest's MonkeyPatch) holds. Its
    system turn is cut short: letters are tokens here, and the tools' schemas are 9,000 of them."""
    patch.setattr(render, "INSTRUCTIONS", "Answer the question about {picture}.")
    patch.setitem(POLICIES, name, small(name))


def limits(name: str, folder: Path, patch, **changes) -> PolicySettings:
    """Settings that name such a policy, written to `folder` and `known`."""
    write(name, folder)
    known(name, patch)
    few = {"turns": 2, "tokens_per_turn": 12, "picture_tokens_least": 4}
    return PolicySettings(name=name, weights=str(folder), device="cpu", dtype="float32", **{**few, **changes})
