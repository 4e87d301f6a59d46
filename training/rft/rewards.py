"""What rollouts earn (specification section 4): R = answer + λ·curiosity + λ·coherence - penalty.

Both intrinsic terms are means over a rollout's steps, put on one scale over the batch. A call that was made
before, whatever came between, earns nothing of either: its step is left out of the means, so that repeating
can only cost. What a rollout that makes no new call earns is 0 before the batch's scale is laid on.

Both what a step's look earns in curiosity and what an invalid call costs count by the scaler of its tool,
which SFT measured (§3.2.1). The specification says of which terms and not where. Here a step is reweighted
before the batch's percentile clips it, so that no tool earns beyond what any step may; steps beyond the
length prior cost the same whatever their tool.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from pixelis_pipeline.records import Prediction, canonical
from pixelis_pipeline.settings import RewardSettings

Array = np.ndarray[Any, Any]
EVEN: Mapping[str, float] = MappingProxyType({})  # no scaler: every tool counts 1


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout as rewards see it. `calls` are its steps' calls as canonical text, `tools` the names that
    they call ("" where a turn could not be read), `valid` whether each was one; `embeddings` float [steps, d]
    are unit rows E_t; `error`, `variance`, `validity`, `expected` [steps] what the dynamics head says of each
    step: squared error of the predicted next features, variance over its dropout passes, the logit that the
    call is valid, and the error it expected. `boxes` float [steps, 4] in 0-1 are where its calls look; only
    `smoothness` needs them."""

    correct: bool
    family: str
    calls: Sequence[str]
    tools: Sequence[str]
    valid: Sequence[bool]
    embeddings: Array
    error: Array
    variance: Array
    validity: Array
    expected: Array | float = 1.0
    boxes: Array = field(default_factory=lambda: np.zeros((0, 4)))

    @property
    def fresh(self) -> Array:
        """bool [steps]: whether a step's call is valid and was not made before."""
        first = {call: k for k, call in reversed(list(enumerate(self.calls)))}
        held = [
            ok and first[call] == k for k, (call, ok) in enumerate(zip(self.calls, self.valid, strict=True))
        ]
        return np.array(held, dtype=bool)


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and deviation of the cosine of neighbouring steps in one family, frozen on the dev split."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Rewards:
    """float64 [rollouts] each: the sum, and its parts raw and on the batch's scale, for the log. `*_steps`
    are float64 [steps] a rollout: what each of its steps adds to the raw term. They sum to it."""

    total: Array
    answer: Array
    penalty: Array
    curiosity: Array
    coherence: Array
    curiosity_scaled: Array
    coherence_scaled: Array
    penalty_steps: Sequence[Array]
    curiosity_steps: Sequence[Array]
    coherence_steps: Sequence[Array]


def rewards(
    batch: Sequence[Rollout],
    scales: Mapping[str, Scale],
    settings: RewardSettings,
    smooth: bool = False,
    scalers: Mapping[str, float] = EVEN,
) -> Rewards:
    """The rewards of a batch; with `smooth`, smoothness stands in coherence's place. A tool that `scalers`
    lack counts 1. Raises KeyError for a family without a scale."""
    answer = np.array([float(each.correct) for each in batch])
    paid = np.array([penalty(each, settings, scalers) for each in batch])
    worth = curiosities(batch, settings, scalers)
    curious = np.array([_mean(each) for each in worth])
    apart = [-distances(e) if smooth else typicality(e, scales[e.family], settings) for e in batch]
    coherent = np.array([_mean(each) for each in apart])
    fresh = [np.flatnonzero(each.fresh) for each in batch]
    shares = [penalties(each, settings, scalers) for each in batch]
    added = [_added(e, at, values) for e, at, values in zip(batch, fresh, worth, strict=True)]
    # The likeness of two neighbours is the later one's: it is the call that was chosen next to the other.
    joined = [_added(e, at[1:], values) for e, at, values in zip(batch, fresh, apart, strict=True)]
    curious_scaled, coherent_scaled = (
        _scaled(term, settings.deviation_floor) for term in (curious, coherent)
    )
    total = answer + settings.curiosity * curious_scaled + settings.coherence * coherent_scaled - paid
    return Rewards(
        total, answer, paid, curious, coherent, curious_scaled, coherent_scaled, shares, added, joined
    )


def unseen(told: Sequence[Prediction]) -> tuple[list[Rollout], dict[str, Scale]]:
    """Predictions of which no head has said anything: answer and penalty are all they can earn."""
    made = []
    for each in told:
        n = len(each.steps)
        calls = [canonical([step.action.name, step.action.arguments]).decode() for step in each.steps]
        tools, valid = [step.action.name for step in each.steps], [step.valid for step in each.steps]
        nothing, family = np.zeros(n), each.question.task
        made.append(
            Rollout(each.correct, family, calls, tools, valid, np.zeros((n, 1)), nothing, nothing, nothing)
        )
    return made, {each.family: Scale(0.0, 1.0) for each in made}


def penalty(rollout: Rollout, settings: RewardSettings, scalers: Mapping[str, float] = EVEN) -> float:
    """What invalid calls, by their tools' scalers, and steps beyond the length prior cost."""
    counts = zip(_counts(rollout, scalers), rollout.valid, strict=True)
    invalid = math.fsum(count for count, ok in counts if not ok)  # exact, so in any order the same
    return settings.invalid * invalid + settings.length * max(0, len(rollout.calls) - settings.length_prior)


def penalties(rollout: Rollout, settings: RewardSettings, scalers: Mapping[str, float] = EVEN) -> Array:
    """float64 [steps]: what each step costs. Their sum, up to its rounding, is `penalty`, which is counted
    and not summed: two rollouts with the same faults in another order are worth the same to the last bit."""
    beyond = np.arange(len(rollout.calls)) >= settings.length_prior
    invalid = _counts(rollout, scalers) * ~np.array(rollout.valid, dtype=bool)
    return settings.invalid * invalid + settings.length * beyond


TYPICAL = (2 / np.pi) ** 0.5  # how far a normal value lies from its mean, in deviations


def coherence(rollout: Rollout, scale: Scale, settings: RewardSettings) -> float:
    """How typical the cosines of neighbouring fresh steps are of honest ones: the mean of TYPICAL - |z|,
    about 0 for honest steps; 0 with fewer than two of them.

    The specification's mean of z pays for likeness without end, and two looks at noise are more alike than
    two at the things that a question compares.
    """
    return _mean(typicality(rollout, scale, settings))


def typicality(rollout: Rollout, scale: Scale, settings: RewardSettings) -> Array:
    """float64 [fresh steps - 1]: TYPICAL - |z| of each fresh step with the next one."""
    apart = np.abs(cosines(rollout) - scale.mean) / max(scale.deviation, settings.deviation_floor)
    return TYPICAL - apart


def smoothness(rollout: Rollout) -> float:
    """Minus the mean L2 distance of the boxes of neighbouring fresh steps; 0 with fewer than two of them."""
    return _mean(-distances(rollout))


def distances(rollout: Rollout) -> Array:
    """float64 [fresh steps - 1]: the L2 distance of each fresh step's box to the next one's."""
    boxes = rollout.boxes[rollout.fresh]
    return np.linalg.norm(np.diff(boxes, axis=0), axis=1)


def cosines(rollout: Rollout) -> Array:
    """float64 [fresh steps - 1]: the cosine of each fresh step with the next one."""
    rows = rollout.embeddings[rollout.fresh]
    return (rows[1:] * rows[:-1]).sum(1)


def curiosity(
    batch: Sequence[Rollout], settings: RewardSettings, scalers: Mapping[str, float] = EVEN
) -> Array:
    """float64 [rollouts]: mean over each one's fresh steps of error / expected x exp(-gate x variance / the
    batch's mean variance) x sigmoid(validity) x the tool's scaler, each step clipped at the batch's
    percentile; 0 without a fresh step. The error as it is, which the specification has here, pays for noise.
    """
    return np.array([_mean(each) for each in curiosities(batch, settings, scalers)])


def curiosities(
    batch: Sequence[Rollout], settings: RewardSettings, scalers: Mapping[str, float] = EVEN
) -> list[Array]:
    """float64 [fresh steps] a rollout: what `curiosity` is the mean of."""
    fresh = [each.fresh for each in batch]
    variance = np.concatenate([each.variance[kept] for each, kept in zip(batch, fresh, strict=True)])
    if not variance.size:
        return [np.zeros(0) for _ in batch]
    spread = max(float(variance.mean()), np.finfo(float).tiny)
    steps = [
        (each.error[kept] / np.broadcast_to(each.expected, each.error.shape)[kept])
        * np.exp(-settings.gate * each.variance[kept] / spread)
        * _sigmoid(each.validity[kept])
        * _counts(each, scalers)[kept]
        for each, kept in zip(batch, fresh, strict=True)
    ]
    bound = np.percentile(np.concatenate(steps), settings.clip_percentile)
    return [np.minimum(each, bound) for each in steps]


def _counts(rollout: Rollout, scalers: Mapping[str, float]) -> Array:
    """float64 [steps]: the scaler of each step's tool."""
    return np.array([scalers.get(tool, 1.0) for tool in rollout.tools], dtype=float)


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else 0.0


def _added(rollout: Rollout, at: Array, values: Array) -> Array:
    """float64 [steps]: the share in the mean of `values` of the steps `at`, and 0 of all others."""
    shares = np.zeros(len(rollout.calls))
    shares[at] = values / max(len(values), 1)
    return shares


def _sigmoid(logits: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * logits))  # without overflow


def _scaled(term: Array, floor: float) -> Array:
    return (term - term.mean()) / max(float(term.std()), floor) if term.size else term
