"""The arithmetic of docs/COMPUTE_BUDGET.md, against counts that torch makes and sums made by hand."""

import pytest

from benchmarks import budget
from benchmarks.budget import Anchor, Gpu, activations, forward, hours, length, memory, page
from pixelis_pipeline.agent.published import POLICIES
from pixelis_pipeline.settings import PolicySettings

SETTINGS = PolicySettings()
ANCHOR = Anchor(weights=1_000_000, row=400, trained=1e4, decoded=2e3, flops=2e10, product=5e10)


@pytest.fixture(scope="module")
def shapes():
    return {name: budget.shape(published) for name, published in POLICIES.items()}


def test_weights_adapters_and_cache_of_qwen3_8b_by_hand(shapes):
    of = shapes["qwen3-8b"]
    assert of.decoder == 8_190_735_360 - 151_936 * 4096 and of.tower == 0
    # q and o 4096 + 4096, k and v 4096 + 1024, gate, up and down 4096 + 12288, in 36 layers
    assert of.adapters == 36 * (2 * 8192 + 2 * 5120 + 3 * 16384)
    assert of.cached == 36 * 2 * 8 * 128 * 2  # layers, keys and values, shared heads, width, bytes
    held = memory(of, "sft", 1, SETTINGS)
    assert held.weights == 2 * 8_190_735_360 and held.cache == 0
    assert held.adapters == held.gradients == held.optimiser / 2 == 4 * 64 * of.adapters
    assert memory(of, "full", 8, SETTINGS).optimiser == 12 * 8_190_735_360 / 8


def test_the_cache_is_as_large_as_transformers_makes_it():
    """Of nano, in float32: twice the bytes of bfloat16."""
    import torch
    from transformers import DynamicCache

    from pixelis_pipeline.agent import nano
    from pixelis_pipeline.agent.published import Published

    model = nano.build(nano.text_only(hidden=64, layers=3), 0)
    config = model.config.to_dict()
    past = DynamicCache(config=model.config)
    with torch.no_grad():
        model.model(input_ids=torch.ones(2, 10, dtype=torch.long), past_key_values=past, use_cache=True)
    held = sum(part.nbytes for layer in past.layers for part in (layer.keys, layer.values))
    of = budget.Shape(Published("", "", "qwen3", 0, config), 0, 0, 0)
    assert held == 2 * 10 * of.cached * 2


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_forward_pass_is_what_torch_counts(shapes, name):
    """On the meta device: no number is computed. Torch counts the whole square of attention, the formula the
    half below the diagonal."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from pixelis_pipeline.agent import skeleton

    of, tokens = shapes[name], 256
    model = skeleton.build(of.published)
    language = model.model.language_model if of.tower else model.model
    # A mask that is given is not made from numbers, which the meta device has not.
    unmasked = {} if of.tower else {"attention_mask": {"full_attention": None}}
    with FlopCounterMode(display=False) as counter, torch.device("meta"), torch.no_grad():
        places = torch.zeros((3, 1, tokens) if of.tower else (1, tokens), dtype=torch.long)
        seen = torch.empty(1, tokens, of.hidden, dtype=model.dtype)
        hidden = language(
            inputs_embeds=seen, position_ids=places, use_cache=False, **unmasked
        ).last_hidden_state
        model.lm_head(hidden)
    counted = counter.get_total_flops()
    square = 2.0 * of.layers * tokens**2 * of.attention
    assert forward(of, tokens) + square == pytest.approx(counted, rel=0.01)


def test_a_picture_costs_its_tower_and_a_window_less_than_the_whole(shapes):
    sighted = shapes["qwen3-vl-8b"]
    alone = forward(sighted, 1000, 4096) - forward(sighted, 1000)
    width, depth = 1152, 27
    assert alone == pytest.approx(4096 * (2 * sighted.tower + 4 * 4096 * depth * width))
    windows = shapes["qwen2.5-vl-7b"]
    grown = forward(windows, 1000, 8192) - forward(windows, 1000, 4096)
    assert grown < 2.5 * (forward(windows, 1000, 4096) - forward(windows, 1000))


def test_hours_follow_from_flops_and_from_the_rate_of_memory(shapes):
    of, slow, fast = shapes["qwen3-8b"], Gpu("a", 1e14, 1e12), Gpu("b", 2e14, 1e12)
    took, faster = hours(of, slow, SETTINGS), hours(of, fast, SETTINGS)
    flops = 76_000 * 3 * 3 * forward(of, length(of, SETTINGS).tokens)
    assert took.sft == pytest.approx(flops / (1e14 * budget.USED) / 3600)
    assert faster.sft == took.sft / 2 and faster.decode == took.decode
    assert took.rft - took.decode == pytest.approx(2 * (faster.rft - faster.decode))
    assert length(shapes["qwen3-vl-8b"], SETTINGS).tokens > length(of, SETTINGS).tokens + 1024


def test_activations_grow_with_the_row_and_the_page_says_what_does_not_fit(shapes):
    of = shapes["qwen3-vl-8b"]
    assert activations(of, 2000) == pytest.approx(2 * activations(of, 1000))
    told = page(ANCHOR, list(shapes.values()), SETTINGS)
    full = [line for line in told.splitlines() if line.startswith("| full fine-tuning")]
    assert len(full) == 6 and all(("**no**" in line) == ("| 1 |" in line) for line in full)
    sft = [line for line in told.splitlines() if line.startswith("| SFT, adapters")]
    assert len(sft) == 6 and all(line.endswith("| yes |") for line in sft)
    assert "| utilisation, the one over the other | 40 % |" in told
    for published in POLICIES.values():
        assert f"{published.parameters:,}" in told and published.revision in told
