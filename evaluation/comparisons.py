"""Is one arm better than another on the same questions, and by how much.

A difference is a `Cell` too, with the id `difference/arm/control/benchmark/slice`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from evaluation.majority import MAJORITY
from evaluation.scores import (
    BASE,
    METRICS,
    TOOLS_OFF,
    Cell,
    Group,
    Key,
    MetricName,
    PredictionSet,
    group,
    per_question,
    phases,
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


def _controls(groups: Mapping[Key, Group], benchmark: str) -> dict[str, list[str]]:
    """What each phase is compared with on a benchmark, of what answered there; the base with nothing."""
    order = phases(name for of, name, _ in groups if of == benchmark)
    majority = _stronger_majority(groups, benchmark)
    found: dict[str, list[str]] = {}
    for place, name in enumerate(order):
        before, after = order[:place], order[: place + 1]
        off = [each + TOOLS_OFF for each in after if (benchmark, each + TOOLS_OFF, "all") in groups]
        others = [*before[-1:], *before[:1], *([majority] if majority else []), *off[-1:]]
        found[name] = list(dict.fromkeys(others)) if name != BASE else []
    return found


def compare(sets: Sequence[PredictionSet], settings: EvaluationSettings) -> tuple[Comparison, ...]:
    """Each phase of training after the base against the phase before it, against the first one, against the
    stronger majority answer, and against itself with the tools off, or the latest phase before it that was
    asked so; on every slice of every benchmark. Who gave no answers is left out.

    Raises ValueError where two arms did not answer the same questions.
    """
    groups = group(sets)
    controls = {of: _controls(groups, of) for of in {benchmark for benchmark, _, _ in groups}}
    made = [
        difference(ours, groups[benchmark, control, part], (name, control, benchmark, part), settings)
        for (benchmark, name, part), ours in groups.items()
        for control in controls[benchmark].get(name, ())
        if (benchmark, control, part) in groups
    ]
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
