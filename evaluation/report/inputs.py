"""What a report shows beside scores and the funnel: curves, and where everything came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a plot of training: `values` at optimiser `steps`; a loss is in nats per weighted token."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.values):
            raise ValueError(f"curve {self.name}: {len(self.steps)} steps and {len(self.values)} values")


@dataclass(frozen=True, slots=True)
class Context:
    """Where the numbers come from. `commit` is git's, with a word where the tree was dirty;
    `environment` the hash of the locked set; `versions` data versions by artifact; `steps` how
    many optimiser steps each phase of training took. `bit_stable` and `not_bit_stable` are sentences.
    `written` is a date only if the caller wants one on the page."""

    profile: str
    seeds: Mapping[str, int]
    commit: str
    environment: str
    versions: Mapping[str, str]
    steps: Mapping[str, int] = field(default_factory=dict)
    bit_stable: tuple[str, ...] = ()
    not_bit_stable: tuple[str, ...] = ()
    written: str = ""
