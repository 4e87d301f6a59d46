"""Pictures of steps: small, stable, and drawn from whatever steps say."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.records import Action, Step
from pixelis_pipeline.tools.contract import Workspace
from pixelis_pipeline.tools.masks import encode
from pixelis_pipeline.verify.draw import COLOURS, draw_steps, draw_trace, named
from pixelis_pipeline.verify.marks import marks


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB))


def test_every_step_leaves_a_mark_of_its_own(cases: list[Any]) -> None:
    case = cases[1]
    steps = case.trajectory.steps
    bare, first, both = (draw_steps(case.pixels, steps[:n]) for n in range(3))
    assert len({bare, first, both}) == 3
    assert (decoded(bare) == case.pixels).all()
    assert both == draw_steps(case.pixels, steps)


def test_a_thumbnail_is_small(cases: list[Any]) -> None:
    drawn = decoded(draw_steps(cases[0].pixels, cases[0].trajectory.steps, max_side=120))
    assert max(drawn.shape) == 120


def test_a_box_on_a_crop_is_drawn_where_the_crop_was_taken() -> None:
    sheet = np.full((200, 200, 3), 255, np.uint8)
    zoom = Step("", Action("ZOOM", {"box": [500, 500, 999, 999], "scale": 2}), {"image": 1})
    seg = Step("", Action("SEG", {"box": [500, 500, 999, 999], "image": 1}), {})
    marked = (decoded(draw_steps(sheet, [zoom, seg])) != 255).any(axis=2)
    only = (decoded(draw_steps(sheet, [zoom])) != 255).any(axis=2)
    rows, columns = np.nonzero(marked & ~only)
    assert rows.min() > 120 and columns.min() > 120


def test_garbage_is_left_out(cases: list[Any]) -> None:
    case = cases[0]
    bare = draw_steps(case.pixels, [])
    for action in (
        Action("FLY", {}),
        Action("SEG", {"box": 3}),
        Action("OCR", {"image": 9}),
        Action("TRK", {}),
    ):
        assert draw_steps(case.pixels, [Step("", action, {"mask": "x"})]) == bare
    odd: Any = replace(case.trajectory.steps[0], output=["no", "object"])
    assert draw_steps(case.pixels, [odd]) != bare


SHEET = np.full((200, 200, 3), 120, np.uint8)


def touched(steps: list[Step], ground: np.ndarray = SHEET) -> np.ndarray:
    return np.asarray((decoded(draw_steps(ground, steps)) != ground).any(axis=2))


def counted(picture: np.ndarray, colour: Any) -> int:
    return int((picture == np.array(colour)).all(axis=2).sum())


def segmented(output: Any, replayed: Any = None) -> Step:
    return Step("", Action("SEG", {"box": [100, 100, 900, 900]}), output, replayed=replayed or {})


def square(left: int, right: int) -> dict[str, Any]:
    mask = np.zeros((200, 200), bool)
    mask[60:140, left:right] = True
    return {"box": [5 * left, 300, 5 * right, 700], "area": 1, "mask": encode(mask)}


def test_a_claim_is_dashed_beside_what_the_tool_found() -> None:
    claim, found = square(110, 170), square(30, 90)
    both = decoded(draw_steps(SHEET, [segmented(claim, found)]))
    alone = decoded(draw_steps(SHEET, [segmented(found)]))
    differs = (both != alone).any(axis=2)
    rows, columns = np.nonzero(differs)
    assert columns.min() >= 105 and columns.max() <= 172 and rows.min() >= 58
    assert not differs[65:135, 115:165].any()  # its inside is left alone
    assert counted(both, (0, 0, 0)) > 20 and counted(both, (255, 255, 255)) > counted(alone, (255, 255, 255))
    assert (alone[70:130, 40:80] != 120).any(axis=2).all()  # what was found is tinted


def test_a_mask_on_a_crop_lies_where_the_crop_was_taken() -> None:
    zoom = Step("", Action("ZOOM", {"box": [500, 500, 999, 999], "scale": 2}), {"image": 1})
    seg = Step("", Action("SEG", {"box": [0, 0, 999, 999], "image": 1}), square(60, 140))
    tinted = touched([zoom, seg]) & ~touched([zoom])
    assert tinted[132:168, 132:168].all() and not tinted[:75].any()


def test_points_are_crosses_and_what_they_found_has_a_box() -> None:
    call = Action("SEG", {"points": [[300, 500]]})
    found = square(30, 90)
    assert touched([Step("", call, {})])[100, 60]
    assert touched([Step("", call, found)])[60:140, 30:90].mean() > 0.9


def test_a_tracklet_is_its_ends_and_the_way_between() -> None:
    boxes = [[100 + 100 * k, 400, 200 + 100 * k, 500] if k != 3 else None for k in range(7)]
    call = Action("TRK", {"box": boxes[0], "start": 2, "end": 8})
    drawn = touched([Step("", call, {"start": 2, "end": 8, "boxes": boxes})])
    assert drawn[90, 20:160].mean() > 0.7  # the way, through the middles
    assert drawn[80, 22:38].all() and drawn[80, 142:158].all() and not drawn[80, 82:118].any()
    assert touched([Step("", call, {"boxes": "?"})])[80, 22:38].all()  # the box that was asked for
    claim = [[box[0], 700, box[2], 800] if box else None for box in boxes]
    apart = decoded(draw_steps(SHEET, [Step("", call, {"boxes": claim}, replayed={"boxes": boxes})]))
    assert counted(apart[130:170], (0, 0, 0)) > 20 and counted(apart[130:170], COLOURS[0]) == 0


def test_a_span_of_time_is_text_at_the_foot() -> None:
    call = Action("TEMP", {"query": "it stops", "start": 0, "end": 4})
    span = {"start": 1.0, "end": 2.5, "spans": [[1.0, 2.5, 0.8]]}
    drawn = touched([Step("", call, span)])
    assert drawn[180:].any() and not drawn[:180].any()
    two = decoded(draw_steps(SHEET, [Step("", call, {"start": 3, "end": 4}, replayed=span)]))
    assert counted(two[150:182], (0, 0, 0)) > 100  # the claim, on a plate of its own above


def test_a_look_at_another_frame_says_which() -> None:
    calls = [Action("OCR", {"box": [100, 100, 900, 900], "frame": frame}) for frame in (0, 7)]
    here, there = (touched([Step("", call, {})]).sum() for call in calls)
    assert there > here


def test_the_lines_that_ocr_read_have_boxes() -> None:
    lines = [{"text": "a", "box": [200, 200, 400, 300]}, {"text": "b"}, 3]
    drawn = touched([Step("", Action("OCR", {}), {"text": "a", "lines": lines})])
    assert drawn[40, 45:75].all() and not drawn[70:180, 20:180].any()


def film(frames: int = 12) -> Clip:
    return Clip(
        frames, 4.0, 60, 40, lambda: iter([np.full((40, 60, 3), 20 * k, np.uint8) for k in range(frames)])
    )


def greys(sheet: np.ndarray) -> set[int]:
    """The frames (by their grey) that fill a part of the sheet."""
    levels, counts = np.unique(sheet[:, :, 0], return_counts=True)
    return {int(level) // 20 for level, n in zip(levels, counts, strict=True) if n > 800 and level % 20 == 0}


def test_a_sheet_shows_the_frames_that_steps_name() -> None:
    workspace = Workspace.watching(film())
    whole = [Step("", Action("OCR", {"frame": k}), {}) for k in (9, 4)]
    boxed = [Step("", Action("OCR", {"frame": k, "box": [0, 0, 99, 99]}), {}) for k in (9, 4)]
    assert greys(decoded(draw_trace(workspace, []))) == {0}
    assert greys(decoded(draw_trace(workspace, boxed))) == {4, 9}
    assert greys(decoded(draw_trace(workspace, whole))) == {4, 9}
    temp = Step("", Action("TEMP", {"query": "q", "start": 0, "end": 3}), {"start": 1.0, "end": 2.0})
    sheet = decoded(draw_trace(workspace, [temp, *boxed]))
    assert {4, 9} < greys(sheet) <= {4, 5, 6, 7, 8, 9}
    strip = (sheet[-32:] == np.array(COLOURS[0])).all(axis=2).sum(axis=0) > 8
    start, end = np.flatnonzero(strip)[[0, -1]] / (sheet.shape[1] - 1) * film().seconds
    assert abs(start - 1.0) < 0.05 and abs(end - 2.0) < 0.05


def test_a_sheet_follows_a_tracklet_over_its_frames() -> None:
    boxes = [[50 * k, 100, 50 * k + 200, 600] for k in range(10)]
    step = Step("", Action("TRK", {"box": boxes[0], "start": 1, "end": 10}), {"boxes": boxes})
    assert named(film(), list(marks([step])), 4) == [1, 4, 7, 10]
    sheet = decoded(draw_trace(Workspace.watching(film()), [step], tiles=4))
    assert greys(sheet) == {1, 4, 7, 10} and counted(sheet, COLOURS[0]) > 200


def test_a_sheet_is_small_whatever_the_video() -> None:
    large = Clip(9, 4.0, 1280, 720, lambda: iter([np.zeros((720, 1280, 3), np.uint8)] * 9))
    steps = [
        Step("", Action("SEG", {"box": [0, 0, 99, 99], "frame": k}), {}) for k in (0, 2, 4, 5, 6, 7, 8, 900)
    ]
    assert max(decoded(draw_trace(Workspace.watching(large), steps, max_side=300)).shape) <= 300


def test_a_picture_has_no_sheet(cases: list[Any]) -> None:
    steps = cases[1].trajectory.steps
    assert draw_trace(Workspace([cases[1].pixels]), steps) == draw_steps(cases[1].pixels, steps)


def test_what_teachers_write_about_videos_never_stops_a_page() -> None:
    actions = [
        Action("TRK", {"box": [0, 0, 9, 9], "start": 10**4400, "end": 10**4400 + 1}),
        Action("OCR", {"box": [0, 0, 9, 9], "frame": 10**4400}),
        Action("TEMP", {"query": "q", "start": 0, "end": 1e300}),
        Action("TRK", {"box": [0, 0, 9, 9], "end": 3}),
        Action("SEG", {"points": [[0, 0], [999, 999]], "frame": 3}),
        Action("SEG", {"step": 3}),
    ]
    outputs: list[Any] = [
        {"boxes": [None, None, 3, [1, 2], [0, 0, 9, 9]]},
        {"boxes": {}},
        {"start": "1"},
        [],
        3,
    ]
    outputs += [
        {"start": float("nan"), "end": 1},
        {"start": 0, "end": 10**400},
        {"mask": encode(SHEET[..., 0] > 0)},
    ]
    for one in (Workspace.watching(film()), Workspace([SHEET[:1, :1]])):
        for output in outputs:
            steps = [Step("", action, output, replayed=again) for action in actions for again in ({}, output)]
            assert decoded(draw_trace(one, steps)).size and decoded(draw_steps(SHEET, steps)).size
