"""A scene tells the exact truth about its pixels, is different each time, and is fast to draw."""

import colorsys
import subprocess
import sys
import time

import imagehash
import numpy as np
import pytest
from PIL import Image
from skimage import measure

from pixelis_pipeline.world.grounds import PHOTOGRAPHS, photograph
from pixelis_pipeline.world.scene import VISIBLE, Scene, draw_scene
from pixelis_pipeline.world.shapes import HSV, SHAPES, outline, rasterise, size_name

SCENES = 40


def _scene(seed: int, **how: object) -> Scene:
    return draw_scene(np.random.default_rng([11, seed]), **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [_scene(seed, labels=0.5) for seed in range(SCENES)]


def test_same_generator_same_scene() -> None:
    first, again = _scene(3, labels=1.0), _scene(3, labels=1.0)
    assert np.array_equal(first.image, again.image)
    assert [t.label for t in first.things] == [t.label for t in again.things]
    assert not np.array_equal(first.image, _scene(4, labels=1.0).image)


def test_truth_agrees_with_itself(scenes: list[Scene]) -> None:
    for scene in scenes:
        seen = np.zeros(scene.image.shape[:2], int)
        for thing in scene.things:
            x0, y0, x1, y1 = thing.box
            assert thing.area == thing.mask.sum() == thing.mask[y0:y1, x0:x1].sum()
            edges = thing.mask[y0], thing.mask[y1 - 1], thing.mask[:, x0], thing.mask[:, x1 - 1]
            assert all(edge.any() for edge in edges), "the box is tight"
            assert thing.size == size_name(thing.area / thing.mask.size)
            seen += thing.mask
        assert seen.max() <= 1, "no pixel belongs to two things"
        pairs = [(t.shape, t.colour) for t in scene.things]
        assert len(pairs) == len(set(pairs)), "each thing can be named"


def test_masks_are_the_pixels_drawn(scenes: list[Scene]) -> None:
    """Inside a mask the hue is the named colour's."""
    for scene in scenes[:12]:
        for thing in scene.things:
            hues = np.array(
                [colorsys.rgb_to_hsv(*(p / 255.0))[0] * 360 for p in scene.image[thing.mask][::37]]
            )
            away = np.abs((hues - HSV[thing.colour][0] + 180) % 360 - 180)
            assert np.mean(away < 14) > 0.95, (thing.colour, thing.shape)


def test_mask_is_exactly_what_painting_a_thing_changes() -> None:
    """A star in another colour changes the picture inside its mask, and outside only its soft edge."""
    red, blue = (_scene(5, kinds=[("star", colour)], ground="plain") for colour in ("red", "blue"))
    assert np.array_equal(red.things[0].mask, blue.things[0].mask)
    change = np.abs(red.image.astype(int) - blue.image).max(axis=2)
    mask = red.things[0].mask
    assert (change[mask] > 20).all()
    rim = rasterise(outline("circle", (20, 20), 400, 0))
    assert change[~mask].astype(bool).sum() < 1.5 * rim.alpha.shape[0] * 20, "only the soft edge differs"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("angle", [0, 17, 45])
def test_outline_has_the_area_asked_for(shape: str, angle: int) -> None:
    stamp = rasterise(outline(shape, (100.3, 99.6), 3000, angle))
    assert stamp.inside.sum() == pytest.approx(3000, rel=0.02)


def test_things_stay_visible_and_sizes_stay_off_their_thresholds() -> None:
    for seed in range(SCENES):
        for thing in _scene(seed, things=8).things:
            share = thing.area / thing.mask.size
            for threshold in (0.02, 0.06):
                assert abs(share / threshold - 1) > 0.05, "a measurement could name either size"
    assert VISIBLE >= 0.9


def test_apart_things_do_not_touch() -> None:
    for seed in range(12):
        scene = _scene(seed, things=6, apart=True)
        union = np.any([t.mask for t in scene.things], axis=0)
        parts = np.pad(union, 1)
        assert measure.label(parts, connectivity=2).max() == len(scene.things)


def test_labels_lie_free_inside_the_picture(scenes: list[Scene]) -> None:
    labelled = [(scene, t) for scene in scenes for t in scene.things if t.label]
    assert len(labelled) > SCENES
    for scene, thing in labelled:
        assert thing.label_box is not None
        x0, y0, x1, y1 = thing.label_box
        assert 0 <= x0 < x1 <= 512 and 0 <= y0 < y1 <= 512
        assert not any(other.mask[y0:y1, x0:x1].any() for other in scene.things)
        assert np.ptp(scene.image[y0:y1, x0:x1].mean(axis=2)) > 150, "ink and plate contrast"


@pytest.mark.slow
def test_false_twins_by_phash() -> None:
    """Over 300 scenes of mixed grounds at most 2 % have another within distance 8 of 64."""
    codes = np.array(
        [imagehash.phash(Image.fromarray(_scene(s, width=256, height=256).image)).hash for s in range(300)]
    ).reshape(300, 64)
    distance = (codes[:, None] != codes[None]).sum(axis=2)
    np.fill_diagonal(distance, 64)
    assert (distance.min(axis=1) <= 8).mean() <= 0.02


def test_half_of_the_grounds_are_photographs(scenes: list[Scene]) -> None:
    assert np.mean([scene.ground in PHOTOGRAPHS for scene in scenes]) >= 0.5


def test_every_photograph_ships_inside_its_package() -> None:
    code = (
        "import socket; socket.socket = None\n"
        "from pixelis_pipeline.world.grounds import PHOTOGRAPHS, photograph\n"
        "assert all(photograph(n).shape[2] == 3 for n in PHOTOGRAPHS)\n"
        "import sys; assert 'pooch' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_time_of_a_scene() -> None:
    """A small scene for pre-training, and a full one; bounds are five times what an idle core needs."""
    for name in PHOTOGRAPHS:
        photograph(name)
    for side, bound in ((128, 0.015), (512, 0.06)):
        start = time.process_time()
        for seed in range(20):
            _scene(seed, width=side, height=side)
        assert (time.process_time() - start) / 20 < bound
