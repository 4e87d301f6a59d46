"""De-duplication of anybody's folder of images and videos, by the pipeline's own steps.

Every file ends as seen, or refused with a reason. What was seen is journalled by path, size and time of
change, so that a stopped run goes on and a second one over the same files only compares.
"""

import base64
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pixelis_pipeline.curation import descriptor
from pixelis_pipeline.curation.fingerprints import MediaFingerprint, of_media
from pixelis_pipeline.curation.twins import Evidence, Judge, candidates, judged
from pixelis_pipeline.curation.vectors import Vectors
from pixelis_pipeline.engine.journal import Journal
from pixelis_pipeline.engine.mapped import in_order, mapped
from pixelis_pipeline.engine.pool import Lost
from pixelis_pipeline.media import image, video
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.media.files import MEDIA_SUFFIXES, kind_of, read, sniff
from pixelis_pipeline.records import Accepted, Failed, Media, Outcome, Rejected
from pixelis_pipeline.settings import CurationSettings, MediaLimits

Array = np.ndarray[Any, Any]
STAGE = "dedup"
SIDE = 256  # pixels: what fingerprints are made of
SECONDS = 120.0  # that one file may take


@dataclass(frozen=True, slots=True)
class Seen:
    """One file: its fingerprint, and its descriptor as base64 of float16 ("" for a video)."""

    id: str
    bytes: int
    fingerprint: MediaFingerprint
    descriptor: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """Two files that are one, by path, on what evidence."""

    first: str
    second: str
    signal: str
    measured: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Group:
    """Files that are one; the first of them in the order given is the one to keep."""

    files: tuple[Seen, ...]
    links: tuple[Link, ...]


def files(folder: Path) -> list[Path]:
    """The media files below a folder by their names' endings, sorted by path; hidden ones and links that lead
    out of it are passed over. NotADirectoryError for anything else."""
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder")
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or path.suffix.lower() not in MEDIA_SUFFIXES or not path.is_file():
            continue
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            continue
        found.append(path)
    return found


def key(path: Path) -> str:
    """What the journal knows a file by: another size or time of change is another file."""
    about = path.stat()
    return f"{path}|{about.st_size}|{about.st_mtime_ns}|{descriptor.NAME}"


def look(path: Path, limits: MediaLimits) -> Outcome[Seen]:
    """Fingerprint one file. What cannot be decoded is a `Rejected` by the rule of its MediaError; what the
    disk refuses is a `Failed`."""
    name = str(path)
    try:
        data = read(path, limits)
        form = sniff(data)
        if form is None:
            raise MediaError("not an image", f"{name}: its first bytes are of no known format")
        media, pixels, frames = _opened(data, form, name, limits)
        rows: list[Array] = []
        made = of_media(media, pixels, frames, seen=lambda *view: rows.append(view[2]))
    except MediaError as error:
        return Rejected(name, STAGE, error.rule, detail=str(error))
    except OSError as error:
        return Failed(name, STAGE, f"{type(error).__name__}: {error}")
    told = ""
    if media.kind == "image":
        told = base64.b64encode(descriptor.describe(rows[0]).astype(np.float16).tobytes()).decode()
    return Accepted(name, (Seen(name, len(data), made, told),))


def _opened(
    data: bytes, form: str, name: str, limits: MediaLimits
) -> tuple[Media, Callable[[Media], Array], Callable[[Media], list[tuple[float, Array]]]]:
    """The medium, and what gives its one picture or its key frames."""
    digest = hashlib.sha256(data).hexdigest()
    if kind_of(form) == "image":
        picture = image.reduced(data, form, name, limits, SIDE)
        width, height = Image.open(io.BytesIO(data), formats=[form]).size
        return Media(digest, "image", name, width, height), lambda _: picture, lambda _: []
    film = list(video.key_frames(data, form, name, limits, SIDE))
    height, width = film[0][1].shape[:2] if film else (0, 0)
    return Media(digest, "video", name, width, height, len(film), 1.0), lambda _: film[0][1], lambda _: film


def _looker(limits: MediaLimits) -> Callable[[Path], Outcome[Seen]]:
    return partial(look, limits=limits)


def look_at_all(
    paths: Sequence[Path], limits: MediaLimits, journal: Journal, workers: int = 0
) -> Iterator[Outcome[Seen]]:
    """An outcome for every path, in order: from the journal, or looked at now by all cores."""
    keys = {path: key(path) for path in paths}
    due = [path for path in paths if keys[path] not in journal]
    fresh = in_order(mapped(partial(_looker, limits), due, workers=workers, seconds=SECONDS))
    for path in paths:
        if keys[path] in journal:
            yield journal.outcome(keys[path])
            continue
        found = next(fresh)
        outcome = Failed(str(path), STAGE, found.why) if isinstance(found, Lost) else found
        journal.add(keys[path], outcome)
        yield outcome


def groups(
    seen: Sequence[Seen],
    settings: CurationSettings,
    limits: MediaLimits,
    against: frozenset[str] = frozenset(),
) -> list[Group]:
    """The files that are one, by union-find over all links, in the order given.

    With `against` (paths, which must come first) only links between these and the others count. Raises
    MediaError for a file that changed since it was looked at.
    """
    by_sha: dict[str, list[Seen]] = {}
    for each in seen:
        by_sha.setdefault(each.fingerprint.media.sha256, []).append(each)
    media = {sha: each[0].fingerprint for sha, each in by_sha.items()}
    judge = Judge(settings, partial(_picture, limits=limits), partial(_film, limits=limits))
    near = candidates(list(media.values()), settings, _vectors(each[0] for each in by_sha.values()))
    links = [Link(each[0].id, other.id, "bytes", 0.0, 0.0) for each in by_sha.values() for other in each[1:]]
    for later, earlier in judged(media, near, judge).items():
        links += [_link(by_sha[sha][0], by_sha[later][0], evidence) for sha, evidence in earlier.items()]
    if against:
        links = [link for link in links if (link.first in against) != (link.second in against)]
    return list(_joined(seen, links))


def _joined(seen: Sequence[Seen], links: Sequence[Link]) -> Iterator[Group]:
    place = {each.id: k for k, each in enumerate(seen)}
    ends = [(place[link.first], place[link.second]) for link in links]
    rows, columns = np.array(ends, np.int64).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(seen), len(seen)))
    _, label = connected_components(graph, directed=False)
    members: dict[int, list[Seen]] = {}
    for each, name in zip(seen, label.tolist(), strict=True):
        members.setdefault(name, []).append(each)
    mine: dict[int, list[Link]] = {}
    for link in links:
        mine.setdefault(int(label[place[link.first]]), []).append(link)
    for name, held in members.items():
        if len(held) > 1:
            yield Group(tuple(held), tuple(mine[name]))


def _link(a: Seen, b: Seen, evidence: Evidence) -> Link:
    return Link(a.id, b.id, evidence.signal, evidence.measured, evidence.threshold)


def _vectors(seen: Iterable[Seen]) -> Vectors:
    """The descriptors of images as one matrix."""
    owner, rows = [], []
    for each in seen:
        if each.descriptor:
            owner.append(each.fingerprint.media.sha256)
            flat = np.frombuffer(base64.b64decode(each.descriptor), np.float16)
            rows.append(flat.reshape(-1, descriptor.DIMENSION))
    count = len(descriptor.windows())
    matrix = np.concatenate(rows) if rows else np.zeros((0, descriptor.DIMENSION), np.float16)
    window = np.tile(np.arange(count), len(owner))
    owners = np.repeat(np.array(owner, object), count)
    return Vectors(owners, np.zeros_like(window), window, matrix.astype(np.float32))


def _bytes(media: Media, limits: MediaLimits) -> tuple[bytes, str]:
    data = read(Path(media.path), limits)
    if hashlib.sha256(data).hexdigest() != media.sha256:
        raise MediaError("media changed", f"{media.path} was changed while it was being compared")
    return data, sniff(data) or ""


def _picture(media: Media, limits: MediaLimits) -> Array:
    data, form = _bytes(media, limits)
    return image.reduced(data, form, media.path, limits, SIDE)


def _film(media: Media, limits: MediaLimits) -> list[tuple[float, Array]]:
    data, form = _bytes(media, limits)
    return list(video.key_frames(data, form, media.path, limits, SIDE))


def thumbnail(each: Seen, limits: MediaLimits, side: int = 192) -> bytes:
    """A small WebP of a file: a picture, or a video's first frame. MediaError."""
    media = each.fingerprint.media
    shown = _picture(media, limits) if media.kind == "image" else _film(media, limits)[0][1]
    small = Image.fromarray(shown)
    small.thumbnail((side, side))
    held = io.BytesIO()
    small.save(held, "WEBP", quality=80)
    return held.getvalue()
