"""Recall and precision of de-duplication, measured on copies that are planted.

Of pictures that stand in the corpus copies are made whose origin is known, and put through the same steps as
everything else: pHash, descriptors, the pixels' verdict. What each step finds of them is its recall; how much
of what it finds is true is its precision. Measured anew in every run, a source at a time, because a source of
pages and one of photographs have nothing in common here.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from pixelis_pipeline.curation.descriptor import describe
from pixelis_pipeline.curation.fingerprints import MediaFingerprint, of_media
from pixelis_pipeline.curation.twins import FAR, Candidate, candidates
from pixelis_pipeline.curation.vectors import Vectors
from pixelis_pipeline.curation.verdict import Judge, judged
from pixelis_pipeline.records import Media
from pixelis_pipeline.settings import CurationSettings
from pixelis_pipeline.world.clip import encode

Array = np.ndarray[Any, Any]
Copy = Callable[[Array, np.random.Generator], Array]
Film = list[tuple[float, Array]]

SIGNALS = ("phash", "phash final", "descriptor", "verdict")


@dataclass(frozen=True, slots=True)
class Recall:
    """Of `planted` copies by one transform in one source, how many each step found, and how many pairs it
    found in all. "phash" and "descriptor" propose, "phash final" decides alone, "verdict" is what comes out.
    """

    source: str
    transform: str
    signal: str
    planted: int
    found: int
    pairs: int

    @property
    def recall(self) -> float:
        """The share of planted copies that were found."""
        return self.found / self.planted

    @property
    def precision(self) -> float | None:
        """The share of pairs found that are planted copies; None where none was found."""
        return self.found / self.pairs if self.pairs else None


def _encoded(picture: Array, quality: int) -> Array:
    held = io.BytesIO()
    Image.fromarray(picture).save(held, "JPEG", quality=quality)
    return np.asarray(Image.open(held))


def _scaled(picture: Array, by: float) -> Array:
    height, width = (max(8, round(by * side)) for side in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def _cut(picture: Array, share: float, rng: np.random.Generator) -> Array:
    height, width = (round(share * side) for side in picture.shape[:2])
    top, left = rng.integers(picture.shape[0] - height + 1), rng.integers(picture.shape[1] - width + 1)
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


def _turned(picture: Array, degrees: float) -> Array:
    height, width = picture.shape[:2]
    by = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return cv2.warpAffine(picture, by, (width, height), borderMode=cv2.BORDER_REPLICATE)


def _noisy(picture: Array, rng: np.random.Generator) -> Array:
    return np.clip(picture + rng.normal(0.0, 10.0, picture.shape), 0, 255).astype(np.uint8)


def _overlaid(picture: Array) -> Array:
    """A white banner over half the width, a tenth of the height: 5 % of the picture."""
    made, (height, width) = picture.copy(), picture.shape[:2]
    made[round(0.85 * height) : round(0.95 * height), round(0.05 * width) : round(0.55 * width)] = 255
    return made


def _hue(picture: Array, turn: int) -> Array:
    """`turn` in half degrees, as OpenCV counts hue."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int32) + turn) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _lit(picture: Array, gains: tuple[float, float, float], offset: float = 0.0) -> Array:
    return np.clip(np.rint(picture * np.array(gains) + offset), 0, 255).astype(np.uint8)


def _bordered(picture: Array) -> Array:
    height, width = (round(0.04 * side) for side in picture.shape[:2])
    return cv2.copyMakeBorder(picture, height, height, width, width, cv2.BORDER_CONSTANT)


COPIES: dict[str, Copy] = {
    "re-encode, JPEG 60": lambda p, rng: _encoded(p, 60),
    "rescale to .5": lambda p, rng: _scaled(p, 0.5),
    "crop to .9 of a side": lambda p, rng: _cut(p, 0.9, rng),
    "crop to .8 of a side": lambda p, rng: _cut(p, 0.8, rng),
    "colour shift, warmer": lambda p, rng: _lit(p, (1.1, 0.95, 0.8)),
    "colour shift, hue 16 degrees": lambda p, rng: _hue(p, 8),
    "brighter and flatter": lambda p, rng: _lit(p, (0.85, 0.85, 0.85), 25),
    "blur": lambda p, rng: cv2.GaussianBlur(p, (0, 0), max(p.shape[:2]) / 256),
    "noise": _noisy,
    "overlay": lambda p, rng: _overlaid(p),
    "border": lambda p, rng: _bordered(p),
    "flip": lambda p, rng: np.ascontiguousarray(p[:, ::-1]),
    "rotate 90 degrees": lambda p, rng: np.ascontiguousarray(np.rot90(p)),
    "rotate 3 degrees": lambda p, rng: _turned(p, 3.0),
}


def film_copies(frames: Sequence[Array], fps: int) -> dict[str, bytes]:
    """MP4 files made of a video's frames (uint8 RGB): itself smaller and encoded again, without its first
    quarter, and at half the rate."""
    even = [frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames]
    size = tuple(round(0.35 * side) * 2 for side in even[0].shape[1::-1])
    smaller = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in even]
    return {
        "video: re-encode at .7": encode(smaller, fps),
        "video: trim a quarter": encode(even[len(even) // 4 :], fps),
        "video: half the rate": encode(even[::2], max(1, fps // 2)),
    }


@dataclass(frozen=True, slots=True)
class _Shown:
    """Pictures in memory that pass for media: what decodes them and what describes them."""

    held: dict[str, Array | Film]
    rows: dict[str, Array]

    def add(self, picture: Array | Film) -> MediaFingerprint:
        first = picture if isinstance(picture, np.ndarray) else picture[0][1]
        told = [picture.tobytes()] if isinstance(picture, np.ndarray) else [p.tobytes() for _, p in picture]
        digest = hashlib.sha256(b"".join(told) + str(first.shape).encode()).hexdigest()
        kind = "image" if isinstance(picture, np.ndarray) else "video"
        self.held[digest] = picture
        media = Media(digest, kind, digest, first.shape[1], first.shape[0])  # type: ignore[arg-type]
        return of_media(media, self.pixels, self.frames, seen=self._describe)

    def pixels(self, media: Media) -> Array:
        picture = self.held[media.sha256]
        assert isinstance(picture, np.ndarray)
        return picture

    def frames(self, media: Media) -> Film:
        film = self.held[media.sha256]
        assert isinstance(film, list)
        return film

    def _describe(self, media: Media, view: int, picture: Array) -> None:
        if media.kind == "image":
            self.rows[media.sha256] = describe(picture)

    def vectors(self, media: Iterable[MediaFingerprint]) -> Vectors:
        """The descriptors of images."""
        chosen = [m.media.sha256 for m in media if m.media.sha256 in self.rows]
        each = len(next(iter(self.rows.values()))) if self.rows else 0
        matrix = (
            np.concatenate([self.rows[sha] for sha in chosen]) if chosen else np.zeros((0, 1), np.float32)
        )
        window = np.tile(np.arange(each), len(chosen))
        return Vectors(np.repeat(np.array(chosen, object), each), np.zeros_like(window), window, matrix)


def images(
    source: str, pictures: Sequence[Array], settings: CurationSettings, copies: Iterable[str] = COPIES
) -> Iterator[Recall]:
    """Recall on copies of distinct pictures (uint8 RGB), a row a transform and signal."""
    for name in copies:
        rng = np.random.default_rng(settings.seed)
        yield from _measured(source, name, pictures, [COPIES[name](p, rng) for p in pictures], settings)


def films(
    source: str, pairs: Iterable[tuple[str, Sequence[Film], Sequence[Film]]], settings: CurationSettings
) -> Iterator[Recall]:
    """The same for key frames of videos: (transform, originals, their copies)."""
    for name, originals, copies in pairs:
        yield from _measured(source, name, originals, copies, settings)


def _measured(
    source: str,
    transform: str,
    originals: Sequence[Array | Film],
    copies: Sequence[Array | Film],
    settings: CurationSettings,
) -> Iterator[Recall]:
    shown = _Shown({}, {})
    media: dict[str, MediaFingerprint] = {}
    twins: dict[tuple[str, str], None] = {}
    for original, copy in zip(originals, copies, strict=True):
        a, b = shown.add(original), shown.add(copy)
        media[a.media.sha256], media[b.media.sha256] = a, b
        if a.media.sha256 != b.media.sha256:  # a transform that changed nothing plants nothing
            twins[a.media.sha256, b.media.sha256] = None
    if not twins:
        return
    near = candidates(list(media.values()), settings, shown.vectors(media.values()))
    edges = judged(media, near, lambda: Judge(settings, shown.pixels, shown.frames))
    pairs = {(earlier, later): c for later, each in near.items() for earlier, c in each.items()}
    confirmed = {(earlier, later): e for later, each in edges.items() for earlier, e in each.items()}
    by_signal = {
        "phash": {pair for pair, c in pairs.items() if c.distance != FAR},
        "phash final": {pair for pair, e in confirmed.items() if e.signal == "phash"},
        "descriptor": {pair for pair, c in pairs.items() if _cut_out(c)},
        "verdict": set(confirmed),
    }
    for signal in SIGNALS:
        if signal == "descriptor" and not shown.rows:
            continue  # films are told by pHash alone
        met = by_signal[signal]
        true = sum((a, b) in met or (b, a) in met for a, b in twins)
        yield Recall(source, transform, signal, len(twins), true, len(met))


def _cut_out(candidate: Candidate) -> bool:
    return candidate.cut is not None
