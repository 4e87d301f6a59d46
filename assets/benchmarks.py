"""What policies are measured on, and the list of it that nothing in training may resemble."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from assets import encoding
from assets.raw import listing, located, named_folder, read, world_folder
from assets.stage import Body, Project, Work, stage
from pixelis_pipeline.media.image import Pixels
from pixelis_pipeline.media.pack import Packer
from pixelis_pipeline.records import Accepted, Json, Media, Outcome, Question, Rejected, Sample
from pixelis_pipeline.settings import BENCHMARKS
from pixelis_pipeline.sources.contract import Reader
from pixelis_pipeline.sources.whitelist import WhitelistEntry

HELD_OUT = ("ego4d", "fineweb", "mathvista", "partimagenet", "sa1b", "starqa")
MARGIN = 1.5  # worlds drawn per question wanted: not every scene supports one


def _folder(project: Project, name: str) -> Path | None:
    return named_folder(project.root, project.settings.benchmarks[name])


def benchmark(name: str) -> Callable[[Body], Body]:
    """Declare the decorated body as the stage that reads one benchmark."""

    def outside(project: Project, partition: str) -> Json:
        folder = _folder(project, name)
        return listing(folder) if folder else {}

    def restore(project: Project, partition: str) -> None:
        if _folder(project, name) is None:
            _world(project, name)

    return stage(
        f"benchmarks/{name}",
        record=Sample,
        group="benchmarks",
        settings=(f"benchmarks.{name}", "media", "evaluation.seed", "evaluation.world_items"),
        kinds=("benchmark",),
        outside=outside,
        restore=restore,
    )


def _world(project: Project, name: str) -> Path:
    from pixelis_pipeline.world.benchmarks import build

    seed, items = project.settings.evaluation.seed, project.settings.evaluation.world_items
    return build(name, world_folder(project.root, f"benchmarks/{name}", seed, items), seed=seed, items=items)


def _items(work: Work, reader: Reader) -> Iterable[Outcome[Sample]]:
    name = work.stage.key.removeprefix("benchmarks/")
    folder = _folder(work.project, name) or _world(work.project, name)
    return read(work, reader, folder, work.settings.benchmarks[name].limit)


@benchmark("infovqa")
def infovqa(work: Work) -> Iterable[Outcome[Sample]]:
    """InfographicVQA: infographics with questions that have several accepted spellings."""
    from pixelis_pipeline.sources.benchmarks import infovqa

    return _items(work, infovqa.read)


@benchmark("mathvista")
def mathvista(work: Work) -> Iterable[Outcome[Sample]]:
    """MathVista testmini: mathematical reasoning over figures. Evaluation only, by its licence."""
    from pixelis_pipeline.sources.benchmarks import mathvista

    return _items(work, mathvista.read)


@benchmark("mmbench")
def mmbench(work: Work) -> Iterable[Outcome[Sample]]:
    """MMBench v1.1 (English): multiple choice over abilities."""
    from pixelis_pipeline.sources.benchmarks import mmbench

    return _items(work, mmbench.read)


@benchmark("mmmu")
def mmmu(work: Work) -> Iterable[Outcome[Sample]]:
    """MMMU and MMMU-Pro: college subjects, often several images a question."""
    from pixelis_pipeline.sources.benchmarks import mmmu

    return _items(work, mmmu.read)


@benchmark("mmvet")
def mmvet(work: Work) -> Iterable[Outcome[Sample]]:
    """MM-Vet: free-form answers that integrate several capabilities."""
    from pixelis_pipeline.sources.benchmarks import mmvet

    return _items(work, mmvet.read)


@benchmark("mvbench")
def mvbench(work: Work) -> Iterable[Outcome[Sample]]:
    """MVBench: twenty temporal tasks on short videos."""
    from pixelis_pipeline.sources.benchmarks import mvbench

    return _items(work, mvbench.read)


@benchmark("videommmu")
def videommmu(work: Work) -> Iterable[Outcome[Sample]]:
    """Video-MMMU: perception, comprehension and adaptation on lectures."""
    from pixelis_pipeline.sources.benchmarks import videommmu

    return _items(work, videommmu.read)


@benchmark("virl39k")
def virl39k(work: Work) -> Iterable[Outcome[Sample]]:
    """ViRL39K: verifiable questions over images."""
    from pixelis_pipeline.sources.benchmarks import virl39k

    return _items(work, virl39k.read)


@benchmark("vsibench")
def vsibench(work: Work) -> Iterable[Outcome[Sample]]:
    """VSI-Bench: spatial questions on walks through rooms."""
    from pixelis_pipeline.sources.benchmarks import vsibench

    return _items(work, vsibench.read)


@benchmark("vstar")
def vstar(work: Work) -> Iterable[Outcome[Sample]]:
    """V*: small details in large pictures."""
    from pixelis_pipeline.sources.benchmarks import vstar

    return _items(work, vstar.read)


def _share(held_out: int, source: str) -> int:
    """How many of the held-out questions come from one source's format."""
    return (held_out + HELD_OUT.index(source)) // len(HELD_OUT)


def held_out_world(project: Project, source: str) -> Path:
    """A source's world under the evaluation seed, with more items than questions are wanted."""
    from pixelis_pipeline.world.build import build

    evaluation = project.settings.evaluation
    wanted = _share(evaluation.held_out, source)
    items = max(int(wanted * MARGIN), wanted + 2)
    folder = world_folder(project.root, f"capabilities/{source}", evaluation.seed, items)
    return build(source, folder, seed=evaluation.seed, items=items)


def _restore_held_out(project: Project, partition: str) -> None:
    for source in HELD_OUT:
        held_out_world(project, source)


def _asked(work: Work, source: str, packer: Packer) -> Iterator[Outcome[Question]]:
    """Held-out questions of one source's format, read and asked by the same code as training data."""
    from pixelis_pipeline.sources.registry import READERS
    from pixelis_pipeline.synthesis.questions import questions

    wanted, seed = _share(work.settings.evaluation.held_out, source), work.settings.evaluation.seed
    folder = held_out_world(work.project, source)
    for outcome in READERS[source](folder, work.settings.media, packer.keep):
        if wanted <= 0:
            return
        if not isinstance(outcome, Accepted):
            yield outcome
            continue
        sample = outcome.records[0]
        sample = replace(
            sample,
            origin=replace(sample.origin, role="evaluation"),
            media=tuple(located(m, work.project.root) for m in sample.media),
        )
        asked = questions(sample, work.project.media.pixels, seed=seed)
        if asked:
            wanted -= 1
            yield Accepted(sample.id, (_drawn(asked, seed),))
        else:
            yield Rejected(sample.id, work.stage.key, "no question")


def _drawn(asked: list[Question], seed: int) -> Question:
    """One of a sample's questions: of each form that it supports alike often, however many it has of it."""
    rng = np.random.default_rng(list(hashlib.sha256(f"{seed} {asked[0].parents[0]}".encode()).digest()))
    form = rng.choice(sorted({question.task for question in asked}))
    alike = [question for question in asked if question.task == form]
    return alike[rng.integers(len(alike))]


@stage(
    "benchmarks/capabilities",
    record=Question,
    group="benchmarks",
    settings=("media", "evaluation.seed", "evaluation.held_out"),
    kinds=("benchmark",),
    restore=_restore_held_out,
)
def capabilities(work: Work) -> Iterator[Outcome[Question]]:
    """The Custom Capabilities Benchmark: questions of our own making, asked by the program that asks the
    training questions, over worlds that no training seed ever draws."""
    held_out, place = work.settings.evaluation.held_out, f"{work.stage.key}/{work.partition}/media.zip"
    packer = Packer(work.folder / "media.zip", place)
    with closing(packer), work.progress(held_out) as advance:
        for source in HELD_OUT:
            for outcome in _asked(work, source, packer):
                advance(1)
                yield outcome


READ = tuple(f"benchmarks/{name}" for name in sorted(BENCHMARKS))


@stage(
    "evaluation_whitelist",
    record=WhitelistEntry,
    group="benchmarks",
    inputs=(*READ, "benchmarks/capabilities"),
    conserves=(*READ, "benchmarks/capabilities"),
    settings=("media",),
    outside=encoding.version,
    kinds=("parquet",),
)
def evaluation_whitelist(work: Work) -> Iterator[Outcome[WhitelistEntry]]:
    """Every evaluation item by media, question and answer: what training may not resemble."""
    from pixelis_pipeline.curation import vectors
    from pixelis_pipeline.sources.whitelist import whitelist

    held_out = [sample for key in READ for sample in work.read(key, Sample)]
    held_out += [_as_sample(q) for q in work.read("benchmarks/capabilities", Question)]
    project, encoder = work.project, encoding.opened(work.project)
    with (
        work.progress(len(held_out)) as advance,
        vectors.writer(work.folder) as describe,
        vectors.embedder(work.folder, encoder) as embed,
    ):

        def seen(media: Media, view: int, picture: Pixels) -> None:
            describe(media, view, picture)
            embed(media, view, picture)

        for entry in whitelist(held_out, project.reduced, project.key_frames, seen):
            advance(1)
            yield Accepted(entry.parents[0], (entry,))


def _as_sample(question: Question) -> Sample:
    """A held-out question in the form the whitelist takes."""
    return Sample(
        id=question.id,
        origin=replace(question.origin, source="capabilities"),
        media=question.media,
        question=question.text,
        choices=question.choices,
        answer=question.answer,
        answer_kind=question.answer_kind,
        category=question.task,
    )
