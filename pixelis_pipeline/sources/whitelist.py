"""The evaluation whitelist: what every held-out item looks like and asks, in few bytes.

It is the other side of the leakage audit. Training items are compared with it by the functions below, so
that both sides are hashed and normalised by one rule.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from scipy.fft import dct

from pixelis_pipeline.records import Media, Question, Sample, record_id

Array = np.ndarray[Any, Any]
Pixels = Callable[[Media], Array]
Frames = Callable[[Media], list[tuple[float, Array]]]

VERSION = 3
_MARK = re.compile(r"[^\w\s]|_")
_IN_NUMBER = re.compile(r"[-.,]\d")


@dataclass(frozen=True, slots=True)
class WhitelistEntry:
    """One held-out item. `phash` has 16 hex digits a view: an image is one, a video one per second.

    The keys are sha256 hex of the normalised texts, or "" where nothing is left of a text; `answer` is
    what the answer says, for a choice the text of the right option.
    """

    id: str
    parents: tuple[str, ...]
    benchmark: str
    record: str
    media_sha256: tuple[str, ...]
    phash: tuple[str, ...]
    question_key: str
    question: str
    answer_key: str
    answer: str
    media: tuple[Media, ...] = ()


def normalised(text: str) -> str:
    """Text as the audit compares it: NFKC, casefolded, no punctuation and no invisible characters, single
    spaces. A sign and a point inside a number stay: "-5" is not "5", "1.2" is not "12"."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())

    def mark(hit: re.Match[str]) -> str:
        dropped = unicodedata.category(hit[0])[0] in "PC"
        return "" if dropped and not _IN_NUMBER.match(folded, hit.start()) else hit[0]

    return " ".join(_MARK.sub(mark, folded).split())


def text_key(text: str) -> str:
    """sha256 hex of the normalised text; "" where nothing is left of it, which is equal to no other."""
    plain = normalised(text)
    return hashlib.sha256(plain.encode()).hexdigest() if plain else ""


def answer_text(item: Sample | Question) -> str:
    """What an item's answer says: a letter that is no option itself stands for its option's text."""
    position = ord(item.answer) - ord("A") if len(item.answer) == 1 else -1
    lettered = 0 <= position < len(item.choices) and item.answer not in item.choices
    return item.choices[position] if lettered else item.answer


def timed_views(media: Media, pixels: Pixels, frames: Frames) -> list[tuple[float, Array]]:
    """The pictures (uint8 [H, W, 3] RGB) that stand for a medium, each with its second: an image itself; of
    a video the first frame of every second, cut to its central square, since copies of a clip differ in their
    borders."""
    if media.kind == "image":
        return [(0.0, pixels(media))]
    seconds: dict[int, tuple[float, Array]] = {}
    for time, frame in frames(media):
        if int(time) not in seconds:
            seconds[int(time)] = (time, _central_square(frame))
    return list(seconds.values())


def views(media: Media, pixels: Pixels, frames: Frames) -> list[Array]:
    """The pictures of `timed_views`."""
    return [picture for _, picture in timed_views(media, pixels, frames)]


def phash(picture: Array) -> str:
    """64-bit DCT pHash of a uint8 RGB picture [H, W, 3], 16 hex digits (Zauner 2010), the digits that
    imagehash prints for the same pixels: grey by ITU-R 601, Lanczos to 32 x 32, an unnormalised DCT-II, a bit
    for each of the lowest 8 x 8 coefficients that lies above their median."""
    grey = Image.fromarray(picture).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    low = dct(dct(np.asarray(grey, np.float64), axis=0)[:8], axis=1)[:, :8]
    return np.packbits(low > np.median(low)).tobytes().hex()


def _central_square(frame: Array) -> Array:
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(frame[top : top + side, left : left + side])


def whitelist(
    samples: Iterable[Sample],
    pixels: Pixels,
    frames: Frames,
    seen: Callable[[Media, int, Array], None] | None = None,
) -> Iterator[WhitelistEntry]:
    """An entry for each held-out sample, in the order given.

    `pixels` decodes an image, `frames` samples a video as [(seconds, frame)], at least one a second; `seen`
    is shown each view (medium, number, picture) of each medium once.
    Raises what they raise (MediaError), and ValueError for a sample that is not held out.
    """
    hashes: dict[str, tuple[str, ...]] = {}
    for sample in samples:
        if sample.origin.role != "evaluation":
            raise ValueError(
                f"{sample.origin.source}/{sample.origin.record} is a {sample.origin.role} record"
            )
        for media in sample.media:
            if media.sha256 not in hashes:
                shown = views(media, pixels, frames)
                if seen is not None:
                    for number, picture in enumerate(shown):
                        seen(media, number, picture)
                hashes[media.sha256] = tuple(phash(view) for view in shown)
        said = answer_text(sample)
        digests = tuple(media.sha256 for media in sample.media)
        hashed = tuple(digits for digest in digests for digits in hashes[digest])
        keys = (text_key(sample.question), text_key(said))
        yield WhitelistEntry(
            id=record_id("evaluation_whitelist", VERSION, {}, [sample.id], [digests, hashed, *keys]),
            parents=(sample.id,),
            benchmark=sample.origin.source,
            record=sample.origin.record,
            media_sha256=digests,
            phash=hashed,
            question_key=keys[0],
            question=sample.question,
            answer_key=keys[1],
            answer=said,
            media=sample.media,
        )
