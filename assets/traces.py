"""From questions to proven traces: plan, teacher, parsing, replay. One partition a source and batch."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from assets.raw import world
from assets.stage import LINE, Project, StageError, Work, stage
from pixelis_pipeline.records import Json, Outcome, Question, Sample, Trajectory
from pixelis_pipeline.settings import SOURCES
from pixelis_pipeline.synthesis.endpoint import EMBEDDED, Endpoint, remote
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


@line(
    "synthesis_plan",
    record=Question,
    inputs=RAW,
    conserves=RAW,
    settings=("source", "media"),
    kinds=("parquet",),
)
def synthesis_plan(work: Work) -> Iterable[Outcome[Question]]:
    """Which questions go to the teacher. Evaluation records and forbidden licences end here."""
    from pixelis_pipeline.synthesis.plan import plan

    samples = work.read(f"raw/{work.source}", Sample)
    return plan(samples, work.project.media.pixels, work.settings)


def _embedded(work: Work, samples: list[Sample]) -> AbstractContextManager[Endpoint]:
    """The world's own teacher on loopback, knowing what the world knows of this partition."""
    from pixelis_pipeline.synthesis.embedded_teacher import serve
    from pixelis_pipeline.synthesis.embedded_truth import known
    from pixelis_pipeline.world.truth import truth

    source = work.settings.sources[work.source]
    if source.path:
        raise StageError(
            f"the embedded teacher knows the embedded world only, and {work.source} is read from "
            f"{source.path}: set teacher.endpoint to a model that can see"
        )
    truths = truth(world(work.project, work.partition))
    return serve(known(truths, samples, work.project.media))


@line(
    "teacher_responses",
    record=Response,
    inputs=("synthesis_plan", *RAW),
    settings=("teacher", "source", "media"),
    kinds=("openai",),
    retries=True,
    attested=True,
)
def teacher_responses(work: Work) -> Iterable[Outcome[Response]]:
    """What the teacher answered, each request asked and paid for once. Requests that failed are tried
    again by the next run, and only those."""
    from pixelis_pipeline.sources.licences import require_training
    from pixelis_pipeline.synthesis import prompt
    from pixelis_pipeline.synthesis.client import ask
    from pixelis_pipeline.synthesis.store import AnswerStore, usage

    teacher, store = work.settings.teacher, AnswerStore(work.project.root)
    questions = list(work.read("synthesis_plan", Question))
    asked = {parent for question in questions for parent in question.parents}
    samples = [s for s in work.read(f"raw/{work.source}", Sample) if s.id in asked]
    require_training(samples)
    work.digests["prompt"] = prompt.load(teacher.prompt).digest
    at = _embedded(work, samples) if teacher.endpoint == EMBEDDED else nullcontext(remote(teacher))
    with at as endpoint, work.progress(len(questions)) as advance:
        outcomes = ask(questions, teacher, store, work.project.media, endpoint, lambda done, all_: advance(1))
    keys = [r.request for outcome in outcomes for r in getattr(outcome, "records", ())]
    bill = usage(store, keys, teacher)
    work.about |= {
        "tokens, prompt": bill.prompt_tokens,
        "tokens, completion": bill.completion_tokens,
        "dollars": bill.dollars,
        "tokens per answer": round((bill.prompt_tokens + bill.completion_tokens) / max(len(keys), 1), 1),
    }
    return outcomes


@line("trajectories", record=Trajectory, inputs=("teacher_responses",), kinds=("pydantic",))
def trajectories(work: Work) -> Iterator[Outcome[Trajectory]]:
    """Answers parsed strictly into thoughts, calls and an answer. Nothing is repaired silently."""
    from pixelis_pipeline.synthesis.parse import trajectory

    for response in work.read("teacher_responses", Response):
        yield trajectory(response)


@line(
    "replayed_trajectories",
    record=Trajectory,
    inputs=("trajectories",),
    settings=("replay", "tools", "media"),
    outside=tool_versions,
    kinds=("opencv", "onnx"),
    retries=True,
)
def replayed_trajectories(work: Work) -> Iterator[Outcome[Trajectory]]:
    """Every recorded call run again and compared with what the trace says. What does not replay under the
    tolerances, or whose answer is wrong, is rejected with the step that decided it."""
    from pixelis_pipeline.tools.registry import default_registry
    from pixelis_pipeline.verify.batch import Bench, replay_all

    settings = work.settings.replay
    bench = Bench(work.settings.tools, work.project.media, settings)
    work.digests["tools"] = default_registry(work.settings.tools).versions
    log = None if work.afresh else work.scratch / f"{work.stage.code}-{bench.digest[:16]}.jsonl"
    traces = list(work.read("trajectories", Trajectory))
    with work.progress(len(traces)) as advance:
        for outcome in replay_all(traces, bench, settings, log):
            yield outcome
            advance(1)
