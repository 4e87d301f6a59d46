"""Scores of policies, from stored predictions only.

Every number is a `Cell`: its id says what it is, its data versions and prediction ids say what it was
computed from, and `comparisons.recompute` makes it again from those. The unit is a question; of several
seeds each question counts once, with its mean over the seeds.

A cell's id reads `metric/arm/benchmark/slice`. An arm is a policy, `-tools-off` behind it where every
call was refused; a slice is `all`, `task=...` or `source=...`. Policies that are phases of one training have
an order.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from evaluation.majority import MAJORITY
from evaluation.statistics import Interval, bca
from pixelis_pipeline.records import ActionName, Prediction, Question
from pixelis_pipeline.settings import EvaluationSettings

MetricName = Literal["accuracy", "rapr", "chain_length", "valid_call_rate"]
VISUAL_TOOLS = frozenset(get_args(ActionName))
TOOLS_OFF = "-tools-off"
BASE = "base"
PHASES = (BASE, "sft", "rft")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class PredictionSet:
    """The stored predictions on one benchmark under one data version; any policies and seeds."""

    benchmark: str
    version: str
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One reported number with its interval. `policy` is the arm, `n` counts questions, `sd` is the
    standard deviation (n - 1) over the seeds' own scores, None below two seeds."""

    id: str
    metric: str
    policy: str
    benchmark: str
    slice: str
    value: float
    low: float
    high: float
    confidence: float
    n: int
    seeds: int
    sd: float | None
    versions: tuple[str, ...]
    predictions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A score as the ratio of two sums over trajectories: `measure` gives one trajectory's share of
    both, and a lower part of 0 leaves it out. `support` bounds the ratio of one trajectory."""

    measure: Callable[[Prediction], tuple[float, float]]
    support: tuple[float, float] | None = (0.0, 1.0)


def valid_calls(prediction: Prediction) -> int:
    """How many steps are valid calls of a visual tool."""
    return sum(s.valid and s.action.name in VISUAL_TOOLS for s in prediction.steps)


def rapr(prediction: Prediction) -> float:
    """(1/T)·sum over steps of 1[the step is a valid visual-tool step] (specification §6), in 0-1.
    A trajectory without steps has 0."""
    return valid_calls(prediction) / max(len(prediction.steps), 1)


METRICS: dict[MetricName, Metric] = {
    "accuracy": Metric(lambda p: (float(p.correct), 1.0)),
    "rapr": Metric(lambda p: (rapr(p), 1.0)),
    "chain_length": Metric(lambda p: (float(len(p.steps)), 1.0), support=None),
    "valid_call_rate": Metric(lambda p: (float(valid_calls(p)), float(len(p.steps)))),
}


def arm(prediction: Prediction) -> str:
    """The policy's name, marked where its tools were off."""
    return prediction.policy if prediction.tools else prediction.policy + TOOLS_OFF


def phases(arms: Iterable[str]) -> list[str]:
    """The arms that are phases of one training, in its order: no majority answer, nothing with tools off."""
    found = {name for name in arms if name not in MAJORITY and not name.endswith(TOOLS_OFF)}
    known = [name for name in PHASES if name in found]
    return known + sorted(found.difference(known))


def slices(question: Question) -> tuple[str, str, str]:
    """The parts of a benchmark that a question counts in."""
    return "all", f"task={question.task}", f"source={question.origin.source}"


Key = tuple[str, str, str]
"""Benchmark, arm, slice."""


@dataclass(frozen=True, slots=True)
class Group:
    """The predictions under one key: by question id, each in order of seed, with their versions."""

    questions: dict[str, list[Prediction]]
    versions: tuple[str, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(p.id for runs in self.questions.values() for p in runs)

    @property
    def seeds(self) -> list[int]:
        return sorted({p.seed for runs in self.questions.values() for p in runs})

    def of_seed(self, seed: int) -> "Group":
        chosen = {q: [p for p in runs if p.seed == seed] for q, runs in self.questions.items()}
        return Group({q: runs for q, runs in chosen.items() if runs}, self.versions)


def group(sets: Sequence[PredictionSet]) -> dict[Key, Group]:
    """Predictions under their keys, equal for any order of the input. ValueError for a second
    prediction of the same question, arm and seed."""
    found: dict[Key, dict[tuple[str, int], Prediction]] = defaultdict(dict)
    versions: dict[Key, set[str]] = defaultdict(set)
    for held in sets:
        for p in held.predictions:
            for part in slices(p.question):
                key, place = (held.benchmark, arm(p), part), (p.question.id, p.seed)
                if place in found[key]:
                    raise ValueError(f"two predictions of {arm(p)} for question {place[0]}, seed {p.seed}")
                found[key][place] = p
                versions[key].add(held.version)
    groups = {}
    for key in sorted(found):
        questions: dict[str, list[Prediction]] = {}
        for place in sorted(found[key]):
            questions.setdefault(place[0], []).append(found[key][place])
        groups[key] = Group(questions, tuple(sorted(versions[key])))
    return groups


def per_question(metric: Metric, held: Group) -> tuple[Array, Array]:
    """Both parts of a metric per question [n], averaged over its seeds; empty lower parts left out."""
    parts = [np.mean([metric.measure(p) for p in runs], axis=0) for runs in held.questions.values()]
    top, bottom = np.array(parts).T
    return top[bottom > 0], bottom[bottom > 0]


def _over_seeds(metric: Metric, held: Group) -> float | None:
    """Standard deviation (n - 1) of the seeds' own scores, None below two of them."""
    parts = [per_question(metric, held.of_seed(seed)) for seed in held.seeds]
    values = [top.sum() / bottom.sum() for top, bottom in parts if top.size]
    return float(np.std(values, ddof=1)) if len(values) >= 2 else None


def reported(
    metric: str,
    names: Sequence[str],
    interval: Interval,
    sd: float | None,
    groups: Sequence[Group],
    settings: EvaluationSettings,
) -> Cell:
    """An interval as a cell. `names` are arm, controls if any, benchmark and slice, as in the id."""
    return Cell(
        id="/".join((metric, *names)),
        metric=metric,
        policy=names[0],
        benchmark=names[-2],
        slice=names[-1],
        value=interval.value,
        low=interval.low,
        high=interval.high,
        confidence=settings.confidence,
        n=interval.n,
        seeds=len(groups[0].seeds),
        sd=sd,
        versions=tuple(sorted({v for g in groups for v in g.versions})),
        predictions=tuple(i for g in groups for i in g.ids),
    )


def score_one(name: MetricName, key: Key, held: Group, settings: EvaluationSettings) -> Cell | None:
    """One cell. None where a metric has no lower part at all: the valid-call rate without calls."""
    metric, (benchmark, policy, part) = METRICS[name], key
    top, bottom = per_question(metric, held)
    if not top.size:
        return None
    interval = bca(
        top,
        bottom,
        support=metric.support,
        confidence=settings.confidence,
        resamples=settings.bootstrap,
        seed=settings.seed,
    )
    sd = _over_seeds(metric, held)
    return reported(name, (policy, benchmark, part), interval, sd, [held], settings)


def score(sets: Sequence[PredictionSet], settings: EvaluationSettings) -> tuple[Cell, ...]:
    """All cells: every metric of every arm, over each benchmark, its tasks and its sources, in the
    order of `METRICS`, then benchmark, arm and slice.

    The majority answers make no calls and get an accuracy only. Raises ValueError for duplicates.
    """
    groups = group(sets)
    cells = (
        score_one(name, key, held, settings)
        for name in METRICS
        for key, held in groups.items()
        if name == "accuracy" or key[1] not in MAJORITY
    )
    return tuple(cell for cell in cells if cell is not None)
