"""The controller of the KL weight β (specification section 4; paper §6.1): PID on log β.

The error is how far the smoothed divergence lies from its target, as a share of it. Log β is its start plus
the three terms, within bounds. Three things keep the integral honest: it stands still while β lies at a bound
that the error pushes against (Åström and Hägglund 2006, conditional integration); it waits until the
divergence has come up to its target once, because every run starts at a divergence of 0, which says nothing
of β, and what is summed up there has to be paid back when control is needed; and the divergence is smoothed
from its first measured value and not from zero.
"""

import math
from dataclasses import dataclass, replace

from pixelis_pipeline.settings import PidSettings


@dataclass(frozen=True, slots=True)
class State:
    """The controller after `steps` optimiser steps: what a checkpoint holds. `smoothed` is the moving average
    of the divergence, `integral` the sum of errors since it was `reached` first, `error` the last of them."""

    beta: float
    steps: int = 0
    smoothed: float = 0.0
    integral: float = 0.0
    error: float = 0.0
    reached: bool = False


def start(settings: PidSettings) -> State:
    """The controller before the first step."""
    return State(settings.beta)


def step(state: State, kl: float, settings: PidSettings) -> State:
    """The controller after one optimiser step whose batch measured a divergence of `kl` nats an action token.

    One call a step. Raises ValueError for a `kl` that is not finite: a β made of it would hide the fault.
    """
    if not math.isfinite(kl):
        raise ValueError(f"step {state.steps}: a divergence of {kl} nats cannot be controlled")
    first = state.steps == 0
    smoothed = kl if first else settings.ema * state.smoothed + (1 - settings.ema) * kl
    error = (smoothed - settings.target) / settings.target
    change = 0.0 if state.steps < settings.derivative_after else error - state.error
    reached = state.reached or error >= 0
    proposed = replace(
        state,
        steps=state.steps + 1,
        smoothed=smoothed,
        error=error,
        integral=state.integral + error * reached,
        reached=reached,
    )
    wanted = _log_beta(proposed, change, settings)
    low, high = math.log(settings.beta_low), math.log(settings.beta_high)
    if (wanted > high and error > 0) or (wanted < low and error < 0):
        proposed = replace(proposed, integral=state.integral)
        wanted = _log_beta(proposed, change, settings)
    return replace(proposed, beta=math.exp(min(max(wanted, low), high)))


def _log_beta(state: State, change: float, settings: PidSettings) -> float:
    terms = settings.proportional * state.error + settings.integral * state.integral
    return math.log(settings.beta) + terms + settings.derivative * change
