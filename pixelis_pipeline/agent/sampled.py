"""Rollouts to learn from: several of each question, with the very token ids that the policy chose.

Text that was sampled need not encode to the ids it was decoded from (" bl" and "ue" come back as " blue"),
and a gradient on other tokens than those that were chosen is a gradient on another policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pixelis_pipeline.agent.pixels import Image
from pixelis_pipeline.agent.policy import Policy
from pixelis_pipeline.agent.rollout import Right, conditions, play, prediction
from pixelis_pipeline.records import Prediction, Question
from pixelis_pipeline.settings import PolicySettings
from pixelis_pipeline.tools.opening import Open
from pixelis_pipeline.tools.registry import Registry

if TYPE_CHECKING:
    from pixelis_pipeline.agent.large import LargePolicy


@dataclass(frozen=True, slots=True)
class Sampled:
    """A rollout with its tokens. `ids` is the whole conversation, the first `prompt` of them the question
    with its picture; `said` marks what the policy chose of it, and `log_probs` [sum of said] how likely each
    was to it then, none where the policy does not tell. `images` (uint8 RGB) are those that the ids hold a
    place for, in their order."""

    prediction: Prediction
    ids: tuple[int, ...]
    said: tuple[bool, ...]
    log_probs: tuple[float, ...]
    images: tuple[Image, ...]
    prompt: int


def sample(
    policy: "Policy | LargePolicy",
    questions: Sequence[Question],
    copies: int,
    registry: Registry,
    open_media: Open,
    settings: PolicySettings,
    *,
    name: str,
    seed: int,
    right: Right,
    temperature: float,
    errors: int | None = None,
) -> list[Sampled]:
    """`copies` rollouts of each question, those of one question side by side; as `rollout.play` makes them,
    and with its errors."""
    parameters = conditions(policy, registry, settings, name, True, seed, temperature) | {"errors": errors}
    made = play(
        *(policy, questions, copies, registry, open_media, settings),
        temperature=temperature,
        seed=seed,
        errors=errors,
    )
    return [
        Sampled(
            prediction(rollout, parameters | {"copy": index % copies}, right),
            tuple(rollout.ids),
            tuple(rollout.said),
            tuple(rollout.log_probs),
            tuple(rollout.images),
            rollout.prompt,
        )
        for index, rollout in enumerate(made)
    ]
