"""What the reader computes is what transformers' own model computes of whole rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pixelis_pipeline.agent import nano
from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.batch import collate
from pixelis_pipeline.agent.pixels import GRID, TOKENS
from pixelis_pipeline.agent.reader import Reader

PICTURE = [words.token("<vision>"), *[words.token(words.IMAGE)] * TOKENS, words.token("</vision>")]
KINDS = {"qwen3_vl": nano.configuration, "qwen2_5_vl": nano.qwen2_5, "qwen3": nano.text_only}


def _text(chance: np.random.Generator, tokens: int) -> list[int]:
    return chance.integers(40, 300, tokens).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_share_their_prompts_are_read_as_if_each_stood_alone(kind: str):
    """Two prompts of unlike length, three copies each; blocks of unlike length, tokens one by one, a picture
    on the way; rows leave, so that one prompt keeps more than the other, and later one keeps none."""
    chance = np.random.default_rng(5)
    model = nano.build(KINDS[kind](hidden=64, layers=2), seed=3).eval()
    for weight in model.parameters():  # stock initialisation is too small for attention to matter
        torch.nn.init.normal_(weight, std=0.15, generator=torch.Generator().manual_seed(weight.numel()))
    sees = nano.sees(model)
    images = [chance.integers(0, 256, (90, 120, 3), np.uint8) for _ in range(4)]
    prompts = [_text(chance, n) + PICTURE * sees + _text(chance, 5) for n in (3, 30)]
    batch = collate(prompts, images[:2] if sees else [], "left")
    reader = Reader(model, batch, [3, 3])
    rows = [[*prompts[k // 3]] for k in range(6)]
    shown = [[images[k // 3]] * sees for k in range(6)]
    alive = list(range(6))
    place = (batch.positions[0].amax(1) + 1).repeat_interleave(3)

    def alone(row: int) -> torch.Tensor:
        with torch.no_grad():
            return nano.hidden_states(model, collate([rows[row]], shown[row], "right"))[0]

    def read(blocks: list[list[int]], crops: list[list[np.ndarray]]) -> None:
        nonlocal place
        block = collate(blocks, [crop for each in crops for crop in each], "right")
        found = reader.read(replace(block, positions=block.positions + place[:, None]))
        for k, row in enumerate(alive):
            rows[row] += blocks[k]
            shown[row] += crops[k]
            if blocks[k]:
                expected = alone(row)[-len(blocks[k]) :]
                torch.testing.assert_close(found[k, : len(blocks[k])], expected, rtol=1e-3, atol=1e-4)
        pictured = torch.tensor([TOKENS * len(each) for each in crops])
        place = place + torch.tensor([len(each) for each in blocks]) - pictured + pictured // TOKENS * GRID

    torch.testing.assert_close(reader.prompts[1, -1], alone(4)[-1], rtol=1e-3, atol=1e-4)
    read([[]] * 6, [[]] * 6)
    read([_text(chance, n) for n in (1, 4, 0, 7, 2, 1)], [[]] * 6)
    for _ in range(70):  # past the first room
        read([_text(chance, int(n)) for n in chance.integers(0, 2, 5)] + [_text(chance, 1)], [[]] * 6)
    for kept in ([0, 1, 2, 4], [0, 2, 3], [0, 2], [1]):
        reader.keep(torch.tensor(kept))
        place, alive = place[kept], [alive[k] for k in kept]
        crops = [[images[3]] if sees and k == 0 else [] for k in range(len(alive))]
        read([_text(chance, 2) + PICTURE * len(crop) + _text(chance, 3) for crop in crops], crops)
        read([_text(chance, 1) for _ in alive], [[]] * len(alive))


def test_queries_that_share_keys_are_refused_and_not_misread():
    config = nano.text_only(hidden=64, layers=1)
    config.num_key_value_heads = 1
    with pytest.raises(ValueError, match="2 heads share 1 keys"):
        Reader(nano.build(config, seed=3), collate([[50, 51]], [], "left"), [1])
