"""The trajectory score: S = w_L z(logic) + w_S z(structure) + w_V z(visual), z per task family.

The statistics are fitted once on the positives of the dev split, frozen and stored, so that a score keeps
its meaning when data is added. What is kept reaches the 10th percentile of those positives; a score equal
to it is kept, because in a clean pool most components are constant and most scores are equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pixelis_pipeline.curation.splits import drawn
from pixelis_pipeline.records import Accepted, Outcome, Rejected, Trajectory, canonical, record_id
from pixelis_pipeline.settings import CurationSettings
from pixelis_pipeline.verify.answers import right
from pixelis_pipeline.verify.decisive import decisive

STAGE, VERSION = "scored_trajectories", 2
COMPONENTS = ("logic", "structure", "visual")
FAMILY = 5  # a task with fewer positives borrows the statistics of all tasks
# Fewer positives of a task in dev than this say little of its spread (of 5, the deviation is off by a third
# as a rule), and a z of a spread that is too small throws whole tasks away: then all its positives count.
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
    """What scores are measured against. `fitted_on` is "dev", or "pool" where dev holds no positive."""

    families: tuple[FamilyStatistics, ...]
    threshold: float
    fitted_on: str


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


def fit(pool: Sequence[Trajectory], settings: CurationSettings) -> ScoreStatistics:
    """Fit on the positives whose group falls in dev; on all positives where dev holds none (a pool of a
    dozen items), and on all of a task where dev holds fewer than ENOUGH of it. ScoreError for a pool
    without positives."""
    positives = [t for t in pool if t.kind == "positive"]
    dev = [t for t in positives if drawn(t.group, settings) == "dev"]
    fitted = dev or positives
    if not fitted:
        raise ScoreError(
            f"none of {len(pool)} trajectories is a positive: nothing to fit the score on. Look at the "
            "rejections of replayed_trajectories: they say why no trace was proven right"
        )
    families = [_family("", np.array([components(t, settings) for t in fitted]))]
    for task in sorted({t.question.task for t in positives}):
        mine = [t for t in fitted if t.question.task == task]
        if len(mine) < ENOUGH:
            mine = [t for t in positives if t.question.task == task]
        if len(mine) >= FAMILY:
            families.append(_family(task, np.array([components(t, settings) for t in mine])))
    draft = ScoreStatistics(tuple(families), -np.inf, "dev" if dev else "pool")
    # "lower" takes a score that occurs: between two of them lies a value nothing can equal.
    scores = [total(t, draft, settings) for t in fitted]
    threshold = float(np.percentile(scores, settings.accept_percentile, method="lower"))
    return replace(draft, threshold=threshold)


def components(trajectory: Trajectory, settings: CurationSettings) -> tuple[float, float, float]:
    """(logic, structure, visual), each 0 to 1."""
    return logic(trajectory), structure(trajectory, settings), visual(trajectory)


def total(trajectory: Trajectory, statistics: ScoreStatistics, settings: CurationSettings) -> float:
    """S of one trajectory against frozen statistics."""
    by_task = {family.task: family for family in statistics.families}
    family = by_task.get(trajectory.question.task, by_task[""])
    weights = (settings.weight_logic, settings.weight_structure, settings.weight_visual)
    deviations = np.maximum(family.deviation, settings.deviation_floor)
    z = (np.array(components(trajectory, settings)) - family.mean) / deviations
    return round(float(np.dot(weights, z)), ROUNDING)


def score(
    trajectories: Sequence[Trajectory], statistics: ScoreStatistics, settings: CurationSettings
) -> list[Outcome[Trajectory]]:
    """One outcome per trajectory, in the order given. Rule "score below the dev percentile": `measured` is
    S and `threshold` the frozen percentile; accepted records carry the components and S in `scores`."""
    parameters = settings.model_dump(include={"weight_logic", "weight_structure", "weight_visual"})
    outcomes: list[Outcome[Trajectory]] = []
    for t in trajectories:
        found = total(t, statistics, settings)
        if found < statistics.threshold:
            rule = "score below the dev percentile"
            parts = ", ".join(
                f"{name} {value:.3f}" for name, value in zip(COMPONENTS, components(t, settings), strict=True)
            )
            outcomes.append(Rejected(t.id, STAGE, rule, found, statistics.threshold, detail=parts))
            continue
        scores = {**t.scores, **dict(zip(COMPONENTS, components(t, settings), strict=True)), "score": found}
        identity = record_id(STAGE, VERSION, parameters, [t.id], scores)
        outcomes.append(Accepted(t.id, (replace(t, id=identity, parents=(t.id,), scores=scores),)))
    return outcomes


def _family(task: str, values: np.ndarray) -> FamilyStatistics:
    return FamilyStatistics(
        task, tuple(values.mean(axis=0).tolist()), tuple(values.std(axis=0).tolist()), len(values)
    )
