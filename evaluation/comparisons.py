"""Is one arm better than another on the same questions, and by how much.

A difference is a `Cell` too, with the id `difference/arm/control/benchmark/slice`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from evaluation.majority import MAJORITY
from evaluation.scores import (
    METRICS,
    TOOLS_OFF,
    Cell,
    Group,
    Key,
    MetricName,
    PredictionSet,
    group,
    per_question,
    reported,
    score_one,
)
from evaluation.statistics import benjamini_hochberg, paired_difference, sign_flip_test
from pixelis_pipeline.settings import EvaluationSettings


@dataclass(frozen=True, slots=True)
class Comparison:
    """A paired difference in accuracy, `cell.policy` minus `control`. `p` is the two-sided sign-flip
    test's; `q` the same after Benjamini-Hochberg over the comparisons made in one call."""

    cell: Cell
    control: str
    p: float
    q: float


def difference(ours: Group, theirs: Group, names: Sequence[str], settings: EvaluationSettings) -> Comparison:
    """One arm's accuracy minus another's, its p not adjusted. `names` are both arms, benchmark and slice.
    Raises ValueError where they did not answer the same questions."""
    if ours.questions.keys() != theirs.questions.keys():
        raise ValueError(f"{names[0]} and {names[1]} did not answer the same questions of {names[2]}")
    (a, _), (b, _) = (per_question(METRICS["accuracy"], held) for held in (ours, theirs))
    interval = paired_difference(
        a, b, confidence=settings.confidence, resamples=settings.bootstrap, seed=settings.seed
    )
    p = sign_flip_test(a, b, permutations=settings.permutations, seed=settings.seed)
    cell = reported("difference", names, interval, None, [ours, theirs], settings)
    return Comparison(cell, names[1], p, q=p)


def _stronger_majority(groups: Mapping[Key, Group], benchmark: str) -> str | None:
    """The majority answer that is right more often over the whole benchmark; by task where equal."""
    present = [name for name in MAJORITY if (benchmark, name, "all") in groups]

    def right(name: str) -> float:
        top, _ = per_question(METRICS["accuracy"], groups[benchmark, name, "all"])
        return float(top.sum())

    return max(present, key=right, default=None)


def compare(
    sets: Sequence[PredictionSet], settings: EvaluationSettings, policy: str = "sft", base: str = "base"
) -> tuple[Comparison, ...]:
    """`policy` against `base`, against the stronger majority answer and against itself with the tools
    off, on every slice of every benchmark it ran on; controls without predictions are left out.

    Raises ValueError where two arms did not answer the same questions.
    """
    groups = group(sets)
    made = []
    for (benchmark, name, part), ours in groups.items():
        if name != policy:
            continue
        for control in (base, _stronger_majority(groups, benchmark), policy + TOOLS_OFF):
            theirs = groups.get((benchmark, control, part)) if control else None
            if control and theirs:
                made.append(difference(ours, theirs, (policy, control, benchmark, part), settings))
    return adjusted(made)


def adjusted(made: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The comparisons as one family: q after Benjamini-Hochberg over all of them."""
    found = benjamini_hochberg([c.p for c in made])
    return tuple(Comparison(c.cell, c.control, c.p, q) for c, q in zip(made, found, strict=True))


def recompute(cell: Cell, sets: Sequence[PredictionSet], settings: EvaluationSettings) -> Cell:
    """The cell again, from the stored predictions it names. `sets` may hold more than those.

    Raises LookupError where a prediction it was computed from is not among the sets of its versions.
    """
    wanted = set(cell.predictions)
    chosen = [
        PredictionSet(s.benchmark, s.version, tuple(p for p in s.predictions if p.id in wanted))
        for s in sets
        if s.benchmark == cell.benchmark and s.version in cell.versions
    ]
    if missing := sorted(wanted - {p.id for s in chosen for p in s.predictions}):
        raise LookupError(
            f"{cell.id}: {len(missing)} of {len(wanted)} predictions are not stored under "
            f"{', '.join(cell.versions)}; the first is {missing[0]}"
        )
    groups, key = group(chosen), (cell.benchmark, cell.policy, cell.slice)
    if cell.metric in METRICS:
        again = score_one(cast(MetricName, cell.metric), key, groups[key], settings)
        return cast(Cell, again)
    control = cell.id.split("/")[2]
    theirs = groups[cell.benchmark, control, cell.slice]
    names = (cell.policy, control, cell.benchmark, cell.slice)
    return difference(groups[key], theirs, names, settings).cell
