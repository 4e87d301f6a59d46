"""The tolerance table's rows for tracklets and time spans, on planted differences."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelis_pipeline.settings import ReplaySettings
from pixelis_pipeline.verify.tolerance import compare

TABLE = ReplaySettings()
BOXES = [[100 + 10 * k, 200, 160 + 10 * k, 260] for k in range(10)]
TRACK = {"start": 3, "end": 12, "boxes": [*BOXES[:8], None, BOXES[9]]}
SPAN = {"start": 4.0, "end": 8.0, "spans": [[4.0, 8.0, 0.9], [1.0, 2.0, 0.4]]}


def shifted(by: int, boxes: list[Any]) -> list[Any]:
    return [box and [box[0] + by, box[1], box[2] + by, box[3]] for box in boxes]


@pytest.mark.parametrize(
    ("claim", "same"),
    [
        (TRACK, True),
        ({"boxes": TRACK["boxes"]}, True),
        ({"boxes": shifted(10, TRACK["boxes"])}, True),
        ({"boxes": shifted(60, TRACK["boxes"])}, False),  # beside it all the way
        ({"boxes": [TRACK["boxes"][0]] * 10}, True),  # a third of the way is enough for .15
        ({"boxes": TRACK["boxes"][:-1]}, False),
        ({"boxes": [None] * 10}, False),
        ({"boxes": "all of them"}, False),
        ({"boxes": [[5, 5, 5, 5], *TRACK["boxes"][1:]]}, False),
        ({"boxes": [[1, 2, 3], *TRACK["boxes"][1:]]}, False),
        ({"boxes": TRACK["boxes"], "speed": 3}, False),
        ({"start": 3, "end": 12}, False),
        ({"start": 3, "end": 11}, False),
        ({"start": 3.0, "end": 12, "boxes": TRACK["boxes"]}, False),
        ({}, False),
        (None, False),
    ],
)
def test_tracklets(claim: Any, same: bool) -> None:
    found = compare("TRK", claim, TRACK, TABLE)
    assert (found.metric, found.threshold, found.same) == ("TRK HOTA", 0.15, same)


def test_a_track_that_is_half_overlapped_is_measured_as_hota() -> None:
    """IoU 1/3 in every frame: six of HOTA's 19 thresholds (.05 to .30) find every box."""
    claim = {"boxes": [[0, 0, 20, 10]] * 4}
    returned = {"start": 0, "end": 3, "boxes": [[10, 0, 30, 10]] * 4}
    assert compare("TRK", claim, returned, TABLE).value == pytest.approx(6 / 19)


@pytest.mark.parametrize(
    ("claim", "metric", "value"),
    [
        ({"start": 4.0, "end": 8.0}, "TEMP tIoU", 1.0),
        ({"start": 5.0, "end": 8.0}, "TEMP tIoU", 0.75),
        ({"start": 2.0, "end": 5.0}, "TEMP tIoU", 1 / 6),
        ({"start": 8.0, "end": 4.0}, "TEMP tIoU", 0.0),
        ({"start": 8.0}, "TEMP tIoU", 0.0),
        ({"start": 5.0}, "TEMP tIoU", 0.0),
        ({"end": "late"}, "TEMP tIoU", 0.0),
        ({"start": 4.0, "end": 8.0, "query": "?"}, "TEMP tIoU", 0.0),
        ({"spans": SPAN["spans"]}, "TEMP tIoU", 1.0),
        ({"spans": SPAN["spans"][:1]}, "TEMP tIoU", 0.0),
        ({"spans": SPAN["spans"][::-1]}, "TEMP tIoU", 0.0),
        ({"start": 4.0, "end": 8.0, "spans": [[4.0, 8.0, 0.1], [1.0, 2.0, 0.4]]}, "TEMP tIoU", 0.0),
        ({"start": 4.0, "end": 8.0, "spans": 7}, "TEMP tIoU", 0.0),
        ({}, "TEMP tIoU", 0.0),
        ([4.0, 8.0], "TEMP tIoU", 0.0),
    ],
)
def test_spans(claim: Any, metric: str, value: float) -> None:
    found = compare("TEMP", claim, SPAN, TABLE)
    assert (found.metric, found.threshold) == (metric, 0.5)
    assert found.value == pytest.approx(value) and found.same == (value >= 0.5)


def test_a_short_span_may_miss_where_both_ends_are_near() -> None:
    returned = {"start": 4.0, "end": 4.5, "spans": []}
    near = compare("TEMP", {"start": 4.6, "end": 5.2}, returned, TABLE)
    assert (near.metric, near.threshold, near.same) == ("TEMP ends", 0.5, True)
    assert near.value == pytest.approx(1 - 0.7 / 2)
    brim = compare("TEMP", {"start": 5.0, "end": 5.5}, returned, TABLE)
    assert brim.same and brim.value == 0.5
    far = compare("TEMP", {"start": 5.1, "end": 5.5}, returned, TABLE)
    assert (far.metric, far.value, far.same) == ("TEMP tIoU", 0.0, False)
    strict = TABLE.model_copy(update={"temp_seconds": 0.0})
    assert not compare("TEMP", {"start": 4.6, "end": 5.2}, returned, strict).same


LINES = {
    "text": "one two",
    "lines": [
        {"text": "one", "box": [100, 100, 200, 150], "score": 0.9},
        {"text": "two", "box": [100, 200, 200, 250], "score": 0.8},
    ],
}


def line(number: int, **changes: Any) -> dict[str, Any]:
    return {"lines": [each | (changes if n == number else {}) for n, each in enumerate(LINES["lines"])]}


@pytest.mark.parametrize(
    ("claim", "same"),
    [
        (LINES, True),
        ({"text": "one two"}, True),
        ({"lines": LINES["lines"]}, True),
        (line(0, box=[105, 100, 205, 150]), True),
        (line(0, box=[200, 100, 300, 150]), False),
        (line(0, box=None), False),
        (line(1, text="too"), False),
        (line(1, score=0.9), False),
        (line(1, colour="red"), False),
        ({"lines": LINES["lines"][:1]}, False),
        ({"lines": LINES["lines"][::-1]}, False),
        ({"lines": ["one", "two"]}, False),
        ({"lines": 2}, False),
        ({"text": "one two", "lines": None}, False),
    ],
)
def test_lines_of_text(claim: Any, same: bool) -> None:
    found = compare("OCR", claim, LINES, TABLE)
    assert (found.metric, found.threshold, found.same) == ("OCR ANLS", 0.85, same)


def test_what_the_table_has_no_row_for_is_equal_or_not() -> None:
    returned = {"box": [1, 1, 9, 9], "area": 5, "holes": 2}
    assert compare("SEG", {"holes": 2}, returned, TABLE).same
    assert not compare("SEG", {"box": [1, 1, 9, 9], "holes": 1}, returned, TABLE).same


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=15,
)
words = st.sampled_from(["start", "end", "boxes", "spans", "text", "lines"])


@given(claim=junk | st.dictionaries(words, junk | st.lists(st.lists(st.integers(), min_size=4, max_size=4))))
def test_no_claim_raises_and_only_numbers_come_back(claim: Any) -> None:
    for action, returned in (("TRK", TRACK), ("TEMP", SPAN), ("OCR", LINES)):
        assert 0.0 <= compare(action, claim, returned, TABLE).value <= 1.0
