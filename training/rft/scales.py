"""Frozen statistics of coherence: how alike neighbouring steps are, family by family, on the dev split.

They are comparable only with cosines of the embedding they were measured with, so they name it.

The paper has SFT export them. They are a matter of the policy that SFT ends with, of the dev split, and of an
embedding that the settings of reinforcement decide (`heads`): exported by SFT, a change of the embedding's
width would have a policy fine-tuned anew. So reinforcement measures them before its first step, and
`scales.json` beside its steps is the artifact that test time reads.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from training import frozen
from training.rft.rewards import Rollout, Scale, cosines

ENOUGH = 20  # pairs of steps; a family with fewer takes the statistics of all, as scores of traces do


class ScaleError(ValueError):
    """Statistics that cannot be measured or used."""


@dataclass(frozen=True, slots=True)
class Scales:
    """Each family's scale, the pairs of steps it was measured on, and the digest of the embedding."""

    embedding: str
    families: dict[str, Scale]
    pairs: dict[str, int]

    @property
    def digest(self) -> str:
        """sha256 hex: the version of the statistics."""
        return frozen.digest(asdict(self))

    def write(self, path: Path) -> None:
        """Store the statistics with their version as JSON."""
        frozen.write(path, asdict(self))


def scales(rollouts: Sequence[Rollout], embedding: str, families: Iterable[str] = ()) -> Scales:
    """Statistics of dev rollouts, judged by heads whose embedding has this digest: of every family of theirs,
    and of `families` that dev has none of. ScaleError where no rollout has two fresh steps."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for each in rollouts:
        found[each.family].extend(cosines(each).tolist())
    for family in families:
        found[family].extend(())
    every = [cosine for family in sorted(found) for cosine in found[family]]
    if not every:
        raise ScaleError(f"none of {len(rollouts)} rollouts has two steps to compare")
    chosen = {family: own if len(own) >= ENOUGH else every for family, own in sorted(found.items())}
    return Scales(
        embedding,
        {family: Scale(float(np.mean(own)), float(np.std(own))) for family, own in chosen.items()},
        {family: len(found[family]) for family in chosen},
    )


def read(path: Path, embedding: str) -> Scales:
    """Stored statistics. ScaleError where they were measured with another embedding, `frozen.Changed`."""
    stored = frozen.read(path)
    families = {name: Scale(**scale) for name, scale in stored["families"].items()}
    found = Scales(stored["embedding"], families, stored["pairs"])
    if found.embedding != embedding:
        ours, theirs = embedding[:12], found.embedding[:12]
        raise ScaleError(f"{path}: measured with embedding {theirs}, not with {ours}; measure again")
    return found
