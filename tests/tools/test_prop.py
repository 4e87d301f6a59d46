"""PROP on planted masks: what it measures is what was drawn, in the units it states."""

import cv2
import numpy as np
import pytest

from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.records import Action
from pixelis_pipeline.tools.contract import Observation, PropArguments, Workspace
from pixelis_pipeline.tools.outlines import SYMMETRY, longer_axis
from pixelis_pipeline.tools.prop import PixelProperties, properties
from pixelis_pipeline.tools.registry import Registry
from pixelis_pipeline.tools.seg import GrabCut
from pixelis_pipeline.world.scene import draw_scene
from pixelis_pipeline.world.shapes import SHAPES, outline, rasterise

RED, GREEN = (215, 40, 35), (40, 170, 60)


def planted(shape: str, angle: float, area: float = 2400, side: int = 160) -> np.ndarray:
    """The mask of one shape in the middle of a square picture."""
    mask = np.zeros((side, side), bool)
    stamp = rasterise(outline(shape, (side / 2, side / 2), area, angle))
    mask[stamp.window] = stamp.inside
    return mask


def painted(mask: np.ndarray, rgb: tuple[int, int, int] = RED) -> np.ndarray:
    return np.where(mask[..., None], rgb, (90, 90, 90)).astype(np.uint8)


def off(a: float, b: float, period: float) -> float:
    return min((a - b) % period, (b - a) % period)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_turned_shape_keeps_its_name_and_tells_its_angle(shape: str) -> None:
    for angle in range(0, 360, 7):
        said, clear = properties(painted(planted(shape, angle)), planted(shape, angle))
        assert said["shape"] == shape and 0 < clear <= 1, angle
        assert said["orientation"] in range(180)
        assert off(said["orientation"], -angle, SYMMETRY[shape]) <= 3, angle


@pytest.mark.parametrize("angle", range(0, 180, 15))
def test_a_long_thing_has_no_name_and_points_along_its_longer_axis(angle: int) -> None:
    bar = cv2.boxPoints(((80, 80), (100, 24), -angle))  # OpenCV turns clockwise on the screen
    mask = cv2.fillPoly(np.zeros((160, 160), np.uint8), [np.round(bar).astype(np.int32)], 1).astype(bool)
    said, _ = properties(painted(mask), mask)
    assert said["shape"] == "other" and off(said["orientation"], angle, 180) <= 2
    assert said["orientation"] == longer_axis(mask)


def test_area_is_per_mille_of_the_image_and_size_follows() -> None:
    for share, size in ((0.010, "small"), (0.040, "medium"), (0.090, "large")):
        mask = planted("circle", 0, share * 160**2)
        said, _ = properties(painted(mask), mask)
        assert (said["size"], said["area"]) == (size, pytest.approx(1000 * share, abs=1))


def test_pieces_are_counted_and_the_largest_gives_its_name_and_colour() -> None:
    mask = np.zeros((200, 200), bool)
    for x, y, side in ((20, 20, 36), (120, 30, 24), (30, 120, 24)):
        mask[y : y + side, x : x + side] = True
    image = painted(mask, GREEN)
    image[20:56, 20:56] = RED
    said, _ = properties(image, mask)
    assert (said["count"], said["colour"], said["shape"]) == (3, "red", "square")
    mask[38:40, 56:120] = True  # a bridge two pixels wide joins nothing
    mask[180:184, 100:104] = True  # and a speck is not a thing
    assert properties(image, mask)[0]["count"] == 3


def test_things_that_lie_close_do_not_take_pixels_from_each_other() -> None:
    mask = np.zeros((200, 200), bool)
    mask[50:110, 20:80] = mask[70:90, 84:104] = True
    said, _ = properties(painted(mask), mask)
    assert (said["shape"], said["count"]) == ("square", 2)


@pytest.mark.parametrize("height", [1, 2, 3, 40])
def test_degenerate_masks_are_measured_all_the_same(height: int) -> None:
    image = np.full((height, 50, 3), RED, np.uint8)
    for columns in (slice(0, 1), slice(0, 50), slice(49, 50), slice(10, 12)):
        mask = np.zeros((height, 50), bool)
        mask[:, columns] = True
        said, clear = properties(image, mask)
        assert (said["colour"], said["count"]) == ("red", 1) and 0 <= clear <= 1
        assert said["area"] == round(1000 * mask.mean()) and said["orientation"] in range(180)
    corner = np.zeros((height, 50), bool)
    corner[0, 0] = True
    assert properties(image, corner)[0]["size"] in ("small", "medium", "large")


def test_noise_without_a_thing_in_it_is_measured() -> None:
    noise = np.random.default_rng(3).random((96, 96)) < 0.5
    said, _ = properties(painted(noise), noise)
    assert said["shape"] == "other" and said["count"] >= 1 and said["colour"] == "red"


def test_grey_is_a_colour_too() -> None:
    mask = planted("square", 0)
    assert properties(np.full((160, 160, 3), 128, np.uint8), mask)[0]["colour"] == "grey"


def registry() -> Registry:
    return Registry({"PROP": PixelProperties(GrabCut())})


def test_an_empty_mask_is_an_error_the_policy_can_read() -> None:
    workspace = Workspace([np.zeros((8, 8, 3), np.uint8)])
    workspace.observations.append(Observation({}, "", mask=np.zeros((8, 8), bool)))
    said = registry().call(workspace, Action("PROP", {"step": 0}))
    assert said.output == {"error": "step 0's mask is empty", "kind": "nothing"}


def test_a_mask_is_measured_on_the_frame_it_lies_over() -> None:
    mask = planted("triangle", 10)
    clip = Clip(3, 8.0, 160, 160, lambda: iter([painted(mask, rgb) for rgb in (RED, RED, GREEN)]))
    workspace = Workspace.watching(clip)
    workspace.observations.append(Observation({}, "", mask=mask, frame=2))
    said = registry().call(workspace, Action("PROP", {"step": 0}))
    assert (said.output["colour"], said.output["shape"]) == ("green", "triangle")
    wrong = registry().call(workspace, Action("PROP", {"step": 0, "frame": 1}))
    assert wrong.output["kind"] == "bounds" and "frame 2" in wrong.output["error"]


def test_a_box_is_looked_at_in_the_frame_that_is_named() -> None:
    mask = planted("square", 0)
    clip = Clip(2, 8.0, 160, 160, lambda: iter([painted(mask, RED), painted(mask, GREEN)]))
    call = {"box": [300, 300, 700, 700]}
    seen = [
        registry().call(Workspace.watching(clip), Action("PROP", call | more)).output["colour"]
        for more in ({}, {"frame": 0}, {"frame": 1})
    ]
    assert seen == ["red", "red", "green"]


def test_on_an_exact_mask_all_attributes_of_a_scene_are_exact() -> None:
    right = []
    for k in range(20):
        scene = draw_scene(np.random.default_rng([41_077, k]), ground="photograph", labels=0.3)
        for thing in scene.things:
            said, _ = properties(scene.image, thing.mask)
            words = {"colour": thing.colour, "shape": thing.shape, "size": thing.size, "count": 1}
            turned = off(said["orientation"], -thing.angle, SYMMETRY[thing.shape])
            right.append(words.items() <= said.items() and turned <= 6)
    assert len(right) > 60 and np.mean(right) >= 0.95


def test_the_version_names_every_constant_and_the_segmenter() -> None:
    version = PixelProperties(GrabCut()).version
    for part in ("prop/3", "opencv", "size=", "thin=", "angles=", "other=", "sample=", GrabCut().version):
        assert part in version


def test_a_step_that_is_no_segmentation_has_no_mask() -> None:
    workspace = Workspace([np.zeros((8, 8, 3), np.uint8)])
    said = registry().call(workspace, Action("PROP", PropArguments(step=0).model_dump(exclude_none=True)))
    assert said.output["error"] == "step 0 has no mask"


def test_on_an_exact_mask_of_all_things_their_number_is_exact() -> None:
    for k in range(15):
        scene = draw_scene(np.random.default_rng([41_078, k]), ground="photograph", apart=True)
        every = np.any([thing.mask for thing in scene.things], axis=0)
        assert properties(scene.image, every)[0]["count"] == len(scene.things), k
