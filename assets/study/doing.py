"""The study's trainings and answers, each done by a process of its own in a folder of its own.

A folder is named by all that decides what comes of it: inputs, code, settings (`assets.child`). So a study
that was killed goes on where it was, one whose settings changed does again what depends on them, and what is
proven is not done twice. Its inputs come from the graph; it makes no version of any asset.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from assets import child
from assets.catalogue import STAGES
from assets.stage import Advance, Project, Stage, StageError, Work
from assets.study import answering
from assets.study.answering import QUESTIONS
from assets.study.pace import Kind, Pace
from assets.study.plan import Answers, How, Training, answers, trainings
from assets.traces import tool_versions
from evaluation.learning.numbers import BASE, SFT
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.chain import Input
from pixelis_pipeline.records import Accepted, Json, Prediction
from pixelis_pipeline.settings import Settings
from training.child import Job
from training.rft import job as rft_job
from training.sft import job as sft_job

T = TypeVar("T")
GROUND = ("base_policy", "training_splits", QUESTIONS)  # of the graph, what all of it starts from
JOBS: dict[How, Job] = {
    "answered": answering.answered,
    "with tools off": answering.tools_off,
    "with outputs shuffled": answering.shuffled,
    "by the teacher": answering.by_the_teacher,
}


class Stopped(Exception):
    """The study is to end; raised where a process tells how far it is, which ends that process too."""


@dataclass
class Task(Work):
    """A run of the study's. `given` are the folders of what other runs made, by the name that `inputs` has
    for them, and `job` what its process does."""

    given: Mapping[str, Path] = field(default_factory=dict)
    job: Job = answering.answered

    def folders(self, asset: str) -> list[Path]:
        """Where what it reads lies."""
        return [self.given[asset]] if asset in self.given else super().folders(asset)


@dataclass(frozen=True, slots=True)
class Taught:
    """A training that is proven: where its policy lies, the sha256 of its weights, and what it said."""

    training: Training
    made: Path
    weights: str
    result: Json


def _answers(work: Task) -> Iterator[Accepted[Prediction]]:
    """Every held-out question answered."""
    with child.run(work, work.job, work.settings.rft.threads) as done:
        for prediction in answering.stored(done.made):
            yield Accepted(prediction.question.id, (prediction,))


ANSWERS = Stage(
    "study/answers",
    _answers,  # type: ignore[arg-type]  # of a Task, which is a Work
    Prediction,
    "measurements",
    inputs=(QUESTIONS,),
    settings=("policy", "tools", "media", "sft.seed", "rft.threads"),
    outside=tool_versions,
)


class Study:
    """Does trainings and answers for `project`, `jobs` of them side by side; tells of each that is done."""

    def __init__(self, project: Project, pace: Pace, jobs: int, told: Callable[[str], None]) -> None:
        self.project, self.pace, self.jobs, self.told = project, pace, jobs, told
        self.taught: dict[Training, Taught] = {}
        self._stop = threading.Event()

    def plan(self) -> None:
        """Look what is proven already, and tell the pace of the rest."""
        study = self.project.settings.study
        made = trainings(study)
        for training in made:
            if not self._known(training):
                self.pace.due(training.name, *self._length(training))
        for each in answers(study, made):
            ready = each.how == "by the teacher" or each.method == BASE or each.training in self.taught
            if not (ready and self._grounded() and child.proven(self._asking(each))):
                self.pace.due(each.label, "answers", study.questions)

    def run(self) -> tuple[list[Taught], list[Prediction]]:
        """Every training and every prediction of the study. StageError where one cannot be made."""
        made = trainings(self.project.settings.study)
        for first in (True, False):  # SFT, then what starts from it
            self._each([partial(self._train, each) for each in made if (each.method == SFT) is first])
        asked = answers(self.project.settings.study, made)
        found = self._each([partial(self._answer, each) for each in asked])
        return [self.taught[each] for each in made], [each for of in found for each in of]

    def _each(self, todo: Sequence[Callable[[], T]]) -> list[T]:
        """All of them done, in order. Where one fails, those at work end and no other begins; an interrupt
        ends them at the next step that they tell."""
        with ThreadPoolExecutor(self.jobs) as pool:
            futures: list[Future[T]] = [pool.submit(each) for each in todo]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            except BaseException:
                self._stop.set()
                raise
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        for each in futures:  # the first failure says more than what was not begun for it
            if not each.cancelled():
                each.result()
        return [each.result() for each in futures]

    def _train(self, training: Training) -> None:
        if training not in self.taught:
            settings, job = training.settings(self.project.settings), rft_job.rft
            threads = settings.rft.threads
            if training.method == SFT:
                job, threads = sft_job.sft, settings.sft.threads
            with child.run(self._teaching(training), job, threads) as done:
                self._take(training, done)
            self._end(training.name)

    def _answer(self, each: Answers) -> list[Prediction]:
        task = self._asking(each)
        known = child.proven(task)
        made = [prediction for outcome in _answers(task) for prediction in outcome.records]
        if known is None:
            self._end(each.label)
        return made

    def _known(self, training: Training) -> bool:
        """Whether a training is proven already."""
        ready = training.method == SFT or training.start in self.taught
        if ready and self._grounded() and (done := child.proven(self._teaching(training))):
            self._take(training, done)
        return training in self.taught

    def _take(self, training: Training, done: child.Done) -> None:
        self.taught[training] = Taught(training, done.made, done.proof.weights, done.proof.result)

    def _end(self, name: str) -> None:
        self.pace.done(name)
        self.told(name)

    def _grounded(self) -> bool:
        """Whether the graph holds what all of this starts from."""
        return all(self.project.ledger.current(asset, "all") for asset in GROUND)

    def _length(self, training: Training) -> tuple[Kind, int]:
        """Its kind, and its steps: of SFT at most so many, by the traces that there are or are planned."""
        settings = self.project.settings
        if training.method != SFT:
            return "rft", settings.study.steps
        traces = settings.synthesis.accepted or settings.synthesis.candidates
        if self._grounded():
            traces = artifact.counts(self.project.ledger.folder("training_splits")).emitted
        return "sft", -(-traces // settings.sft.batch) * settings.sft.epochs

    def _input(self, asset: str) -> Input:
        version = self.project.ledger.current(asset, "all")
        if version is None:
            raise StageError(f"the study needs {asset} first: run `pixelis run --to {asset}`")
        return Input(asset, "all", version)

    def _teaching(self, training: Training) -> Task:
        settings = training.settings(self.project.settings)
        if training.method == SFT:
            stage, base, given = STAGES["sft_policy"], self._input("base_policy"), dict[str, Path]()
        else:
            sft = self.taught[training.start]
            stage, given = STAGES["rft_policy"], {"sft_policy": sft.made}
            base = Input("sft_policy", sft.training.name, sft.weights)
        inputs = (base, self._input("training_splits"))
        return self._task(
            replace(stage, key="study/training"), training.name, training.name, settings, inputs, given
        )

    def _asking(self, each: Answers) -> Task:
        """The base is read as the graph holds it, every other policy as its training left it."""
        settings = self.project.settings
        settings = settings.model_copy(update={"sft": settings.sft.model_copy(update={"seed": each.seed})})
        inputs, given = [self._input(QUESTIONS)], dict[str, Path]()
        if each.method == BASE:
            base = self._input("base_policy")
            inputs.append(Input(BASE, "all", base.version))
            given[BASE] = self.project.ledger.folder("base_policy", "all", base.version)
        elif each.how != "by the teacher":
            taught = self.taught[each.training]
            inputs.append(Input(each.arm, taught.training.name, taught.weights))
            given[each.arm] = taught.made
        task = self._task(ANSWERS, each.name, each.label, settings, tuple(inputs), given)
        task.job = JOBS[each.how]
        return task

    def _task(
        self,
        stage: Stage,
        partition: str,
        label: str,
        settings: Settings,
        inputs: tuple[Input, ...],
        given: Mapping[str, Path],
    ) -> Task:
        @contextmanager
        def progress(description: str, total: int) -> Iterator[Advance]:
            with self.pace.follow(label, total) as advance:
                yield partial(self._advance, advance)

        project = replace(self.project, settings=settings, progress=progress)
        return Task(project, stage, partition, project.root, inputs, given=given)

    def _advance(self, advance: Advance, steps: int) -> None:
        if self._stop.is_set():
            raise Stopped
        advance(steps)
