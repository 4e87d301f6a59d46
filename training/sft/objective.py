"""Masked imitation and the auxiliary heads (specification section 3).

    L = L_imit + auxiliary L_aux,    L_imit = -sum w_t log p_t / sum w_t    with label smoothing

The language head is asked only where a token is learned: most of a row is what the policy reads. The policy
is any causal model of transformers, plain or under peft; what its backbone takes comes out of the collator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch  # noqa: TID253

from pixelis_pipeline.agent.pixels import Image
from training import distributed
from training.sft.examples import Example
from training.sft.heads import Heads
from training.sft.pool import Pool, Rows, nano_rows

Inputs = dict[str, Any]
LESSON = ("weights", "where", "aims")  # entries of a batch that are not the backbone's


@dataclass(frozen=True, slots=True)
class Told:
    """The learned tokens of a batch, in row order: `scores` [n, vocabulary] log-probabilities before each,
    `ids` and `weights` [n]."""

    scores: torch.Tensor
    ids: torch.Tensor
    weights: torch.Tensor


def inputs(examples: Sequence[Example], images: Sequence[Sequence[Image]], rows: Rows = nano_rows) -> Inputs:
    """The collator: the backbone's arguments for examples, each with the pictures it shows, and the lesson:
    `weights` of every token but the first [rows, length - 1] and what the heads are to say, each of `aims` at
    the (row, column) that is its row of `where` [n, 2]."""
    given = rows([each.ids for each in examples], [image for shown in images for image in shown])
    weights = torch.zeros(given["input_ids"].shape)
    for row, each in enumerate(examples):
        weights[row, : len(each.weights)] = torch.from_numpy(each.weights)
    asked = [(row, turn) for row, each in enumerate(examples) for turn in each.turns if turn.aims]
    return given | {
        "weights": weights[:, 1:],
        "where": torch.tensor([(row, turn.last) for row, turn in asked], dtype=torch.long).reshape(-1, 2),
        "aims": [turn.aims for _, turn in asked],
    }


def lesson(part: Pool, device: torch.device) -> Inputs:
    """A part of a pool as a batch on a device, nothing hidden."""
    given = inputs(part.examples, part.images, part.rows)
    return {
        name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in given.items()
    }


def told(model: Any, given: Inputs) -> tuple[Told, torch.Tensor]:
    """What the policy gives to the learned tokens, and its hidden states [rows, length, width]."""
    policy = model.get_base_model() if hasattr(model, "get_base_model") else model  # adapters lie within
    seen = {name: value for name, value in given.items() if name not in LESSON}
    hidden = policy.base_model(**seen, use_cache=False).last_hidden_state
    learned = given["weights"] > 0
    scores = policy.get_output_embeddings()(hidden[:, :-1][learned]).float().log_softmax(-1)
    return Told(scores, given["input_ids"][:, 1:][learned], given["weights"][learned]), hidden


def imitation(said: Told, smoothing: float, total: torch.Tensor | None = None) -> torch.Tensor:
    """The weighted mean loss in nats a token; of a part of a batch, its share in the loss of the whole, whose
    weights come to `total`."""
    surprise = -said.scores.gather(1, said.ids[:, None])[:, 0]
    smooth = (1 - smoothing) * surprise - smoothing * said.scores.mean(-1)
    return (smooth * said.weights).sum() / (said.weights.sum() if total is None else total)


def objective(
    model: Any,
    heads: Heads,
    given: Inputs,
    smoothing: float,
    auxiliary: float,
    total: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(the imitation loss, the weighted loss of the heads) of a batch; they are to be added and lowered.
    `total` as in `imitation`."""
    said, hidden = told(model, given)
    imitated = imitation(said, smoothing, total)
    if not given["aims"] or not auxiliary:
        return imitated, imitated.new_zeros(())
    rows, columns = given["where"].unbind(1)
    return imitated, auxiliary * heads.loss(hidden[rows, columns], given["aims"])


def dev_loss(model: Any, held: Pool, size: int) -> float:
    """Mean imitation loss over a pool, none of it smoothed or hidden. Processes that train together share the
    pool and learn the same number. ValueError for an empty one."""
    if not held.examples:
        raise ValueError("there is no example to measure on")
    parts, losses = list(held.parts(size)), []
    with torch.no_grad():
        for start in range(0, len(parts), distributed.processes()):
            place = start + distributed.rank()
            # Weights that are split are gathered by all: a process without a part of its own reads along.
            part = parts[min(place, len(parts) - 1)]
            loss = distributed.as_forward(model, model, partial(_plain, model, part))
            if place < len(parts):
                losses.append(len(part.examples) * loss)
    distributed.split_again(model)
    return distributed.total(sum(losses), model.device) / len(held.examples)


def _plain(model: Any, part: Pool) -> float:
    return imitation(told(model, lesson(part, model.device))[0], 0.0).item()
