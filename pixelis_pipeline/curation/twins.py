"""Which media are near-duplicates, and on what evidence.

Candidates come from two sides: pHashes that differ by few bits, and descriptors of which one, as a whole,
agrees with a window of the other. Where both media carry enough information pHash's word is final. All else
is only a candidate: known words that differ refute it, and tiles that agree everywhere confirm it, laid over
each other as wholes or, for images, as a cut and what it was cut from. Between clear agreement and clear
disagreement the mean similarity over the picture (SSIM) breaks the tie.

A learned encoder, where one is set, is the second stage and a third side. Media whose embeddings are near are
one unless they only share a template: then few tiles agree however the two are laid over each other, as they
are, flipped or turned, and SSIM is low too.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from pixelis_pipeline.curation import alignment, cosine
from pixelis_pipeline.curation.descriptor import Window, windows
from pixelis_pipeline.curation.fingerprints import MediaFingerprint, information
from pixelis_pipeline.curation.hamming import from_hex, within
from pixelis_pipeline.curation.patches import agreement, small, thumbnail, worst
from pixelis_pipeline.curation.ssim import ssim
from pixelis_pipeline.curation.vectors import Vectors
from pixelis_pipeline.records import Media
from pixelis_pipeline.settings import CurationSettings
from pixelis_pipeline.sources.whitelist import Frames, Pixels, views
from pixelis_pipeline.verify.metrics import plain, similarity

Array = np.ndarray[Any, Any]
K = TypeVar("K")
V = TypeVar("V")
CACHED = 512  # thumbnail sets held for confirming, 0.2 MB an image
Measure = Callable[[Array, Array], float]
FAR = -1  # in place of a distance: the two pHashes say nothing of each other
FEW = 16  # sets of unblurred ones, for ties
WAYS = range(8)  # in which one picture may lie over another, `turned`
HALF = 0.5  # of the shorter of two videos must overlap the other where they are laid over each other


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why two media are held to be one: the signal and the value that decided."""

    signal: str
    measured: float
    threshold: float
    distance: int


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


class Judge:
    """Decides candidates; decodes pixels only for those that pHash alone cannot decide."""

    def __init__(self, settings: CurationSettings, pixels: Pixels, frames: Frames) -> None:
        self.settings = settings

        @lru_cache(maxsize=CACHED)
        def thumbnails(media: Media) -> list[Array]:
            return [thumbnail(view) for view in views(media, pixels, frames)]

        @lru_cache(maxsize=FEW)
        def smaller(media: Media) -> list[Array]:
            return [small(view) for view in views(media, pixels, frames)]

        self._thumbnails, self._small = thumbnails, smaller

    def __call__(self, a: MediaFingerprint, b: MediaFingerprint, candidate: Candidate) -> Evidence | None:
        """The evidence that two candidates are one picture; None if there is not enough. Raises what the
        decoders raise (MediaError)."""
        settings, distance = self.settings, candidate.distance
        known = min(a.information + b.information) >= settings.information_floor
        if known and distance != FAR:
            return Evidence("phash", float(distance), float(settings.phash_distance), distance)
        if a.text and b.text and words_similarity(a.text, b.text) < settings.text_anls:
            return None
        value = self.agreement(a.media, b.media, candidate.shift)
        everywhere = value >= settings.leak_agreement and self._everywhere(a.media, b.media)
        if value >= settings.patch_agreement and everywhere:
            return Evidence("patches", value, settings.patch_agreement, distance)
        if candidate.cut is not None:
            found, least = self.cut_agreement(a.media, b.media, candidate.cut)
            if found >= settings.cut_agreement and least >= settings.worst_agreement:
                return Evidence("cut", found, settings.cut_agreement, distance)
        if known and everywhere and value < settings.patch_agreement:
            alike = ssim(self._thumbnails(a.media)[0], self._thumbnails(b.media)[0])
            if alike >= settings.ssim:
                return Evidence("ssim", alike, settings.ssim, distance)
        if candidate.like is not None and self.alike(a.media, b.media, candidate.like):
            least = settings.encoder_image if a.media.kind == "image" else settings.encoder_frame
            return Evidence("encoder", candidate.like.cosine, least, distance)
        return None

    def alike(self, a: Media, b: Media, like: Like) -> bool:
        """Whether two media of near embeddings are one: not where they merely share a template. They are if
        in one of the eight ways to lay `b` over `a` their tiles agree to `leak_agreement` and none is below
        `worst_agreement`. Where the tiles disagree SSIM breaks the tie, of what is not blurred (pages of one
        template differ in little else) and carries information. Raises what the decoders raise."""
        settings = self.settings
        left, right = self._over(self._thumbnails, a, b, like.shift)
        for laid in ([turned(view, way) for view in right] for way in WAYS):
            if self._reached(agreement, left, laid) >= settings.leak_agreement and (
                a.kind == "video" or self._reached(worst, left, laid) >= settings.worst_agreement
            ):
                return True
        if min(map(information, (*left, *right)), default=0.0) < settings.information_floor:
            return False
        left, right = self._over(self._small, a, b, like.shift)
        alike = (self._reached(ssim, left, [turned(view, way) for view in right]) for way in WAYS)
        return max(alike) >= settings.ssim

    def _everywhere(self, a: Media, b: Media) -> bool:
        """Whether not even one tile of two images differs. Of videos `video_agreement` is asked only: what
        moves stands elsewhere in a copy that begins a part of a second later."""
        if a.kind == "video":
            return True
        return worst(self._thumbnails(a)[0], self._thumbnails(b)[0]) >= self.settings.worst_agreement

    def agreement(self, a: Media, b: Media, shift: int = 0) -> float:
        """The patch agreement that `video_agreement` of the views reach that lie over each other when `b`
        begins `shift` seconds late; -1 where none do. Raises what the decoders raise."""
        return self._reached(agreement, *self._over(self._thumbnails, a, b, shift))

    def _over(
        self, shown: Callable[[Media], list[Array]], a: Media, b: Media, shift: int
    ) -> tuple[list[Array], list[Array]]:
        """The views of either that lie over each other when `b` begins `shift` seconds late."""
        left, right = shown(a)[max(0, -shift) :], shown(b)[max(0, shift) :]
        return left[: len(right)], right[: len(left)]

    def _reached(self, measure: Measure, left: Sequence[Array], right: Sequence[Array]) -> float:
        """What `video_agreement` of the pairs reach by a measure of two thumbnails; -1 without a pair."""
        values = sorted(map(measure, left, right), reverse=True)
        needed = math.ceil(self.settings.video_agreement * len(values))
        return values[needed - 1] if values else -1.0

    def cut_agreement(self, a: Media, b: Media, cut: Cut) -> tuple[float, float]:
        """The agreement of two images where one fills a window of the other, and its worst tile's."""
        whole, part = (a, b) if cut.whole == a.sha256 else (b, a)
        return alignment.agreement(self._thumbnails(whole)[0], self._thumbnails(part)[0], cut.window)


def judged(
    media: Mapping[str, MediaFingerprint], near: Mapping[str, Mapping[str, Candidate]], judge: Judge
) -> dict[str, dict[str, Evidence]]:
    """later sha256 -> earlier sha256 -> evidence, of every candidate that is confirmed."""
    edges: dict[str, dict[str, Evidence]] = {}
    for later, earlier in near.items():
        for sha, candidate in earlier.items():
            evidence = judge(media[sha], media[later], candidate)
            if evidence is not None:
                edges.setdefault(later, {})[sha] = evidence
    return edges


def turned(picture: Array, way: int) -> Array:
    """A square picture as it is (0), turned by `way` quarters (to 3), or flipped and then turned (to 7)."""
    return np.ascontiguousarray(np.rot90(picture[:, ::-1] if way >= 4 else picture, way % 4))


def words_similarity(a: str, b: str) -> float:
    """1 - edit distance in words / words of the longer text, after NFKC, case and punctuation are gone."""
    left, right = plain(a).split(), plain(b).split()
    letters = {word: chr(0xF0000 + k) for k, word in enumerate(dict.fromkeys(left + right))}
    return similarity("".join(letters[w] for w in left), "".join(letters[w] for w in right))
