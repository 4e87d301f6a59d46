"""Rollouts: a policy answers questions by calling tools, many questions side by side."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pixelis_pipeline.agent.grammar import Answer, Call, Malformed, read
from pixelis_pipeline.agent.policy import Policy
from pixelis_pipeline.agent.render import Turn, asked, render
from pixelis_pipeline.records import Action, Prediction, Question, Step, canonical, record_id
from pixelis_pipeline.settings import PolicySettings
from pixelis_pipeline.tools.contract import Observation, Workspace, spoken
from pixelis_pipeline.tools.opening import Open
from pixelis_pipeline.tools.registry import Registry

STAGE = "predictions"
VERSION = 1

Right = Callable[[Question, str], bool]


@dataclass(slots=True)
class Live:
    """One question on its way to an answer."""

    question: Question
    workspace: Workspace
    turns: list[Turn] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    answer: str | None = None

    def unreadable(self, turn: Malformed) -> Observation:
        """Takes a place among the observations, so that steps and observations count alike."""
        output = {"error": turn.reason}
        seen = Observation(output, spoken("", output), confidence=0.0, valid=False)
        self.workspace.observations.append(seen)
        return seen

    def way(self, action: Action) -> tuple[Any, ...]:
        """What decides the answer to a call made now: the question, the calls before it, and the call."""
        made = [*(step.action for step in self.steps), action]
        return self.question.id, *((each.name, canonical(each.arguments)) for each in made)

    def share(self, seen: Observation) -> None:
        """Take in an answer that another rollout, having come the same way, was given."""
        self.workspace.observations.append(seen)
        if seen.image is not None:
            self.workspace.images.append(seen.image)

    def remember(self, said: str, turn: Call | Malformed, seen: Observation) -> None:
        """Keep what a turn was and what came back."""
        if isinstance(turn, Call):
            thought, action = turn.thought, turn.action
        else:
            thought, action = turn.text, Action("", {})
        self.steps.append(
            Step(
                thought,
                action,
                seen.output,
                seen.confidence,
                seen.valid,
                tool_version=seen.version,
                artifact=seen.artifact,
            )
        )
        self.turns.append(Turn(said, seen.text))


def hear(live: Sequence[Live], said: Sequence[str], registry: Registry) -> None:
    """Take in what the policy said in each rollout: end, or act and remember what came back. The calls of
    a turn go to the tools together; rollouts of one question that have come the same way and make the same
    call share one run of it. Raises ToolCrash."""
    calls: dict[tuple[Any, ...], list[tuple[Live, str, Call]]] = {}
    for rollout, text in zip(live, said, strict=True):
        turn = read(text)
        if isinstance(turn, Answer):
            rollout.answer = turn.text
        elif isinstance(turn, Call):
            calls.setdefault(rollout.way(turn.action), []).append((rollout, text, turn))
        else:
            rollout.remember(text, turn, rollout.unreadable(turn))
    first = [alike[0] for alike in calls.values()]
    heard = registry.call_all([(rollout.workspace, call.action) for rollout, _, call in first])
    for alike, seen in zip(calls.values(), heard, strict=True):
        for copy, (rollout, text, call) in enumerate(alike):
            if copy:
                rollout.share(seen)
            rollout.remember(text, call, seen)


def _advance(
    policy: Policy, live: Sequence[Live], registry: Registry, tokens: int, temperature: float, seed: int
) -> None:
    """One turn of every live rollout."""
    prompts = [render(policy.contract, asked(r.question), r.turns) for r in live]
    images = [r.workspace.images[0] for r in live]
    said = policy.generate(prompts, images, tokens=tokens, temperature=temperature, seed=seed)
    hear(live, said, registry)


def rollouts(
    policy: Policy,
    questions: Sequence[Question],
    registry: Registry,
    open_media: Open,
    settings: PolicySettings,
    *,
    name: str,
    tools: bool,
    seed: int,
    right: Right,
    temperature: float = 0.0,
    progress: Callable[[int], None] | None = None,
) -> list[Prediction]:
    """One prediction a question, in order. `name` and `tools` are what the predictions are filed under;
    `right` judges an answer; `progress` is told how many questions are done.

    A rollout ends with an answer, or without one (answer "", never right) after `settings.turns` turns.
    Raises ToolCrash where a tool's backend breaks, ValueError for a question without media.
    """
    predictions: list[Prediction] = []
    for start in range(0, len(questions), settings.batch):
        group = [
            Live(question, open_media(question.media))
            for question in questions[start : start + settings.batch]
        ]
        for turn in range(settings.turns):
            live = [rollout for rollout in group if rollout.answer is None]
            if not live:
                break
            draw = (seed * 1_000_003 + start) * 101 + turn
            _advance(policy, live, registry, settings.tokens_per_turn, temperature, draw)
        for rollout in group:
            parameters = conditions(policy, registry, settings, name, tools, seed, temperature)
            predictions.append(prediction(rollout, parameters, right))
        if progress is not None:
            progress(len(predictions))
    return predictions


def conditions(
    policy: Policy,
    registry: Registry,
    settings: PolicySettings,
    name: str,
    tools: bool,
    seed: int,
    temperature: float,
) -> dict[str, Any]:
    """All that decides a rollout beside its question: a part of its prediction's id."""
    return {
        "policy": name,
        "tools": tools,
        "seed": seed,
        "temperature": temperature,
        "weights": policy.digest,
        "render": policy.contract.digest,
        "registry": registry.digest,
        "turns": settings.turns,
        "tokens": settings.tokens_per_turn,
    }


def prediction(rollout: Live, parameters: dict[str, Any], right: Right) -> Prediction:
    """The rollout as it is stored, under the conditions that `parameters` name."""
    answer = rollout.answer or ""
    steps = tuple(rollout.steps)
    payload = {"steps": [asdict(step) for step in steps], "answer": answer}
    return Prediction(
        id=record_id(STAGE, VERSION, parameters, [rollout.question.id], payload),
        parents=(rollout.question.id,),
        question=rollout.question,
        policy=parameters["policy"],
        tools=parameters["tools"],
        seed=parameters["seed"],
        steps=steps,
        answer=answer,
        correct=right(rollout.question, answer),
    )
