"""How hard a question is, by how often a policy got such questions wrong.

The predictor is a pinned version of stored predictions, or of the hardness of traces. What makes two
questions alike is their task, how many choices they give, and the third in which their temporal span or the
smallest box that they name falls. A cell with few predictions leans on its task, and that on all:
rate = (errors + PRIOR * rate above) / (n + PRIOR).
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from pixelis_pipeline.records import Question
from pixelis_pipeline.tools.contract import WIRE

PRIOR = 4.0  # predictions' worth of trust in the rate above
K = TypeVar("K")
BOX = re.compile(r"\[(\d+) (\d+) (\d+) (\d+)\]")


class Judged(Protocol):
    """A question and how much of it a policy got wrong, 0 to 1 (`Prediction`, `Hardness`)."""

    @property
    def question(self) -> Question:
        """What was asked."""
        ...

    @property
    def error(self) -> float:
        """0 where all of it was right."""
        ...


class Cell(NamedTuple):
    """What two questions share that count as alike. `third` is 0 to 2, the largest extents last; None where
    the question names neither a span nor a box."""

    task: str
    choices: int
    third: int | None


def extent(question: Question) -> float | None:
    """The share of the film that the question's span takes, or of the picture that the smallest box in its
    text covers; None where it names neither."""
    film = next((media for media in question.media if media.kind == "video"), None)
    if film is not None and question.span and film.fps and film.frames:
        return (question.span[1] - question.span[0]) * film.fps / film.frames
    boxes = [[int(value) for value in found] for found in BOX.findall(question.text)]
    return min(((x1 - x0) * (y1 - y0) / WIRE**2 for x0, y0, x1, y1 in boxes), default=None)


def predictor(judged: Iterable[Judged]) -> Callable[[Question], float]:
    """The smoothed error rate (0-1) of questions like the one given. ValueError without any."""
    seen = [(each.question, each.error) for each in judged]
    if not seen:
        raise ValueError("a hardness predictor needs predictions, and the named version holds none")
    edges = _edges(question for question, _ in seen)

    def cell(question: Question) -> Cell:
        size = extent(question)
        third = None if size is None else bisect_right(edges.get(question.task, []), size)
        return Cell(question.task, len(question.choices), third)

    total = (sum(wrong for _, wrong in seen) + PRIOR / 2) / (len(seen) + PRIOR)  # Laplace: one half to begin
    by_task = _rates(((question.task, wrong) for question, wrong in seen), lambda task: total)
    by_cell = _rates(((cell(question), wrong) for question, wrong in seen), lambda one: by_task[one.task])

    def hardness(question: Question) -> float:
        return by_cell.get(cell(question), by_task.get(question.task, total))

    return hardness


def _edges(questions: Iterable[Question]) -> dict[str, list[float]]:
    """The two extents that part each task's questions into thirds."""
    sizes: dict[str, list[float]] = defaultdict(list)
    for question in questions:
        if (size := extent(question)) is not None:
            sizes[question.task].append(size)
    return {task: np.quantile(found, [1 / 3, 2 / 3]).tolist() for task, found in sizes.items()}


def _rates(seen: Iterable[tuple[K, float]], above: Callable[[K], float]) -> dict[K, float]:
    """Error rate by key, smoothed towards the rate `above` it."""
    counts: dict[K, list[float]] = {}
    for key, wrong in seen:
        count = counts.setdefault(key, [0.0, 0.0])
        count[0] += wrong
        count[1] += 1
    return {key: (wrong + PRIOR * above(key)) / (n + PRIOR) for key, (wrong, n) in counts.items()}
