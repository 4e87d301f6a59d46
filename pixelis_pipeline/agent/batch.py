"""Token rows and pictures as one padded batch. Image tokens are counted here, and never dropped."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
import torch  # noqa: TID253

from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.pixels import GRID, MERGE, TOKENS, Image, patches


class ImageTokenMismatch(ValueError):
    """A row whose image tokens do not fit its picture."""


@dataclass(frozen=True, slots=True)
class Batch:
    """`ids` [batch, length] int64; `attention` [batch, length] int64, longer where tokens were read before;
    `positions` [3, batch, length] int64; `pixels` [256 * pictures, 192] float32 and `grid` [pictures, 3]
    int64, None where no row has a picture."""

    ids: torch.Tensor
    attention: torch.Tensor
    positions: torch.Tensor
    pixels: torch.Tensor | None
    grid: torch.Tensor | None


def runs(row: Sequence[int], image: int) -> list[int]:
    """Lengths of the unbroken runs of image tokens in a row, in order."""
    return [len(list(run)) for token, run in groupby(row) if token == image]


def check_tokens(rows: Sequence[Sequence[int]], image: int, counts: Sequence[int]) -> None:
    """Raise ImageTokenMismatch unless the rows' runs of image tokens are the pictures' `counts`, in order."""
    held = [(index, length) for index, row in enumerate(rows) for length in runs(row, image)]
    if len(held) != len(counts):
        raise ImageTokenMismatch(f"the rows have places for {len(held)} pictures, there are {len(counts)}")
    for place, ((index, length), count) in enumerate(zip(held, counts, strict=True)):
        if length != count:
            raise ImageTokenMismatch(
                f"row {index} holds {length} image tokens for picture {place}, which needs {count}"
            )


def rope_positions(ids: torch.Tensor, attention: torch.Tensor, image_id: int) -> torch.Tensor:
    """Multimodal rotary positions [3, batch, length]: text counts on by one; an image stands at its start
    plus (0, row, column) and moves the count on by GRID. The same numbers as Qwen3VLModel.get_rope_index,
    for all rows at once (a test holds that)."""
    image = (ids == image_id) & attention.bool()
    text = attention.long() * ~image
    before = image.long().cumsum(-1) - image.long()
    inside = before % TOKENS
    start = text.cumsum(-1) - text + before // TOKENS * GRID
    place = torch.stack([start, start + inside // GRID, start + inside % GRID])
    return torch.where(image, place, start.expand(3, -1, -1)) * attention.long()


def collate(rows: Sequence[Sequence[int]], images: Sequence[Image], side: Literal["left", "right"]) -> Batch:
    """Rows of token ids, padded on `side`, and the pictures (uint8 RGB) they hold a place for, in order.

    Raises ImageTokenMismatch where a run of image tokens is not as long as its picture needs, or has none.
    """
    image_id, pad = words.token(words.IMAGE), words.token(words.PAD)
    check_tokens(rows, image_id, [TOKENS] * len(images))
    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), pad)
    attention = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        where = slice(length - len(row), None) if side == "left" else slice(len(row))
        ids[index, where] = torch.tensor(row)
        attention[index, where] = 1
    positions = rope_positions(ids, attention, image_id)
    if not images:
        return Batch(ids, attention, positions, None, None)
    return Batch(ids, attention, positions, *cut(images))


def cut(images: Sequence[Image]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (uint8 RGB, at least one) as `pixels` and `grid` of a batch."""
    pixels = torch.from_numpy(np.concatenate([patches(image) for image in images]))
    return pixels, torch.tensor([[1, GRID * MERGE, GRID * MERGE]]).expand(len(images), 3)
