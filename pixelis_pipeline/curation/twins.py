"""Which media are near-duplicates, and on what evidence.

Candidates come from two sides: pHashes that differ by few bits, and descriptors of which one, as a whole,
agrees with a window of the other. Where both media carry enough information pHash's word is final. All else
is only a candidate: known words that differ refute it, and tiles that agree everywhere confirm it, laid over
each other as wholes or, for images, as a cut and what it was cut from. Between clear agreement and clear
disagreement the mean similarity over the picture (SSIM) breaks the tie.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from pixelis_pipeline.curation import alignment, cosine
from pixelis_pipeline.curation.descriptor import Window, windows
from pixelis_pipeline.curation.fingerprints import MediaFingerprint
from pixelis_pipeline.curation.hamming import from_hex, within
from pixelis_pipeline.curation.patches import agreement, thumbnail, worst
from pixelis_pipeline.curation.ssim import ssim
from pixelis_pipeline.curation.vectors import Vectors
from pixelis_pipeline.records import Media
from pixelis_pipeline.settings import CurationSettings
from pixelis_pipeline.sources.whitelist import Frames, Pixels, views
from pixelis_pipeline.verify.metrics import plain, similarity

Array = np.ndarray[Any, Any]
CACHED = 512  # thumbnail sets held for confirming, 0.2 MB an image
FAR = -1  # in place of a distance: the two pHashes say nothing of each other
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
class Candidate:
    """Two media to be judged: the largest pHash distance among the views that agree (FAR without), how many
    seconds later the same thing stands in the second of two videos, and the cut that descriptors see."""

    distance: int = FAR
    shift: int = 0
    cut: Cut | None = None


def candidates(
    media: Sequence[MediaFingerprint], settings: CurationSettings, vectors: Vectors | None = None
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
                found[key] = Candidate(before.distance, before.shift, cut)
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


def _by_phash(
    media: Sequence[MediaFingerprint], settings: CurationSettings
) -> dict[tuple[int, int], Candidate]:
    """Pairs (earlier, later) of which enough views lie within `phash_distance`; views in which nothing stands
    are in none.

    Videos are laid over each other at every shift in whole seconds that any two of their views suggest: a
    copy may begin later. Of the views that then lie over each other `video_agreement` must agree, and they
    must be at least half of the shorter one's. An image is the case of one view.
    """
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
        shifts = met.setdefault((int(owner[x]), int(owner[y])), {})
        shifts.setdefault(int(second[y] - second[x]), []).append(d)
    found: dict[tuple[int, int], Candidate] = {}
    for (a, b), shifts in met.items():
        if media[a].media.kind != media[b].media.kind:
            continue
        ours, theirs = ({int(s) for s in _seconds(media[k])} for k in (a, b))
        for shift, distances in sorted(shifts.items(), key=lambda each: (-len(each[1]), abs(each[0]), each)):
            over = len({s + shift for s in ours} & theirs)
            enough = over >= HALF * min(len(ours), len(theirs))
            if enough and len(distances) >= settings.video_agreement * over:
                found[a, b] = Candidate(max(distances), shift)
                break
    return found


def _seconds(medium: MediaFingerprint) -> Sequence[float]:
    return medium.seconds or range(len(medium.phash))


class Judge:
    """Decides candidates; decodes pixels only for those that pHash alone cannot decide."""

    def __init__(self, settings: CurationSettings, pixels: Pixels, frames: Frames) -> None:
        self.settings = settings

        @lru_cache(maxsize=CACHED)
        def thumbnails(media: Media) -> list[Array]:
            return [thumbnail(view) for view in views(media, pixels, frames)]

        self._thumbnails = thumbnails

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
        return None

    def _everywhere(self, a: Media, b: Media) -> bool:
        """Whether not even one tile of two images differs. Of videos `video_agreement` is asked only: what
        moves stands elsewhere in a copy that begins a part of a second later."""
        if a.kind == "video":
            return True
        return worst(self._thumbnails(a)[0], self._thumbnails(b)[0]) >= self.settings.worst_agreement

    def agreement(self, a: Media, b: Media, shift: int = 0) -> float:
        """The patch agreement that `video_agreement` of the views reach that lie over each other when `b`
        begins `shift` seconds late; -1 where none do. Raises what the decoders raise."""
        left, right = self._thumbnails(a), self._thumbnails(b)
        left, right = left[max(0, -shift) :], right[max(0, shift) :]
        values = sorted((agreement(x, y) for x, y in zip(left, right, strict=False)), reverse=True)
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


def words_similarity(a: str, b: str) -> float:
    """1 - edit distance in words / words of the longer text, after NFKC, case and punctuation are gone."""
    left, right = plain(a).split(), plain(b).split()
    letters = {word: chr(0xF0000 + k) for k, word in enumerate(dict.fromkeys(left + right))}
    return similarity("".join(letters[w] for w in left), "".join(letters[w] for w in right))
