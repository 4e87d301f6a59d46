"""Which media may be near-duplicates: the pairs that are worth a look at their pixels (`verdict`).

Three sides propose. pHashes that differ by few bits; descriptors of which one, as a whole, agrees with a
window of the other; and, where a learned encoder is set, embeddings that are near. Videos are laid over each
other at every shift in whole seconds that any two of their views suggest.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from pixelis_pipeline.curation import cosine
from pixelis_pipeline.curation.descriptor import Window, windows
from pixelis_pipeline.curation.fingerprints import MediaFingerprint
from pixelis_pipeline.curation.hamming import from_hex, within
from pixelis_pipeline.curation.vectors import Vectors
from pixelis_pipeline.settings import CurationSettings

Array = np.ndarray[Any, Any]
K = TypeVar("K")
V = TypeVar("V")
FAR = -1  # in place of a distance: the two pHashes say nothing of each other
HALF = 0.5  # of the shorter of two videos must overlap the other where they are laid over each other


@dataclass(frozen=True, slots=True)
class Cut:
    """What descriptors say: `part`, as a whole, looks like `window` of `whole`; sha256 both."""

    whole: str
    part: str
    window: Window
    cosine: float


@dataclass(frozen=True, slots=True)
class Like:
    """What embeddings say: the least cosine among the views of two media that agree, and how many seconds
    later the same thing stands in the second of two videos."""

    cosine: float
    shift: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """Two media to be judged: the largest pHash distance among the views that agree (FAR without), how many
    seconds later the same thing stands in the second of two videos, the cut that descriptors see, and the
    likeness that embeddings see."""

    distance: int = FAR
    shift: int = 0
    cut: Cut | None = None
    like: Like | None = None


def candidates(
    media: Sequence[MediaFingerprint],
    settings: CurationSettings,
    vectors: Vectors | None = None,
    embeddings: Vectors | None = None,
) -> dict[str, dict[str, Candidate]]:
    """later sha256 -> earlier sha256 -> candidate, in the order of `media`."""
    place = {m.media.sha256: k for k, m in enumerate(media)}
    found: dict[tuple[int, int], Candidate] = dict(_by_phash(media, settings))
    if vectors is not None:
        mine = vectors.where(np.array([owner in place for owner in vectors.owner], bool))
        for cut in cuts(mine, mine, settings).values():
            pair = (place[cut.whole], place[cut.part])
            key = (min(pair), max(pair))
            before = found.get(key, Candidate())
            if before.cut is None or before.cut.cosine < cut.cosine:
                found[key] = replace(before, cut=cut)
    if embeddings is not None:
        mine = embeddings.where(np.array([owner in place for owner in embeddings.owner], bool))
        films = {m.media.sha256 for m in media if m.media.kind == "video"}
        for (one, other), like in likes(mine, mine, films, settings).items():
            first, second = place[one], place[other]
            if first > second:
                first, second, like = second, first, Like(like.cosine, -like.shift)
            found[first, second] = replace(found.get((first, second), Candidate()), like=like)
    near: dict[str, dict[str, Candidate]] = {}
    for (a, b), candidate in sorted(found.items(), key=lambda pair: pair[0]):
        near.setdefault(media[b].media.sha256, {})[media[a].media.sha256] = candidate
    return near


def cuts(left: Vectors, right: Vectors, settings: CurationSettings) -> dict[tuple[str, str], Cut]:
    """(sha256 of `left`, sha256 of `right`) -> the best cut, whichever of the two is the part, where its
    cosine reaches `descriptor_cosine`. Images only: rows of single views."""
    found: dict[tuple[str, str], Cut] = {}
    images = [v.where(v.view == 0) for v in (left, right)]
    for swapped in (False,) if left is right else (False, True):
        parts, wholes = (images[1].wholes(), images[0]) if swapped else (images[0].wholes(), images[1])
        rows = cosine.between(parts.matrix, wholes.matrix, settings.descriptor_cosine)
        for i, j, value in zip(*(column.tolist() for column in rows), strict=True):
            part, whole = parts.owner[i], wholes.owner[j]
            pair = (whole, part) if swapped else (part, whole)
            if part != whole and (pair not in found or found[pair].cosine < value):
                found[pair] = Cut(whole, part, windows()[wholes.window[j]], value)
    return found


def likes(
    left: Vectors, right: Vectors, films: AbstractSet[str], settings: CurationSettings
) -> dict[tuple[str, str], Like]:
    """(sha256 of `left`, sha256 of `right`) -> their likeness by embeddings: images at a cosine of
    `encoder_image`; videos (`films`, sha256) that `_laid` lays over each other by frames at `encoder_frame`.
    Each pair once where `left` is `right`."""
    found: dict[tuple[str, str], Like] = {}
    for kind, least in ((False, settings.encoder_image), (True, settings.encoder_frame)):
        ours, theirs = (
            v.where(np.array([(o in films) == kind for o in v.owner], bool)) for v in (left, right)
        )
        if left is right:
            i, j, value = cosine.within(ours.matrix, least)
        else:
            i, j, value = cosine.between(ours.matrix, theirs.matrix, least)
        apart = np.flatnonzero(ours.owner[i] != theirs.owner[j])
        i, j, shift = i[apart], j[apart], theirs.view[j[apart]] - ours.view[i[apart]]
        met: dict[tuple[str, str], dict[int, list[float]]] = {}
        for a, b, late, near in zip(ours.owner[i], theirs.owner[j], shift, value[apart], strict=True):
            met.setdefault((a, b), {}).setdefault(int(late), []).append(float(near))
        stands: dict[str, set[int]] = {}
        for owner, view in zip(
            np.append(ours.owner, theirs.owner), np.append(ours.view, theirs.view), strict=True
        ):
            stands.setdefault(owner, set()).add(int(view))
        found |= {pair: Like(min(near), late) for pair, late, near in _laid(met, stands, settings)}
    return found


def _laid(
    met: Mapping[tuple[K, K], Mapping[int, list[V]]],
    stands: Mapping[K, Collection[int]],
    settings: CurationSettings,
) -> Iterator[tuple[tuple[K, K], int, list[V]]]:
    """(pair, shift, values) of the pairs of media that enough views tie together. `met` holds the values of
    views that agree by how many seconds later they stand in the second, `stands` the seconds at which a
    medium has views.

    Videos are laid over each other at every shift in whole seconds that any two of their views suggest: a
    copy may begin later. Of the views that then lie over each other `video_agreement` must agree, and they
    must be at least half of the shorter one's. An image is the case of one view.
    """
    for (a, b), shifts in met.items():
        ours, theirs = stands[a], stands[b]
        for shift, values in sorted(shifts.items(), key=lambda each: (-len(each[1]), abs(each[0]), each)):
            over = len({s + shift for s in ours} & set(theirs))
            enough = over >= HALF * min(len(ours), len(theirs))
            if enough and len(values) >= settings.video_agreement * over:
                yield (a, b), shift, values
                break


def _by_phash(
    media: Sequence[MediaFingerprint], settings: CurationSettings
) -> dict[tuple[int, int], Candidate]:
    """Pairs (earlier, later) of which enough views lie within `phash_distance`; views in which nothing stands
    are in none."""
    views = [
        (k, int(second), from_hex(digits))
        for k, m in enumerate(media)
        for second, digits, tiles in zip(_seconds(m), m.phash, m.standing, strict=True)
        if tiles  # what holds nothing is one with all that holds nothing, and can never be confirmed
    ]
    owner = np.array([view[0] for view in views], dtype=np.int64)
    second = np.array([view[1] for view in views], dtype=np.int64)
    i, j, bits = within(np.array([view[2] for view in views], dtype=np.uint64), settings.phash_distance)
    apart = owner[i] != owner[j]
    met: dict[tuple[int, int], dict[int, list[int]]] = {}
    for x, y, d in zip(i[apart].tolist(), j[apart].tolist(), bits[apart].tolist(), strict=True):
        a, b = int(owner[x]), int(owner[y])
        if media[a].media.kind == media[b].media.kind:
            met.setdefault((a, b), {}).setdefault(int(second[y] - second[x]), []).append(d)
    stands = {k: {int(s) for s in _seconds(media[k])} for pair in met for k in pair}
    return {pair: Candidate(max(bits), shift) for pair, shift, bits in _laid(met, stands, settings)}


def _seconds(medium: MediaFingerprint) -> Sequence[float]:
    return medium.seconds or range(len(medium.phash))
