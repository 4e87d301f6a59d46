"""Frozen statistics of coherence: how alike neighbouring steps are, family by family, on the dev split.

They are comparable only with cosines of the embedding they were measured with, so they name it.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pixelis_pipeline.records import canonical
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
        return hashlib.sha256(canonical(asdict(self))).hexdigest()

    def write(self, path: Path) -> None:
        """Store the statistics with their version as JSON."""
        path.write_text(json.dumps({"digest": self.digest, **asdict(self)}, indent=1) + "\n")


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
    """Stored statistics. ScaleError where they were changed, or measured with another embedding."""
    stored = json.loads(path.read_text())
    families = {name: Scale(**scale) for name, scale in stored["families"].items()}
    found = Scales(stored["embedding"], families, stored["pairs"])
    if found.digest != stored["digest"]:
        raise ScaleError(
            f"{path} was changed: it is version {found.digest[:12]}, not {stored['digest'][:12]}"
        )
    if found.embedding != embedding:
        ours, theirs = embedding[:12], found.embedding[:12]
        raise ScaleError(f"{path}: measured with embedding {theirs}, not with {ours}; measure again")
    return found
