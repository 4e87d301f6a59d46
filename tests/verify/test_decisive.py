"""What refers to what: frames, tracklets and spans are respected."""

from typing import Any

import pytest

from pixelis_pipeline.records import Action, Json, Media, Origin, Question, Step
from pixelis_pipeline.verify.decisive import decisive

ORIGIN = Origin("starqa", "clip", "CC0-1.0", "training")
CLIP = Media("0" * 64, "video", "clip.mp4", 320, 240, frames=24, fps=2.0)


def question(task: str = "other", kind: Any = "text", choices: tuple[str, ...] = ()) -> Question:
    return Question("q", (), ORIGIN, (CLIP,), "?", "", task, choices=choices, answer_kind=kind)


def step(name: str, replayed: Json, output: Json | None = None, valid: bool = True, **asked: Any) -> Step:
    claim = replayed if output is None else output
    return Step("", Action(name, asked), claim, replayed=replayed, valid=valid)


def tracked(*boxes: Any, start: int = 4) -> Step:
    made = {"start": start, "end": start + len(boxes) - 1, "boxes": list(boxes)}
    return step("TRK", made, box=[1, 1, 9, 9], start=start, end=made["end"])


def found(start: float, end: float) -> Step:
    return step("TEMP", {"start": start, "end": end, "spans": []}, query="q", start=0, end=12)


def segmented(box: list[int], **asked: Any) -> Step:
    return step("SEG", {"box": box, "area": 3, "mask": {}}, box=box, **asked)


TRACK = tracked([100, 100, 200, 200], None, [300, 100, 400, 200])
READ = {"text": "lamp"}
ELSEWHERE = step("OCR", READ, box=[0, 0, 1, 1])


@pytest.mark.parametrize(
    ("first", "later", "used"),
    [
        (TRACK, step("OCR", READ, box=[110, 110, 150, 150], frame=4), True),
        (TRACK, step("OCR", READ, box=[95, 95, 205, 205], frame=4), True),
        (TRACK, step("ZOOM", {"image": 1}, box=[80, 80, 210, 210], frame=4), True),  # with a margin
        (TRACK, step("ZOOM", {"image": 1}, box=[0, 0, 400, 400], frame=4), False),
        (TRACK, step("OCR", READ, box=[110, 110, 150, 150], frame=6), False),  # it has moved on
        (TRACK, step("OCR", READ, box=[310, 110, 350, 150], frame=6), True),
        (TRACK, step("OCR", READ, box=[110, 110, 150, 150], frame=5), False),  # not seen there
        (TRACK, step("OCR", READ, box=[310, 110, 350, 150], frame=7), False),  # not followed there
        (TRACK, step("OCR", READ, box=[110, 110, 150, 150]), False),  # that is frame 0
        (TRACK, step("OCR", READ, frame=4), False),
        (TRACK, step("OCR", READ, box=[110, 110, 150, 150], image=1), False),
        (
            TRACK,
            step("TRK", {"start": 6, "end": 6, "boxes": [None]}, box=[300, 100, 400, 200], start=6, end=6),
            True,
        ),
        (TRACK, step("OCR", {"error": "?"}, box=[110, 110, 150, 150], frame=4, valid=False), False),
        (segmented([100, 100, 200, 200]), step("OCR", READ, box=[110, 110, 150, 150]), True),
        (segmented([100, 100, 200, 200]), step("OCR", READ, box=[110, 110, 150, 150], frame=0), True),
        (segmented([100, 100, 200, 200]), step("OCR", READ, box=[110, 110, 150, 150], frame=3), False),
        (
            segmented([100, 100, 200, 200], frame=3),
            step("OCR", READ, box=[110, 110, 150, 150], frame=3),
            True,
        ),
        (segmented([100, 100, 200, 200], frame=3), step("OCR", READ, box=[110, 110, 150, 150]), False),
        (segmented([1, 1, 9, 9], frame=3), step("TRK", TRACK.replayed, step=0, start=3, end=6), True),
        (segmented([1, 1, 9, 9]), step("TRK", TRACK.replayed, step=1, start=0, end=6), False),
        (found(2.0, 4.0), step("OCR", READ, frame=6), True),  # two frames a second
        (found(2.0, 4.0), step("OCR", READ, frame=9), False),
        (found(2.0, 4.0), step("OCR", READ), False),
        (found(2.0, 4.0), step("TRK", TRACK.replayed, box=[1, 1, 9, 9], start=8, end=10), True),
        (found(2.0, 4.0), step("TRK", TRACK.replayed, box=[1, 1, 9, 9], start=9, end=10), False),
        (found(2.0, 4.0), found(2.0, 4.0), False),
        (TRACK, found(2.0, 4.0), False),
        (step("ZOOM", {"image": 1}, box=[1, 1, 9, 9]), step("OCR", READ, image=1), True),
        (step("ZOOM", {"image": 1}, box=[1, 1, 9, 9]), step("OCR", READ, image=0), False),
    ],
)
def test_a_later_call_refers_to_what_was_returned(first: Step, later: Step, used: bool) -> None:
    assert decisive(question(), [first, later], "something")[0] == used


@pytest.mark.parametrize(
    ("answer", "flag"),
    [
        ("2.0-4.0", True),
        ("2.0-3.0", True),  # tIoU .5
        ("1.2-4.9", True),  # both ends within a second
        ("4.5-8.0", False),
        ("2", False),
        ("the whole time", False),
    ],
)
def test_a_span_is_answered_by_one_near_it(answer: str, flag: bool) -> None:
    assert decisive(question("when", "span"), [found(2.0, 4.0)], answer) == [flag]


def test_a_chosen_span_is_read_from_its_option() -> None:
    asked = question("when", "choice", ("0.0-1.0", "2.0-4.0"))
    assert decisive(asked, [found(2.0, 4.0)], "B") == [True]
    assert decisive(asked, [found(2.0, 4.0)], "A") == [False]


def test_tracks_answer_what_moved_if_one_did() -> None:
    still = tracked([100, 100, 200, 200], [103, 100, 203, 200])
    moved = tracked([100, 100, 200, 200], None, [100, 140, 200, 240])
    asked = question("move", "choice", ("The red circle.", "The blue star."))
    assert decisive(asked, [moved], "A") == [True]
    assert decisive(asked, [still], "A") == [False]
    assert decisive(asked, [still, moved], "A") == [True, True]  # compared with each other
    assert decisive(question("other"), [moved], "A") == [False]


def test_masks_answer_where_they_are_counted() -> None:
    two = [segmented([1, 1, 9, 9]), segmented([20, 1, 29, 9])]
    assert decisive(question("count", "integer"), two, "2") == [True, True]
    assert decisive(question("count", "integer"), two, "3") == [False, False]
    assert decisive(question("count", "integer"), two[:1], "3") == [False]


@pytest.mark.parametrize("task", ["move", "way", "further", "moving"])
def test_all_tracklets_count_where_the_answer_is_what_moved_and_none_where_nothing_did(task: str) -> None:
    moved, still = tracked([100, 100, 200, 200], [300, 100, 400, 200]), tracked([1, 1, 9, 9], [1, 1, 9, 9])
    assert decisive(question(task), [moved, still], "A") == [True, True]
    assert decisive(question(task), [still], "A") == [False]
    assert decisive(question("other"), [moved], "A") == [False]


def test_two_moments_are_weighed_where_their_order_is_the_answer_and_one_is_not() -> None:
    asked = question("order", "choice", ("A", "B"))
    assert decisive(asked, [found(1, 2), found(4, 5)], "A") == [True, True]
    assert decisive(asked, [found(1, 2)], "A") == [False]
    assert decisive(asked, [found(1, 2), ELSEWHERE], "A") == [False, False]


def test_the_largest_of_three_masks_is_weighed_against_all() -> None:
    masks = [segmented([n, 0, n + 5, 5]) for n in (0, 10, 20)]
    assert decisive(question("largest", "choice", ("A", "B", "C")), masks, "B") == [True] * 3


def test_each_reading_counts_that_is_one_of_a_list() -> None:
    texts = ("lamp", "harbour", "river")
    steps = [step("OCR", {"text": text}, box=[0, 0, 1, n + 1]) for n, text in enumerate(texts)]
    assert decisive(question("read_two", "list"), steps, "lamp, river") == [True, False, True]
    assert decisive(question("read_two", "text"), steps, "lamp, river") == [False] * 3, "no list, no items"


def test_a_reading_that_replay_lets_pass_counts() -> None:
    def reads(text: str) -> list[bool]:
        return decisive(question("read"), [step("OCR", {"text": text})], "lanterns")

    assert reads("lantern") == reads("the lanterns") == [True], "a letter of eight"
    assert reads("lanter") == reads("lamps") == [False]
