"""`pixelis trajectories`: what each phase of training did with a question, side by side on its picture."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets import console, rollouts
from assets.stage import MADE_FROM, Project, StageError
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.files import replace
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.records import Prediction, Question, Step

if TYPE_CHECKING:
    from evaluation.report.trajectories import Draw, Earned, Outcome, Row

SIDE = 480  # px, the longer side of a picture; of a video's sheet, twice that
EXAMPLES = """
examples:
  pixelis trajectories                                  questions gained, lost, kept and never right, in turn
  pixelis trajectories --outcome lost --count 20        what training broke
  pixelis trajectories 3fa1 --out one.html              one question, by the beginning of its id
  pixelis trajectories --policies sft,sft_no_tools      any policies that were asked, in your order
  pixelis trajectories --task compare --outcome both    gained or lost, one task
  pixelis trajectories --training rft                   rollouts of one prompt, early and late, with rewards
  pixelis trajectories --training rft --step 0 10 20    ... at these steps
  pixelis trajectories --training data/runs/a/rft       ... of a run that lies elsewhere

The page is one file that fetches nothing. Each column has the picture with that policy's own steps, numbered
from 0 as in the list below it: the calls, whether they were valid, what the policy heard, and what the step
added to the reward. Of held-out questions that is answer and penalty, by the settings in force and by what
SFT found each tool to count, which an invalid call costs so many times as much; curiosity and coherence are
measured while a policy is reinforced, and stand in the rollouts of --training.
A question is gained where the first policy is wrong and the last one right, lost where one before the last is
right and the last wrong.
"""
WANTED: Mapping[str, "tuple[Outcome, ...]"] = {
    "gained": ("gained",),
    "lost": ("lost",),
    "both": ("gained", "lost"),
    "any": ("gained", "lost", "kept", "never"),
}


def _count(text: str) -> int:
    """A number of questions as written on the command line."""
    if not text.isdecimal() or not 1 <= int(text) <= 200:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of questions, 1 to 200")
    return int(text)


def _step(text: str) -> int:
    """A step of a run as written on the command line."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no step: they are counted from 0")
    return int(text)


def declare(commands: Any) -> None:
    """Add `trajectories` to the subcommands of an argument parser."""
    made = commands.add_parser(
        "trajectories",
        help="what each phase of training did with the same question, on its picture, as a page",
        description="Draw stored trajectories of several policies, or of a training run at several steps, "
        "side by side on the question's picture. Runs nothing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("questions", nargs="*", metavar="QUESTION_ID", help="any unique beginning of an id")
    made.add_argument(
        "--policies", metavar="A,B,...", help=f"of {', '.join(MADE_FROM)} (default: the phases)"
    )
    made.add_argument("--count", type=_count, default=6, metavar="N", help="at most so many questions (6)")
    made.add_argument("--task", metavar="T", help="only questions of this task")
    made.add_argument(
        "--outcome", choices=tuple(WANTED), help="what came of it from first to last policy (any)"
    )
    made.add_argument("--training", metavar="RUN", help="rft, or the folder of a run that holds rollouts/")
    made.add_argument("--step", type=_step, nargs="+", metavar="K", help="with --training: these steps")
    made.add_argument(
        "--out", type=Path, default=Path("trajectories.html"), metavar="FILE", help="(trajectories.html)"
    )


def show(project: Project, given: argparse.Namespace) -> int:
    """Write the page."""
    from evaluation.report import trajectories

    if not given.out.absolute().parent.is_dir() or given.out.is_dir():
        raise StageError(f"{given.out} cannot be written: give the name of a file in a folder that is there")
    if given.training and (given.policies or given.outcome):
        raise StageError("--policies and --outcome compare policies: they do not go with --training")
    if given.step and not given.training:
        raise StageError("--step is a step of a training run: add --training rft")
    try:
        if given.training:
            title, lead, rows = rollouts.rows(
                project, given.training, given.step, given.questions, given.task, given.count, draw(project)
            )
        else:
            title, lead, rows = _phases(project, given)
    except MediaError as error:
        raise StageError(f"a question's picture cannot be shown: {error}") from error
    try:
        replace(given.out, trajectories.page(title, lead, rows).encode("utf-8", "replace"))
    except OSError as error:
        raise StageError(f"{given.out}: {error.strerror or error}") from error
    console.say(f"{len(rows)} question{'s' * (len(rows) != 1)} side by side. Page: {given.out}")
    return 0


def draw(project: Project) -> "Draw":
    """What draws steps on a question's media, as PNG bytes. It raises MediaError."""
    from pixelis_pipeline.tools.opening import opened
    from pixelis_pipeline.verify.draw import draw_trace

    def drawn(asked: Question, steps: Sequence[Step]) -> bytes:
        film = any(each.kind == "video" for each in asked.media)
        return draw_trace(opened(project.media, asked.media), steps, max_side=SIDE * (2 if film else 1))

    return drawn


def _phases(project: Project, given: argparse.Namespace) -> "tuple[str, list[str], list[Row]]":
    from evaluation.report import trajectories
    from evaluation.report.pictures import budget
    from evaluation.report.wording import policy_name
    from evaluation.scores import arm, phases

    stored = _stored(project, given.policies)
    asked = list(dict.fromkeys(arm(p) for part in stored.values() for p in part))
    arms = asked if given.policies else phases(asked)
    if not arms:
        raise StageError(
            f"only controls were asked ({', '.join(stored)}): `pixelis run` asks the policies, or name these"
        )
    runs = trajectories.by_question((p for part in stored.values() for p in part), arms)
    if not runs:
        raise StageError(f"no question was put to all of {', '.join(arms)}: run `pixelis run`")
    if given.questions:
        where = f"was put to all of {', '.join(arms)}"
        keys = rollouts.named(given.questions, list(runs), where)
    else:
        keys = _chosen(runs, given)
    titles = [policy_name(name) for name in arms]
    most_bytes, drawn, counted = budget(len(keys) * len(arms)), draw(project), _scalers(project)
    earned = _earned(project, counted)
    rows = [trajectories.row(runs[key], titles, drawn, most_bytes, earned) for key in keys]
    counts = Counter(trajectories.outcome(each) for each in runs.values())
    told = ", ".join(f"{counts[kind]} {kind}" for kind in trajectories.OUTCOMES)
    lead = [
        f"{len(rows)} of {len(runs)} held-out questions. From {titles[0]} to {titles[-1]}: {told}.",
        "Each picture has its own column's steps on it, numbered as below it. Rewards are the answer and the "
        "penalty of invalid and surplus calls, by the settings in force"
        + (" and, as in reinforcement, by what SFT found each tool to count" if counted else "")
        + "; curiosity and coherence are measured during reinforcement: pixelis trajectories --training rft.",
    ]
    return " beside ".join(titles), lead, rows


def _chosen(runs: Mapping[str, Sequence[Prediction]], given: argparse.Namespace) -> list[str]:
    from evaluation.report import trajectories

    tasks = sorted({each[0].question.task for each in runs.values()})
    if given.task and given.task not in tasks:
        raise StageError(f"no question is of task {given.task}; there are {', '.join(tasks)}")
    fits = {key: each for key, each in runs.items() if given.task in (None, each[0].question.task)}
    keys = trajectories.chosen(fits, given.count, WANTED[given.outcome or "any"])
    if not keys:
        counts = Counter(trajectories.outcome(each) for each in fits.values())
        told = ", ".join(f"{counts[kind]} {kind}" for kind in trajectories.OUTCOMES)
        wanted = " or ".join(WANTED[given.outcome or "any"])
        raise StageError(f"no question was {wanted} there: {told}. Try --outcome any")
    return keys


def _stored(project: Project, wanted: str | None) -> dict[str, list[Prediction]]:
    """The stored predictions by policy: of those wanted, in that order, else of all there are."""
    there = [name for name in MADE_FROM if project.ledger.current("predictions", f"{name}-capabilities")]
    if not there:
        raise StageError("no predictions are stored here: `pixelis run` trains the policies and asks them")
    asked = list(dict.fromkeys(filter(None, wanted.split(",")))) if wanted is not None else there
    if not asked:
        raise StageError(f"--policies names none; there are predictions of {', '.join(there)}")
    for name in asked:
        if name not in MADE_FROM:
            raise StageError(f"{name} is no policy; there are predictions of {', '.join(there)}")
        if name not in there:
            raise StageError(
                f"no predictions of {name} are stored; there are those of {', '.join(there)}. `pixelis run` "
                f"makes them, as does `pixelis run --asset predictions --partition {name}-capabilities` "
                f"where {MADE_FROM[name]} is there"
            )
    return {
        name: list(artifact.records(project.ledger.folder("predictions", f"{name}-capabilities"), Prediction))
        for name in asked
    }


def _scalers(project: Project) -> Mapping[str, float]:
    """What SFT found each tool to count, as reinforcement reads it; nothing without a fine-tuned policy."""
    from training.frozen import Changed
    from training.sft import scalers

    if project.ledger.current("sft_policy") is None:
        return {}
    exports = project.ledger.folder("sft_policy") / "exports"
    try:
        return scalers.read(exports) if (exports / scalers.FILE).is_file() else {}
    except Changed as error:
        raise StageError(str(error)) from error


def _earned(project: Project, scalers: Mapping[str, float]) -> Any:
    """What a prediction earns by answer and penalty."""
    from evaluation.report.trajectories import Earned
    from training.rft.rewards import rewards, unseen

    def earned(prediction: Prediction) -> "Earned":
        found = rewards(*unseen([prediction]), project.settings.reward, scalers=scalers)
        steps = tuple({"penalty": -float(each)} for each in found.penalty_steps[0])
        return Earned({"answer": float(found.answer[0]), "penalty": -float(found.penalty[0])}, steps)

    return earned
