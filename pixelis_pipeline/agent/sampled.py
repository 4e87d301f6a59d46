"""Rollouts to learn from: several of each question, with the very token ids that the policy chose.

Text that was sampled need not encode to the ids it was decoded from (" bl" and "ue" come back as " blue"),
and a gradient on other tokens than those that were chosen is a gradient on another policy. So ids are kept
from the first token to the last, and the policy reads its own ids when it goes on, not their words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch  # noqa: TID253

from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.decode import Conversation, Said
from pixelis_pipeline.agent.pixels import Image
from pixelis_pipeline.agent.policy import Policy
from pixelis_pipeline.agent.render import Turn, asked, render
from pixelis_pipeline.agent.rollout import Live, Right, conditions, hear, prediction
from pixelis_pipeline.records import Prediction, Question
from pixelis_pipeline.settings import PolicySettings
from pixelis_pipeline.tools.opening import Open
from pixelis_pipeline.tools.registry import Registry


@dataclass(frozen=True, slots=True)
class Sampled:
    """A rollout with its tokens. `ids` is the whole conversation, the first `prompt` of them the question
    with its picture; `said` marks what the policy chose and `log_probs` [sum of said] how likely each was to
    it then. `image` is the picture (uint8 RGB) that the prompt shows."""

    prediction: Prediction
    ids: tuple[int, ...]
    said: tuple[bool, ...]
    log_probs: tuple[float, ...]
    prompt: int
    image: Image


@dataclass(slots=True)
class _Tokens:
    """What a live rollout's row holds."""

    ids: list[int]
    said: list[bool]
    log_probs: list[float] = field(default_factory=list)

    def chose(self, turn: Said) -> None:
        self.ids += turn.ids
        self.said += [True] * len(turn.ids)
        self.log_probs += turn.log_probs

    def heard(self, ids: Sequence[int]) -> None:
        self.ids += ids
        self.said += [False] * len(ids)


def sample(
    policy: Policy,
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
) -> list[Sampled]:
    """`copies` rollouts of each question, those of one question side by side. All of them step together, in
    one conversation whose cache lasts; a prompt is read once for its copies.

    Raises ToolCrash where a tool's backend breaks, ValueError for a question without media.
    """
    contract = policy.contract
    prompts = [render(contract, asked(question), ()) for question in questions]
    rows = [words.shared().encode(prompt).ids for prompt in prompts]
    live = [Live(question, open_media(question.media)) for question in questions for _ in range(copies)]
    images = [rollout.workspace.images[0] for rollout in live]
    tokens = [_Tokens(list(row), [False] * len(row)) for row in rows for _ in range(copies)]
    conversation = Conversation(policy.model, rows, images[::copies], copies)
    standing = list(range(len(live)))
    for turn in range(settings.turns):
        chance = torch.Generator().manual_seed(seed * 101 + turn)
        said = conversation.say(settings.tokens_per_turn, temperature, chance)
        for index, words_said in zip(standing, said, strict=True):
            tokens[index].chose(words_said)
        hear([live[index] for index in standing], [each.text for each in said], registry)
        going = [row for row, index in enumerate(standing) if live[index].answer is None]
        standing = [standing[row] for row in going]
        if not standing or turn + 1 == settings.turns:
            break
        conversation.keep(going)
        heard = [_heard(policy, live[index].turns[-1]) for index in standing]
        for index, ids in zip(standing, heard, strict=True):
            tokens[index].heard(ids)
        conversation.hear(heard)
    parameters = conditions(policy, registry, settings, name, True, seed, temperature)
    return [
        Sampled(
            prediction(rollout, parameters | {"copy": index % copies}, right),
            tuple(row.ids),
            tuple(row.said),
            tuple(row.log_probs),
            len(rows[index // copies]),
            images[index],
        )
        for index, (rollout, row) in enumerate(zip(live, tokens, strict=True))
    ]


def _heard(policy: Policy, turn: Turn) -> list[int]:
    """The ids that follow the policy's own in the turn: what the template lays round the observation."""
    before = render(policy.contract, "", ())
    return words.shared().encode(render(policy.contract, "", [Turn("", turn.heard)])[len(before) :]).ids
