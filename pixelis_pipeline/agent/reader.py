"""The nano policy reading conversations that begin alike: what they share is kept, and read, once.

At nano's size a token costs the reading of its conversation's keys and values. The rollouts of one question
share those of the question and its pictures, more than half. So the queries of all of them meet these in one
product, and the softmax is taken over both parts (Juravsky et al. 2024, Hydragen, arXiv 2402.05099, §3.1).
What transformers' model computes is computed here, but for rounding, from the weights of its own modules and
without its cost a call. It holds for the text models of Qwen3-VL, Qwen2.5-VL and Qwen3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch  # noqa: TID253
from torch.nn.functional import linear, silu  # noqa: TID253
from transformers import DynamicCache  # noqa: TID253

from pixelis_pipeline.agent import nano
from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.batch import Batch

ROOM = 64  # tokens of room that new memory has


@dataclass(slots=True)
class _Layer:
    """A decoder layer: the projections of one input as one matrix, which takes in the weights of the norm
    before it, and those of the norm of queries and keys [2 x heads, width], where there is one; what scales
    scores is in the last of these that queries pass. What it remembers: keys [prompts or rows, heads, width,
    tokens] and values [prompts or rows, heads, tokens, width]."""

    qkv: torch.Tensor
    bias: torch.Tensor | None
    norm: torch.Tensor | None
    out: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    shared_keys: torch.Tensor
    shared_values: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor


class Reader:
    """So many copies of each prompt, one after the other, that are read on each for itself. `prompts`
    [prompts, tokens, hidden] are the hidden states of the prompts, which are padded on the left. ValueError
    for a model whose queries share keys, as no nano policy's do."""

    @torch.inference_mode()
    def __init__(self, model: nano.Model, prompts: Batch, copies: Sequence[int]) -> None:
        config = model.config.get_text_config()
        if config.num_attention_heads != config.num_key_value_heads:
            raise ValueError(
                f"{config.num_attention_heads} heads share {config.num_key_value_heads} keys: not read here"
            )
        past = DynamicCache(config=config)
        self.prompts = nano.hidden_states(model, prompts, past)
        rows = sum(copies)
        self._model = model
        self._epsilon = config.rms_norm_eps
        self._text: Any = model.model.language_model if nano.sees(model) else model.model
        self._layers = [_layer(*each, rows) for each in zip(self._text.layers, past.layers, strict=True)]
        self._read = 0  # tokens that each row's own memory holds
        self._there = torch.zeros(rows, 0, dtype=torch.bool)
        self._unshared = _closed(~prompts.attention.bool())[:, None, None]
        self._group(torch.arange(len(copies)).repeat_interleave(torch.tensor(copies)))

    def _group(self, prompt: torch.Tensor) -> None:
        """Take note which prompt each row has: `_spread` puts the rows into a grid [prompts, most rows of
        one], in places without a row any, and `_back` takes them out of it."""
        self._prompt, counts = prompt, prompt.bincount(minlength=len(self._unshared))
        start, most = counts.cumsum(0) - counts, int(counts.max())
        self._back = prompt * most + torch.arange(len(prompt)) - start[prompt]
        self._spread = torch.zeros(len(counts) * most, dtype=torch.long)
        self._spread[self._back] = torch.arange(len(prompt))
        self._whole = len(self._spread) == len(prompt)  # as many rows of one prompt as of another

    @torch.inference_mode()
    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, in ascending order."""
        prompts, prompt = self._prompt[rows].unique(return_inverse=True)
        for layer in self._layers:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
            if len(prompts) < len(self._unshared):
                layer.shared_keys = layer.shared_keys[prompts]
                layer.shared_values = layer.shared_values[prompts]
        self._there, self._unshared = self._there[rows], self._unshared[prompts]
        self._group(prompt)

    @torch.inference_mode()
    def read(self, block: Batch) -> torch.Tensor:
        """Hidden states [rows, tokens, hidden] of the next tokens; padding stands after a row's tokens."""
        hidden = self._text.embed_tokens(block.ids)
        if block.pixels is not None:
            assert nano.sees(self._model)
            sight = self._model.model.get_image_features(block.pixels, block.grid, return_dict=True)
            hidden[block.ids == words.token(words.IMAGE)] = torch.cat(list(sight.pooler_output))
        cos, sin = self._text.rotary_emb(
            hidden, block.positions if nano.sees(self._model) else block.positions[0]
        )
        if cos.ndim == 4:  # of Qwen2.5-VL: time, row and column apart
            sizes = self._text.config.rope_parameters["mrope_section"] * 2
            cos, sin = (
                torch.cat([part[k % 3] for k, part in enumerate(each.split(sizes, -1))], -1)
                for each in (cos, sin)
            )
        count = block.ids.shape[1]
        if not count:
            return hidden
        start, stop = self._read, self._read + count
        if stop > self._there.shape[1]:
            self._make_room(stop + ROOM)
        self._there[:, start:stop] = block.attention.bool()
        seen = self._there[:, None, :stop]
        if count > 1:
            seen = seen & torch.ones(count, stop, dtype=torch.bool).tril(start)
        closed = _closed(~seen)[:, None]
        self._read = stop
        turn = cos[:, :, None], sin[:, :, None]
        for layer in self._layers:
            hidden = hidden + self._attended(layer, self._normed(hidden), turn, closed)
            gate, up = linear(self._normed(hidden), layer.gate_up).chunk(2, -1)
            hidden = hidden + linear(silu(gate) * up, layer.down)
        return self._normed(hidden) * self._text.norm.weight

    def _attended(
        self,
        layer: _Layer,
        hidden: torch.Tensor,
        turn: tuple[torch.Tensor, torch.Tensor],
        closed: torch.Tensor,
    ) -> torch.Tensor:
        """What a layer's attention adds [rows, tokens, hidden]; `closed` is 0 where a token looks into its
        row's own memory, and -inf where it must not."""
        rows, count, _ = hidden.shape
        stop = closed.shape[-1]
        start = stop - count
        _, heads, width, _ = layer.keys.shape
        projected = linear(hidden, layer.qkv, layer.bias).view(rows, count, -1, width)
        turned, value = projected.tensor_split([2 * heads], 2)
        if layer.norm is not None:
            turned = self._normed(turned) * layer.norm
        query, key = _turned(turned, *turn).chunk(2, 2)
        layer.keys[..., start:stop] = key.permute(0, 2, 3, 1)
        layer.values[:, :, start:stop] = value.transpose(1, 2)
        query = query.transpose(1, 2)
        common = self._apart(self._alike(query) @ layer.shared_keys + self._unshared, count)
        own = query @ layer.keys[..., :stop] + closed
        chances = torch.cat([common, own], -1).softmax(-1)
        common, own = chances.tensor_split([common.shape[-1]], -1)
        found = (
            self._apart(self._alike(common) @ layer.shared_values, count) + own @ layer.values[:, :, :stop]
        )
        return linear(found.transpose(1, 2).flatten(2), layer.out)

    def _normed(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of mean square 1; weights are applied elsewhere."""
        return rows * (rows.square().mean(-1, keepdim=True) + self._epsilon).rsqrt()

    def _alike(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows [rows, heads, tokens, n], those of one prompt below each other [prompts, heads, -1, n]."""
        grid = rows if self._whole else rows[self._spread]
        grid = grid.unflatten(0, (len(self._unshared), -1))
        return grid.transpose(1, 2).flatten(2, 3)

    def _apart(self, grid: torch.Tensor, count: int) -> torch.Tensor:
        """The inverse of `_alike` for rows of `count` tokens."""
        rows = grid.unflatten(2, (-1, count)).transpose(1, 2).flatten(0, 1)
        return rows if self._whole else rows[self._back]

    def _make_room(self, tokens: int) -> None:
        there = self._there.new_zeros(len(self._there), tokens)
        there[:, : self._read] = self._there[:, : self._read]
        self._there = there
        for layer in self._layers:
            rows, heads, width, _ = layer.keys.shape
            keys, values = (
                layer.keys.new_empty(rows, heads, *size) for size in ((width, tokens), (tokens, width))
            )
            keys[..., : self._read] = layer.keys[..., : self._read]
            values[:, :, : self._read] = layer.values[:, :, : self._read]
            layer.keys, layer.values = keys, values


def _layer(module: Any, past: Any, rows: int) -> _Layer:
    attention, mlp = module.self_attn, module.mlp
    parts = attention.q_proj, attention.k_proj, attention.v_proj
    heads, width = past.keys.shape[1], past.keys.shape[3]
    qkv, norm = torch.cat([part.weight for part in parts]) * module.input_layernorm.weight, None
    bias = None if parts[0].bias is None else torch.cat([part.bias for part in parts])
    if hasattr(attention, "q_norm"):
        norms = attention.q_norm.weight * attention.scaling, attention.k_norm.weight
        norm = torch.cat([each.expand(heads, width) for each in norms])
    else:
        qkv[: heads * width] *= attention.scaling
        if bias is not None:
            bias[: heads * width] *= attention.scaling
    return _Layer(
        qkv,
        bias,
        norm,
        attention.o_proj.weight,
        torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * module.post_attention_layernorm.weight,
        mlp.down_proj.weight,
        past.keys.transpose(2, 3).contiguous(),
        past.values.contiguous(),
        past.keys.new_empty(rows, heads, width, 0),
        past.values.new_empty(rows, heads, 0, width),
    )


def _closed(where: torch.Tensor) -> torch.Tensor:
    """What a score has added: -inf where it must not count."""
    return torch.zeros(where.shape).masked_fill(where, -torch.inf)


def _turned(rows: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of [rows, tokens, heads, width]."""
    first, second = rows.chunk(2, -1)
    return rows * cos + torch.cat([-second, first], -1) * sin
