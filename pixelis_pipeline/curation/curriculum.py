"""Difficulty in three equal parts: by a predictor's error where there is one, by a heuristic before.

The heuristic is the mean of four parts, each 0 (easy) to 1 (hard):
  steps     how long the trace is, full at the length prior;
  tools     how many different actions it takes, of the six there are;
  smallness 1 - side of the smallest box an action names, as a share of the picture's side;
  haze      1 - visual fidelity of the replayed steps (how sharply the tools see what the trace needs).

Thirds are of the pool as it is: when a batch is added, traces near a third's edge may change their level.
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from pixelis_pipeline.curation.sampling import own_weight
from pixelis_pipeline.curation.scores import visual
from pixelis_pipeline.records import Accepted, Outcome, Question, Trajectory, record_id
from pixelis_pipeline.settings import CurationSettings
from pixelis_pipeline.synthesis.hardness import Judged, predictor
from pixelis_pipeline.tools.contract import ARGUMENTS, WIRE

STAGE, VERSION = "curriculum", 2
LEVELS = ("simple", "medium", "hard")
Array = np.ndarray[Any, Any]
ID = 64  # bytes of an id
Predicted = Callable[[Question], float]


class PredictorError(ValueError):
    """Settings name a predictor and its scores are not there, or the other way round."""


def heuristic_difficulty(trajectory: Trajectory, settings: CurationSettings) -> float:
    """0 (easy) to 1 (hard): the mean of the four parts above; 0 for a trace that took no steps at all."""
    if not trajectory.steps:
        return 0.0
    steps = min(len(trajectory.steps) / settings.length_prior, 1.0)
    tools = len({step.action.name for step in trajectory.steps} & set(ARGUMENTS)) / len(ARGUMENTS)
    return (steps + tools + _smallness(trajectory) + 1.0 - visual(trajectory)) / 4


def predicted_error(judged: Iterable[Judged]) -> Predicted:
    """The error (0-1) that a policy's predictions, or the hardness of its traces, lead to expect of a
    question: the mean on that very question, over seeds or traces; on one it was never asked, its smoothed
    error rate on questions like it (`synthesis.hardness`: same task, choices and extent, then the task, then
    all). ValueError for none."""
    held = list(judged)
    alike = predictor(held)
    asked: dict[str, list[float]] = defaultdict(list)
    for each in held:
        asked[each.question.id].append(each.error)
    own = {question: fmean(errors) for question, errors in asked.items()}
    return lambda question: own[question.id] if question.id in own else alike(question)


def levels(
    trajectories: Iterable[Trajectory], settings: CurationSettings, predicted: Predicted | None = None
) -> Array:
    """int8 [n]: the third of the pool, 0 to 2, that each trajectory falls in by its difficulty. Where the
    predictor sees no difference the heuristic decides, then the id. Keeps 84 bytes a trajectory. Raises
    PredictorError where `settings.predictor` names one and none is given, or the other way round."""
    if (settings.predictor != "none") != (predicted is not None):
        raise PredictorError(
            f"curation.predictor is {settings.predictor!r} but its scores were "
            f"{'not ' if predicted is None else ''}given: run the predictor of that version over the scored "
            'trajectories, or set curation.predictor = "none" to use the heuristic'
        )
    ids, easy, error = bytearray(), array("d"), array("d")
    for t in trajectories:
        ids += t.id.encode().ljust(ID)
        easy.append(heuristic_difficulty(t, settings))
        error.append(predicted(t.question) if predicted else 0.0)
    keys = (np.frombuffer(ids, f"S{ID}"), np.frombuffer(easy), np.frombuffer(error))
    found = np.empty(len(easy), np.int8)
    found[np.lexsort(keys)] = np.arange(len(easy)) * len(LEVELS) // max(len(easy), 1)
    return found


def curriculum(
    trajectories: Iterable[Trajectory],
    found: Array,
    settings: CurationSettings,
    predicted: Predicted | None = None,
) -> Iterator[Outcome[Trajectory]]:
    """Tag each trajectory with the level that `levels` found for it, in the same order. `scores` gains its
    difficulty and its `weight` in training (see `sampling`). ValueError where there are not as many levels
    as trajectories, or a recipe's weight is not above 0."""
    by = "heuristic" if predicted is None else settings.predictor
    parameters = {"by": by, "hard_negative": settings.hard_negative}
    for t, place in zip(trajectories, found.tolist(), strict=True):
        level = LEVELS[place]
        error = None if predicted is None else predicted(t.question)
        difficulty = heuristic_difficulty(t, settings) if error is None else error
        weight = own_weight(t, error, settings)
        identity = record_id(STAGE, VERSION, parameters, [t.id], [level, difficulty, weight])
        scores = {**t.scores, "difficulty": difficulty, "weight": weight}
        kept = replace(t, id=identity, parents=(t.id,), scores=scores, difficulty=level, difficulty_by=by)
        yield Accepted(t.id, (kept,))


def _smallness(trajectory: Trajectory) -> float:
    """1 - the side of the smallest box of a valid call (the root of its area) over the picture's; 0 without
    boxes."""
    calls = [
        ARGUMENTS[step.action.name].model_validate(step.action.arguments)
        for step in trajectory.steps
        if step.valid and step.action.name in ARGUMENTS
    ]
    boxes = [box for call in calls if (box := getattr(call, "box", None)) is not None]
    areas = [(x1 - x0) * (y1 - y0) / WIRE**2 for x0, y0, x1, y1 in boxes]
    return float(1.0 - min(areas) ** 0.5) if areas else 0.0
