"""The trajectory score: S = w_L z(logic) + w_S z(structure) + w_V z(visual), z per task family.

Statistics are frozen: they are fitted on a tenth of the positives of the earliest batches that hold enough
of them, so that a batch that comes later changes no score that stands. A task that only later batches hold is
measured against all tasks. While all batches together hold too few, the statistics are drafts, fitted on
all there is, and the next batch changes them.

That tenth is drawn by a hash of the duplicate group. It is not the dev split, which is balanced over what
the score lets pass and so cannot be known before it. What is kept reaches the 10th percentile of those
positives; a score equal to it is kept, because in a clean pool most components are constant and most
scores are equal.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from sys import intern

import numpy as np

from pixelis_pipeline.curation.splits import uniform
from pixelis_pipeline.records import Accepted, Outcome, Rejected, Trajectory, canonical, record_id
from pixelis_pipeline.settings import CurationSettings
from pixelis_pipeline.verify.answers import right
from pixelis_pipeline.verify.decisive import decisive

STAGE, VERSION = "scored_trajectories", 2
RULE = "score below the dev percentile"
COMPONENTS = ("logic", "structure", "visual")
FAMILY = 5  # a task with fewer positives borrows the statistics of all tasks
# Fewer positives of a task in the draw than this say little of its spread (of 5, the deviation is off by a
# third as a rule), and a z of a spread that is too small throws whole tasks away: then all its positives
# count. As many freeze the statistics.
ENOUGH = 20
ROUNDING = 9  # decimals of a stored score: beyond them equal traces differ by the order of summing


class ScoreError(ValueError):
    """A pool that no statistics can be fitted on."""


@dataclass(frozen=True, slots=True)
class FamilyStatistics:
    """Mean and standard deviation (not yet floored) of logic, structure and visual over `count`
    positives of one task; `task` is "" for all tasks together."""

    task: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    count: int


@dataclass(frozen=True, slots=True)
class ScoreStatistics:
    """What scores are measured against. `fitted_on` is "draw", or "pool" where the draw holds no positive;
    `batches` are those it was fitted on, `frozen` whether they held enough, for good."""

    families: tuple[FamilyStatistics, ...]
    threshold: float
    fitted_on: str
    batches: tuple[str, ...] = ()
    frozen: bool = False


def logic(trajectory: Trajectory) -> float:
    """Mean of: the answer is as right or wrong as this kind of trace must be (a trap's may be either); the
    share of valid steps that are decisive, so that the answer follows from what was done.

    What replay has decided is not scored again: a flawed step is left out, and a step of a negative may
    decide the true answer as well as the one that was given, because that one is what is wrong.
    """
    question, kind = trajectory.question, trajectory.kind
    as_meant = kind == "process-negative" or right(question, trajectory.answer) == (
        kind != "outcome-negative"
    )
    flags = [step.decisive for step in trajectory.steps]
    if kind in ("outcome-negative", "process-negative"):
        seen = [step if step.replayed else replace(step, valid=False) for step in trajectory.steps]
        led = decisive(question, seen, question.answer)
        flags = [one or other for one, other in zip(flags, led, strict=True)]
    honest = [
        flag for flag, step in zip(flags, trajectory.steps, strict=True) if step.valid and not step.flawed
    ]
    if not honest:
        return (as_meant + any(step.flawed for step in trajectory.steps)) / 2
    return (as_meant + sum(honest) / len(honest)) / 2


def structure(trajectory: Trajectory, settings: CurationSettings) -> float:
    """Mean of: the share of calls that parsed and ran; the share that repeats no earlier call; the length
    prior, 1 up to `length_prior` steps and prior / steps beyond. A flawed call may fail, and be repeated by
    its repair."""
    count = len(trajectory.steps)
    honest = [step for step in trajectory.steps if not step.flawed]
    if not honest:
        return 1.0
    valid = sum(step.valid for step in honest) / len(honest)
    distinct = len({canonical([s.action.name, s.action.arguments]) for s in honest}) / len(honest)
    return (valid + distinct + min(1.0, settings.length_prior / count)) / 3


def visual(trajectory: Trajectory) -> float:
    """Mean fidelity of the replayed steps: how far each measured value lies between its threshold (0) and
    perfect agreement (1). 0 where nothing was measured: there is no evidence of looking. 1 where nothing but
    a flaw was: that it differs is as it must be."""
    measured = [step for step in trajectory.steps if step.metric]
    values = [
        (s.measured - s.threshold) / (1.0 - s.threshold) if s.threshold < 1.0 else s.measured
        for s in measured
        if not s.flawed
    ]
    return float(np.clip(values, 0.0, 1.0).mean()) if values else float(bool(measured))


def reference(trajectory: Trajectory, settings: CurationSettings) -> bool:
    """Whether a positive is one of the tenth (`dev_share`) that statistics are fitted on."""
    return uniform(trajectory.group, settings) < settings.dev_share


def fit(pool: Iterable[Trajectory], settings: CurationSettings) -> ScoreStatistics:
    """Fit on the earliest batches of `pool`, as many as it takes for ENOUGH reference positives: on these;
    on all positives of those batches where none is drawn (a pool of a dozen items), and on all of a task
    where fewer than ENOUGH of it are. Keeps 40 bytes a positive. ScoreError for a pool without one."""
    tasks: list[str] = []
    batches: list[str] = []
    drawn: list[bool] = []
    flat = array("d")
    count = 0
    for t in pool:
        count += 1
        if t.kind == "positive":
            tasks.append(intern(t.question.task))
            batches.append(intern(t.batch))
            drawn.append(reference(t, settings))
            flat.extend(components(t, settings))
    if not tasks:
        raise ScoreError(
            f"none of {count} trajectories is a positive: nothing to fit the score on. Look at the "
            "rejections of replayed_trajectories: they say why no trace was proven right"
        )
    base, frozen = _earliest(batches, drawn)
    standing = np.isin(batches, base)
    values = np.frombuffer(flat).reshape(-1, len(COMPONENTS))[standing]
    task, chosen = np.array(tasks)[standing], np.array(drawn)[standing]
    origin = "draw" if chosen.any() else "pool"
    if origin == "pool":
        chosen[:] = True
    families = [_family("", values[chosen])]
    for name in sorted(set(task.tolist())):
        mine = (task == name) & chosen
        if mine.sum() < ENOUGH:
            mine = task == name
        if mine.sum() >= FAMILY:
            families.append(_family(name, values[mine]))
    draft = ScoreStatistics(tuple(families), -np.inf, origin, base, frozen)
    # "lower" takes a score that occurs: between two of them lies a value nothing can equal.
    scores = [
        _weighed(draft, str(name), found, settings)
        for name, found in zip(task[chosen], values[chosen], strict=True)
    ]
    threshold = float(np.percentile(scores, settings.accept_percentile, method="lower"))
    return replace(draft, threshold=threshold)


def _earliest(batches: list[str], drawn: list[bool]) -> tuple[tuple[str, ...], bool]:
    """The first batches that together hold ENOUGH drawn positives, and whether there are so many at all."""
    held = Counter(batch for batch, one in zip(batches, drawn, strict=True) if one)
    ordered = sorted(set(batches))
    for n, total in enumerate(accumulate(held[batch] for batch in ordered), start=1):
        if total >= ENOUGH:
            return tuple(ordered[:n]), True
    return tuple(ordered), False


def components(trajectory: Trajectory, settings: CurationSettings) -> tuple[float, float, float]:
    """(logic, structure, visual), each 0 to 1."""
    return logic(trajectory), structure(trajectory, settings), visual(trajectory)


def total(trajectory: Trajectory, statistics: ScoreStatistics, settings: CurationSettings) -> float:
    """S of one trajectory against frozen statistics."""
    return _weighed(statistics, trajectory.question.task, components(trajectory, settings), settings)


def score(
    trajectories: Iterable[Trajectory], statistics: ScoreStatistics, settings: CurationSettings
) -> Iterator[Outcome[Trajectory]]:
    """One outcome per trajectory, in the order given. Rule RULE: `measured` is S and `threshold` the
    frozen percentile; accepted records carry the components and S in `scores`."""
    parameters = settings.model_dump(include={"weight_logic", "weight_structure", "weight_visual"})
    for t in trajectories:
        parts = components(t, settings)
        found = _weighed(statistics, t.question.task, parts, settings)
        if found < statistics.threshold:
            told = ", ".join(f"{name} {part:.3f}" for name, part in zip(COMPONENTS, parts, strict=True))
            yield Rejected(t.id, STAGE, RULE, found, statistics.threshold, detail=told)
            continue
        scores = {**t.scores, **dict(zip(COMPONENTS, parts, strict=True)), "score": found}
        identity = record_id(STAGE, VERSION, parameters, [t.id], scores)
        yield Accepted(t.id, (replace(t, id=identity, parents=(t.id,), scores=scores),))


def _weighed(
    statistics: ScoreStatistics, task: str, values: Sequence[float], settings: CurationSettings
) -> float:
    """S of the three components of a trace of this task."""
    family = next((f for f in statistics.families if f.task == task), statistics.families[0])
    weights = (settings.weight_logic, settings.weight_structure, settings.weight_visual)
    deviations = np.maximum(family.deviation, settings.deviation_floor)
    return round(float(np.dot(weights, (np.array(values) - family.mean) / deviations)), ROUNDING)


def _family(task: str, values: np.ndarray) -> FamilyStatistics:
    return FamilyStatistics(
        task, tuple(values.mean(axis=0).tolist()), tuple(values.std(axis=0).tolist()), len(values)
    )
