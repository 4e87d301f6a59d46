"""Which steps decided something: computed from what was referenced, never taken from a claim.

A valid call is decisive if a later valid call refers to what it returned:

- ZOOM: its image;
- SEG: its mask (`step`), or a box inside its box on the same picture and frame;
- TRK: a box inside or on one of its boxes, at that box's frame;
- TEMP: a frame that lies in its span;

or if the answer does: a value that PROP or OCR returned (one of several, where it is a list), a span near
TEMP's, areas or spans where they are compared, masks where their number is the answer, tracklets where the
question is what moved and one did. References say that a call was used, not that it was made on the right
thing: of that the answer is the only proof.
"""

from collections.abc import Sequence
from typing import Any

from pixelis_pipeline.records import Json, Question, Step
from pixelis_pipeline.tools.contract import ARGUMENTS
from pixelis_pipeline.verify.answers import SPAN_IOU, SPAN_SECONDS, number, option, span
from pixelis_pipeline.verify.metrics import box_iou, plain, similarity, span_iou

SLACK = 5  # wire units by which a box may stick out of the box it was taken from, or that are no movement
COMPARED = ("compare", "largest")  # tasks whose answer is found by weighing one mask against another,
FOLLOWED = ("move", "way", "further", "moving")  # and one tracklet against another or against standing still
READ = 0.85  # similarity from which the answer is what was read: a letter in seven, as replay lets pass
SAME_BOX = 0.5  # IoU from which a box is the tracked one, with or without a margin around it


def decisive(question: Question, steps: Sequence[Step], answer: str) -> list[bool]:
    """One flag per replayed step (`valid` and `replayed` filled in)."""
    said = _chosen(question, answer)
    parts = [part.strip() for part in said.split(",")] if question.answer_kind == "list" else [said]
    rates = [media.fps for media in question.media if media.kind == "video"]
    asked = [_arguments(step) for step in steps]
    weighed = _weighed(question, steps, plain(said))
    flags = []
    for index, step in enumerate(steps):
        later = [asked[n] for n in range(index + 1, len(steps)) if steps[n].valid]
        flags.append(
            step.valid
            and (
                step.action.name in weighed
                or any(_answers(step, part) for part in parts)
                or any(_refers(each, index, asked[index], step, rates[0] if rates else 0.0) for each in later)
            )
        )
    return flags


def _arguments(step: Step) -> Json:
    """A valid call's arguments, with their defaults; none where it is not valid."""
    if not step.valid:
        return {}
    return ARGUMENTS[step.action.name].model_validate(step.action.arguments).model_dump()


def _weighed(question: Question, steps: Sequence[Step], said: str) -> set[str]:
    """The actions whose results the answer compares or counts, so that every one of them counts."""
    valid = [step for step in steps if step.valid]
    masks = sum(step.action.name == "SEG" for step in valid)
    if question.task in COMPARED and masks > 1:
        return {"SEG"}
    if question.task == "count" and number(said) == masks:
        return {"SEG"}
    if question.task in FOLLOWED and any(step.action.name == "TRK" and _moved(step) for step in valid):
        return {"TRK"}
    if question.task == "order" and sum(step.action.name == "TEMP" for step in valid) > 1:
        return {"TEMP"}
    return set()


def _moved(step: Step) -> bool:
    """Whether the centre of what was followed ended elsewhere than it began."""
    boxes = [box for box in step.replayed["boxes"] if box is not None]
    return bool(boxes) and any(
        abs(boxes[-1][i] + boxes[-1][i + 2] - boxes[0][i] - boxes[0][i + 2]) > 2 * SLACK for i in (0, 1)
    )


def _refers(later: Json, index: int, mine: Json, step: Step, rate: float) -> bool:
    """Whether a later call names what `step`, the call at `index` with the arguments `mine`, returned."""
    returned = step.replayed
    match step.action.name:
        case "ZOOM":
            return later.get("image") == returned["image"]
        case "SEG":
            if later.get("step") == index:
                return True
            return _picture(later) == _picture(mine) and _inside(later.get("box"), returned["box"])
        case "TRK":
            return _on_track(later, returned)
        case "TEMP":
            frame = _frame(later)
            return frame is not None and rate > 0 and returned["start"] <= frame / rate <= returned["end"]
    return False


def _on_track(later: Json, returned: Json) -> bool:
    """Whether a later call looks where the tracked thing is at that frame."""
    box, at = later.get("box"), (_frame(later) or 0) - returned["start"]
    if box is None or later.get("image") or not 0 <= at < len(returned["boxes"]):
        return False
    there = returned["boxes"][at]
    return there is not None and (_inside(box, there) or box_iou(box, there) >= SAME_BOX)


def _frame(arguments: Json) -> int | None:
    """The frame that a call names: TRK's first one, else `frame`. None for TEMP, which names seconds."""
    return None if "query" in arguments else arguments.get("frame", arguments.get("start"))


def _picture(arguments: Json) -> tuple[int, int]:
    """(image, frame) that a call looks at; a video's first frame where it names none."""
    return arguments.get("image", 0), _frame(arguments) or 0


def _inside(inner: Any, outer: Any) -> bool:
    if not inner or not outer:
        return False
    return bool(
        inner[0] >= outer[0] - SLACK
        and inner[1] >= outer[1] - SLACK
        and inner[2] <= outer[2] + SLACK
        and inner[3] <= outer[3] + SLACK
    )


def _chosen(question: Question, answer: str) -> str:
    """The answer in words: an option's text where the answer is its letter."""
    if question.answer_kind == "choice":
        index = option(question.choices, answer)
        if index is not None and index < len(question.choices):
            return question.choices[index]
    if question.answer_kind == "integer" and (said := number(answer)) is not None and said == int(said):
        return str(int(said))
    return answer


def _answers(step: Step, said: str) -> bool:
    """Whether the answer is a value that the call returned and the trace speaks of, a part of the text it
    read, or the span it found."""
    match step.action.name:
        case "OCR":
            words = plain(said)
            read = plain(str(step.replayed["text"]))
            return bool(words) and (f" {words} " in f" {read} " or similarity(words, read) >= READ)
        case "PROP":
            claimed = step.output if isinstance(step.output, dict) else {}
            named = [value for name, value in step.replayed.items() if name in claimed]
            return bool(plain(said)) and any(plain(str(value)) == plain(said) for value in named)
        case "TEMP":
            found, told = (step.replayed["start"], step.replayed["end"]), span(said)
            return told is not None and (
                span_iou(found, told) >= SPAN_IOU
                or max(abs(a - b) for a, b in zip(found, told, strict=True)) <= SPAN_SECONDS
            )
    return False
