"""From a path to a `Media` record: everything that can be wrong with a file is found here, once."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pixelis_pipeline.media import image, video
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.records import Media
from pixelis_pipeline.settings import MediaLimits

Kind = Literal["image", "video"]
T = TypeVar("T")

# Pillow's or FFmpeg's name of a format -> its kind and the extensions that may carry it.
_EXTENSIONS: dict[str, tuple[Kind, frozenset[str]]] = {
    "JPEG": ("image", frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})),
    "PNG": ("image", frozenset({".png", ".apng"})),
    "WEBP": ("image", frozenset({".webp"})),
    "GIF": ("image", frozenset({".gif"})),
    "BMP": ("image", frozenset({".bmp"})),
    "TIFF": ("image", frozenset({".tif", ".tiff"})),
    "PPM": ("image", frozenset({".ppm", ".pgm", ".pbm", ".pnm"})),
    "mp4": ("video", frozenset({".mp4", ".m4v", ".mov"})),
    "matroska": ("video", frozenset({".mkv", ".webm"})),
    "avi": ("video", frozenset({".avi"})),
}
MEDIA_SUFFIXES = frozenset().union(*(suffixes for _, suffixes in _EXTENSIONS.values()))
_VIDEO_SUFFIXES = frozenset().union(*(s for kind, s in _EXTENSIONS.values() if kind == "video"))


def sniff(data: bytes) -> str | None:
    """The format that the first bytes show, by the name its decoder knows; None for any other."""
    starts = (
        (b"\xff\xd8\xff", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF87a", "GIF"),
        (b"GIF89a", "GIF"),
        (b"BM", "BMP"),
        (b"II*\x00", "TIFF"),
        (b"MM\x00*", "TIFF"),
        (b"\x1a\x45\xdf\xa3", "matroska"),
    )
    for magic, form in starts:
        if data.startswith(magic):
            return form
    if data[:4] == b"RIFF":
        return {b"WEBP": "WEBP", b"AVI ": "avi"}.get(data[8:12])
    if data[4:8] in (b"ftyp", b"moov", b"mdat"):
        return "mp4"
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace():
        return "PPM"
    return None


def kind_of(form: str) -> Kind:
    """Whether a sniffed format is an image or a video."""
    return _EXTENSIONS[form][0]


def _asked(path: Path, question: Callable[[Path], T]) -> T:
    """What the file system says of a path. MediaError "malformed name" for a name that no file can have or
    no record can hold (NUL, half a surrogate pair, bytes other than UTF-8, too long), "missing media" where
    nothing lies; errors of the disk itself pass through."""
    name = ascii(str(path))
    try:
        str(path).encode()
        return question(path)
    except ValueError as error:
        raise MediaError("malformed name", f"{name}: {error}") from error
    except RuntimeError as error:  # so `resolve` says it until Python 3.13
        raise MediaError("missing media", f"{name} is a link that leads to itself") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise MediaError("malformed name", f"{name} is too long") from error
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise MediaError("missing media", f"{name} does not exist") from error
        raise


def first(places: Sequence[Path]) -> Path:
    """The first of the places where something lies; where nothing does, the first, for `probe` to refuse."""
    return next((place for place in places if os.path.exists(place)), places[0])


def inside(path: Path, root: Path) -> Path:
    """`path` resolved. MediaError "path escapes folder" where `..` or a link leads out of `root`,
    "malformed name" or "missing media" where it leads nowhere at all."""
    resolved = _asked(path, Path.resolve)
    if not resolved.is_relative_to(root.resolve()):
        raise MediaError("path escapes folder", f"{path} lies outside {root}")
    return resolved


def read(path: Path, limits: MediaLimits) -> bytes:
    """A file's bytes, its size checked first. MediaError "malformed name", "missing media", "too large"."""
    found = _asked(path, Path.stat)
    if not stat.S_ISREG(found.st_mode):
        raise MediaError("missing media", f"{path} is no file")
    if found.st_size > limits.bytes:
        raise MediaError("too large", f"{path}: {found.st_size} bytes, over {limits.bytes}")
    return path.read_bytes()


def describe(data: bytes, name: str, path: str, limits: MediaLimits) -> Media:
    """The `Media` record of file bytes: `name` carries the extension to hold them to, `path` is where
    they will be found. Raises MediaError like `probe`."""
    suffix = Path(name).suffix.lower()
    form = sniff(data)
    if form is None:
        kind = "a video" if suffix in _VIDEO_SUFFIXES else "an image"
        raise MediaError(f"not {kind}", f"{name}: its first bytes are of no known format")
    kind, extensions = _EXTENSIONS[form]
    if suffix and suffix not in extensions:
        raise MediaError("wrong extension", f"{name} is {form}")
    digest = hashlib.sha256(data).hexdigest()
    if kind == "image":
        width, height = image.dimensions(data, form, name, limits)
        return Media(digest, kind, path, width, height)
    width, height, frames, fps = video.describe(data, form, name, limits)
    return Media(digest, kind, path, width, height, frames, fps)


def probe(path: Path, limits: MediaLimits, *, root: Path | None = None) -> Media:
    """The `Media` record of an image or video file, decoded whole once.

    With `root` given, a path that climbs out of it (by `..` or through a link) is refused. Order of the
    checks: name, place, existence, size in bytes, format against extension, dimensions in the header,
    decoding. Raises MediaError; its `rule` says which check failed.
    """
    resolved = _asked(path, Path.resolve) if root is None else inside(path, root)
    return describe(read(resolved, limits), path.name, str(path.absolute()), limits)
