"""SEG finds what was drawn: by box, by points, in any picture, the same each time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.tools.contract import SegArguments, ToolError, Workspace
from pixelis_pipeline.tools.cut_quality import sharpness, tidy, tightness
from pixelis_pipeline.tools.seg import GrabCut, cut_of, spots_of
from pixelis_pipeline.verify.metrics import mask_iou
from pixelis_pipeline.world.scene import draw_scene

TOOL = GrabCut()


def two_things() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A noisy sheet with a red square on the left and a blue one on the right, and their masks."""
    image = np.random.default_rng(3).integers(190, 206, (240, 320, 3), dtype=np.uint8)
    red, blue = np.zeros((240, 320), bool), np.zeros((240, 320), bool)
    red[60:140, 40:120], blue[90:170, 190:270] = True, True
    image[red], image[blue] = (210, 30, 40), (30, 50, 200)
    return image, red, blue


def found(image: np.ndarray, **arguments: object) -> np.ndarray:
    mask = TOOL(Workspace([image]), SegArguments.model_validate(arguments)).mask
    assert mask is not None
    return mask


BOTH = (110, 230, 860, 730)
ON_RED, ON_BLUE = (250, 416), (718, 541)


def test_a_box_of_two_things_holds_both_and_a_point_says_which() -> None:
    image, red, blue = two_things()
    assert mask_iou(found(image, box=BOTH), red | blue) > 0.95
    assert mask_iou(found(image, box=BOTH, points=[ON_RED]), red) > 0.95
    assert mask_iou(found(image, box=BOTH, points=[ON_BLUE]), blue) > 0.95
    assert mask_iou(found(image, box=BOTH, points=[ON_RED, ON_BLUE]), red | blue) > 0.95


@pytest.mark.parametrize("size", [12, 40, 120])
def test_points_alone_find_a_thing_of_any_size(size: int) -> None:
    image = np.random.default_rng(5).integers(190, 206, (300, 400, 3), dtype=np.uint8)
    truth = np.zeros((300, 400), bool)
    truth[150 - size : 150 + size, 200 - size : 200 + size] = True
    image[truth] = (40, 140, 60)
    assert mask_iou(found(image, points=[(500, 500)]), truth) > 0.9


def test_a_thing_of_many_colours_is_found_by_its_box() -> None:
    """Half of it has the colour of the ground beside it: what differs from the ground is half a thing."""
    import cv2

    image = np.full((300, 300, 3), (90, 120, 170), np.uint8)
    image[150:] = (60, 50, 45)
    truth = np.zeros((300, 300), np.uint8)
    cv2.ellipse(truth, (150, 150), (80, 100), 0, 0, 360, 1, -1)
    body = truth.astype(bool)
    image[body] = (225, 180, 150)
    hair = body.copy()
    hair[110:] = False
    image[hair] = (55, 45, 40)
    noise = np.random.default_rng(1).integers(-6, 7, image.shape)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    box = (70 * 999 // 300, 50 * 999 // 300, 231 * 999 // 300, 251 * 999 // 300)
    assert mask_iou(found(image, box=box), body) > 0.9


def test_points_find_things_in_photographs() -> None:
    agreement = []
    for k in range(3):
        scene = draw_scene(np.random.default_rng([77, k]), ground="photograph", labels=0.0)
        height, width = scene.image.shape[:2]
        for thing in scene.things[:3]:
            rows, columns = np.nonzero(thing.mask)
            at = len(rows) // 2
            point = (int((columns[at] + 0.5) * 999 / width), int((rows[at] + 0.5) * 999 / height))
            try:
                agreement.append(mask_iou(found(scene.image, points=[point]), thing.mask))
            except ToolError:
                agreement.append(0.0)
    print(f"SEG by one point: mean IoU {np.mean(agreement):.3f} over {len(agreement)} things")
    assert np.mean(agreement) >= 0.7


def test_an_empty_picture_has_nothing_that_stands_out() -> None:
    blank = np.full((100, 100, 3), 128, np.uint8)
    for arguments in ({"points": [(500, 500)]}, {"box": (0, 0, 999, 999)}):
        with pytest.raises(ToolError) as error:
            found(blank, **arguments)
        assert error.value.kind == "nothing"


def test_a_point_outside_its_box_is_an_error() -> None:
    image, *_ = two_things()
    with pytest.raises(ToolError, match="outside the box") as error:
        found(image, box=(100, 100, 300, 300), points=[(200, 200), (500, 500)])
    assert error.value.kind == "bounds"


def test_points_lie_in_the_picture() -> None:
    corners = SegArguments(points=((0, 0), (999, 999)))
    assert spots_of(corners, 7, 5) == ((0, 0), (6, 4))


def test_the_same_call_gives_the_same_bytes() -> None:
    image, *_ = two_things()
    calls = [
        SegArguments(box=BOTH),
        SegArguments(points=(ON_RED,)),
        SegArguments(box=BOTH, points=(ON_BLUE,)),
    ]
    first = [TOOL(Workspace([image]), call).output for call in calls]
    cut_of.cache_clear()
    assert [GrabCut()(Workspace([image.copy()]), call).output for call in reversed(calls)] == first[::-1]


def test_a_cut_that_is_kept_is_that_of_this_picture_this_box_and_these_points() -> None:
    image, _, blue = two_things()
    asked = [(image, ON_RED), (image, ON_BLUE), (image[::-1].copy(), ON_RED), (image[:, ::-1].copy(), ON_RED)]

    def masks() -> list[np.ndarray]:
        return [found(shown, box=BOTH, points=[point]) for shown, point in asked]

    cut_of.cache_clear()
    first = masks()
    assert cut_of.cache_info().misses == len(asked)
    assert all(np.array_equal(one, other) for one, other in zip(masks(), first, strict=True))
    assert cut_of.cache_info().hits == len(asked)
    assert mask_iou(first[1], blue) > 0.95 and mask_iou(first[3], blue[:, ::-1]) > 0.95


def test_huge_and_flat_pictures_are_answered() -> None:
    huge = np.full((3000, 4000, 3), 200, np.uint8)
    truth = np.zeros((3000, 4000), bool)
    truth[1000:2000, 1500:2500] = True
    huge[truth] = (200, 30, 30)
    assert mask_iou(found(huge, box=(300, 250, 700, 750)), truth) > 0.95
    for shape in ((1, 1, 3), (1, 900, 3), (900, 1, 3), (2, 3, 3)):
        strip = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        for arguments in ({"box": (0, 0, 999, 999)}, {"points": [(500, 500)]}, {"box": (998, 998, 999, 999)}):
            try:
                assert found(strip, **arguments).shape == shape[:2]
            except ToolError as error:
                assert error.kind == "nothing"


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 40),
    st.tuples(*[st.integers(0, 999)] * 4),
    st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_any_call_ends_in_a_mask_or_a_tool_error(
    seed: int, width: int, height: int, corners: tuple[int, int, int, int], points: list[tuple[int, int]]
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    x0, y0, x1, y1 = corners
    box = (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
    if box is None and not points:
        return
    try:
        observation = TOOL(Workspace([image]), SegArguments(box=box, points=tuple(points)))
    except ToolError:
        return
    assert observation.mask is not None and observation.mask.any()
    assert observation.mask.shape == (height, width) and 0 <= observation.confidence <= 1


def test_tightness_and_sharpness() -> None:
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    assert tightness(mask, (10, 10, 50, 50)) == 1
    assert tightness(mask, (0, 10, 50, 50)) == 0.75  # 10 of 50 is more than the slack
    lab = np.zeros((60, 60, 3), np.float32)
    assert sharpness(lab, mask) == 0
    lab[mask] = (100, 0, 0)
    assert sharpness(lab, mask) == 1
    lab[mask] = (15, 0, 0)
    assert sharpness(lab, mask) == pytest.approx(0.5)


def test_ground_between_things_is_no_hole_and_a_speck_is_no_piece() -> None:
    ring = np.zeros((60, 60), bool)
    ring[5:55, 5:55] = True
    ring[12:48, 12:48] = False
    assert not tidy(ring)[30, 30]
    dotted = np.zeros((60, 60), bool)
    dotted[5:45, 5:45] = True
    whole = dotted.copy()
    dotted[20:24, 20:24] = False
    dotted[52:55, 52:55] = True
    assert np.array_equal(tidy(dotted), whole)
    assert not tidy(np.zeros((9, 9), bool)).any() and tidy(np.ones((9, 9), bool)).all()


def test_a_loose_box_does_not_let_the_ground_in() -> None:
    """Half of the ground is textured: a cut that takes it in fills the box better, and is wrong."""
    rng = np.random.default_rng(11)
    image = rng.integers(60, 180, (400, 400, 1), dtype=np.uint8).repeat(8, 0).repeat(8, 1)[:400, :400]
    image = np.repeat(image, 3, axis=2)
    truth = np.zeros((400, 400), bool)
    truth[160:240, 150:250] = True
    image[truth] = (220, 30, 40)
    box = (250, 250, 740, 740)
    assert mask_iou(found(image, box=box), truth) > 0.9


def test_a_fine_outline_follows_what_the_coarse_one_cannot_see() -> None:
    """The outline is cut again at twice the size: a disc of 150 px loses less than a pixel of its radius."""
    import cv2

    image = np.random.default_rng(2).integers(190, 206, (600, 600, 3), dtype=np.uint8)
    disc = cv2.circle(np.zeros((600, 600), np.uint8), (300, 300), 75, 1, -1).astype(bool)
    image[disc] = (30, 60, 190)
    assert mask_iou(found(image, box=(370, 370, 628, 628)), disc) > 0.97
