"""The two losses of pre-training: the answers' tokens, and what stands in each visual token's cell.

Grounding from scratch hardly starts from the answers alone; with the dense targets it is learned in
minutes. They are told in the text model's own words: a visual token must name its cell's kind, colour and
box through the tied embeddings, so that answering is copying. Numbers read off the picture are scored
against a bell around the truth instead of the one exact number, since a box one per mille off is not wrong.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch  # noqa: TID253
from torch import nn  # noqa: TID253
from torch.nn import functional  # noqa: TID253

from pixelis_pipeline.agent import nano
from pixelis_pipeline.agent import tokenizer as words
from training.base.data import Step
from training.base.scenes import KINDS, TINTS, Cells

BELL = 8.0  # standard deviation of the bell, in wire units (per mille)


class CellHead(nn.Module):
    """Six linear readings of a visual token (kind, colour, four edges) in the space of the embeddings. Used
    in pre-training only."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.read = nn.Linear(hidden, 6 * hidden)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[cells, hidden] -> [cells, 6, hidden]."""
        return self.read(tokens).unflatten(-1, (6, -1))


def bell_loss(scores: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Summed divergence of log-probabilities of the numbers 0-999 [n, 1000] from bells around int64
    `values` [n]."""
    away = torch.arange(len(words.NUMBERS), dtype=torch.float32)[None] - values[:, None]
    bell = torch.softmax(-0.5 * (away / BELL) ** 2, dim=1)
    return torch.xlogy(bell, bell).sum() - (bell * scores).sum()


def answer_loss(logits: torch.Tensor, targets: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Summed loss over answer tokens: logits [n, vocabulary], targets int64 [n], seen bool [n]. The
    divergence from the target, which for a hard target is the cross-entropy."""
    scores = logits.log_softmax(-1)
    hard = -scores[~seen].gather(1, targets[~seen, None]).sum()
    zero = words.token("0")
    numbers = scores[seen, zero : zero + len(words.NUMBERS)]
    return hard + bell_loss(numbers, targets[seen] - zero)


def cell_loss(
    head: CellHead, table: torch.Tensor, tokens: torch.Tensor, cells: Sequence[Cells]
) -> torch.Tensor:
    """Cross-entropy of kind and colour over all cells, plus the mean bell loss of the edges over the covered
    ones. `table` [vocabulary, hidden] are the embeddings, `tokens` [cells, hidden] the visual tokens."""
    kind, tint, box = (
        torch.from_numpy(np.concatenate([getattr(c, name) for c in cells]))
        for name in ("kind", "tint", "box")
    )
    said = head(tokens)
    covered = kind > 0
    edges = (said[covered, 2:] @ table[_rows(map(str, words.NUMBERS))].T).log_softmax(-1)
    return (
        functional.cross_entropy(said[:, 0] @ table[_rows(f" {word}" for word in KINDS)].T, kind)
        + functional.cross_entropy(said[:, 1] @ table[_rows(f" {word}" for word in TINTS)].T, tint)
        + bell_loss(edges.flatten(0, 1), box[covered].flatten()) / max(1, box[covered].numel())
    )


def _rows(entries: Iterable[str]) -> torch.Tensor:
    return torch.tensor([words.token(entry) for entry in entries])


def losses(model: nano.Model, head: CellHead, step: Step) -> tuple[torch.Tensor, torch.Tensor]:
    """(answer loss a token, cell loss over all pictures) of a step's lessons; an answer loss of 0 where there
    are pictures alone."""
    said, learned = torch.zeros(()), 0
    tokens: list[torch.Tensor] = []
    cells: list[Cells] = []

    def look(pixels: torch.Tensor, grid: torch.Tensor, held: Sequence[Cells]) -> Any:
        sight = model.model.get_image_features(pixels, grid, return_dict=True)
        tokens.extend(sight.pooler_output)
        cells.extend(held)
        return sight

    for lessons in step.parts:
        batch, sight = lessons.batch, None
        if batch.pixels is not None and batch.grid is not None:
            sight = look(batch.pixels, batch.grid, lessons.cells)
        hidden = model.model(
            input_ids=batch.ids,
            attention_mask=batch.attention,
            position_ids=batch.positions,
            mm_encoder_outputs={"image": sight},
            use_cache=False,
        ).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][lessons.learned])
        said = said + answer_loss(logits, batch.ids[:, 1:][lessons.learned], lessons.seen[lessons.learned])
        learned += int(lessons.learned.sum())
    if step.pictures is not None:
        look(step.pictures.pixels, step.pictures.grid, step.pictures.cells)
    return said / max(1, learned), cell_loss(head, model.lm_head.weight, torch.cat(tokens), cells)
