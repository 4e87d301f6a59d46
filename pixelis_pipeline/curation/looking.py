"""Media looked at wherever the engine runs: fingerprints and descriptors, or why there are none."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pixelis_pipeline.curation.descriptor import describe
from pixelis_pipeline.curation.fingerprints import MediaFingerprint, of_media
from pixelis_pipeline.engine.pool import Lost
from pixelis_pipeline.engine.run import run
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.media.image import SIDE
from pixelis_pipeline.media.store import MediaStore
from pixelis_pipeline.records import Media
from pixelis_pipeline.settings import EngineSettings
from pixelis_pipeline.sources.whitelist import Frames, Pixels

Array = np.ndarray[Any, Any]
SECONDS = 120.0  # that one medium may take


@dataclass(frozen=True, slots=True)
class Look:
    """One medium: its fingerprint and its views' descriptors (float16, `descriptor.describe`; of a video the
    first row of each), or the rule and the words of its MediaError."""

    media: Media
    fingerprint: MediaFingerprint | None = None
    rows: tuple[Array, ...] = ()
    rule: str = ""
    why: str = ""


def look(media: Media, store: MediaStore) -> Look:
    """Look at one medium. What is wrong with it is in the result."""
    rows: list[Array] = []

    def seen(_: Media, number: int, picture: Array) -> None:
        found = describe(picture).astype(np.float16)
        rows.append(found if media.kind == "image" else found[:1])

    pixels, frames = decoders(store)
    try:
        return Look(media, of_media(media, pixels, frames, seen=seen), tuple(rows))
    except MediaError as error:
        return Look(media, rule=error.rule, why=str(error).removeprefix(f"{error.rule}: "))


def looks(media: Iterable[Media], store: MediaStore, engine: EngineSettings) -> Iterator[Look]:
    """A look at each, in order, wherever the engine runs. One whose workers died: rule "worker lost"."""
    told = list(media)
    for each, found in zip(told, run(partial(_looker, store), told, engine, seconds=SECONDS), strict=True):
        yield Look(each, rule="worker lost", why=found.why) if isinstance(found, Lost) else found


def decoders(store: MediaStore) -> tuple[Pixels, Frames]:
    """What decodes an image small, and the key frames of a video; both may be sent to another process."""
    return partial(store.reduced, side=SIDE), partial(_key_frames, store)


def _looker(store: MediaStore) -> Callable[[Media], Look]:
    return partial(look, store=store)


def _key_frames(store: MediaStore, media: Media) -> list[tuple[float, Array]]:
    return list(store.key_frames(media, SIDE))
