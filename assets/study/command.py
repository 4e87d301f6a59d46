"""`pixelis study`: everything from the data to docs/LEARNING.md, or the check of what it says."""

import argparse
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from assets import console
from assets.stage import Project, StageError
from assets.study.pace import Pace
from pixelis_pipeline.ledger import artifact, code
from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import load

if TYPE_CHECKING:
    from assets.study.doing import Study

ABOUT = """
Trains nano by SFT and by each kind of reinforcement over several seeds, has each policy answer the held-out
questions, with controls, and writes docs/results/learning.json, docs/LEARNING.md and, to be committed with
them, the predictions behind them. It takes hours; stopped or killed anywhere, it goes on where it was. To go
on on another machine, write what is done with --keep and bring docs/results along: what was kept by the same
code, data and settings is not done again.

The graph makes the data first, with more batches (study.batches) and held-out questions (study.questions):
a plain `pixelis run` after it makes the demo's smaller set again.
"""
QUICK = (
    "the same on the tiny profile in a few minutes, written to data/study: it shows nothing but that it runs"
)
LOOK = 1.0  # seconds between two looks at how far it is


def declare(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `study` to the program's commands."""
    study = commands.add_parser(
        "study",
        help="does the policy learn: every phase, ablation and control over several seeds",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    study.add_argument("--quick", action="store_true", help=QUICK)
    only = study.add_mutually_exclusive_group()
    only.add_argument("--plan", action="store_true", help="say what is left to do and how long it takes")
    only.add_argument(
        "--check", action="store_true", help="compute every number again from the predictions that are kept"
    )
    only.add_argument(
        "--keep", action="store_true", help="write the results of what is done so far, and do no more"
    )
    study.add_argument("--afresh", action="store_true", help="do again what docs/results holds")
    study.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="runs side by side; default: one a core"
    )


def show(project: Project, given: argparse.Namespace) -> int:
    """Carry out `pixelis study`. 1 where the check finds something, or a run fails."""
    root = project.root
    out = root / "data" / "study" if given.quick else root
    if given.check:
        return _check(root, out)
    if given.jobs < 1:
        raise StageError(f"--jobs {given.jobs}: at least one run at a time")
    settings = load(root, "tiny") if given.quick else project.settings
    only: Literal["plan", "keep"] | None = "plan" if given.plan else "keep" if given.keep else None
    return study(_larger(replace(project, settings=settings)), out, given.jobs, only, given.afresh)


def _larger(project: Project) -> Project:
    """The project with as many held-out questions as the study asks, those its own, and its batches beside
    the project's."""
    study = project.settings.study
    wanted = max(project.settings.evaluation.held_out, study.questions)
    own = {"held_out": wanted, "seed": study.question_seed}
    evaluation = project.settings.evaluation.model_copy(update=own)
    named = project.settings.batches
    batches = (*named, *(batch for batch in study.batches if batch not in named))
    update = {"evaluation": evaluation, "batches": batches}
    return replace(project, settings=project.settings.model_copy(update=update))


def _check(root: Path, out: Path) -> int:
    from evaluation.learning.evidence import EvidenceError
    from evaluation.learning.results import wrong

    try:
        found = wrong(root, out)
    except EvidenceError as error:
        found = [str(error)]
    for each in found:
        console.error(each)
    if not found:
        console.say("every number follows from the predictions that are kept")
    return int(bool(found))


def study(
    project: Project,
    out: Path,
    jobs: int,
    only: Literal["plan", "keep"] | None = None,
    afresh: bool = False,
) -> int:
    """Do what is left of the study and write its results into `out`; or only say what is left; or only write
    the results of what is done. With `afresh`, what `out` holds does not count as done."""
    from assets import driver
    from assets.study import kept
    from assets.study.answering import QUESTIONS
    from assets.study.doing import GROUND, Study
    from evaluation.learning import results
    from evaluation.learning.evidence import EvidenceError

    pace = Pace(project.root / "data" / ".work" / "study" / "pace.json")
    try:
        held = kept.Kept() if afresh else kept.read(out / results.EVIDENCE, project.root)
    except EvidenceError as error:
        raise StageError(f"{error}: put it right, or run again with --afresh") from error
    planned = Study(project, pace, jobs, lambda name: None, held)
    planned.plan()
    console.say(_plan(planned))
    if only == "plan":
        return 0
    if only == "keep":
        return _keep(planned, out)
    if failed := driver.run(project, to=GROUND, jobs=jobs):
        return failed
    asked = artifact.counts(project.ledger.folder(QUESTIONS)).emitted
    if asked < (wanted := project.settings.study.questions):
        raise StageError(f"the held-out world gave {asked} questions, and study.questions is {wanted}")
    with _watched(pace, jobs) as told:
        done = Study(project, pace, jobs, told, held)
        done.plan()
        done.run()
    return _keep(done, out)


def _keep(done: "Study", out: Path) -> int:
    """Write what is done, and what follows from it, into `out`."""
    from evaluation.learning import evidence, results

    asked = [done.asked[each] for each in done.answers if each in done.asked]
    if not asked:
        raise StageError("no set of questions has been answered yet: there is nothing to keep")
    predictions = [each for of in asked for each in of.predictions]
    left = [
        *(each.name for each in done.trainings if each not in done.taught),
        *(each.label for each in done.answers if each not in done.asked),
    ]
    lost = len(done.kept.answers.keys() - {each.key for each in asked})
    if left and lost:
        raise StageError(
            f"{out / results.EVIDENCE} holds {lost} sets of answers that other code, data or settings gave; "
            "what is done now is not whole and would replace them: run again with --afresh if it is to"
        )
    taught = [done.taught[each] for each in done.trainings if each in done.taught]
    steps = [
        {"method": each.training.method, "seed": each.training.seed, **line}
        for each in taught
        for line in each.lines
    ]
    about = _about(done.project) | {
        "trainings": [each.told for each in taught],
        "answers": [each.told for each in asked],
        "left": left,
    }
    try:
        evidence.write(out / results.EVIDENCE, predictions, steps, about)
        results.publish(done.project.root, out)
    except evidence.EvidenceError as error:
        raise StageError(str(error)) from error
    console.say(f"wrote {out / results.NUMBERS} and {out / results.PAGE}")
    return 0


def _plan(planned: "Study") -> str:
    """What is left to do and how long that takes, in a line."""
    study, pace, jobs = planned.project.settings.study, planned.pace, planned.jobs
    whole = [each.name for each in planned.trainings], [each.label for each in planned.answers]
    left = [sum(name in pace.due_now for name in names) for names in whole]
    rates = f"{pace.seconds['sft']:.2f} s a step of SFT, {pace.seconds['rft']:.1f} s of RFT"
    return (
        f"study: {left[0]} of {len(whole[0])} trainings ({study.steps} steps of RFT each) and {left[1]} of "
        f"{len(whole[1])} sets of {study.questions} answers are left, {jobs} side by side: about "
        f"{_minutes(pace.left / jobs)} min ({rates}, {pace.seconds['answers']:.2f} s an answer)"
    )


def _minutes(seconds: float) -> int:
    return math.ceil(seconds / 60)


@contextmanager
def _watched(pace: Pace, jobs: int) -> Iterator[Any]:
    """Show how far the whole is: a bar in a terminal, else a line for each run that is done. Gives what is to
    be told of each."""
    ended = threading.Event()

    def left() -> str:
        return f"about {_minutes(pace.left / jobs)} min left"

    bar = Progress(
        TextColumn("study"),
        BarColumn(),
        TextColumn("{task.fields[left]}"),
        TimeElapsedColumn(),
        console=console.ERR,
        transient=True,
        disable=not console.ERR.is_terminal,
    )

    def look(task: Any) -> None:
        seconds = 0.0
        while not ended.wait(LOOK):
            seconds += LOOK * jobs
            bar.update(task, completed=seconds, total=seconds + pace.left, left=left())

    def told(name: str) -> None:
        console.say(f"made       {name}; {len(pace.due_now)} runs and {left()}")

    with bar:
        watcher = threading.Thread(target=look, args=(bar.add_task("study", total=None, left=left()),))
        watcher.start()
        try:
            yield told
        finally:
            ended.set()
            watcher.join()


def _about(project: Project) -> Json:
    """What all of it was made with."""
    from assets.study.doing import GROUND

    sections = ("evaluation", "study", "sft", "rft", "reward", "heads", "pid", "policy")
    tree = project.settings.model_dump(mode="json")
    return {
        "settings": {name: tree[name] for name in sections},
        "ground": {asset: project.ledger.current(asset, "all") for asset in GROUND},
        "git": code.git_state(project.root),
        "environment": code.environment(project.root),
    }
