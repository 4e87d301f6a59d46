"""The benchmark report: one HTML file that needs nothing else and tells where each number comes from."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evaluation.comparisons import Comparison
from evaluation.funnel import ALL, Example, Row
from evaluation.report import template, trajectories, wording
from evaluation.report.inputs import Context, Curve
from evaluation.report.pictures import budget, thumbnail
from evaluation.report.plots import accuracy_plot, curve_plot, funnel_plot, reinforcement_plot
from evaluation.scores import Cell, arm, phases
from pixelis_pipeline.records import Json, Media, Prediction, Question, Step

CHAIN_METRICS = ("chain_length", "rapr", "valid_call_rate")
MOST_QUESTIONS = 200
MOST_LANES = 6  # questions shown phase by phase


@dataclass(frozen=True, slots=True)
class Shown:
    """One question on the page: the first prediction of each arm, the last phase's first."""

    question: Question
    predictions: tuple[Prediction, ...]
    picture: str

    @property
    def outcomes(self) -> list[str]:
        """What the page's filter knows this question by."""
        first, *controls = self.predictions
        found = ["right" if first.correct else "wrong"]
        found += [f"over:{arm(p)}" for p in controls if first.correct and not p.correct]
        return found + [f"under:{arm(p)}" for p in controls if p.correct and not first.correct]


@dataclass(frozen=True, slots=True)
class Table:
    """Accuracies of several arms over some slices; a row is (name, cells by arm, difference of the first arm
    to the second)."""

    title: str
    rows: tuple[tuple[str, dict[str, Cell], Comparison | None], ...]


def summary(cells: Sequence[Cell], comparisons: Sequence[Comparison]) -> Json:
    """The report's numbers as plain JSON, by cell id, without pictures or predictions' ids."""

    def plain(cell: Cell) -> Json:
        row = asdict(cell)
        row["predictions"] = len(cell.predictions)
        row["versions"] = list(cell.versions)
        return {name: value for name, value in row.items() if name != "id"}

    return {
        "cells": {cell.id: plain(cell) for cell in cells},
        "comparisons": {
            c.cell.id: {**plain(c.cell), "control": c.control, "p": c.p, "q": c.q} for c in comparisons
        },
    }


def report(
    cells: Sequence[Cell],
    comparisons: Sequence[Comparison],
    predictions: Sequence[Prediction],
    curves: Sequence[Curve],
    funnel: Sequence[Row],
    examples: Sequence[Example],
    context: Context,
    pixels: Callable[[Media], np.ndarray[Any, Any]],
    draw: Callable[[np.ndarray[Any, Any], Sequence[Step]], bytes],
    *,
    reinforced: Sequence[Curve] = (),
    benchmark: str = "capabilities",
) -> str:
    """The page about the phases of training on `benchmark`, the last one first, as HTML.

    `curves` are losses of imitation, `reinforced` what rollouts were like step by step.
    `pixels` gives a question's image (uint8 [height, width, 3]), `draw` the PNG of it with steps drawn
    on it. Equal arguments give equal bytes. Raises LookupError where no phase has an accuracy on the
    benchmark, or where a prediction behind one is not among `predictions`.
    """
    here = [cell for cell in cells if cell.benchmark == benchmark]
    by_id = {cell.id: cell for cell in here}
    by_phase = phases(cell.policy for cell in here)
    if not by_phase:
        raise LookupError(f"no accuracy of any phase on {benchmark}; there are {sorted(by_id)[:5]}")
    policy, *before = reversed(by_phase)
    overall = [c for c in comparisons if c.cell.benchmark == benchmark and c.cell.slice == "all"]
    overall.sort(key=lambda c: -by_phase.index(c.cell.policy))
    against = [c for c in comparisons if c.cell.benchmark == benchmark and c.cell.policy == policy]
    controls = dict.fromkeys(c.control for c in overall if c.control not in by_phase)
    arms = [policy, *before, *controls]
    accuracies = [by_id[f"accuracy/{name}/{benchmark}/all"] for name in arms]
    headline = accuracies[0]
    questions = _questions(accuracies, predictions)
    behind = set(headline.predictions)
    stages = [row for row in funnel if row.source == ALL]
    runs = trajectories.by_question((p for p in predictions if p.tools), by_phase)
    lanes = trajectories.chosen(runs, MOST_LANES) if len(by_phase) > 1 else []
    most_bytes = budget(len(questions) + len(lanes) * len(by_phase))
    shown = [_shown(runs, arms, pixels, draw, most_bytes) for runs in questions]
    read = {name: (template.HERE / name).read_text() for name in ("page.css", "trajectories.css", "page.js")}
    return template.render(
        "page.jinja",
        read["page.css"] + read["trajectories.css"],
        read["page.js"],
        by_phase=by_phase,
        lanes=[
            trajectories.row(
                runs[key],
                [wording.policy_name(name) for name in by_phase],
                lambda asked, steps: draw(pixels(asked.media[0]), steps),
                most_bytes,
            )
            for key in lanes
        ],
        policy=policy,
        benchmark=benchmark,
        headline=headline,
        overall=overall,
        arms=arms,
        accuracies=accuracies,
        change=next((c for c in against if c.cell.slice == "all" and c.control in before[:1]), None),
        plot=accuracy_plot(accuracies, [wording.policy_name(name) for name in arms], len(by_phase)),
        tables=[_table(kind, arms, here, against) for kind in ("task", "source")],
        chains={name: {m: by_id.get(f"{m}/{name}/{benchmark}/all") for m in CHAIN_METRICS} for name in arms},
        chain_metrics=CHAIN_METRICS,
        loss=curve_plot(curves) if curves else "",
        curves=curves,
        rollouts=reinforcement_plot(reinforced) if reinforced else "",
        funnel=funnel_plot(stages) if stages else "",
        stages=stages,
        sources=sorted({row.source for row in funnel} - {ALL}),
        by_source={(row.stage, row.source): row for row in funnel},
        examples={row.stage: [e for e in examples if e.stage == row.stage] for row in stages},
        questions=shown,
        pictures=len({media.sha256 for p in predictions if p.id in behind for media in p.question.media}),
        tasks=sorted({s.question.task for s in shown}),
        context=context,
        cells=cells,
        comparisons=comparisons,
    )


def _questions(accuracies: Sequence[Cell], predictions: Sequence[Prediction]) -> list[list[Prediction]]:
    """The predictions behind the accuracies, by question in order of task and id: at most
    `MOST_QUESTIONS`, evenly over that order."""
    held = {p.id: p for p in predictions}
    by_question: dict[tuple[str, str], list[Prediction]] = defaultdict(list)
    for cell in accuracies:
        for i in cell.predictions:
            if i not in held:
                raise LookupError(f"{cell.id}: prediction {i} is not among those given")
            by_question[held[i].question.task, held[i].question.id].append(held[i])
    ordered = [by_question[key] for key in sorted(by_question)]
    picks = np.linspace(0, len(ordered) - 1, min(len(ordered), MOST_QUESTIONS)).round().astype(int)
    return [ordered[k] for k in picks]


def _shown(
    runs: Sequence[Prediction],
    arms: Sequence[str],
    pixels: Callable[[Media], np.ndarray[Any, Any]],
    draw: Callable[[np.ndarray[Any, Any], Sequence[Step]], bytes],
    most_bytes: int,
) -> Shown:
    first = {name: min((p for p in runs if arm(p) == name), key=lambda p: p.seed) for name in arms}
    question, steps = runs[0].question, first[arms[0]].steps
    picture = thumbnail(draw(pixels(question.media[0]), steps), most_bytes) if question.media else ""
    return Shown(question, tuple(first.values()), picture)


def _table(kind: str, arms: Sequence[str], cells: Iterable[Cell], against: Iterable[Comparison]) -> Table:
    rows: dict[str, dict[str, Cell]] = defaultdict(dict)
    for cell in cells:
        if cell.metric == "accuracy" and cell.slice.startswith(f"{kind}=") and cell.policy in arms:
            rows[cell.slice][cell.policy] = cell
    first = {c.cell.slice: c for c in against if c.control == arms[1]} if len(arms) > 1 else {}
    made = ((part.removeprefix(f"{kind}="), rows[part], first.get(part)) for part in sorted(rows))
    return Table(kind, tuple(made))
