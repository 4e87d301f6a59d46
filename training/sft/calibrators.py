"""How sure the policy may be of an answer: calibrators of its confidence, fitted on the dev split.

A confidence is the probability of all that the policy says in the turn of its answer. What is fitted on is
the policy's own answer, greedily said, after the calls of a dev trace and what they brought back, and whether
it is right: its place is given, its words are not. Dev traces end well, so a policy that goes astray on its
own is less often right than this says; who votes over rollouts fits on those.

Three maps of a confidence p, each rising, on the logit z = log p / (1 - p):

    temperature  sigmoid(z / T)        Guo, Pleiss, Sun & Weinberger, ICML 2017, of two classes
    platt        sigmoid(a z + b)      Platt 1999, a >= 0
    isotonic     the nearest that rises, straight between points; Zadrozny & Elkan, KDD 2002

Vector and matrix scaling want one score for each of a fixed set of classes, which free answers lack.

The paper's voting at test time weighs an answer by its calibrated confidence and abstains by it; nothing
before that reads what is exported here.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch  # noqa: TID253
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from pixelis_pipeline.agent import grammar
from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.records import Json
from pixelis_pipeline.verify.answers import right
from training import frozen
from training.sft.examples import Example, learned
from training.sft.objective import lesson, told
from training.sft.pool import Pool

if TYPE_CHECKING:
    from pixelis_pipeline.agent.large import LargePolicy
    from pixelis_pipeline.agent.policy import Policy

Array = np.ndarray[Any, Any]

FILE = "calibrators.json"
LIMIT = 64  # tokens of an answer's turn
EDGE = 1e-6  # how near to 0 and 1 a confidence may come
COLDEST, HOTTEST = 0.1, 10.0
ENOUGH = 20  # answers; with fewer a confidence stays as it is
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers of one policy, neighbours of one stratum: float64 [n] the confidence in each and bool [n]
    whether it is right. `silent` more traces were followed by no answer: by another call, or by nothing that
    can be read."""

    confidence: Array
    right: Array
    silent: int = 0


@dataclass(frozen=True, slots=True)
class Calibrators:
    """Every map is the identity until it is fitted. `confidence` and `level` are the points of the isotonic
    one."""

    temperature: float = 1.0
    slope: float = 1.0
    offset: float = 0.0
    confidence: tuple[float, ...] = (0.0, 1.0)
    level: tuple[float, ...] = (0.0, 1.0)

    def by_temperature(self, confidence: Array) -> Array:
        """float64 [n], the default: the calibrated confidence."""
        return expit(_logit(confidence) / self.temperature)

    def by_platt(self, confidence: Array) -> Array:
        """float64 [n]."""
        return expit(self.slope * _logit(confidence) + self.offset)

    def by_isotonic(self, confidence: Array) -> Array:
        """float64 [n]; beyond the points as at the last of them."""
        return np.interp(confidence, self.confidence, self.level)


Map = Callable[[Calibrators, Array], Array]
MAPS: dict[str, Map] = {
    "none": lambda fitted, confidence: confidence,
    "temperature": Calibrators.by_temperature,
    "platt": Calibrators.by_platt,
    "isotonic": Calibrators.by_isotonic,
}


def fit(confidence: Array, right: Array) -> Calibrators:
    """The calibrators of confidences float64 [n] in answers that are right or not (bool [n]); the identities
    for fewer than ENOUGH. ValueError for a different number of the two, or a confidence outside 0 to 1.

    Platt's targets stand in place of 0 and 1, for the temperature too: where all answers are right, the
    likelihood by itself would be sure without end.
    """
    if confidence.shape != right.shape or not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError(f"{confidence.shape} confidences of {right.shape} answers, or one outside 0 to 1")
    if len(confidence) < ENOUGH:
        return Calibrators()
    z, hits = _logit(confidence), int(right.sum())
    aims = np.where(right, (hits + 1) / (hits + 2), 1 / (len(right) - hits + 2))

    def lost(slope: float, offset: float) -> float:
        """The mean negative log-likelihood in nats."""
        scores = slope * z + offset
        return float((np.logaddexp(0, scores) - aims * scores).mean())

    cold, hot = np.log(COLDEST), np.log(HOTTEST)
    best = minimize_scalar(lambda heat: lost(np.exp(-heat), 0.0), bounds=(cold, hot), method="bounded")
    line = minimize(lambda x: lost(*x), (1.0, 0.0), bounds=((0, None), (None, None)), method="L-BFGS-B")
    steps = IsotonicRegression(y_min=0, y_max=1).fit(confidence, right.astype(float))
    slope, offset = line.x.tolist()
    ends, levels = steps.X_thresholds_.tolist(), steps.y_thresholds_.tolist()
    return Calibrators(float(np.exp(best.x)), slope, offset, tuple(ends), tuple(levels))


def _logit(confidence: Array) -> Array:
    return logit(np.clip(confidence, EDGE, 1 - EDGE))


def brier(answers: Answers) -> dict[str, float]:
    """By the name of each map the mean squared distance of calibrated confidence and truth, every answer
    judged by calibrators that were fitted without its fold; folds go through the strata in turn. None for
    fewer than ENOUGH answers."""
    count = len(answers.right)
    if count < ENOUGH:
        return {}
    fold, found = np.arange(count) % FOLDS, {name: np.zeros(count) for name in MAPS}
    for k in range(FOLDS):
        held = fold == k
        fitted = fit(answers.confidence[~held], answers.right[~held])
        for name, mapped in MAPS.items():
            found[name][held] = mapped(fitted, answers.confidence[held])
    return {name: float(np.square(said - answers.right).mean()) for name, said in found.items()}


def answers(policy: "Policy | LargePolicy", held: Pool, size: int) -> Answers:
    """What the policy answers after the calls of the pool's traces, `size` at a time, sorted by stratum (task
    and tools). Traces whose own answer is not to be learned are left out."""
    strata = [(each.question.task, [step.action.name for step in each.steps]) for each in held.trajectories]
    known = [k for k, each in enumerate(held.trajectories) if learned(each)[1]]
    order = sorted(known, key=lambda k: (*strata[k], held.trajectories[k].id))
    sure: list[float] = []
    hits: list[bool] = []
    for start in range(0, len(order), size):
        part = _of(held, order[start : start + size])
        cut = [_answered(each.weights) for each in part.examples]
        prompts = [each.ids[:at] for each, at in zip(part.examples, cut, strict=True)]
        turns = policy.converse(prompts, [image for shown in part.images for image in shown]).say(LIMIT, 0, 0)
        read = [(k, grammar.read(turn.text)) for k, turn in enumerate(turns)]
        texts = {k: turn.text for k, turn in read if isinstance(turn, grammar.Answer)}
        if texts:
            said = [_said(prompts[k], turns[k].ids) for k in texts]
            sure += _likely(policy.model, replace(_of(part, list(texts)), examples=said))
            hits += [right(part.trajectories[k].question, text) for k, text in texts.items()]
    return Answers(np.array(sure), np.array(hits, dtype=bool), len(order) - len(hits))


def _of(held: Pool, rows: Sequence[int]) -> Pool:
    return Pool(
        [held.trajectories[k] for k in rows],
        [held.examples[k] for k in rows],
        [held.images[k] for k in rows],
        held.rows,
    )


def _answered(weights: Array) -> int:
    """Where the answer begins in an example that learns it: the last run of tokens that weigh something."""
    heard = np.flatnonzero(weights[: np.flatnonzero(weights)[-1]] == 0)
    return int(heard[-1]) + 1


def _said(prompt: Sequence[int], turn: Sequence[int]) -> Example:
    """A turn after what led to it, of which nothing else is asked for."""
    weights = np.repeat([0.0, 1.0], [len(prompt), len(turn)])
    return Example((*prompt, *turn), weights.astype(np.float32))


def _likely(model: Any, part: Pool) -> list[float]:
    """The probability of all tokens of each row that weigh something."""
    lengths = [np.count_nonzero(each.weights) for each in part.examples]
    with torch.inference_mode():
        said, _ = told(model, lesson(part, model.device))
        given = said.scores.gather(1, said.ids[:, None])[:, 0].double().cpu()
    return [each.sum().exp().item() for each in given.split(lengths)]


def export(folder: Path, policy: "Policy | LargePolicy", held: Pool, size: int) -> Json:
    """Fit on a pool of the dev split and write to `folder`; gives the file's sha256 by its name. Beside the
    calibrators stand the counts of answers and `brier`."""
    found = answers(policy, held, size)
    counts = {"answers": len(found.right), "right": int(found.right.sum()), "silent": found.silent}
    maps = asdict(fit(found.confidence, found.right))
    frozen.write(folder / FILE, {**maps, **counts, "brier": brier(found)})
    return {FILE: sha256(folder / FILE)}


def read(folder: Path) -> Calibrators:
    """The calibrators that were exported to `folder`. Raises `frozen.Changed`, and OSError where there are
    none."""
    stored = frozen.read(folder / FILE)
    ends, levels = tuple(stored["confidence"]), tuple(stored["level"])
    return Calibrators(stored["temperature"], stored["slope"], stored["offset"], ends, levels)
