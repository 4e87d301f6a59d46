"""Trajectories side by side: what one policy did with a question, beside what another did with it.

A row is a question, a column a phase of training: another policy, or the same run at an early and at a late
step. Every column has the picture with its own steps drawn and numbered on it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evaluation.report import template
from evaluation.report.pictures import thumbnail
from evaluation.scores import arm
from pixelis_pipeline.records import Prediction, Question, Step

Outcome = Literal["gained", "lost", "kept", "never"]
OUTCOMES: tuple[Outcome, ...] = ("gained", "lost", "kept", "never")
Draw = Callable[[Question, Sequence[Step]], bytes]


@dataclass(frozen=True, slots=True)
class Earned:
    """What a rollout earned. `terms` are named values of the whole rollout, `steps` what each step added to
    some of them (a penalty as what it takes away), `advantage` what it was worth beside its group."""

    terms: Mapping[str, float]
    steps: tuple[Mapping[str, float], ...]
    advantage: float | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """One trajectory, with its picture as a `data:` address ("" where it cannot be shown)."""

    title: str
    prediction: Prediction
    picture: str
    earned: Earned | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """What stands under one phase: trajectories, and of a group of rollouts every one's worth beside them."""

    title: str
    sides: tuple[Side, ...]
    group: tuple[tuple[Prediction, Earned], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One question (in a training run, where none came twice, one a column) and its columns."""

    question: Question | None
    columns: tuple[Column, ...]
    outcome: str = ""


def outcome(runs: Sequence[Prediction]) -> Outcome:
    """What came of a question over the phases: right in the last one, it was kept if the first had it right,
    else gained; wrong there, it was lost if any phase before had it right."""
    *before, last = runs
    if last.correct:
        return "kept" if runs[0].correct else "gained"
    return "lost" if any(run.correct for run in before) else "never"


def by_question(predictions: Iterable[Prediction], arms: Sequence[str]) -> dict[str, list[Prediction]]:
    """By question id, in order, each arm's prediction of the lowest seed; questions that an arm lacks are
    left out."""
    held: dict[str, dict[str, Prediction]] = {}
    for each in predictions:
        mine = held.setdefault(each.question.id, {})
        name = arm(each)
        if name not in mine or each.seed < mine[name].seed:
            mine[name] = each
    return {key: [held[key][name] for name in arms] for key in sorted(held) if held[key].keys() >= set(arms)}


def chosen(
    runs: Mapping[str, Sequence[Prediction]], count: int, wanted: Sequence[Outcome] = OUTCOMES
) -> list[str]:
    """Ids of up to `count` questions: gained, lost, kept and never right in turn (`outcome`); of each kind
    those first whose task and number of calls are shown least. Equal runs give equal choices."""
    left = {kind: [key for key in runs if outcome(runs[key]) == kind] for kind in wanted}
    shown: Counter[tuple[str, object]] = Counter()
    picked: list[str] = []

    def seen(key: str) -> tuple[bool, int, str]:
        first, last = runs[key][0], runs[key][-1]
        # A question on which nobody made a call has nothing to draw.
        idle = not any(run.steps for run in runs[key])
        return idle, shown["task", first.question.task] + shown["calls", len(last.steps)], key

    while len(picked) < count and any(left.values()):
        for kind in wanted:
            if left[kind] and len(picked) < count:
                key = min(left[kind], key=seen)
                left[kind].remove(key)
                picked.append(key)
                shown["task", runs[key][0].question.task] += 1
                shown["calls", len(runs[key][-1].steps)] += 1
    return picked


def side(
    title: str, prediction: Prediction, draw: Draw, most_bytes: int, earned: Earned | None = None
) -> Side:
    """A trajectory with its picture, of at most `most_bytes`."""
    asked = prediction.question
    picture = thumbnail(draw(asked, prediction.steps), most_bytes) if asked.media else ""
    return Side(title, prediction, picture, earned)


def row(
    runs: Sequence[Prediction],
    titles: Sequence[str],
    draw: Draw,
    most_bytes: int,
    earned: Callable[[Prediction], Earned] | None = None,
) -> Row:
    """One question under each phase."""
    columns = [
        Column(title, (side("", run, draw, most_bytes, earned(run) if earned else None),))
        for title, run in zip(titles, runs, strict=True)
    ]
    return Row(runs[0].question, tuple(columns), outcome(runs))


def page(title: str, lead: Sequence[str], rows: Sequence[Row]) -> str:
    """One self-contained HTML page of rows; equal arguments give equal bytes. `lead` are paragraphs."""
    style = "".join((template.HERE / name).read_text() for name in ("page.css", "trajectories.css"))
    return template.render("trajectories.page.jinja", style, title=title, lead=lead, rows=rows)
