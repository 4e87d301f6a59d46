"""The loss of a group of rollouts, and how far the policy stands from its reference.

One optimiser step a batch of rollouts: the ratio to the policy that sampled them is 1, so nothing is clipped
and the gradient is that of A log π, for every token the policy chose, plus β times its k3 divergence
(Schulman 2020: exp(d) - d - 1 for d = log π_ref - log π, never negative). Prompt, picture and observations
are read and carry no loss.
"""

from collections.abc import Sequence

import numpy as np
import torch  # noqa: TID253
from transformers import DynamicCache  # noqa: TID253

from pixelis_pipeline.agent import nano
from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.batch import ImageTokenMismatch, collate
from pixelis_pipeline.agent.decode import scores
from pixelis_pipeline.agent.sampled import Sampled


def log_probs(model: nano.Model, group: Sequence[Sampled], temperature: float) -> torch.Tensor:
    """float32 [tokens said in the group, row after row]: how likely the model finds them, at the temperature
    they were sampled at. The prompt, which a group shares, is read once.

    Raises ImageTokenMismatch where a prompt does not hold exactly its picture's tokens or what follows it
    holds any, ValueError where the prompts differ.
    """
    prompts = {each.ids[: each.prompt] for each in group}
    if len(prompts) != 1:
        raise ValueError(f"a group has one prompt, here are {len(prompts)}")
    tails = [each.ids[each.prompt :] for each in group]
    if any(words.token(words.IMAGE) in tail for tail in tails):
        raise ImageTokenMismatch("an image token stands outside the prompt")
    past = DynamicCache(config=model.config.get_text_config())
    batch = collate([list(*prompts)], [group[0].image], "left")
    before = nano.hidden_states(model, batch, past)[:, -1:].expand(len(group), -1, -1)
    past.batch_repeat_interleave(len(group))
    ids = torch.zeros((len(group), max(map(len, tails))), dtype=torch.long)
    real, said = torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids, dtype=torch.bool)
    for row, (each, tail) in enumerate(zip(group, tails, strict=True)):
        ids[row, : len(tail)], real[row, : len(tail)] = torch.tensor(tail), True
        said[row, : len(tail)] = torch.tensor(each.said[each.prompt :])
    attention = torch.cat([batch.attention.expand(len(group), -1), real.long()], 1)
    places = batch.positions[0].amax(1)[:, None] + 1 + torch.arange(ids.shape[1]).expand_as(ids)
    after = nano.next_states(model, ids, attention, places, past)
    hidden = torch.cat([before, after[:, :-1]], 1)[said]
    return scores(model, hidden, temperature).gather(1, ids[said][:, None])[:, 0]


def divergence(policy: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The k3 estimate of KL(policy || reference) a token, from log-probabilities [tokens] of both."""
    apart = reference - policy
    return apart.exp() - apart - 1


def loss(
    policy: torch.Tensor, reference: torch.Tensor, advantages: torch.Tensor, beta: float
) -> torch.Tensor:
    """The summed loss of tokens: log-probabilities, the reference's, and the advantage of the rollout that
    each stands in, all [tokens]."""
    ratio = (policy - policy.detach()).exp()
    return (beta * divergence(policy, reference) - advantages * ratio).sum()


def spread(values: Sequence[float], group: Sequence[Sampled]) -> torch.Tensor:
    """A value a rollout [group] as a value a token that it said [tokens]."""
    counts = torch.tensor([len(each.log_probs) for each in group])
    return torch.tensor(np.asarray(values, np.float32)).repeat_interleave(counts)
