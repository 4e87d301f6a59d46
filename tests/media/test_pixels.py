"""Pixels as they are meant to be seen, whatever the file's mode."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelis_pipeline.media import MediaStore, image, probe
from pixelis_pipeline.media.image import Pixels
from pixelis_pipeline.settings import MediaLimits
from tests.media.made import encoded, film

Put = Callable[[str, bytes], Path]


@pytest.fixture
def seen(tmp_path: Path, put: Put, limits: MediaLimits) -> Callable[[str, bytes], Pixels]:
    return lambda name, data: MediaStore(tmp_path, limits).pixels(probe(put(name, data), limits))


def corner(image: Pixels) -> list[int]:
    return [int(v) for v in image[0, 0]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, seen: Callable[[str, bytes], Pixels]) -> None:
    """The stored grid is the upright one turned back, so that applying the tag restores it."""
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:20, :30, 0], upright[20:, 30:, 1] = 255, 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    assert np.array_equal(seen("a.png", data), upright)


def test_exif_turns_the_sides_of_the_record(put: Put, limits: MediaLimits) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    media = probe(put("a.jpg", encoded(Image.new("RGB", (60, 40)), "JPEG", exif=exif)), limits)
    assert (media.width, media.height) == (40, 60)


def test_modes(seen: Callable[[str, bytes], Pixels]) -> None:
    clear_red = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    half_black = Image.new("LA", (4, 4), (0, 128))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    deep = Image.fromarray(np.full((4, 4), 0x80FF, np.uint16))
    assert corner(seen("clear.png", encoded(clear_red, "PNG"))) == [255, 255, 255]
    assert corner(seen("half.png", encoded(half_black, "PNG"))) == [127, 127, 127]
    assert corner(seen("palette.png", encoded(palette, "PNG"))) == [10, 20, 30]
    assert corner(seen("keyed.png", encoded(palette, "PNG", transparency=1))) == [255, 255, 255]
    assert corner(seen("deep.png", encoded(deep, "PNG"))) == [0x80] * 3
    assert corner(seen("deep.tif", encoded(deep, "TIFF"))) == [0x80] * 3
    assert corner(seen("deep.pgm", b"P5 1 1 65535\n\x80\xff")) == [0x80] * 3
    assert corner(seen("bit.png", encoded(Image.new("1", (4, 4), 1), "PNG"))) == [255] * 3
    assert corner(seen("grey.jpg", encoded(Image.new("L", (4, 4), 90), "JPEG"))) == [90] * 3
    assert corner(seen("print.jpg", encoded(Image.new("CMYK", (8, 8)), "JPEG"))) == [255] * 3


def test_frames_come_from_the_middle_of_equal_shares(tmp_path: Path, put: Put, limits: MediaLimits) -> None:
    media = probe(put("a.mp4", film(24, rate=8)), limits)
    frames = MediaStore(tmp_path, limits).frames(media, 4)
    assert [seconds for seconds, _ in frames] == [3 / 8, 9 / 8, 15 / 8, 21 / 8]
    for number, (_, pixels) in zip((3, 9, 15, 21), frames, strict=True):
        assert pixels.shape == (48, 64, 3) and abs(int(pixels[20, 20, 0]) - 10 * number) <= 4


def test_all_frames_where_fewer_than_asked(tmp_path: Path, put: Put, limits: MediaLimits) -> None:
    media = probe(put("a.mp4", film(5)), limits)
    assert len(MediaStore(tmp_path, limits).frames(media)) == 5


def test_film_with_a_display_matrix_stands_upright(tmp_path: Path, put: Put, limits: MediaLimits) -> None:
    """Phones store films lying and say so in the track header: here a quarter turn clockwise."""
    data = bytearray(film(4))
    matrix = data.index(b"tkhd") + 4 + 40
    values = (0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    data[matrix : matrix + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in values)
    media = probe(put("a.mp4", bytes(data)), limits)
    assert (media.width, media.height) == (48, 64)
    assert MediaStore(tmp_path, limits).frames(media, 1)[0][1].shape == (64, 48, 3)


def test_pixels_are_shared_and_therefore_read_only(seen: Callable[[str, bytes], Pixels]) -> None:
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "PNG")
    with pytest.raises(ValueError, match="read-only"):
        seen("a.png", out.getvalue())[0, 0] = 1


@pytest.mark.parametrize(
    ("form", "width", "height", "shape"),
    [
        ("JPEG", 2000, 1500, (188, 250, 3)),
        ("JPEG", 1400, 1400, (350, 350, 3)),
        ("JPEG", 300, 500, (500, 300, 3)),
        ("PNG", 2000, 1500, (300, 400, 3)),
        ("PNG", 300, 500, (500, 300, 3)),
    ],
)
def test_reduced(form: str, width: int, height: int, shape: tuple[int, ...], limits: MediaLimits) -> None:
    """To the scale nearest to the side asked for, by means over areas, and the right way up."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    whole = Image.fromarray(np.stack([across, down, 255 - across], axis=2).astype(np.uint8))
    found = image.reduced(encoded(whole, form), form, "a", limits, 256)
    assert found.shape == shape
    coarse = [
        np.asarray(p.resize((6, 6), Image.Resampling.BOX), int) for p in (whole, Image.fromarray(found))
    ]
    assert np.abs(coarse[0] - coarse[1]).max() <= 3
