"""What `probe` refuses, one row per kind of bad file, and what it says of good ones."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import GifImagePlugin, Image, ImageFile

from pixelis_pipeline.media import MediaError, probe
from pixelis_pipeline.settings import MediaLimits
from tests.media.made import encoded, film, picture

Put = Callable[[str, bytes], Path]


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims its size and holds one row's worth of nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(64)))
        + chunk(b"IEND", b"")
    )


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def damaged(data: bytes) -> bytes:
    """200 bytes of the coded frames overwritten, well behind x264's note about itself."""
    at = data.index(b"mdat") + 900
    return data[:at] + bytes(range(200)) + data[at + 200 :]


TIFF_OF_FLOATS = encoded(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF")
BAD = [
    ("a.jpg", b"no picture at all", "not an image"),
    ("a.jpg", b"", "not an image"),
    ("a.mp4", b"no film at all", "not a video"),
    ("a.jpg", encoded(picture(), "PNG"), "wrong extension"),
    ("a.png", encoded(picture(), "JPEG"), "wrong extension"),
    ("a.mp4", encoded(picture(), "JPEG"), "wrong extension"),
    ("a.png", film(), "wrong extension"),
    ("a.dat", encoded(picture(), "PNG"), "wrong extension"),
    ("a.jpg", half(encoded(picture(), "JPEG")), "truncated"),
    ("a.png", half(encoded(picture(), "PNG")), "truncated"),
    ("a.gif", half(encoded(picture(), "GIF")), "truncated"),
    ("a.webp", half(encoded(picture(), "WEBP")), "truncated"),
    ("a.bmp", half(encoded(picture(), "BMP")), "truncated"),
    ("a.tiff", half(encoded(picture(), "TIFF")), "truncated"),
    ("a.pgm", half(encoded(picture().convert("L"), "PPM")), "truncated"),
    ("a.png", encoded(picture(), "PNG")[:20], "truncated"),
    ("a.mp4", half(film()), "truncated"),
    ("a.mp4", film()[:-10], "truncated"),
    ("a.mp4", damaged(film(60)), "truncated"),
    ("a.mp4", damaged(film(24, noise=True)), "truncated"),
    ("a.mkv", half(film(form="matroska", codec="mpeg4")), "truncated"),
    ("a.avi", half(film(form="avi", codec="mpeg4")), "truncated"),
    ("a.png", png_header(100_000, 100_000), "decompression bomb"),
    ("a.png", png_header(9_000, 9_000), "decompression bomb"),
    ("a.tiff", TIFF_OF_FLOATS, "unsupported pixels"),
]


@pytest.mark.parametrize(("name", "data", "rule"), BAD, ids=[f"{rule}-{name}" for name, _, rule in BAD])
def test_bad_file(name: str, data: bytes, rule: str, put: Put, limits: MediaLimits) -> None:
    with pytest.raises(MediaError) as caught:
        probe(put(name, data), limits)
    assert caught.value.rule == rule


def test_missing(tmp_path: Path, limits: MediaLimits) -> None:
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(MediaError, match="missing media"):
            probe(path, limits)


def test_size_is_checked_before_reading(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put("a.png", encoded(picture(), "PNG"))
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("was read"))
    with pytest.raises(MediaError, match="too large"):
        probe(path, MediaLimits(bytes=100))


def test_bomb_is_refused_from_its_header(
    put: Put, limits: MediaLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("was decoded"))
    for side in (9_000, 100_000):
        with pytest.raises(MediaError, match="decompression bomb"):
            probe(put("a.png", png_header(side, side)), limits)


def test_many_frames_cost_one(put: Put, limits: MediaLimits, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("L", (64, 64), shade % 256) for shade in range(400)]
    path = put("a.gif", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    seen: list[int] = []
    original = GifImagePlugin.GifImageFile._seek

    def counted(image: GifImagePlugin.GifImageFile, frame: int, update_image: bool = True) -> None:
        seen.append(frame)
        original(image, frame, update_image)

    monkeypatch.setattr(GifImagePlugin.GifImageFile, "_seek", counted)
    assert (probe(path, limits).width, set(seen)) == (64, {0})


def test_film_beyond_the_limits(put: Put) -> None:
    path = put("a.mp4", film(24))
    with pytest.raises(MediaError, match="decompression bomb"):
        probe(path, MediaLimits(pixels=1_000))
    with pytest.raises(MediaError, match="too long"):
        probe(path, MediaLimits(seconds=2.0))


def test_film_whose_frames_grow_behind_its_header(put: Put) -> None:
    """Two MPEG-4 streams of different size muxed as one: the header shows the small one's."""
    out = io.BytesIO()
    with av.open(out, "w", format="avi") as container:
        track: Any = container.add_stream("mpeg4", rate=8)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for number, (width, height) in enumerate([(64, 48), (640, 480)]):
            coder: Any = av.CodecContext.create("mpeg4", "w")
            coder.width, coder.height, coder.pix_fmt = width, height, "yuv420p"
            coder.time_base = Fraction(1, 8)
            frame = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24")
            for packet in [*coder.encode(frame), *coder.encode()]:
                packet.stream, packet.time_base = track, Fraction(1, 8)
                packet.pts = packet.dts = number
                container.mux(packet)
    path = put("a.avi", out.getvalue())
    assert probe(path, MediaLimits()).frames == 2
    with pytest.raises(MediaError, match="truncated"):
        probe(path, MediaLimits(pixels=100_000))


@pytest.mark.parametrize("name", ["../out.png", "link.png", "sub/../../out.png"])
def test_path_that_climbs_out(name: str, tmp_path: Path, limits: MediaLimits) -> None:
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "out.png").write_bytes(encoded(picture(), "PNG"))
    (folder / "link.png").symlink_to(tmp_path / "out.png")
    with pytest.raises(MediaError, match="path escapes folder"):
        probe(folder / name, limits, root=folder)
    with pytest.raises(MediaError, match="path escapes folder"):
        probe(folder / os.fspath(tmp_path / "out.png"), limits, root=folder)


@pytest.mark.parametrize("name", ["a\0.png", "\ud800.png", "\udcff.png", "x" * 300, "y/" * 2500])
def test_name_that_no_file_can_have_or_no_record_can_hold(
    name: str, tmp_path: Path, limits: MediaLimits
) -> None:
    """Also a name that a file does have, as here the byte 0xff that `\\udcff` stands for."""
    (tmp_path / "\udcff.png").write_bytes(encoded(picture(), "PNG"))
    for root in (None, tmp_path):
        with pytest.raises(MediaError) as caught:
            probe(tmp_path / name, limits, root=root)
        assert caught.value.rule == "malformed name"
        str(caught.value).encode()


def test_link_that_leads_to_itself(tmp_path: Path, limits: MediaLimits) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "a.png")
    for root in (None, tmp_path):
        with pytest.raises(MediaError, match="missing media"):
            probe(tmp_path / "a.png", limits, root=root)


def test_only_media_that_are_gone_or_changed_or_were_not_seen_may_come_back() -> None:
    rules = ("missing media", "media changed", "malformed name", "truncated", "worker lost")
    passing = [rule for rule in rules if MediaError(rule, "").passing]
    assert passing == ["missing media", "media changed", "worker lost"]


def test_link_that_stays_inside(tmp_path: Path, limits: MediaLimits) -> None:
    (tmp_path / "in.png").write_bytes(encoded(picture(), "PNG"))
    (tmp_path / "link.png").symlink_to(tmp_path / "in.png")
    assert probe(tmp_path / "link.png", limits, root=tmp_path).path == str(tmp_path / "link.png")


def test_image(put: Put, limits: MediaLimits) -> None:
    path = put("A.JPG", encoded(picture(96, 64), "JPEG"))
    media = probe(path, limits)
    assert (media.kind, media.width, media.height, media.frames) == ("image", 96, 64, 1)
    assert media.path == str(path)


def test_film(put: Put, limits: MediaLimits) -> None:
    media = probe(put("a.mp4", film(24, rate=8)), limits)
    assert (media.kind, media.width, media.height, media.frames, media.fps) == ("video", 64, 48, 24, 8.0)


def test_broken_exif_means_upright(put: Put, limits: MediaLimits) -> None:
    path = put("a.jpg", encoded(picture(96, 64), "JPEG", exif=b"Exif\x00\x00nonsense"))
    assert probe(path, limits).width == 96
