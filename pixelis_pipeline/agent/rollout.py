"""Rollouts: a policy answers questions by calling tools, many questions side by side."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pixelis_pipeline.agent.film import Film
from pixelis_pipeline.agent.film import of as film_of
from pixelis_pipeline.agent.grammar import Answer, Call, Malformed, read
from pixelis_pipeline.agent.pixels import Image
from pixelis_pipeline.agent.policy import Policy, Said
from pixelis_pipeline.agent.render import Contract, asked, reply, spans
from pixelis_pipeline.records import Action, Prediction, Question, Step, canonical, record_id
from pixelis_pipeline.settings import PolicySettings
from pixelis_pipeline.tools.contract import Observation, Workspace, spoken
from pixelis_pipeline.tools.opening import Open
from pixelis_pipeline.tools.registry import Registry

if TYPE_CHECKING:
    from pixelis_pipeline.agent.large import LargePolicy

STAGE = "predictions"
VERSION = 2  # what a policy said is read on as it was chosen, and not encoded anew

Right = Callable[[Question, str], bool]


@dataclass(slots=True)
class Live:
    """One question on its way to an answer. `ids` is the conversation so far, the first `prompt` of them the
    question with its picture; `said` marks what the policy chose of it and `log_probs` [sum of said] how
    likely each was to it then; `images` are those shown."""

    question: Question
    workspace: Workspace
    prompt: int = 0
    ids: list[int] = field(default_factory=list)
    said: list[bool] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    answer: str | None = None

    def chose(self, turn: Said) -> None:
        """Take in the tokens of a turn of the policy's."""
        self.ids += turn.ids
        self.said += [True] * len(turn.ids)
        self.log_probs += turn.log_probs

    def shown(self, ids: Sequence[int], images: Sequence[Image]) -> None:
        """Take in the tokens and pictures that the policy reads."""
        self.ids += ids
        self.said += [False] * len(ids)
        self.images += images

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

    def over(self, errors: int) -> bool:
        """Whether there is an answer, or the last `errors` turns were no valid calls."""
        lost = len(self.steps) >= errors and not any(step.valid for step in self.steps[-errors:])
        return self.answer is not None or lost

    def remember(self, turn: Call | Malformed, seen: Observation) -> None:
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


def opening(contract: Contract, workspace: Workspace, film: Film | None) -> list[Image]:
    """The pictures (uint8 RGB) that a question about what is in `workspace` shows, in their order; `film` is
    its video. MediaError where a frame cannot be decoded."""
    frames, clip = contract.frames(film), workspace.clip
    seen = [clip.at(k) for k in frames] if clip and frames else workspace.images[:1]
    return seen if contract.tokens(*seen[0].shape[:2]) else []


def _opening(policy: "Policy | LargePolicy", rollout: Live) -> None:
    """Show the question and its pictures."""
    height, width = rollout.workspace.images[0].shape[:2]
    question, film = rollout.question, film_of(rollout.question.media)
    prompt = spans(policy.contract, asked(question), (), picture=(height, width), film=film)
    rollout.shown(policy.vocabulary.encode(prompt), opening(policy.contract, rollout.workspace, film))
    rollout.prompt = len(rollout.ids)


def _reply(policy: "Policy | LargePolicy", rollout: Live) -> tuple[list[int], list[Image]]:
    """Show what came back last; gives the ids, and the picture if there is one to see."""
    back = rollout.workspace.observations[-1]
    crop = back.image if policy.contract.crops else None
    ids = policy.vocabulary.encode(
        reply(policy.contract, back.text, None if crop is None else crop.shape[:2])
    )
    seen = [crop] if crop is not None and policy.contract.tokens(*crop.shape[:2]) else []
    rollout.shown(ids, seen)
    return ids, seen


def _hear(live: Sequence[Live], said: Sequence[str], registry: Registry) -> None:
    """Take in what the policy said in each rollout: end, or act and remember what came back. The calls of
    a turn go to the tools together; rollouts of one question that have come the same way and make the same
    call share one run of it. Raises ToolCrash."""
    calls: dict[tuple[Any, ...], list[tuple[Live, Call]]] = {}
    for rollout, text in zip(live, said, strict=True):
        turn = read(text)
        if isinstance(turn, Answer):
            rollout.answer = turn.text
        elif isinstance(turn, Call):
            calls.setdefault(rollout.way(turn.action), []).append((rollout, turn))
        else:
            rollout.remember(turn, rollout.unreadable(turn))
    first = [alike[0] for alike in calls.values()]
    heard = registry.call_all([(rollout.workspace, call.action) for rollout, call in first])
    for alike, seen in zip(calls.values(), heard, strict=True):
        for copy, (rollout, call) in enumerate(alike):
            if copy:
                rollout.share(seen)
            rollout.remember(call, seen)


def play(
    policy: "Policy | LargePolicy",
    questions: Sequence[Question],
    copies: int,
    registry: Registry,
    open_media: Open,
    settings: PolicySettings,
    *,
    temperature: float,
    seed: int,
    errors: int | None = None,
) -> list[Live]:
    """`copies` rollouts of each question, those of one question side by side, all in step. `errors`
    turns in a row that are no valid call end a rollout, without an answer; by default `settings.turns`.

    What the policy said goes on as the ids that it chose. Encoded anew, its words could be other tokens:
    marks that it spelt in letters would become the environment's own.

    Raises ToolCrash where a tool's backend breaks, ValueError for a question without media.
    """
    opened = [open_media(question.media) for question in questions]
    live = [
        Live(question, workspace.again())
        for question, workspace in zip(questions, opened, strict=True)
        for _ in range(copies)
    ]
    for rollout in live:
        _opening(policy, rollout)
    first = live[::copies]
    images = [image for rollout in first for image in rollout.images]
    conversation = policy.converse([rollout.ids for rollout in first], images, copies)
    standing = live
    for turn in range(settings.turns):
        said = conversation.say(settings.tokens_per_turn, temperature, seed * 101 + turn)
        for rollout, each in zip(standing, said, strict=True):
            rollout.chose(each)
        _hear(standing, [each.text for each in said], registry)
        going = [row for row, rollout in enumerate(standing) if not rollout.over(errors or settings.turns)]
        standing = [standing[row] for row in going]
        if not standing or turn + 1 == settings.turns:
            break
        conversation.keep(going)
        replies = [_reply(policy, rollout) for rollout in standing]
        conversation.hear([ids for ids, _ in replies], [image for _, crops in replies for image in crops])
    return live


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
    parameters = conditions(policy, registry, settings, name, tools, seed, temperature)
    predictions: list[Prediction] = []
    for start in range(0, len(questions), settings.batch):
        group = play(
            policy,
            questions[start : start + settings.batch],
            1,
            registry,
            open_media,
            settings,
            temperature=temperature,
            seed=seed * 1_000_003 + start,
        )
        predictions += [prediction(rollout, parameters, right) for rollout in group]
        if progress is not None:
            progress(len(predictions))
    return predictions


def conditions(
    policy: "Policy | LargePolicy",
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
