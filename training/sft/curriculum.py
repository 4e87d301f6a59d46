"""When training moves on, stops or goes back (specification section 3): a pure function of dev losses.

    warm-up   `warm_up` epochs on the full pool
    main      medium and hard traces 2:1, until the running mean of the dev loss has gained less than
              `least_gain` of itself `stalls` times running
    over      nothing is left to gain

Falls the dev loss behind the best one by more than `fall_back`, the weights go back to those of the best and
the schedule goes back to the full pool. The running mean is corrected for its start (Kingma and Ba 2015):
uncorrected, it would lag so far behind in the first epochs that nothing seems to be gained.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from pixelis_pipeline.settings import SftSettings

Phase = Literal["warm-up", "main", "over"]
Verdict = Literal["best", "fine", "fallen"]


@dataclass(frozen=True, slots=True)
class State:
    """`epochs` spent in `phase`; `mean` and `best` of the dev losses of so many `looks`, None before the
    first; `stalled` looks running."""

    phase: Phase = "warm-up"
    epochs: int = 0
    looks: int = 0
    mean: float | None = None
    best: float | None = None
    stalled: int = 0


def look(state: State, dev: float | None, settings: SftSettings) -> tuple[State, Verdict]:
    """The state after one more epoch with its dev loss in nats a token (None: there is no dev split), and
    whether these weights are the best so far, fine, or fallen behind and to be given up for the best.

    ValueError for a first dev loss that is not finite: there is nothing to go back to.
    """
    state = replace(state, epochs=state.epochs + 1)
    if dev is None:
        return _advanced(state, settings), "fine"
    if state.best is None or state.mean is None:
        if not math.isfinite(dev):
            raise ValueError(f"the dev loss is {dev} after the first epoch: lower sft.learning_rate")
        return _advanced(replace(state, looks=1, mean=dev, best=dev), settings), "best"
    if not dev <= state.best + settings.fall_back:  # so written that a loss of NaN falls back too
        return State(looks=1, mean=state.best, best=state.best), "fallen"
    looks, memory = state.looks + 1, settings.dev_memory
    mean = state.mean + (1 - memory) / (1 - memory**looks) * (dev - state.mean)
    stalled = state.stalled + 1 if state.mean - mean < settings.least_gain * state.mean else 0
    verdict: Verdict = "best" if dev < state.best else "fine"
    state = replace(state, looks=looks, mean=mean, best=min(dev, state.best), stalled=stalled)
    return _advanced(state, settings), verdict


def _advanced(state: State, settings: SftSettings) -> State:
    """The state in the phase that is due."""
    if state.phase == "warm-up" and state.epochs >= settings.warm_up:
        return replace(state, phase="main", epochs=0, stalled=0)
    if state.phase == "main" and state.stalled >= settings.stalls:
        return replace(state, phase="over", epochs=0)
    return state
