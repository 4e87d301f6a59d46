"""What a trajectory's media look like, in few bytes: pHash, how far that hash can be trusted, words.

One picture is asked several questions, so a fingerprint belongs to the media's sha256 and is made once.
An image has one view, a video one per second; everything after this speaks of views only. They are cut
and hashed by the evaluation whitelist's own functions, so that both sides of the audit see alike.
"""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from pixelis_pipeline.curation.patches import standing, thumbnail
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.records import Accepted, Failed, Media, Outcome, Rejected, Trajectory, record_id
from pixelis_pipeline.sources.whitelist import Frames, Pixels, phash, timed_views

Array = np.ndarray[Any, Any]
Words = Callable[[Media], str]
Seen = Callable[[Media, int, Array], None]

STAGE, VERSION = "media_fingerprints", 3
NOTICEABLE = 32.0  # amplitude of a DCT coefficient in grey levels x 32, see `information`


@dataclass(frozen=True, slots=True)
class MediaFingerprint:
    """One medium. `phash` holds 16 hex digits a view, in order of time, and `information` (0 to 1) how far
    each can be trusted; `seconds` is when each view stands, from the first frame on, and `standing` how many
    of its tiles hold anything (`patches.standing`); `text` is the words on the medium, where known."""

    media: Media
    phash: tuple[str, ...]
    information: tuple[float, ...]
    text: str = ""
    seconds: tuple[float, ...] = ()
    standing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A trajectory with the fingerprints of its media, in the order of its question's media."""

    id: str
    parents: tuple[str, ...]
    trajectory: Trajectory
    media: tuple[MediaFingerprint, ...]


def fingerprint(
    trajectory: Trajectory,
    pixels: Pixels,
    frames: Frames,
    *,
    batch: str,
    words: Words | None = None,
    known: MutableMapping[str, MediaFingerprint] | None = None,
    seen: Seen | None = None,
) -> Outcome[Fingerprint]:
    """Fingerprint every medium of a trajectory; `batch` is set on it, as the first key of the total order.

    `pixels` and `frames` decode (uint8 [H, W, 3] RGB), `words` gives the annotated text of a medium or "",
    `known` keeps fingerprints by sha256 between calls, `seen` is shown each view (medium, number, picture) of
    a medium that is new. Media that cannot be decoded are a `Rejected` with
    the rule of their MediaError, media that are gone or changed a `Failed`; a trajectory without media is
    rejected.
    """
    known = {} if known is None else known
    if not trajectory.question.media:
        return Rejected(trajectory.id, STAGE, "no media")
    try:
        for media in trajectory.question.media:
            if media.sha256 not in known:
                known[media.sha256] = of_media(media, pixels, frames, words, seen)
    except MediaError as error:
        if error.passing:
            return Failed(trajectory.id, STAGE, str(error))
        return Rejected(trajectory.id, STAGE, error.rule, detail=str(error))
    found = tuple(known[media.sha256] for media in trajectory.question.media)
    payload = [[f.media.sha256, f.phash, f.information, f.text, f.seconds, f.standing] for f in found]
    identity = record_id(STAGE, VERSION, {"batch": batch}, [trajectory.id], payload)
    told = replace(
        trajectory,
        batch=batch,
        phash=tuple(digits for f in found for digits in f.phash),
        information=tuple(share for f in found for share in f.information),
    )
    return Accepted(trajectory.id, (Fingerprint(identity, (trajectory.id,), told, found),))


def of_media(
    media: Media, pixels: Pixels, frames: Frames, words: Words | None = None, seen: Seen | None = None
) -> MediaFingerprint:
    """The fingerprint of one medium. Raises what `pixels` and `frames` raise (MediaError)."""
    views = timed_views(media, pixels, frames)
    if not views:
        raise MediaError("truncated", f"{media.path}: no frame could be sampled")
    if seen is not None:
        for number, (_, picture) in enumerate(views):
            seen(media, number, picture)
    return MediaFingerprint(
        media=media,
        phash=tuple(phash(picture) for _, picture in views),
        information=tuple(information(picture) for _, picture in views),
        text=words(media) if words else "",
        seconds=tuple(round(second, 3) for second, _ in views),
        standing=tuple(standing(thumbnail(picture)) for _, picture in views),
    )


def information(picture: Array) -> float:
    """The share of the 63 lowest DCT frequencies (mean left out) whose amplitude is noticeable.

    A bit of the pHash says whether one of these coefficients lies above their median; where most are
    nearly 0 the bits are decided by the layout that all such pictures share, or by noise. Computed on the
    grey picture at 32 x 32 with an orthonormal transform: an amplitude of 32 is a wave of about two grey
    levels.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float64)
    low = cv2.dct(small)[:8, :8].ravel()[1:]
    return float(np.mean(np.abs(low) > NOTICEABLE))
