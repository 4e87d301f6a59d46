"""What the loops of rollouts that are compared stand on: questions about scenes of the embedded world, tools
whose time is counted, and a policy that is taught to call them in one order with boxes of its own choice and
then to answer.

Every integer is one token, so whatever boxes are drawn, a turn that can be read is equally long in any loop
and copies of a question come different ways.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelis_pipeline.agent.grammar import write_answer, write_call
from pixelis_pipeline.agent.policy import Policy
from pixelis_pipeline.agent.render import Turn, made, spans
from pixelis_pipeline.records import Action, Media, Origin, Question
from pixelis_pipeline.tools.contract import Observation, Workspace
from pixelis_pipeline.tools.registry import Registry, default_registry
from pixelis_pipeline.world.scene import draw_scene

SIDE, SEED = 128, 61
THOUGHTS = {"SEG": "Segment the thing.", "ZOOM": "Look closer.", "PROP": "Measure it."}
# Conversations to learn from, steps of teaching, conversations a step, learning rate.
KNOWN, LESSONS, ROWS, RATE = 32, 160, 4, 3e-3


class Clocked(Registry):
    """A registry that counts the seconds of its calls, and how many there were."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry._tools, registry._limits)
        self.seconds, self.calls = 0.0, 0

    def call_all(self, calls: Sequence[tuple[Workspace, Action]]) -> list[Observation]:
        start = time.perf_counter()
        found = super().call_all(calls)
        self.seconds += time.perf_counter() - start
        self.calls += len(calls)
        return found


@dataclass(frozen=True, slots=True)
class Ground:
    """The questions, what they are about (uint8 RGB, by the medium's digest), and the calls before an
    answer."""

    questions: tuple[Question, ...]
    pictures: dict[str, Any]
    calls: tuple[str, ...]
    registry: Clocked

    def opens(self, media: Sequence[Media]) -> Workspace:
        """A workspace of the question about these media."""
        return Workspace([self.pictures[media[0].sha256]])


@dataclass(frozen=True, slots=True)
class Made:
    """Rollouts of one side: ids and what the policy chose of them [rollouts][tokens], and what they took."""

    ids: list[list[int]]
    said: list[list[bool]]
    seconds: float
    tools: float
    calls: int

    @property
    def tokens(self) -> int:
        """How many tokens the policy chose."""
        return sum(map(sum, self.said))

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds

    @property
    def alone(self) -> float:
        """Tokens a second that was not spent in tools."""
        return self.tokens / (self.seconds - self.tools)


def ground(calls: Sequence[str], prompts: int) -> Ground:
    """`prompts` questions about scenes of the embedded world."""
    questions, pictures = [], {}
    for index in range(prompts):
        scene = draw_scene(np.random.default_rng([SEED, index]), width=SIDE, height=SIDE)
        media = Media(f"{index:064x}", "image", f"{index}.png", SIDE, SIDE)
        pictures[media.sha256] = scene.image
        origin = Origin("world", str(index), "CC0", "training")
        text = f"What colour is thing {index} on the picture?"
        questions.append(Question(f"q{index}", (), origin, (media,), text, "red", "attribute"))
    return Ground(tuple(questions), pictures, tuple(calls), Clocked(default_registry()))


def conversation(rng: np.random.Generator, policy: Policy, given: Ground) -> tuple[list[int], list[Any]]:
    """One to learn from: its ids and its pictures. Boxes are drawn, what the tools say is theirs."""
    question = given.questions[rng.integers(len(given.questions))]
    workspace = given.opens(question.media)
    turns = []
    for name in given.calls:
        box = [*rng.integers(0, 400, 2).tolist(), *rng.integers(600, 1000, 2).tolist()]
        seen = given.registry.call(workspace, action := Action(name, {"box": box}))
        turns.append(Turn(write_call(THOUGHTS[name], action), seen.text, made(name, seen.output)))
    answer = write_answer(question.answer)
    return policy.vocabulary.encode(
        spans(policy.contract, question.text, turns, answer, (SIDE, SIDE))
    ), workspace.images[: 1 + sum(turn.picture is not None for turn in turns)]


def teach(policy: Policy, given: Ground, lessons: int = LESSONS) -> None:
    """Have the policy call the tools in their order and answer then."""
    import torch

    from pixelis_pipeline.agent import nano
    from pixelis_pipeline.agent import tokenizer as words
    from pixelis_pipeline.agent.batch import collate

    rng, model = np.random.default_rng(SEED), policy.model
    opens, closes = words.token("<obs>"), words.token("</obs>")
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    known = [conversation(rng, policy, given) for _ in range(KNOWN)]
    for _ in range(lessons):
        drawn = rng.choice(len(known), ROWS, replace=False)
        rows, pictures = zip(*(known[place] for place in drawn), strict=True)
        batch = collate(rows, [image for shown in pictures for image in shown], "right")
        ids = batch.ids
        asked = (ids == words.token("</user>")).cumsum(1) - (ids == words.token("</user>")).long()
        heard = (ids == opens).cumsum(1) - (ids == closes).cumsum(1) + (ids == closes)
        learned = ((asked > 0) & (heard == 0) & batch.attention.bool())[:, 1:]
        scores = model.lm_head(nano.hidden_states(model, batch)[:, :-1][learned])
        torch.nn.functional.cross_entropy(scores, ids[:, 1:][learned]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
