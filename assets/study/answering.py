"""The held-out questions answered, as jobs for `training.child`: by a policy, by one that its tools tell
nothing or the wrong thing, and by the embedded world's teacher.

What a job makes is one file of predictions. A proof wants a file that stands for the work: it is this one.
The predictions are filed under the name that the order has for the policy, and under `sft.seed`. Nothing of
`evaluation.learning` is imported: to state a number otherwise must not have all questions asked again.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from assets.benchmarks import HELD_OUT, held_out_world
from assets.stage import Project
from pixelis_pipeline.columns import from_table, to_table
from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.records import Accepted, Json, Prediction, Question, Step, record_id
from pixelis_pipeline.tools.registry import Registry, default_registry, disabled_registry
from training.child import Order, Tell

QUESTIONS, FILE = "benchmarks/capabilities", "predictions.parquet"
TEACHER = "teacher"


def answered(order: Order, tell: Tell) -> Json:
    """By the one policy that the order names."""
    return _by_a_policy(order, tell, default_registry(order.settings.tools))


def tools_off(order: Order, tell: Tell) -> Json:
    """By the policy, every call of which is refused."""
    return _by_a_policy(order, tell, disabled_registry(), tools=False)


def shuffled(order: Order, tell: Tell) -> Json:
    """By the policy, every call of which is told what a call about another picture returned."""
    from pixelis_pipeline.tools.shuffled import shuffled_registry

    return _by_a_policy(order, tell, shuffled_registry(order.settings.tools))


def _by_a_policy(order: Order, tell: Tell, registry: Registry, tools: bool = True) -> Json:
    from pixelis_pipeline.agent import policy
    from pixelis_pipeline.agent.rollout import rollouts
    from pixelis_pipeline.tools.opening import opened
    from pixelis_pipeline.verify.answers import right

    settings, project = order.settings, Project(Path(order.root), order.settings)
    (name,) = set(order.inputs) - {QUESTIONS}
    questions = list(order.records(QUESTIONS, Question))
    tell(0, len(questions), {})
    made = rollouts(
        policy.opened(order.folders(name)[0] / "policy", settings.policy),
        questions,
        registry,
        partial(opened, project.media),
        settings.policy,
        name=name,
        tools=tools,
        seed=settings.sft.seed,
        right=right,
        progress=lambda done: tell(done, len(questions), {}),
    )
    return _kept(order, made)


def by_the_teacher(order: Order, tell: Tell) -> Json:
    """By the embedded world's teacher, from exact truth; its calls are run, and what they return is kept."""
    from pixelis_pipeline.media.pack import Packer
    from pixelis_pipeline.sources.registry import READERS
    from pixelis_pipeline.synthesis.teachers.embedded_truth import known
    from pixelis_pipeline.world.truth import truth

    settings, project = order.settings, Project(Path(order.root), order.settings)
    questions = list(order.records(QUESTIONS, Question))
    truths: Json = {}
    for source in HELD_OUT:
        folder = held_out_world(project, source)
        packer = Packer(Path(order.folder) / f"{source}.zip", f"{source}.zip")
        outcomes = list(READERS[source](folder, settings.media, packer.keep))
        packer.close()
        samples = [each for outcome in outcomes if isinstance(outcome, Accepted) for each in outcome.records]
        truths |= known(truth(folder), samples, project.media)
    registry = default_registry(settings.tools)
    made = []
    for question in questions:
        made.append(_taught(question, truths, registry, project, settings.sft.seed))
        tell(len(made), len(questions), {})
    return _kept(order, made)


def _taught(question: Question, truths: Json, registry: Registry, project: Project, seed: int) -> Prediction:
    """What the teacher says to a question; nothing where it knows no answer."""
    from pixelis_pipeline.synthesis.parse import trajectory
    from pixelis_pipeline.synthesis.request import CHOICES, SEPARATOR
    from pixelis_pipeline.synthesis.response import Response
    from pixelis_pipeline.synthesis.teachers.annotated_answers import reply
    from pixelis_pipeline.synthesis.teachers.embedded_answers import Unanswerable
    from pixelis_pipeline.tools.opening import opened
    from pixelis_pipeline.verify.answers import right

    choices = CHOICES + SEPARATOR.join(question.choices) if question.choices else ""
    steps: list[Step] = []
    answer = ""
    try:
        told = json.dumps(reply(question.text + choices, [m.sha256 for m in question.media], truths))
    except Unanswerable:
        told = ""
    said = trajectory(
        Response("", (), question, "positive", "", TEACHER, told, "stop"), project.settings.synthesis
    )
    if isinstance(said, Accepted):
        (trace,) = said.records
        answer, workspace = trace.answer, opened(project.media, question.media)
        for step in trace.steps:
            seen = registry.call(workspace, step.action)
            version = registry.versions.get(step.action.name, "")
            told_by = replace(step, valid=seen.valid, tool_version=version, artifact=seen.artifact)
            steps.append(replace(told_by, output=seen.output, confidence=seen.confidence))
    payload = [[step.action.name, step.action.arguments, step.output] for step in steps]
    return Prediction(
        id=record_id("study", 1, {"policy": TEACHER, "seed": seed}, [question.id], [payload, answer]),
        parents=(question.id,),
        question=question,
        policy=TEACHER,
        tools=True,
        seed=seed,
        steps=tuple(steps),
        answer=answer,
        correct=right(question, answer),
    )


def _kept(order: Order, made: list[Prediction]) -> Json:
    path = order.made / FILE
    pq.write_table(to_table(Prediction, made), path, compression="zstd")
    return {"weights": sha256(path), "correct": sum(each.correct for each in made)}


def stored(made: Path) -> Iterator[Prediction]:
    """The predictions that a job made."""
    yield from from_table(Prediction, pq.read_table(made / FILE))
