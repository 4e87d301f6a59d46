"""What each step of SFT learns from: traces drawn by the curriculum's weights, with parts hidden.

A step's rows follow from the seed, the step and the curriculum's phase alone, never from a random state that
runs along: a training that goes on after a kill draws what it would have drawn. A row of the trainer's
dataset is therefore a place in an epoch and nothing else; what stands there is told when it is collated.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Sampler  # noqa: TID253

from pixelis_pipeline.curation import sampling
from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import CurationSettings, SftSettings
from training.sft.hiding import hidden
from training.sft.objective import Inputs, inputs
from training.sft.pool import Pool

if TYPE_CHECKING:
    from datasets import Dataset


class Draws:
    """The rows of every epoch of a training. `done` is the training's own state: its `step` and the phase of
    its `curriculum` are read whenever a batch is made."""

    def __init__(self, drawn: Pool, settings: SftSettings, curation: CurationSettings, done: Json) -> None:
        self.pool, self.settings, self.curation, self.done = drawn, settings, curation, done
        self.steps = -(-len(drawn.examples) // settings.batch)  # an epoch
        self._order: tuple[int, Sequence[int]] = (-1, ())

    @property
    def epoch(self) -> int:
        """The epoch that is under way."""
        return int(self.done["step"] // self.steps)

    def places(self) -> "Dataset":
        """A dataset of the places of an epoch."""
        from datasets import Dataset

        return Dataset.from_dict({"place": range(self.steps * self.settings.batch)})

    def order(self) -> Sequence[int]:
        """The examples of the epoch that is under way, by their place. It has as many draws as whole steps
        need, so that every step has the same number of rows."""
        if self._order[0] != self.epoch:
            phase = self.done["curriculum"]["phase"]
            weights = sampling.weights(self.pool.trajectories, phase, self.curation)
            sampler = sampling.Sampler(weights, self.settings.seed)
            drawn = sampler.draws(self.steps * self.settings.batch, self.epoch)
            self._order = (self.epoch, drawn.tolist())
        return self._order[1]

    def collate(self, rows: Sequence[Mapping[str, int]]) -> Inputs:
        """What stands at these places of the epoch that is under way, with parts of it hidden."""
        shown, images = [], []
        for row in rows:
            chosen = self.order()[row["place"]]
            random = np.random.default_rng([self.settings.seed, self.epoch, row["place"]])
            shown.append(hidden(self.pool.examples[chosen], self.settings, random))
            images.append(self.pool.images[chosen])
        return inputs(shown, images, self.pool.rows)


class Rest(Sampler[int]):
    """The places of an epoch from where the training stands: step after step, and within a step by the length
    of what stands there, so that rows of like length are padded to each other where a batch is taken in
    parts."""

    def __init__(self, draws: Draws) -> None:
        self.draws = draws

    def __len__(self) -> int:
        return self.draws.steps * self.draws.settings.batch

    def __iter__(self) -> Iterator[int]:
        done, size = self.draws.done["step"] % self.draws.steps, self.draws.settings.batch
        examples, order = self.draws.pool.examples, self.draws.order()
        for start in range(done * size, len(self), size):
            yield from sorted(range(start, start + size), key=lambda place: len(examples[order[place]].ids))
