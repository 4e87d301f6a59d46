"""The study's trainings and answers, each done by a process of its own in a folder of its own.

A folder is named by all that decides what comes of it: inputs, code, settings (`assets.child`). So a study
that was killed goes on where it was, one whose settings changed does again what depends on them, and what is
proven is not done twice. Its inputs come from the graph; it makes no version of any asset.

What was kept of a study, here or elsewhere (`assets.study.kept`), stands for work with the same key too.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from assets import child
from assets.catalogue import STAGES
from assets.stage import Advance, Project, Stage, StageError, Work
from assets.study import answering
from assets.study.answering import QUESTIONS
from assets.study.kept import Kept
from assets.study.pace import Kind, Pace
from assets.study.plan import Answers, How, Training, answers, trainings
from assets.traces import tool_versions
from evaluation.learning.numbers import BASE, SFT
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.chain import Input
from pixelis_pipeline.records import Accepted, Json, Prediction, canonical
from pixelis_pipeline.settings import Settings
from training.child import Job
from training.rft import job as rft_job
from training.sft import job as sft_job
from training.sft import scalers

T = TypeVar("T")
GROUND = ("base_policy", "training_splits", QUESTIONS)  # of the graph, what all of it starts from
SCALERS = f"exports/{scalers.FILE}"  # of an SFT, what reinforcement reads beside the policy
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
    """A training that was done: where its policy lies (None: it was kept without), the sha256 of its weights,
    how it `ended` after so many `steps`, and the numbers of each step of reinforcement. `left` is a digest of
    all that a reinforcement takes over from it: the weights, and of SFT the scalers."""

    training: Training
    key: str
    made: Path | None
    weights: str
    left: str
    steps: int
    ended: str
    lines: Sequence[Json]

    @property
    def told(self) -> Json:
        """What is kept of it, beside the numbers of its steps."""
        of = {"method": self.training.method, "seed": self.training.seed, "key": self.key}
        ended = {"steps": self.steps, "ended": self.ended}
        return {**of, "weights": self.weights, "left": self.left, **ended}


@dataclass(frozen=True, slots=True)
class Asked:
    """A set of answers."""

    answers: Answers
    key: str
    predictions: Sequence[Prediction]

    @property
    def told(self) -> Json:
        """What is kept of it, beside the predictions."""
        tools = self.answers.how != "with tools off"
        return {"arm": self.answers.arm, "tools": tools, "seed": self.answers.seed, "key": self.key}


def _folder(name: str, taught: Taught) -> dict[str, Path]:
    """Where a policy lies, by the name that what reads it has for it; nothing where it was only kept."""
    return {} if taught.made is None else {name: taught.made}


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
    """Does trainings and answers for `project`, `jobs` of them side by side; tells of each that is done. What
    is `kept` is not done again."""

    def __init__(
        self, project: Project, pace: Pace, jobs: int, told: Callable[[str], None], kept: Kept | None = None
    ) -> None:
        self.project, self.pace, self.jobs, self.told = project, pace, jobs, told
        self.kept = kept or Kept()
        self.trainings = trainings(project.settings.study)
        self.answers = answers(project.settings.study, self.trainings)
        self.taught: dict[Training, Taught] = {}
        self.asked: dict[Answers, Asked] = {}
        self._needed: set[Training] = set()
        self._over = {each: threading.Event() for each in self.trainings if each.method == SFT}
        self._stop = threading.Event()

    def plan(self) -> None:
        """Look what is done already, and tell the pace of the rest."""
        study = self.project.settings.study
        if self._grounded():
            for training in self.trainings:
                self._find(training)
            for each in self.answers:
                self._found(each)
        for each in self.answers:
            if each not in self.asked:
                self.pace.due(each.label, "answers", study.questions)
                self._needed.add(each.training)
        for training in reversed(self.trainings):
            known = self.taught.get(training)
            if known is None or (training in self._needed and known.made is None):
                self.pace.due(training.name, *self._length(training))
                self._needed |= {training, training.start}

    def run(self) -> None:
        """Do all that is left; it is then in `taught` and `asked`. StageError where something cannot be
        made."""
        of = {each: [a for a in self.answers if a.training == each] for each in self.trainings}
        # In order: what a reinforcement starts from was begun before it, and so is not kept waiting by it.
        self._each([partial(self._train, each, of[each]) for each in self.trainings])
        self._each([partial(self._answer, each) for each in self.answers])

    def _each(self, todo: Sequence[Callable[[], T]]) -> list[T]:
        """All of them done, in order. Where one fails, those at work end and no other begins; an interrupt
        ends them at the next step that they tell."""
        failed = threading.Event()

        def begun(each: Callable[[], T]) -> T:
            if failed.is_set():  # a worker may take the next one up before it is cancelled
                raise Stopped("a run before it failed")
            try:
                return each()
            except BaseException:
                failed.set()
                raise

        with ThreadPoolExecutor(self.jobs) as pool:
            futures: list[Future[T]] = [pool.submit(begun, each) for each in todo]
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

    def _train(self, training: Training, asked: Sequence[Answers]) -> None:
        """A training, when what it starts from is done, and then what its policy is asked."""
        if training.method != SFT:
            self._over[training.start].wait()
            if training.start not in self.taught:
                raise Stopped(f"{training.start.name} failed")
        try:
            self._teach(training)
        finally:
            if training in self._over:
                self._over[training].set()
        for each in asked:
            self._answer(each)

    def _teach(self, training: Training) -> None:
        known = self.taught.get(training)
        if known is None or (known.made is None and training in self._needed):
            settings, job = training.settings(self.project.settings), rft_job.rft
            threads = settings.rft.threads
            if training.method == SFT:
                job, threads = sft_job.sft, settings.sft.threads
            task = self._teaching(training)
            with child.run(task, job, threads) as done:
                self._take(training, child.key_of(task), done)
            if known and known.left != self.taught[training].left:
                raise StageError(
                    f"{training.name} was kept with the weights {known.weights[:12]} and comes to "
                    f"{self.taught[training].weights[:12]} here, or to other scalers: it cannot go on from "
                    "what is kept; run again with --afresh"
                )
            self._end(training.name)

    def _answer(self, each: Answers) -> None:
        if each not in self.asked:
            task = self._asking(each)
            made = [prediction for outcome in _answers(task) for prediction in outcome.records]
            self.asked[each] = Asked(each, child.key_of(task), made)
            self._end(each.label)

    def _find(self, training: Training) -> None:
        """Whether a training has been done, here or where it was kept."""
        if training.method == SFT or training.start in self.taught:
            task = self._teaching(training)
            key = child.key_of(task)
            if done := child.proven(task):
                self._take(training, key, done)
            elif told := self.kept.trainings.get(key):
                of = (told["weights"], told["left"], told["steps"], told["ended"], told["lines"])
                self.taught[training] = Taught(training, key, None, *of)

    def _found(self, each: Answers) -> None:
        """Whether answers have been given, here or where they were kept."""
        if each.how == "by the teacher" or each.method == BASE or each.training in self.taught:
            task = self._asking(each)
            key = child.key_of(task)
            if done := child.proven(task):
                self.asked[each] = Asked(each, key, list(answering.stored(done.made)))
            elif known := self.kept.answers.get(key):
                self.asked[each] = Asked(each, key, known)

    def _take(self, training: Training, key: str, done: child.Done) -> None:
        said = done.proof.result
        points = said.get("points")  # of SFT
        steps = said["steps"] if points is None else points[-1]["step"] if points else 0
        ended, lines = said.get("ended", "finished"), said.get("lines", ())
        weights = done.proof.weights
        left = sha256(canonical([weights, done.proof.files.get(SCALERS)])).hexdigest()
        self.taught[training] = Taught(training, key, done.made, weights, left, steps, ended, lines)

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
        traces = (settings.synthesis.accepted or settings.synthesis.candidates) * len(settings.batches)
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
            stage, given = STAGES["rft_policy"], _folder("sft_policy", sft)
            base = Input("sft_policy", sft.training.name, sft.left)
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
            given |= _folder(each.arm, taught)
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
