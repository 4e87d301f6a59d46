"""From questions to proven traces: plan, teacher, parsing, replay. One partition a source and batch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from assets.raw import world
from assets.stage import LINE, STAGES, Project, StageError, Work, stage
from pixelis_pipeline.ledger.chain import Input
from pixelis_pipeline.records import (
    Accepted,
    Assignment,
    Failed,
    Json,
    Outcome,
    Prediction,
    Question,
    Rejected,
    Sample,
    Trajectory,
)
from pixelis_pipeline.settings import OWN_TEACHERS, SOURCES
from pixelis_pipeline.synthesis.asking.endpoint import ANNOTATIONS, EMBEDDED, NONE, Endpoint, remote
from pixelis_pipeline.synthesis.asking.store import AnswerStore
from pixelis_pipeline.synthesis.quota import Judge, Verdict
from pixelis_pipeline.synthesis.response import Response

RAW = tuple(f"raw/{source}" for source in sorted(SOURCES))


def tool_versions(project: Project, partition: str) -> Json:
    """The versions of the tools that the settings choose. They stand for what no code digest sees: weights
    in a folder, a backend of another package, a library. StageError where one cannot be loaded."""
    from pixelis_pipeline.tools.registry import default_registry

    try:
        return dict(default_registry(project.settings.tools).versions)
    except (ValueError, ImportError, OSError) as error:
        raise StageError(f"{error}; `pixelis tools` says what can be used here") from error


line = partial(stage, partitions=LINE, group="traces")


def _in_use(project: Project, partition: str) -> Json:
    """The sources that share a batch's plan: what one that is left out would give, the others do."""
    return {source: project.settings.teacher_for(source).endpoint != NONE for source in sorted(SOURCES)}


def _predictor(project: Project) -> tuple[Input, ...]:
    """The predictions by which `synthesis.predictor` tells what is hard. StageError where there are none."""
    version = project.settings.synthesis.predictor
    if version == "none":
        return ()
    for record in project.ledger.chain("predictions"):
        if record.version == version:
            return (Input("predictions", record.partition, version),)
    raise StageError(
        f"synthesis.predictor names {version}, which is no version of `predictions` here: `pixelis status` "
        'shows those in force, and "none" plans without a predictor'
    )


@line(
    "synthesis_plan",
    record=Assignment,
    inputs=RAW,
    conserves=RAW,
    settings=("source", "media", "synthesis"),
    outside=_in_use,
    pinned=_predictor,
    kinds=("parquet", "jinja"),
)
def synthesis_plan(work: Work) -> Iterator[Outcome[Assignment]]:
    """Which questions go to the teacher, for which kind of trace, in which words: stratified by task, span
    and kind toward the paper's tool shares. Evaluation records and forbidden licences end here."""
    from pixelis_pipeline.synthesis.plan import plan

    lacking: dict[str, int] = {}
    samples, pixels = work.read(f"raw/{work.source}", Sample), work.project.media.pixels
    yield from plan(samples, pixels, work.settings, _hardness(work), lacking)
    if lacking:
        work.about["candidates lacking"] = lacking


def _hardness(work: Work) -> Callable[[Question], float] | None:
    """How hard the pinned predictor says a question is; None where none is pinned."""
    from pixelis_pipeline.synthesis.hardness import predictor

    if work.settings.synthesis.predictor == "none":
        return None
    return predictor(work.read("predictions", Prediction))


def _teacher(work: Work, waiting: Sequence[Assignment]) -> AbstractContextManager[Endpoint]:
    """Who writes this partition's traces: an address, or a teacher of our own on loopback. Where nothing
    waits for an answer nobody is called, so that no key is needed to read what was paid for."""
    from pixelis_pipeline.sources.licences import require_training
    from pixelis_pipeline.synthesis.teachers.annotated_truth import annotated
    from pixelis_pipeline.synthesis.teachers.embedded_teacher import serve
    from pixelis_pipeline.synthesis.teachers.embedded_truth import known
    from pixelis_pipeline.world.truth import truth

    teacher, media = work.settings.teacher_for(work.source), work.project.media
    if not waiting:
        return nullcontext(Endpoint(teacher.endpoint, teacher.endpoint, ""))
    parents = {parent for each in waiting for parent in each.parents}
    samples = []  # a teacher at an address is sent pictures; these may hold a hundred masks each
    for sample in work.read(f"raw/{work.source}", Sample):
        if sample.id in parents:
            require_training([sample])
            if teacher.endpoint in OWN_TEACHERS:
                samples.append(sample)
    if teacher.endpoint == ANNOTATIONS:
        return serve(annotated(samples, media), name=ANNOTATIONS)
    if teacher.endpoint != EMBEDDED:
        return nullcontext(remote(teacher))
    source = work.settings.sources[work.source]
    if source.path:
        raise StageError(
            f"the embedded teacher knows the embedded world only, and {work.source} is read from "
            f'{source.path}: set sources.{work.source}.teacher to "annotations" (traces made from its '
            'annotations, free), to "none" (left out), or teacher.endpoint to a model that can see'
        )
    return serve(known(truth(world(work.project, work.partition)), samples, media))


def _judging(project: Project, partition: str) -> Json:
    """What decides who is asked, besides the plan: nothing, unless asking ends at a number of accepted
    traces. Then it is all that decides what is accepted."""
    if not project.settings.synthesis.accepted:
        return {}
    chosen = project.settings.model_dump(mode="json", include={"tools", "replay"})
    return chosen | {"versions": tool_versions(project, partition)}


def _judge(work: Work) -> Judge:
    """Parses and replays answers as the stages below do. Replay's journal is the one that
    `replayed_trajectories` goes on from, so nothing is run twice."""
    from pixelis_pipeline.synthesis.parse import trajectory
    from pixelis_pipeline.verify.batch import replay_all

    bench, log = _bench(work)

    def judge(responses: Sequence[Response]) -> list[Verdict]:
        parsed = [trajectory(response, work.settings.synthesis) for response in responses]
        traces = [trace for outcome in parsed if isinstance(outcome, Accepted) for trace in outcome.records]
        replayed = {o.of: o for o in replay_all(traces, bench, work.settings.replay, log)}
        found = [replayed[o.records[0].id] if isinstance(o, Accepted) else o for o in parsed]
        words: dict[type, Verdict] = {Accepted: "accepted", Rejected: "declined", Failed: "failed"}
        return [words[type(outcome)] for outcome in found]

    return judge


@line(
    "teacher_responses",
    record=Response,
    inputs=("synthesis_plan", *RAW),
    settings=("teacher", "source", "media", "synthesis"),
    outside=_judging,
    pinned=_predictor,
    kinds=("openai",),
    attested=True,
)
def teacher_responses(work: Work) -> Iterable[Outcome[Response]]:
    """What the teacher answered, each request asked and paid for once. Requests that failed are tried
    again by the next run, and only those: the store answers for the others."""
    from pixelis_pipeline.synthesis import prompt, strata
    from pixelis_pipeline.synthesis.asking.client import ask, request_keys
    from pixelis_pipeline.synthesis.asking.costs import costs, recorded
    from pixelis_pipeline.synthesis.asking.traffic import Traffic
    from pixelis_pipeline.synthesis.plan import asking_order
    from pixelis_pipeline.synthesis.quota import ask_until

    teacher = work.settings.teacher_for(work.source)
    assignments = list(work.read("synthesis_plan", Assignment))
    if not assignments:
        return []
    work.digests["prompts"] = {
        f"{kind}/{style}": prompt.load(kind, style).digest
        for kind, style in sorted({(each.kind, each.style) for each in assignments})
    }
    spent = work.project.spent
    traffic = Traffic(spent_tokens=spent["tokens"], spent_dollars=spent["dollars"])
    keys = request_keys(assignments, teacher.model, teacher.endpoint)
    with AnswerStore(work.project.root) as store, ExitStack() as stack:
        # However asking ends: what a source that fails has spent, the others of the run may not.
        stack.callback(lambda: spent.update(tokens=traffic.spent_tokens, dollars=traffic.spent_dollars))
        held = store.answered(keys.values())
        waiting = [each for each in assignments if keys[each.id] not in held]
        endpoint = stack.enter_context(_teacher(work, waiting))
        advance = stack.enter_context(work.progress(len(assignments)))

        def asked(chosen: Sequence[Assignment]) -> list[Outcome[Response]]:
            media = work.project.media
            return ask(chosen, teacher, store, media, endpoint, lambda done, all_: advance(1), traffic, keys)

        if work.settings.synthesis.accepted:
            goals = strata.goals(work.settings, work.source)
            ordered = asking_order(assignments, work.settings.synthesis, _hardness(work))
            outcomes = ask_until(ordered, goals, asked, _judge(work))
        else:
            outcomes = asked(assignments)
        answered = [r for o in outcomes if isinstance(o, Accepted) for r in o.records]
        bill = costs(store, teacher, [(each.request, each.kind) for each in answered])
    work.about |= {"traffic": asdict(traffic), "cost": recorded(bill, teacher)}
    return outcomes


@line(
    "trajectories",
    record=Trajectory,
    inputs=("teacher_responses",),
    settings=("synthesis",),
    kinds=("pydantic",),
)
def trajectories(work: Work) -> Iterable[Outcome[Trajectory]]:
    """Answers parsed strictly into thoughts, calls and an answer. Nothing is repaired silently."""
    from pixelis_pipeline.synthesis.diversity import diversity
    from pixelis_pipeline.synthesis.parse import trajectory

    responses = work.read("teacher_responses", Response)
    outcomes = [trajectory(response, work.settings.synthesis) for response in responses]
    work.about["diversity"] = diversity([t for o in outcomes if isinstance(o, Accepted) for t in o.records])
    return outcomes


def _bench(work: Work) -> tuple[Callable[[], Any], Path | None]:
    """What replays this partition's traces, and the journal of those that were."""
    from pixelis_pipeline.verify.batch import Bench

    bench = Bench(work.settings.tools, work.project.media, work.settings.replay)
    if work.afresh:
        return bench, None
    replayed = STAGES["replayed_trajectories"]
    folder = work.project.scratch(replayed.key, work.partition)
    return bench, folder / f"{replayed.code}-{bench.digest[:16]}.jsonl"


@line(
    "replayed_trajectories",
    record=Trajectory,
    inputs=("trajectories", "teacher_responses"),
    settings=("replay", "tools", "media"),
    outside=tool_versions,
    kinds=("opencv", "onnx"),
    retries=True,
)
def replayed_trajectories(work: Work) -> Iterator[Outcome[Trajectory]]:
    """Every recorded call run again and compared with what the trace says. What does not replay under the
    tolerances, or whose answer is wrong, is rejected with the step that decided it."""
    from pixelis_pipeline.synthesis import strata
    from pixelis_pipeline.synthesis.mix import mix
    from pixelis_pipeline.tools.registry import default_registry
    from pixelis_pipeline.verify.batch import replay_all

    bench, log = _bench(work)
    work.digests["tools"] = default_registry(work.settings.tools).versions
    traces = list(work.read("trajectories", Trajectory))
    kept = list(work.standing)
    with work.progress(len(traces)) as advance:
        for outcome in replay_all(traces, bench, work.settings.replay, log):
            kept += outcome.records if isinstance(outcome, Accepted) else ()
            yield outcome
            advance(1)
    work.about |= {"mix": mix(kept, work.settings.synthesis), "cost": _cost(work, kept)}
    wanted = sum(strata.goals(work.settings, work.source).values())
    if len(kept) < wanted:
        work.about["short"] = (
            f"of {wanted} wanted: run again where inputs failed, else raise synthesis.candidates"
        )


def _cost(work: Work, kept: Sequence[Trajectory]) -> Json:
    """What this partition's traces cost, with all that was paid for those that were not kept."""
    from pixelis_pipeline.synthesis.asking.costs import costs, recorded

    teacher = work.settings.teacher_for(work.source)
    asked = [(each.request, each.kind) for each in work.read("teacher_responses", Response)]
    with AnswerStore(work.project.root) as store:
        return recorded(costs(store, teacher, asked, [(t.request, t.kind) for t in kept]), teacher)
