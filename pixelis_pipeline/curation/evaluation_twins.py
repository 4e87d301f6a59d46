"""Evaluation media in the training data: what counts as a leak, and the filter that keeps it out.

A leak is a *medium* that a benchmark holds: the same bytes, or a pHash within the distance where the
picture carries enough information ("media"). On pages and plain grounds a pHash hit alone proves nothing
("media-like"): there the pixels decide, and the same question with the same answer blocks whatever they
say. Questions and answers alone never block: "How many circles are there?" and "3" are shared by
thousands of honest items.

Descriptors find what no pHash can: an image cut out of another, or one put into a border. Such a pair is a
leak if the pixels agree where the two lie over each other, else nothing. So do the embeddings of a learned
encoder, where one is set: such a pair is a leak unless the two merely share a template (`Judge.alike`).

Without an encoder flipped and turned copies are not caught; cuts that leave less than some 75 % of a side are
not with one either: docs/LEAKAGE.md has the shares. Two videos of plain views are one only if
`video_agreement` of their views agree.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pixelis_pipeline.curation.fingerprints import Fingerprint
from pixelis_pipeline.curation.hamming import between, from_hex
from pixelis_pipeline.curation.twins import Candidate, cuts, likes
from pixelis_pipeline.curation.vectors import Vectors
from pixelis_pipeline.curation.verdict import Judge, answers
from pixelis_pipeline.records import Accepted, Media, Outcome, Rejected, Trajectory
from pixelis_pipeline.settings import CurationSettings, EngineSettings
from pixelis_pipeline.sources.whitelist import WhitelistEntry, answer_text, text_key

STAGE = "evaluation_twins"
Look = Callable[[Trajectory, WhitelistEntry], bool]
Near = Mapping[tuple[str, str], Candidate]  # (training sha256, evaluation sha256)
NOTHING: Near = {}


@dataclass(frozen=True, slots=True)
class LeakageHit:
    """A training item (`of`) and an evaluation item whose media meet. `signals` starts with "media" or
    "media-like" and adds "question" and "answer" where they agree too; `distance` is in bits. `by` is what
    brought the two together: "pHash" (or their bytes), "descriptor", or "encoder"."""

    of: str
    entry: str
    benchmark: str
    record: str
    signals: tuple[str, ...]
    distance: int
    by: str = "pHash"

    @property
    def blocks(self) -> bool:
        """Whether this is a leak: a medium held by both, or one like it with its question and answer."""
        return self.signals[0] == "media" or len(self.signals) == 3


def near(
    descriptors: tuple[Vectors, Vectors],
    embeddings: tuple[Vectors, Vectors] | None,
    films: AbstractSet[str],
    settings: CurationSettings,
) -> Near:
    """The pairs of media that vectors bring together, descriptors and, where there are any, embeddings: of
    training and of evaluation media each. `films` are the videos of both, sha256. ValueError where the
    embeddings are of two encoders."""
    found = {pair: Candidate(cut=cut) for pair, cut in cuts(*descriptors, settings).items()}
    if embeddings is not None:
        ours, theirs = embeddings
        if ours.encoder != theirs.encoder:
            raise ValueError("training and evaluation media were embedded by two encoders")
        for pair, like in likes(ours, theirs, films, settings).items():
            found[pair] = replace(found.get(pair, Candidate()), like=like)
    return found


def same_by_pixels(
    judge: Judge, near: Near = NOTHING, decided: Mapping[tuple[str, str], bool] | None = None
) -> Callable[[Media, Media], bool]:
    """Decides whether a training and an evaluation medium agree place by place, as wholes or by what `near`
    says of them. What was decided of two media is remembered, `decided` what was before. Raises what the
    decoders raise."""
    known = dict(decided or {})

    def same(ours: Media, theirs: Media) -> bool:
        pair = ours.sha256, theirs.sha256
        if pair not in known:
            known[pair] = _same(judge, ours, theirs, near.get(pair, Candidate()))
        return known[pair]

    return same


def _same(judge: Judge, ours: Media, theirs: Media, found: Candidate) -> bool:
    least = judge.settings.leak_agreement
    return ours.kind == theirs.kind and (
        judge.agreement(ours, theirs) >= least
        or (found.cut is not None and judge.cut_agreement(ours, theirs, found.cut)[0] >= least)
        or (found.like is not None and judge.alike(ours, theirs, found.like))
    )


def decide(
    near: Near,
    training: Mapping[str, Media],
    evaluation: Mapping[str, Media],
    make: Callable[[], Judge],
    engine: EngineSettings,
) -> dict[tuple[str, str], bool]:
    """`same_by_pixels` of every pair in `near` whose media (by sha256) are at hand, wherever the engine runs.
    Raises like `verdict.answers`."""
    pairs = [
        (training[left], evaluation[right], candidate)
        for (left, right), candidate in sorted(near.items(), key=lambda pair: pair[0])
        if left in training and right in evaluation
    ]
    found = answers(pairs, partial(_deciding, make), engine)
    return {(a.sha256, b.sha256): same for (a, b, _), same in zip(pairs, found, strict=True)}


def _deciding(make: Callable[[], Judge]) -> Callable[[tuple[Media, Media, Candidate]], bool]:
    judge = make()
    return lambda pair: _same(judge, *pair)


def by_pixels(evaluation: Mapping[str, Media], same: Callable[[Media, Media], bool]) -> Look:
    """Decides a media-like pair: whether any two of their media are one by `same_by_pixels`. `evaluation`
    finds the benchmarks' media by sha256 (KeyError for one it lacks)."""

    def look(trajectory: Trajectory, entry: WhitelistEntry) -> bool:
        return any(
            same(ours, evaluation[digest])
            for ours in trajectory.question.media
            for digest in entry.media_sha256
        )

    return look


def hits(
    trajectories: Sequence[Trajectory],
    entries: Sequence[WhitelistEntry],
    settings: CurationSettings,
    look: Look,
    near: Near = NOTHING,
) -> list[LeakageHit]:
    """Every pair of a fingerprinted training item and an evaluation item whose media meet, exact and
    complete, sorted by both ids. One view of a video is enough. `near` are the pairs that vectors found; one
    that the pixels refute is no hit. Raises what `look` raises."""
    met: dict[tuple[int, int], tuple[bool, int]] = {}
    for t, e, trusted, distance in _meetings(trajectories, entries, settings):
        before = met.get((t, e), (False, 65))
        met[t, e] = (trusted or before[0], min(distance, before[1]))
    seen = set(met)
    for t, e in _holding(trajectories, entries, near):
        if (t, e) not in met and look(trajectories[t], entries[e]):
            met[t, e] = (True, _distance(trajectories[t], entries[e]))
    found = []
    for (t, e), (trusted, distance) in met.items():
        entry = entries[e]
        question, answer = keys(trajectories[t])
        sure = trusted or look(trajectories[t], entry)
        signals = ["media" if sure else "media-like"]
        signals += ["question"] * bool(question and question == entry.question_key)
        signals += ["answer"] * bool(answer and answer == entry.answer_key)
        told = (trajectories[t].id, entry.id, entry.benchmark, entry.record, tuple(signals), distance)
        found.append(LeakageHit(*told, by="pHash" if (t, e) in seen else _by(trajectories[t], entry, near)))
    return sorted(found, key=lambda hit: (hit.of, hit.entry))


def _by(trajectory: Trajectory, entry: WhitelistEntry, near: Near) -> str:
    """Which vectors brought two items together."""
    pairs = [(m.sha256, digest) for m in trajectory.question.media for digest in entry.media_sha256]
    return "descriptor" if any(pair in near and near[pair].cut for pair in pairs) else "encoder"


def _holding(
    trajectories: Sequence[Trajectory], entries: Sequence[WhitelistEntry], near: Near
) -> Iterable[tuple[int, int]]:
    """(training index, evaluation index) of the items that hold the two media of a pair."""
    ours, theirs = defaultdict(list), defaultdict(list)
    for t, trajectory in enumerate(trajectories):
        for media in trajectory.question.media:
            ours[media.sha256].append(t)
    for e, entry in enumerate(entries):
        for digest in entry.media_sha256:
            theirs[digest].append(e)
    for left, right in near:
        yield from ((t, e) for t in ours.get(left, ()) for e in theirs.get(right, ()))


def _distance(trajectory: Trajectory, entry: WhitelistEntry) -> int:
    """The least pHash distance between their views, in bits."""
    return min((int(a, 16) ^ int(b, 16)).bit_count() for a in trajectory.phash for b in entry.phash)


def against(
    fingerprints: Sequence[Fingerprint],
    entries: Sequence[WhitelistEntry],
    settings: CurationSettings,
    look: Look,
    near: Near = NOTHING,
) -> list[Outcome[Fingerprint]]:
    """Reject what `audit` would call a leak before it reaches anything: rule "evaluation twin", `measured`
    in bits, `twin` the whitelist entry. What is kept passes unchanged, in the order given."""
    blocking: dict[str, LeakageHit] = {}
    for hit in hits([f.trajectory for f in fingerprints], entries, settings, look, near):
        if hit.blocks:
            blocking.setdefault(hit.of, hit)
    return [_kept_out(f, blocking.get(f.trajectory.id), settings) for f in fingerprints]


def _kept_out(
    found: Fingerprint, leak: LeakageHit | None, settings: CurationSettings
) -> Outcome[Fingerprint]:
    if leak is None:
        return Accepted(found.id, (found,))
    return Rejected(
        found.id,
        STAGE,
        "evaluation twin",
        measured=float(leak.distance),
        threshold=float(settings.phash_distance),
        twin=leak.entry,
        detail=f"{' and '.join(leak.signals)} of {leak.benchmark} item {leak.record}, found by {leak.by}",
    )


def leaks(
    trajectory: Trajectory,
    entry: WhitelistEntry,
    settings: CurationSettings,
    look: Look,
    near: Near = NOTHING,
) -> bool:
    """The rule of this module for one pair, written out without any index."""
    ours, theirs = [m.sha256 for m in trajectory.question.media], entry.media_sha256
    if set(ours) & set(theirs):
        return True
    hashed = [
        information
        for digits, information in _telling(trajectory)
        for other in entry.phash
        if (int(digits, 16) ^ int(other, 16)).bit_count() <= settings.phash_distance
    ]
    if hashed and max(hashed) >= settings.information_floor:
        return True
    if hashed and all(keys(trajectory)) and keys(trajectory) == (entry.question_key, entry.answer_key):
        return True
    met = bool(hashed) or any((a, b) in near for a in ours for b in theirs)
    return met and look(trajectory, entry)


def _telling(trajectory: Trajectory) -> list[tuple[str, float]]:
    """(pHash, information) of the views that say something of the item. A film's black first frame is that of
    every film that fades in: where other views hold anything, it would meet them all for nothing."""
    views = list(zip(trajectory.phash, trajectory.information, strict=True))
    return [view for view in views if view[1] > 0] or views


def keys(trajectory: Trajectory) -> tuple[str, str]:
    """(question, answer) of a training item as the whitelist keys them; "" is equal to nothing."""
    return text_key(trajectory.question.text), text_key(answer_text(trajectory.question))


def _meetings(
    trajectories: Sequence[Trajectory], entries: Sequence[WhitelistEntry], settings: CurationSettings
) -> Iterable[tuple[int, int, bool, int]]:
    """(training index, evaluation index, trusted, bits) for every view or medium that meets another."""
    holders: dict[str, list[int]] = defaultdict(list)
    views: dict[int, list[int]] = defaultdict(list)
    for e, entry in enumerate(entries):
        for digest in entry.media_sha256:
            holders[digest].append(e)
        for digits in entry.phash:
            views[from_hex(digits)].append(e)
    ours: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for t, trajectory in enumerate(trajectories):
        for media in trajectory.question.media:
            yield from ((t, e, True, 0) for e in holders.get(media.sha256, ()))
        for digits, information in _telling(trajectory):
            ours[from_hex(digits)].append((t, information))
    left, right = list(ours), list(views)
    found = between(np.array(left, np.uint64), np.array(right, np.uint64), settings.phash_distance)
    for i, j, bits in zip(*(column.tolist() for column in found), strict=True):
        for t, information in ours[left[i]]:
            yield from ((t, e, information >= settings.information_floor, bits) for e in views[right[j]])
