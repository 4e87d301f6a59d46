"""Whether two media are one, and on what evidence.

Where both carry enough information pHash's word stands, unless not even half the tiles of two images agree.
All else is only a candidate: known words that differ refute it, and tiles that agree everywhere confirm it,
laid over each other as wholes or, for images, as a cut and what it was cut from. Between clear agreement and
clear disagreement the mean similarity over the picture (SSIM) breaks the tie.

Media whose embeddings are near are one unless they only share a template: then few tiles agree, however they
are laid over each other, as they are, flipped or turned, and SSIM is low too.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np

from pixelis_pipeline.curation import alignment
from pixelis_pipeline.curation.fingerprints import MediaFingerprint, information
from pixelis_pipeline.curation.patches import agreement, middle, small, thumbnail, worst
from pixelis_pipeline.curation.ssim import ssim
from pixelis_pipeline.curation.twins import FAR, Candidate, Cut, Like
from pixelis_pipeline.engine.pool import Lost
from pixelis_pipeline.engine.run import run
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.records import Media
from pixelis_pipeline.settings import CurationSettings, EngineSettings
from pixelis_pipeline.sources.whitelist import Frames, Pixels, views
from pixelis_pipeline.verify.metrics import plain, similarity

Array = np.ndarray[Any, Any]
Measure = Callable[[Array, Array], float]
Asked = tuple[MediaFingerprint, MediaFingerprint, Candidate]
T = TypeVar("T")
R = TypeVar("R")
HERE = EngineSettings(kind="process")
TURN = 16  # pairs that a worker takes at once: neighbours share a medium, which is then decoded once
SECONDS = 600.0  # that they may take
CACHED = 512  # thumbnail sets held for confirming, 0.2 MB an image
FEW = 16  # sets of unblurred ones, for ties
WAYS = range(8)  # in which one picture may lie over another, `turned`


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why two media are held to be one: the signal and the value that decided."""

    signal: str
    measured: float
    threshold: float
    distance: int


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
        if known and distance != FAR and not self._refuted(a.media, b.media):
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

    def _refuted(self, a: Media, b: Media) -> bool:
        """Whether two images of near hashes are plainly two: half their tiles do not agree. What moves in
        videos is not held against them."""
        if a.kind == "video":
            return False
        return middle(self._thumbnails(a)[0], self._thumbnails(b)[0]) < self.settings.refuting_agreement

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
    media: Mapping[str, MediaFingerprint],
    near: Mapping[str, Mapping[str, Candidate]],
    make: Callable[[], Judge],
    engine: EngineSettings = HERE,
) -> dict[str, dict[str, Evidence]]:
    """later sha256 -> earlier sha256 -> evidence, of every candidate that is confirmed, by the judges that
    `make` gives wherever the engine runs. Raises like `answers`."""
    pairs = [
        (media[sha], media[later], candidate)
        for later, earlier in near.items()
        for sha, candidate in earlier.items()
    ]
    edges: dict[str, dict[str, Evidence]] = {}
    found = answers(pairs, partial(_judging, make), engine)
    for (a, b, _), evidence in zip(pairs, found, strict=True):
        if evidence is not None:
            edges.setdefault(b.media.sha256, {})[a.media.sha256] = evidence
    return edges


def answers(pairs: Sequence[T], make: Callable[[], Callable[[T], R]], engine: EngineSettings) -> Iterator[R]:
    """What the function that `make` gives says of each pair of media, in order, wherever the engine runs.

    Raises what the decoders raise (MediaError), and RuntimeError where worker after worker dies."""
    turns = [pairs[k : k + TURN] for k in range(0, len(pairs), TURN)]
    for turn, found in zip(
        turns, run(partial(_answering, make), turns, engine, seconds=SECONDS), strict=True
    ):
        if isinstance(found, Lost):
            raise RuntimeError(f"{len(turn)} pairs of media could not be laid over each other: {found.why}")
        if isinstance(found, MediaError):
            raise found
        yield from found


def _answering(make: Callable[[], Callable[[T], R]]) -> Callable[[Sequence[T]], list[R] | MediaError]:
    answer = make()

    def turn(pairs: Sequence[T]) -> list[R] | MediaError:
        try:
            return [answer(pair) for pair in pairs]
        except MediaError as error:
            return error

    return turn


def _judging(make: Callable[[], Judge]) -> Callable[[Asked], Evidence | None]:
    judge = make()
    return lambda asked: judge(*asked)


def turned(picture: Array, way: int) -> Array:
    """A square picture as it is (0), turned by `way` quarters (to 3), or flipped and then turned (to 7)."""
    return np.ascontiguousarray(np.rot90(picture[:, ::-1] if way >= 4 else picture, way % 4))


def words_similarity(a: str, b: str) -> float:
    """1 - edit distance in words / words of the longer text, after NFKC, case and punctuation are gone."""
    left, right = plain(a).split(), plain(b).split()
    letters = {word: chr(0xF0000 + k) for k, word in enumerate(dict.fromkeys(left + right))}
    return similarity("".join(letters[w] for w in left), "".join(letters[w] for w in right))
