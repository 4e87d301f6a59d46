"""The loss of a group of rollouts, and how far the policy stands from its reference.

One optimiser step a batch of rollouts: the ratio to the policy that sampled them is 1, so nothing is clipped
and the gradient is that of A log π, for every token the policy chose, plus β times its k3 divergence
(Schulman 2020: exp(d) - d - 1 for d = log π_ref - log π, never negative). Prompt, picture and observations
are read and carry no loss. Where a server sampled them, which computes a little differently, the gradient is
weighed by how likely the learner is to say the same (`trust`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch  # noqa: TID253
from transformers import DynamicCache  # noqa: TID253

from pixelis_pipeline.agent import nano
from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.batch import collate, runs
from pixelis_pipeline.agent.decode import scores
from pixelis_pipeline.agent.large import LargePolicy
from pixelis_pipeline.agent.sampled import Sampled

TRUST = 3.0  # at most; TRL's `vllm_importance_sampling_clip_max`


def log_probs(model: nano.Model, group: Sequence[Sampled], temperature: float) -> torch.Tensor:
    """float32 [tokens said in the group, row after row]: how likely the model finds them, at the temperature
    they were sampled at. The prompt, which a group shares, is read once.

    Raises ImageTokenMismatch where the rollouts do not hold exactly their pictures' tokens, ValueError where
    the prompts differ.
    """
    prompts = {each.ids[: each.prompt] for each in group}
    if len(prompts) != 1:
        raise ValueError(f"a group has one prompt, here are {len(prompts)}")
    (prompt,) = prompts
    asked = len(runs(prompt, words.token(words.IMAGE)))
    past = DynamicCache(config=model.config.get_text_config())
    batch = collate([prompt], group[0].images[:asked], "left")
    before = nano.hidden_states(model, batch, past)[:, -1:].expand(len(group), -1, -1)
    past.batch_repeat_interleave(len(group))
    crops = [image for each in group for image in each.images[asked:]]
    block = collate([each.ids[each.prompt :] for each in group], crops, "right")
    attention = torch.cat([batch.attention.expand(len(group), -1), block.attention], 1)
    places = block.positions + batch.positions[0].amax(1)[:, None] + 1
    after = nano.hidden_states(model, replace(block, attention=attention, positions=places), past)
    said = torch.zeros_like(block.ids, dtype=torch.bool)
    for row, each in enumerate(group):
        said[row, : len(each.ids) - each.prompt] = torch.tensor(each.said[each.prompt :])
    hidden = torch.cat([before, after[:, :-1]], 1)[said]
    return scores(model, hidden, temperature).gather(1, block.ids[said][:, None])[:, 0]


def fused_log_probs(policy: LargePolicy, model: Any, group: Sequence[Sampled]) -> torch.Tensor:
    """As `log_probs`, of a full-size policy, by the head that TRL fuses into `model` (at TRL's temperature).

    The whole model is called, since what distributes it stands around that call. A prompt is read for each of
    its rollouts, and the marks that no turn may choose keep the little probability that they have.
    """
    given = policy.collate([each.ids for each in group], [image for each in group for image in each.images])
    said = torch.zeros_like(given.ids, dtype=torch.bool)
    for row, each in enumerate(group):
        said[row, -len(each.ids) :] = torch.tensor(each.said)
    device = policy.model.device
    out = model(
        labels=given.ids.masked_fill(~said, -100).to(device),
        fused_lm_head=True,
        **{name: value.to(device) for name, value in given.arguments().items()},
    )
    return out.log_probs[said[:, 1:].to(out.log_probs.device)].float()


def trust(policy: torch.Tensor, group: Sequence[Sampled]) -> torch.Tensor:
    """What the gradient of each token said [tokens] counts: how likely it is to the learner, `policy`, over
    how likely it was to the sampler, at most TRUST (truncated importance sampling, TRL's `token_truncate`).
    1 where the sampler did not tell or, as TRL has it too, told no number."""
    told = torch.tensor([value for each in group for value in each.log_probs])
    if len(told) != len(policy):
        return torch.ones_like(policy)
    return (policy - told.to(policy.device)).exp().clamp(max=TRUST).nan_to_num(1.0)


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
    counts = torch.tensor([sum(each.said) for each in group])
    return torch.tensor(np.asarray(values, np.float32)).repeat_interleave(counts)
