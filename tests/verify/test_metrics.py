"""Metrics against their definitions, and against published values."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.settings import ReplaySettings
from pixelis_pipeline.tools.masks import encode
from pixelis_pipeline.verify.metrics import (
    anls,
    box_iou,
    edit_distance,
    mask_iou,
    plain,
    similarity,
    span_iou,
)
from pixelis_pipeline.verify.tolerance import compare


def test_iou_of_masks_boxes_and_spans() -> None:
    a, b = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    a[:, :6], b[:, 4:] = True, True
    assert mask_iou(a, b) == pytest.approx(20 / 100)
    assert mask_iou(a & ~a, b & ~b) == 1.0
    assert box_iou((0, 0, 6, 10), (4, 0, 10, 10)) == pytest.approx(20 / 100)
    assert box_iou((0, 0, 2, 2), (2, 2, 4, 4)) == 0.0
    assert span_iou((0.0, 6.0), (4.0, 10.0)) == pytest.approx(0.2)
    assert span_iou((0.0, 1.0), (2.0, 3.0)) == 0.0
    with pytest.raises(ValueError, match="size"):
        mask_iou(a, b[:5])


def test_iou_agrees_with_pycocotools() -> None:
    from pycocotools import mask as coco

    rng = np.random.default_rng(5)
    for _ in range(20):
        a, b = rng.random((40, 30)) < 0.4, rng.random((40, 30)) < 0.6
        theirs = coco.iou([encode(a)], [encode(b)], [False])[0, 0]
        assert mask_iou(a, b) == pytest.approx(theirs)


corners = st.integers(0, 30)
boxes = st.tuples(corners, corners, corners, corners).map(
    lambda b: (b[0], b[1], b[0] + b[2] + 1, b[1] + b[3] + 1)
)
readings = st.text("ab1.- ﬁß,", max_size=10)


@settings(max_examples=100, deadline=None)
@given(boxes, boxes, st.integers(-20, 20))
def test_iou_of_boxes_is_that_of_their_pixels(
    a: tuple[int, int, int, int], b: tuple[int, int, int, int], shift: int
) -> None:
    masks = np.zeros((2, 64, 64), bool)
    for mask, (left, top, right, bottom) in zip(masks, (a, b), strict=True):
        mask[top:bottom, left:right] = True
    value = box_iou(a, b)
    assert value == pytest.approx(mask_iou(*masks))
    assert 0.0 <= value == box_iou(b, a) <= 1.0 == box_iou(a, a)
    assert value == box_iou([side + shift for side in a], [side + shift for side in b])


@settings(max_examples=100, deadline=None)
@given(readings, readings)
def test_similarity_of_readings(a: str, b: str) -> None:
    assert 0.0 <= similarity(a, b) == similarity(b, a) <= 1.0 == similarity(a, a)
    assert anls([a, b], b) == anls([b], b) == 1.0
    assert anls([a], b) in (0.0, pytest.approx(similarity(" ".join(a.split()), " ".join(b.split()))))


@pytest.mark.parametrize(
    ("a", "b", "distance"), [("kitten", "sitting", 3), ("", "abc", 3), ("same", "same", 0), ("ab", "ba", 2)]
)
def test_edit_distance(a: str, b: str, distance: int) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) == distance


def test_similarity_of_empty_texts() -> None:
    assert similarity("", "") == 1.0
    assert similarity("", "a") == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello,  WORLD!", "hello world"),
        ("ﬁne ①", "fine 1"),
        ("-1", "-1"),
        ("12.50", "12.50"),
        ("self-made", "selfmade"),
        ("“Straße”", "strasse"),
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_anls_at_its_edges() -> None:
    assert anls(["abcd"], "abxx") == 0.0  # a distance of exactly .5 scores nothing
    assert anls(["abcd"], "abcx") == pytest.approx(0.75)
    assert anls(["x", "Abcd"], " ABCD ") == 1.0
    assert anls([], "a") == 0.0


REALDATA = os.environ.get("PIXELIS_REALDATA")


@pytest.mark.skipif(not REALDATA, reason="PIXELIS_REALDATA is not set")
def test_anls_against_the_authors_values() -> None:
    folder = Path(REALDATA or "") / "anls"
    expected = json.loads((folder / "expected.json").read_text())
    for answer, score in expected["cases"]:
        assert anls(expected["gold"], answer) == pytest.approx(score, abs=0.005)
    gold = json.loads((folder / "evaluate_json" / "gold_label.json").read_text())["data"]
    said = json.loads((folder / "evaluate_json" / "submission.json").read_text())
    truths = {entry["questionId"]: entry["answers"] for entry in gold}
    scores = [anls(truths[entry["questionId"]], entry["answer"]) for entry in said]
    assert np.mean(scores) == pytest.approx(expected["fixture_dataset_score"], abs=0.0005)
    assert np.mean(scores) == pytest.approx((0 + 8 / 9 + 1 + 0 + 0) / 5, abs=1e-12)


SETTINGS = ReplaySettings()
PROP = {"colour": "red", "shape": "star", "size": "small", "orientation": 2, "count": 40, "area": 12}


@pytest.mark.parametrize(
    ("claim", "same"),
    [
        ({"colour": "red"}, True),
        ({"colour": "Red"}, False),
        ({"count": 40}, True),
        ({"count": 41}, False),
        ({"area": 13}, True),
        ({"area": 15}, False),
        ({"orientation": 70}, True),  # a star looks alike every 72 degrees
        ({"orientation": 178}, False),
        ({"orientation": 90}, False),
        ({"colour": "red", "count": 1}, False),
        ({"count": True}, False),
        ({"count": 10**400}, False),
        ({"count": "40"}, False),
        ({"weight": 3}, False),
        ({}, False),
        (None, False),
    ],
)
def test_the_tolerance_of_prop(claim: object, same: bool) -> None:
    assert compare("PROP", claim, PROP, SETTINGS).same is same


@pytest.mark.parametrize(
    ("claim", "value"),
    [("Green  RIVER!", 1.0), ("green river", 1.0), ("green raver", 10 / 11), ("", 0.0), ("x" * 90, 0.0)],
)
def test_the_tolerance_of_ocr(claim: str, value: float) -> None:
    measured = compare("OCR", {"text": claim}, {"text": "Green River"}, SETTINGS)
    assert measured.value == pytest.approx(value)
    assert measured.same is (value >= 0.85)
