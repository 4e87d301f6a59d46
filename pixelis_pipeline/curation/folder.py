"""De-duplication of anybody's folder of images and videos, by the pipeline's own steps.

Every file ends as seen, refused with a reason, or failed for now. What was seen is journalled by path, size
and time of change, so that a stopped run goes on and a second one over the same files only compares.
"""

import base64
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pixelis_pipeline.curation import descriptor
from pixelis_pipeline.curation.fingerprints import MediaFingerprint, of_media
from pixelis_pipeline.curation.looking import SECONDS
from pixelis_pipeline.curation.twins import candidates
from pixelis_pipeline.curation.vectors import Vectors
from pixelis_pipeline.curation.verdict import Judge
from pixelis_pipeline.engine.journal import Journal
from pixelis_pipeline.engine.pool import Lost
from pixelis_pipeline.engine.run import run
from pixelis_pipeline.media import image, video
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.media.files import MEDIA_SUFFIXES, kind_of, read, sniff
from pixelis_pipeline.media.image import SIDE
from pixelis_pipeline.records import Accepted, Failed, Media, Outcome, Rejected
from pixelis_pipeline.settings import CurationSettings, EngineSettings, MediaLimits

Array = np.ndarray[Any, Any]
STAGE = "dedup"


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
    """Files that are one; the first of them in the order given is the one to keep. `links` tie them together,
    one fewer than there are files."""

    files: tuple[Seen, ...]
    links: tuple[Link, ...]


def files(folder: Path, refused: Callable[[OSError], None]) -> list[Path]:
    """The media files below a folder by their names' endings, sorted by path; hidden ones and links that lead
    out of it are passed over. `refused` is told of folders that may not be read. NotADirectoryError where
    `folder` is none."""
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder")
    found = []
    for root, below, names in os.walk(folder, onerror=refused):
        below[:] = [name for name in below if not name.startswith(".")]
        for path in (Path(root, name) for name in names if not name.startswith(".")):
            try:
                known = path.suffix.lower() in MEDIA_SUFFIXES and path.is_file()
                inside = not path.is_symlink() or path.resolve().is_relative_to(folder.resolve())
            except OSError as error:
                refused(error)
                continue
            if known and inside:
                found.append(path)
    return sorted(found)


def key(path: Path, limits: MediaLimits) -> str:
    """What the journal knows a file by: another size, time of change or limit is another file."""
    try:
        about = path.stat()
    except OSError:  # gone since it was listed, or not to be read: nothing is known of it
        return f"{path}|gone"
    bounds = hashlib.sha256(limits.model_dump_json().encode()).hexdigest()[:16]
    return f"{path}|{about.st_size}|{about.st_mtime_ns}|{descriptor.NAME}|{bounds}"


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
        if error.passing:  # gone since the folder was listed: it may be there next time
            return Failed(name, STAGE, str(error))
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
    paths: Sequence[Path], limits: MediaLimits, journal: Journal, engine: EngineSettings
) -> Iterator[Outcome[Seen]]:
    """An outcome for every path, in order: from the journal, or looked at now, wherever the engine runs. A
    file whose name is no UTF-8 is refused: nothing could write it down."""
    keys = {path: key(path, limits) for path in paths if _named(path)}
    due = [path for path, known in keys.items() if known not in journal]
    fresh = run(partial(_looker, limits), due, engine, seconds=SECONDS)
    for path in paths:
        if path not in keys:
            name = ascii(str(path))
            yield Rejected(name, STAGE, "malformed name", detail=f"malformed name: {name} is no UTF-8")
        elif keys[path] in journal:
            yield journal.outcome(keys[path])
        else:
            found = next(fresh)
            outcome = Failed(str(path), STAGE, found.why) if isinstance(found, Lost) else found
            journal.add(keys[path], outcome)
            yield outcome


def _named(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


class _Sets:
    """Union-find over files by their place, the earliest of a set as its root."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def root(self, place: int) -> int:
        while self._above[place] != place:
            self._above[place] = self._above[self._above[place]]
            place = self._above[place]
        return place

    def join(self, a: int, b: int) -> bool:
        """Whether the two were apart; they are one set now."""
        first, second = sorted((self.root(a), self.root(b)))
        self._above[second] = first
        return first != second


def groups(
    seen: Sequence[Seen],
    settings: CurationSettings,
    limits: MediaLimits,
    against: frozenset[str] = frozenset(),
) -> list[Group]:
    """The files that are one, by union-find over what is confirmed, in the order given. What is known to be
    one by others is not looked at again.

    With `against` (paths, which must come first) only what ties one of these to one of the others counts.
    Raises MediaError for a file that changed since it was looked at.
    """
    place = {each.id: k for k, each in enumerate(seen)}
    by_sha: dict[str, list[Seen]] = {}
    for each in seen:
        by_sha.setdefault(each.fingerprint.media.sha256, []).append(each)
    sets, links = _Sets(len(seen)), []

    def tied(a: Sequence[Seen], b: Sequence[Seen], signal: str, measured: float, threshold: float) -> None:
        """Link files of two contents: with `against` each of ours to one of theirs, else the first two."""
        pairs = [(a[0], b[0])]
        if against:
            theirs, ours = ([x for x in (*a, *b) if (x.id in against) == held] for held in (True, False))
            pairs = [(theirs[0], each) for each in ours] if theirs else []
        for x, y in pairs:
            if sets.join(place[x.id], place[y.id]):
                links.append(Link(x.id, y.id, signal, measured, threshold))

    for same in by_sha.values():
        for other in same[1:]:
            tied(same if against else same[:1], [other], "bytes", 0.0, 0.0)
    media = {sha: each[0].fingerprint for sha, each in by_sha.items()}
    judge = Judge(settings, partial(_picture, limits=limits), partial(_film, limits=limits))
    near = candidates(list(media.values()), settings, _vectors(each[0] for each in by_sha.values()))
    for later, earlier in near.items():
        for sha, candidate in earlier.items():
            a, b = by_sha[sha], by_sha[later]
            if against and len({each.id in against for each in (*a, *b)}) == 1:
                continue
            if sets.root(place[a[0].id]) != sets.root(place[b[0].id]):
                evidence = judge(media[sha], media[later], candidate)
                if evidence is not None:
                    tied(a, b, evidence.signal, evidence.measured, evidence.threshold)
    return _gathered(seen, links, sets)


def _gathered(seen: Sequence[Seen], links: Sequence[Link], sets: _Sets) -> list[Group]:
    members: dict[int, list[Seen]] = {}
    place = {}
    for k, each in enumerate(seen):
        place[each.id] = k
        members.setdefault(sets.root(k), []).append(each)
    mine: dict[int, list[Link]] = {}
    for link in links:
        mine.setdefault(sets.root(place[link.first]), []).append(link)
    return [Group(tuple(held), tuple(mine[root])) for root, held in members.items() if len(held) > 1]


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
