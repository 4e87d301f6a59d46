"""Rollouts: a policy answers questions by calling tools, many questions side by side."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pixelis_pipeline.agent.grammar import Answer, Call, Malformed, read
from pixelis_pipeline.agent.pixels import Image
from pixelis_pipeline.agent.policy import Policy
from pixelis_pipeline.agent.render import Contract, Turn, asked, render
from pixelis_pipeline.records import Action, Prediction, Question, Step, record_id
from pixelis_pipeline.settings import PolicySettings
from pixelis_pipeline.tools.contract import Observation, Workspace, spoken
from pixelis_pipeline.tools.opening import Open
from pixelis_pipeline.tools.registry import Registry

if TYPE_CHECKING:
    from pixelis_pipeline.agent.large import LargePolicy

STAGE = "predictions"
VERSION = 1

Right = Callable[[Question, str], bool]


@dataclass(slots=True)
class _Rollout:
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
        picture = None if seen.image is None else _size(seen.image)
        self.turns.append(Turn(said, seen.text, picture))

    def prompt(self, contract: Contract) -> str:
        """What the policy reads next."""
        return render(contract, asked(self.question), self.turns, picture=_size(self.workspace.images[0]))

    def shown(self, contract: Contract) -> list[Image]:
        """The pictures that the prompt holds a place for, in its order."""
        images = self.workspace.images if contract.crops else self.workspace.images[:1]
        return [image for image in images if contract.tokens(*_size(image))]


def _size(image: Image) -> tuple[int, int]:
    height, width = image.shape[:2]
    return height, width


def _hear(live: Sequence[_Rollout], said: Sequence[str], registry: Registry) -> None:
    """Take in what the policy said in each rollout: end, or act and remember what came back. The calls of
    a turn go to the tools together. Raises ToolCrash."""
    calls: list[tuple[_Rollout, str, Call]] = []
    for rollout, text in zip(live, said, strict=True):
        turn = read(text)
        if isinstance(turn, Answer):
            rollout.answer = turn.text
        elif isinstance(turn, Call):
            calls.append((rollout, text, turn))
        else:
            rollout.remember(text, turn, rollout.unreadable(turn))
    heard = registry.call_all([(rollout.workspace, call.action) for rollout, _, call in calls])
    for (rollout, text, call), seen in zip(calls, heard, strict=True):
        rollout.remember(text, call, seen)


def _advance(
    policy: "Policy | LargePolicy",
    live: Sequence[_Rollout],
    registry: Registry,
    tokens: int,
    temperature: float,
    seed: int,
) -> None:
    """One turn of every live rollout."""
    prompts = [rollout.prompt(policy.contract) for rollout in live]
    images = [image for rollout in live for image in rollout.shown(policy.contract)]
    said = policy.generate(prompts, images, tokens=tokens, temperature=temperature, seed=seed)
    _hear(live, said, registry)


def rollouts(
    policy: "Policy | LargePolicy",
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
            _Rollout(question, open_media(question.media))
            for question in questions[start : start + settings.batch]
        ]
        for turn in range(settings.turns):
            live = [rollout for rollout in group if rollout.answer is None]
            if not live:
                break
            draw = (seed * 1_000_003 + start) * 101 + turn
            _advance(policy, live, registry, settings.tokens_per_turn, temperature, draw)
        for rollout in group:
            parameters = {
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
            predictions.append(_prediction(rollout, parameters, right))
        if progress is not None:
            progress(len(predictions))
    return predictions


def _prediction(rollout: _Rollout, parameters: dict[str, Any], right: Right) -> Prediction:
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
