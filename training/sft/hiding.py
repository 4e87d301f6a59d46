"""Two dropouts on what a policy reads while it is taught (specification section 3).

*Feedback*: an earlier tool output is hidden at random; of the one that was heard last the next turn is made,
so hiding it would teach to make things up. *Early actions*: the arguments of one of the first calls are
hidden, and are then not learned either. What is hidden is left out, the marks around it stay.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from pixelis_pipeline.settings import SftSettings
from training.sft.examples import Example

Array = np.ndarray[Any, Any]


def hidden(example: Example, settings: SftSettings, random: np.random.Generator) -> Example:
    """The example with some of its turns' tokens left out. Draws the same count of numbers from `random`
    whatever is hidden."""
    turns = len(example.turns)
    outputs = random.random(turns) < settings.hide_outputs
    actions = random.random(turns) < settings.hide_actions
    outputs[-1:] = False
    actions[settings.early_steps :] = False
    if not (outputs.any() or actions.any()):
        return example
    keep, weights = np.ones(len(example.ids), bool), example.weights.copy()
    for turn, output, action in zip(example.turns, outputs, actions, strict=True):
        if output:
            keep[turn.heard] = False
        if action:
            keep[turn.call] = False
            weights[turn.call.stop : turn.last + 1] = 0  # </call> no longer ends anything
    if not weights[keep].any():
        return example
    place = np.append(0, keep.cumsum())  # of a token among those that are left

    def moved(span: slice) -> slice:
        return slice(int(place[span.start]), int(place[span.stop]))

    left = tuple(
        replace(
            turn,
            call=moved(turn.call),
            last=int(place[turn.last]),
            heard=moved(turn.heard),
            aims={} if action else turn.aims,
        )
        for turn, action in zip(example.turns, actions, strict=True)
    )
    ids = tuple(token for token, kept in zip(example.ids, keep, strict=True) if kept)
    return Example(ids, weights[keep], left)
