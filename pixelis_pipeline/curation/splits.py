"""Train, dev and test: disjoint by media and by duplicate group, stratified, stable when a batch is added.

Groups are taken a batch at a time, within a batch in the order of a hash, and each goes to the split that
is furthest behind its share: in the group's strata (task and tools), in its tasks and in the whole, weighed
together. That is the step that least raises the sum of squared deviations over all of these (iterative
stratification, Sechidis et al. 2011, with the squares in place of the rarest label). In a pool of one
stratum and one trace a group no split is ever ahead of its share by more than 2/3 of a trace or behind by
more than 4/3, where a draw of n traces is off by the root of n x share x (1 - share) as a rule.

What a batch is given depends on it and on earlier batches alone, so a later one moves nothing. The price,
beside a draw that looks at the group alone: taking traces away from a batch may move others of that batch
and of later ones. Ids of the curriculum take no part in the order, because tertiles move, and ids with
them, when a batch is added.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import groupby
from sys import intern
from typing import Any, Literal, NamedTuple

from pixelis_pipeline.records import (
    Accepted,
    ActionName,
    Media,
    Origin,
    Outcome,
    Question,
    Rejected,
    Trajectory,
    canonical,
    record_id,
)
from pixelis_pipeline.settings import CurationSettings

STAGE, VERSION = "training_splits", 2
RULE = "spans splits"
Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
Stratum = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the splits need of a question."""

    id: str
    origin: Origin
    media: tuple[Media, ...]
    task: str
    tools: tuple[ActionName, ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """What the splits need of a trajectory: a Trajectory without its steps, read from the same columns."""

    id: str
    question: Asked
    request: str
    batch: str
    group: str


class _Item(NamedTuple):
    """One trace, in the order in which traces are placed."""

    batch: str
    place: float
    group: str
    source: str
    question: str
    request: str
    id: str
    media: tuple[str, ...]
    stratum: Stratum


def uniform(group: str, settings: CurationSettings) -> float:
    """A number in [0, 1) that sha256(seed, group) draws."""
    digest = sha256(canonical([settings.seed, group])).digest()
    return int.from_bytes(digest[:8]) / 2**64


def assign(outlines: Iterable[Outline | Trajectory], settings: CurationSettings) -> dict[str, Split | str]:
    """Where each trajectory goes, by id, whatever order they come in; one that cannot be placed has what
    its media and group are held by ("... in train, ... in dev") instead.

    A trajectory goes where its group or any of its media already is. One whose media stand in different
    splits has no place: to keep it, something that stands would have to move.
    """
    shares = (1.0 - settings.dev_share - settings.test_share, settings.dev_share, settings.test_share)
    tally = _Tally(shares)
    placed: dict[str, Split] = {}
    found: dict[str, Split | str] = {}
    items = sorted(_item(each, settings) for each in outlines)
    for (_, place, group), members in groupby(items, key=lambda item: item[:3]):
        together = list(members)
        home: Split | None = None
        for item in together:
            keys = (group, *item.media)
            chosen = {placed[key] for key in keys if key in placed}
            if len(chosen) > 1:
                found[item.id] = ", ".join(f"{key} in {placed[key]}" for key in keys if key in placed)
                continue
            if chosen:
                (home,) = chosen
            else:  # the first of its group, which is now placed as a whole
                home = tally.furthest_behind([each.stratum for each in together], place)
            placed.update(dict.fromkeys(keys, home))
            tally.add(item.stratum, home)
            found[item.id] = home
    return found


def split(
    trajectories: Iterable[Trajectory], assigned: Mapping[str, Split | str], settings: CurationSettings
) -> Iterator[Outcome[Trajectory]]:
    """One outcome per trajectory, in the order given, as `assign` found. Rule RULE: `measured` is 2 where
    1 is allowed, and `detail` names what holds its media and group."""
    parameters = settings.model_dump(include={"seed", "dev_share", "test_share"})
    for trajectory in trajectories:
        name = assigned[trajectory.id]
        if name not in SPLITS:
            held = len({part.rpartition(" in ")[2] for part in name.split(", ")})
            yield Rejected(trajectory.id, STAGE, RULE, float(held), 1.0, detail=name)
            continue
        identity = record_id(STAGE, VERSION, parameters, [trajectory.id], name)
        yield Accepted(
            trajectory.id, (replace(trajectory, id=identity, parents=(trajectory.id,), split=name),)
        )


def stratum(question: Asked | Question) -> Stratum:
    """(task, the tools it needs, such as "OCR+ZOOM")."""
    return question.task, "+".join(sorted(question.tools))


def shares(
    counts: Mapping[tuple[Stratum, str], int], settings: CurationSettings
) -> dict[str, dict[str, Any]]:
    """Of counts by (stratum, split): how many trajectories of each "task tools", and of all, stand in each
    split, and by how many the worst of the three is off its share."""
    wanted = (1.0 - settings.dev_share - settings.test_share, settings.dev_share, settings.test_share)

    def row(standing: Sequence[int]) -> dict[str, Any]:
        off = max(abs(n - share * sum(standing)) for n, share in zip(standing, wanted, strict=True))
        return dict(zip(SPLITS, standing, strict=True)) | {"off by": round(off, 2)}

    strata = sorted({key for key, _ in counts})
    by_stratum = {key: [counts.get((key, name), 0) for name in SPLITS] for key in strata}
    whole = [sum(column) for column in zip(*by_stratum.values(), strict=True)] or [0, 0, 0]
    return {" ".join(key).strip(): row(standing) for key, standing in by_stratum.items()} | {
        "all": row(whole)
    }


def _item(outline: Outline | Trajectory, settings: CurationSettings) -> _Item:
    question = outline.question
    media = tuple(medium.sha256 for medium in question.media)
    group = outline.group or media[0]
    task, tools = stratum(question)
    return _Item(
        intern(outline.batch),
        uniform(group, settings),
        group,
        intern(question.origin.source),
        question.id,
        outline.request,
        outline.id,
        media,
        (intern(task), intern(tools)),
    )


class _Tally:
    """How many traces of each stratum, of each task and of the whole stand in each split."""

    def __init__(self, shares: Sequence[float]) -> None:
        self.shares = shares
        self.counts: dict[Stratum, list[int]] = defaultdict(lambda: [0, 0, 0])

    def add(self, stratum: Stratum, name: Split) -> None:
        """Count one trace, in its stratum and in all that hold it."""
        for length in range(len(stratum) + 1):
            self.counts[stratum[:length]][SPLITS.index(name)] += 1

    def furthest_behind(self, strata: Iterable[Stratum], place: float) -> Split:
        """The split that traces of these strata bring closest to the shares: the largest sum over strata
        of traces x (share x (standing + traces) - standing in the split). `place` settles ties."""
        coming = Counter(stratum[:n] for stratum in strata for n in range(len(stratum) + 1))
        behind = [0.0, 0.0, 0.0]
        for stratum, traces in coming.items():
            standing = self.counts[stratum]
            wanted = sum(standing) + traces
            for n, share in enumerate(self.shares):
                behind[n] += traces * (share * wanted - standing[n]) if share > 0 else float("-inf")
        behind = [round(each, 6) for each in behind]
        best = [name for name, each in zip(SPLITS, behind, strict=True) if each == max(behind)]
        return best[int(place * 2**32) % len(best)]
