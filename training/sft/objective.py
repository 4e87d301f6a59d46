"""Masked imitation and the auxiliary heads (specification section 3).

    L = L_imit + auxiliary L_aux,    L_imit = -sum w_t log p_t / sum w_t    with label smoothing

The language head is asked only where a token is learned: most of a row is what the policy reads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch  # noqa: TID253

from pixelis_pipeline.agent import nano
from pixelis_pipeline.agent.batch import Batch, collate
from pixelis_pipeline.agent.pixels import Image
from training.sft.aims import Aims
from training.sft.examples import Example
from training.sft.heads import Heads


@dataclass(frozen=True, slots=True)
class Inputs:
    """A padded batch with the loss weight of every token but the first, [rows, length - 1]; and what the
    heads are to say, each of `aims` at (row, column) of `where`."""

    batch: Batch
    weights: torch.Tensor
    where: tuple[list[int], list[int]]
    aims: list[Aims]


@dataclass(frozen=True, slots=True)
class Told:
    """The learned tokens of a batch, in row order: `scores` [n, vocabulary] log-probabilities before each,
    `ids` and `weights` [n]."""

    scores: torch.Tensor
    ids: torch.Tensor
    weights: torch.Tensor


def inputs(examples: Sequence[Example], images: Sequence[Image]) -> Inputs:
    """The collator: examples with a picture each. ImageTokenMismatch where a row's tokens do not fit it."""
    batch = collate([each.ids for each in examples], images, "right")
    weights = torch.zeros(batch.ids.shape)
    for row, each in enumerate(examples):
        weights[row, : len(each.weights)] = torch.from_numpy(each.weights)
    asked = [
        (row, turn.call.stop, turn.aims)
        for row, each in enumerate(examples)
        for turn in each.turns
        if turn.aims
    ]
    where = [row for row, _, _ in asked], [column for _, column, _ in asked]
    return Inputs(batch, weights[:, 1:], where, [aims for _, _, aims in asked])


def told(model: nano.Model, given: Inputs) -> tuple[Told, torch.Tensor]:
    """What the policy gives to the learned tokens, and its hidden states [rows, length, width]."""
    learned = given.weights > 0
    hidden = nano.hidden_states(model, given.batch)
    scores = model.lm_head(hidden[:, :-1][learned]).log_softmax(-1)
    return Told(scores, given.batch.ids[:, 1:][learned], given.weights[learned]), hidden


def imitation(said: Told, smoothing: float) -> torch.Tensor:
    """The weighted mean loss in nats a token."""
    surprise = -said.scores.gather(1, said.ids[:, None])[:, 0]
    smooth = (1 - smoothing) * surprise - smoothing * said.scores.mean(-1)
    return (smooth * said.weights).sum() / said.weights.sum()


def objective(
    model: nano.Model, heads: Heads, given: Inputs, smoothing: float, auxiliary: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss to be lowered, and the part of it that is imitation."""
    said, hidden = told(model, given)
    imitated = imitation(said, smoothing)
    if not given.aims or not auxiliary:
        return imitated, imitated
    return imitated + auxiliary * heads.loss(hidden[given.where], given.aims), imitated


def batches(examples: Sequence[Example], images: Sequence[Image], size: int) -> Iterator[Inputs]:
    """All examples in order, `size` at a time."""
    for start in range(0, len(examples), size):
        yield inputs(examples[start : start + size], images[start : start + size])


def dev_loss(model: nano.Model, examples: Sequence[Example], images: Sequence[Image], size: int) -> float:
    """Mean imitation loss over examples, none of them smoothed or hidden. ValueError for no examples."""
    if not examples:
        raise ValueError("there is no example to measure on")
    with torch.inference_mode():
        parts = batches(examples, images, size)
        total = sum(len(part.weights) * imitation(told(model, part)[0], 0.0).item() for part in parts)
    return total / len(examples)
