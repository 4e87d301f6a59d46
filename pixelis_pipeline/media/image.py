"""Still images: the header is believed only so far as to refuse; pixels come after the limits.

Only the first frame of an animated file is ever decoded, so a file of many frames costs one.
"""

import io
import math
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.settings import MediaLimits

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

SIDE = 256  # pixels: the shorter side of the reduced pictures that fingerprints are made of
NEAR = 0.7  # of it that a JPEG may come to: the scale of libjpeg's nearest to it, as halves and doubles go

# glibc hands freed memory back to the system where it is more than twice the largest block ever freed; where
# only small pictures are made, each is then faulted in anew, a sixth of the time that a fingerprint takes.
# So one large block is freed here, never touched.
np.empty(24 * 2**20, np.uint8)

# What Pillow's decoders are known to raise on damaged bytes.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _open(data: bytes, form: str, name: str, limits: MediaLimits) -> ImageFile.ImageFile:
    """The undecoded image. Pillow itself refuses headers beyond twice its own bound of 89 megapixels."""
    try:
        image = Image.open(io.BytesIO(data), formats=[form])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError("decompression bomb", f"{name}: {error}") from error
    except _DAMAGED as error:
        raise MediaError("truncated", f"{name}: begins as {form} but has no readable header") from error
    if image.width * image.height > limits.pixels:
        size = f"{image.width}x{image.height}"
        raise MediaError("decompression bomb", f"{name}: header claims {size}, over {limits.pixels} pixels")
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1-8; EXIF that cannot be read means upright, as viewers take it."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGED:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _sixteen_bits(image: Image.Image) -> bool:
    grey = np.asarray(image)
    return bool(grey.min() >= 0 and grey.max() <= 0xFFFF)


def _load(data: bytes, form: str, name: str, limits: MediaLimits, side: int | None = None) -> Image.Image:
    """Decoded; with `side` a JPEG at the smallest of libjpeg's scales (1, 1/2, 1/4, 1/8 of the inverse DCT)
    that leaves no side below NEAR of it. Other formats know no draft."""
    image = _open(data, form, name, limits)
    try:
        if side is not None:
            least = math.ceil(NEAR * side)
            image.draft(None, (least, least))  # type: ignore[arg-type, unused-ignore]
        image.decodermaxblock = len(data)  # in one piece: libjpeg is slow at the end of each
        image.load()
    except _DAMAGED as error:
        raise MediaError("truncated", f"{name}: {error}") from error
    if image.mode in ("F", "LAB", "HSV") or (image.mode == "I" and not _sixteen_bits(image)):
        raise MediaError("unsupported pixels", f"{name}: pixels of mode {image.mode} have no defined RGB")
    return image


def _rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB: alpha composited on white, 16-bit greys scaled (not clipped) to 8 bits."""
    if image.mode.startswith("I"):  # I;16, I;16B, and I as Pillow reads 16-bit PGM: all 0-65535
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def dimensions(data: bytes, form: str, name: str, limits: MediaLimits) -> tuple[int, int]:
    """(width, height) as shown, EXIF applied. `form` is Pillow's format name. Decodes the first frame
    whole, so that a truncated file raises MediaError here and not in a later stage."""
    image = _load(data, form, name, limits)
    turned = _orientation(image) >= 5
    return (image.height, image.width) if turned else image.size


def pixels(data: bytes, form: str, name: str, limits: MediaLimits) -> Pixels:
    """uint8 [height, width, 3] RGB, upright. Raises MediaError like `dimensions`."""
    image = _load(data, form, name, limits)
    return _upright(_rgb(image), _orientation(image))


def reduced(data: bytes, form: str, name: str, limits: MediaLimits, side: int) -> Pixels:
    """`pixels` made smaller by a whole factor, by means over areas: the shorter side comes to between
    `side` and twice `side`, of a JPEG to between NEAR of `side` and twice that, or stays where the file has
    no more. A JPEG is decoded no larger than that needs, and still read to its end.
    ValueError for a `side` below 1; raises MediaError like `dimensions`.
    """
    if side < 1:
        raise ValueError(f"a picture cannot be reduced to a side of {side}")
    image = _load(data, form, name, limits, side)
    rgb = _rgb(image)
    factor = min(rgb.size) // side
    return _upright(rgb.reduce(factor) if factor > 1 else rgb, _orientation(image))


def shrunk(picture: Pixels, side: int) -> Pixels:
    """uint8 [height, width, 3] by means over areas, a whole factor smaller as in `reduced`."""
    factor = min(picture.shape[:2]) // side
    return np.array(Image.fromarray(picture).reduce(factor)) if factor > 1 else picture


def _upright(rgb: Image.Image, orientation: int) -> Pixels:
    turn = _UPRIGHT.get(orientation)
    return np.array(rgb if turn is None else rgb.transpose(turn))
