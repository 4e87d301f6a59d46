"""Media by reference: a `Media` record in, its proven bytes or pixels out.

`Media.path` is absolute, or relative to the project root, or names a member of a pack that the pipeline
made itself: `raw/fineweb/<partition>/media.zip!/<member>`. A pack's versions all stay valid: the one that
`data/versions.json` points to is asked first, then any other that holds the member with the right sha256.
"""

import hashlib
import json
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pixelis_pipeline.media import image, video
from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.media.files import inside, kind_of, read, sniff
from pixelis_pipeline.media.image import Pixels
from pixelis_pipeline.records import Media
from pixelis_pipeline.settings import MediaLimits

_CACHED_BYTES = 128 * 1024 * 1024


class MediaStore:
    """Reads media of a project. Arrays it hands out are shared and therefore read-only.

    A copy sent to another process starts with an empty cache.
    """

    def __init__(self, root: Path, limits: MediaLimits) -> None:
        self.root, self.limits = root, limits
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, Pixels] = OrderedDict()

    def __reduce__(self) -> tuple[type["MediaStore"], tuple[Path, MediaLimits]]:
        return MediaStore, (self.root, self.limits)

    def data(self, media: Media) -> bytes:
        """The file's bytes, hashed again. MediaError "missing media", "media changed" or "too large"."""
        if "!/" in media.path:
            return self._member(media)
        path = Path(media.path)
        data = read(path if path.is_absolute() else inside(self.root / path, self.root), self.limits)
        if hashlib.sha256(data).hexdigest() != media.sha256:
            raise MediaError("media changed", f"{media.path} no longer has sha256 {media.sha256[:12]}…")
        return data

    def pixels(self, media: Media) -> Pixels:
        """uint8 [height, width, 3] RGB of an image: upright, alpha on white. MediaError."""
        with self._lock:
            if (held := self._cache.get(media.sha256)) is not None:
                self._cache.move_to_end(media.sha256)
                return held
        data, form = self._typed(media, "image")
        array = image.pixels(data, form, media.path, self.limits)
        array.setflags(write=False)
        with self._lock:
            self._cache[media.sha256] = array
            while len(self._cache) > 1 and sum(a.nbytes for a in self._cache.values()) > _CACHED_BYTES:
                self._cache.popitem(last=False)
        return array

    def reduced(self, media: Media, side: int) -> Pixels:
        """An image as in `pixels`, its shorter side brought to between `side` and twice `side` where it has
        as much; for a JPEG far cheaper than all pixels. Nothing is kept. MediaError."""
        data, form = self._typed(media, "image")
        return image.reduced(data, form, media.path, self.limits, side)

    def key_frames(self, media: Media, side: int) -> Iterator[tuple[float, Pixels]]:
        """(seconds from the first frame, uint8 [height, width, 3] RGB reduced to `side`) of the first frame
        of every second of a video, one in memory at a time. MediaError, also while it is read."""
        data, form = self._typed(media, "video")
        yield from video.key_frames(data, form, media.path, self.limits, side)

    def frames(self, media: Media, count: int | None = None) -> list[tuple[float, Pixels]]:
        """`count` frames (default `limits.frames`) of a video, each from the middle of an equal share of
        it: [(seconds from the first frame, uint8 [height, width, 3] RGB)]. MediaError."""
        data, form = self._typed(media, "video")
        return video.sampled(data, form, media.path, self.limits, media.frames, count or self.limits.frames)

    def view(self, media: Media) -> Pixels:
        """The picture that a policy of single pictures is shown: an image, or a video's first frame."""
        return self.clip(media).at(0) if media.kind == "video" else self.pixels(media)

    def clip(self, media: Media) -> Clip:
        """A video whose frames can be asked for by number. MediaError; decoding errors come when a frame
        is asked for."""
        data, form = self._typed(media, "video")
        return Clip(
            media.frames,
            media.fps,
            media.width,
            media.height,
            partial(video.frames, data, form, media.path, self.limits),
        )

    def _typed(self, media: Media, kind: str) -> tuple[bytes, str]:
        data = self.data(media)
        form = sniff(data)
        if form is None or kind_of(form) != kind:
            raise MediaError(f"not {'an' if kind == 'image' else 'a'} {kind}", media.path)
        return data, form

    def _member(self, media: Media) -> bytes:
        place, _, member = media.path.partition("!/")
        rule = "missing media"
        for archive in self._packs(place):
            try:
                data = self._unpacked(archive, member)
            except (KeyError, zipfile.BadZipFile) as error:
                rule = rule if isinstance(error, KeyError) else "media changed"
                continue
            if hashlib.sha256(data).hexdigest() == media.sha256:
                return data
            rule = "media changed"
        raise MediaError(rule, f"no version of {place} holds {member} with sha256 {media.sha256[:12]}…")

    def _unpacked(self, archive: Path, member: str) -> bytes:
        """A stored member's bytes. KeyError without it; BadZipFile for a damaged pack."""
        with zipfile.ZipFile(archive) as pack:
            info = pack.getinfo(member)
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > self.limits.bytes:
                raise MediaError("too large", f"{archive}!/{member}: compressed or over the limit")
            return pack.read(info)

    def _packs(self, place: str) -> Iterator[Path]:
        """Every version of a pack `<asset>/<partition>/<file>` under data/, the current one first."""
        if place.count("/") < 2:
            return
        asset, partition, name = place.rsplit("/", 2)
        folder = inside(self.root / "data" / asset / partition, self.root)
        current = _pointer(self.root / "data" / "versions.json", asset, partition)
        versions = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        for version in sorted(versions, key=lambda v: v != current):
            if (folder / version / name).is_file():
                yield folder / version / name


def _pointer(versions: Path, asset: str, partition: str) -> str:
    """The version that an asset's partition points to; empty where nothing was committed."""
    if not versions.is_file():
        return ""
    pointers = json.loads(versions.read_text())
    return str(pointers.get(asset.replace("/", "_"), {}).get(partition, ""))
