"""ZOOM: exactly the pixels of the box, enlarged, within its bound."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.records import Action
from pixelis_pipeline.tools.contract import Workspace, to_pixels
from pixelis_pipeline.tools.registry import Registry
from pixelis_pipeline.tools.zoom import LONGEST, LanczosZoom, crop_digest

REGISTRY = Registry({"ZOOM": LanczosZoom()})
PICTURE = np.random.default_rng(5).integers(0, 256, (120, 200, 3), np.uint8)


@st.composite
def boxes(draw: st.DrawFn) -> list[int]:
    left, top = draw(st.integers(0, 998)), draw(st.integers(0, 998))
    return [left, top, draw(st.integers(left + 1, 999)), draw(st.integers(top + 1, 999))]


@settings(max_examples=60, deadline=None)
@given(boxes(), st.integers(1, 8))
def test_the_crop_is_the_box_and_its_digest_is_of_its_pixels(box: list[int], scale: int) -> None:
    workspace = Workspace([PICTURE])
    said = REGISTRY.call(workspace, Action("ZOOM", {"box": box, "scale": scale}))
    left, top, right, bottom = to_pixels((box[0], box[1], box[2], box[3]), 200, 120)
    made = workspace.images[1]
    assert made.shape == (said.output["height"], said.output["width"], 3) and made.dtype == np.uint8
    assert max(made.shape) <= LONGEST
    if scale * max(right - left, bottom - top) <= LONGEST:
        assert made.shape[:2] == (scale * (bottom - top), scale * (right - left))
    if scale == 1:
        assert np.array_equal(made, PICTURE[top:bottom, left:right])
    assert said.output["sha256"] == crop_digest(made)


def test_the_digest_covers_shape_and_bytes() -> None:
    flat = np.arange(24, dtype=np.uint8)
    wide, tall = flat.reshape(2, 4, 3), flat.reshape(4, 2, 3)
    assert crop_digest(wide) == hashlib.sha256(b"2x4x3\0" + wide.tobytes()).hexdigest() != crop_digest(tall)


def test_enlarging_is_pillows_lanczos_and_leaves_flat_areas_as_they_are() -> None:
    workspace = Workspace([np.full((40, 40, 3), (10, 200, 30), np.uint8)])
    REGISTRY.call(workspace, Action("ZOOM", {"box": [100, 100, 600, 600], "scale": 4}))
    assert (workspace.images[1] == (10, 200, 30)).all()
    workspace = Workspace([PICTURE])
    REGISTRY.call(workspace, Action("ZOOM", {"box": [0, 0, 999, 999], "scale": 3}))
    whole = Image.fromarray(PICTURE).resize((600, 360), Image.Resampling.LANCZOS)
    assert np.array_equal(workspace.images[1], np.asarray(whole))


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 1), (8, 8)), ((1, 3000), (1024, 1)), ((3000, 2), (1, 1024))]
)
def test_a_line_and_a_single_pixel_can_be_enlarged(shape: tuple[int, int], size: tuple[int, int]) -> None:
    workspace = Workspace([np.zeros((*shape, 3), np.uint8)])
    said = REGISTRY.call(workspace, Action("ZOOM", {"box": [0, 0, 999, 999], "scale": 8}))
    assert (said.output["width"], said.output["height"]) == size


def test_a_frame_of_a_video_and_a_crop_of_a_crop() -> None:
    clip = Clip(3, 8.0, 200, 120, lambda: iter([PICTURE // 3, PICTURE // 2, PICTURE.copy()]))
    workspace = Workspace.watching(clip)
    whole = [0, 0, 999, 999]
    REGISTRY.call(workspace, Action("ZOOM", {"box": whole, "scale": 1, "frame": 2}))
    assert np.array_equal(workspace.images[1], PICTURE)
    REGISTRY.call(workspace, Action("ZOOM", {"box": [0, 0, 500, 999], "scale": 1, "image": 1}))
    assert np.array_equal(workspace.images[2], PICTURE[:, :100])
    beyond = REGISTRY.call(workspace, Action("ZOOM", {"box": whole, "frame": 3}))
    assert beyond.output["kind"] == "bounds" and len(workspace.images) == 3
