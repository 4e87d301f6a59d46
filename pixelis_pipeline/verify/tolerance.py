"""The tolerance table: when what a trace claims counts as what the tool returns now.

Only what is claimed is compared, and all of it: a claim the tool has no word for is a difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import ReplaySettings
from pixelis_pipeline.tools.masks import decode
from pixelis_pipeline.tools.outlines import SYMMETRY
from pixelis_pipeline.verify.attributes import PER_MILLE, attribute_match, is_number
from pixelis_pipeline.verify.metrics import box_iou, mask_iou, plain, similarity, span_iou
from pixelis_pipeline.verify.tracking import hota

ENDS = frozenset({"start", "end"})
MEASURED = {
    "SEG": {"mask", "box", "area"},
    "OCR": {"text", "lines"},
    "TRK": {"start", "end", "boxes"},
    "TEMP": {"start", "end", "spans"},
}
LINE_IOU = 0.5  # of a line's claimed box and the returned one
SCORE = 0.05  # by which the claimed score of a span may be off


@dataclass(frozen=True, slots=True)
class Measured:
    """A comparison's metric, its value and the least value that counts as the same."""

    metric: str
    value: float
    threshold: float

    @property
    def same(self) -> bool:
        return self.value >= self.threshold


def compare(action: str, claimed: Any, returned: Json, settings: ReplaySettings) -> Measured:
    """How well a claimed output agrees with the one that a valid call of `action` returned now.

    Any JSON may stand in `claimed`: what cannot be read agrees with nothing (value 0).
    """
    sensible = isinstance(claimed, dict) and bool(claimed) and claimed.keys() <= returned.keys()
    if sensible and action in MEASURED:  # what the table has no row for is equal or not
        sensible = all(claimed[key] == returned[key] for key in claimed.keys() - MEASURED[action])
    if action == "SEG":
        value = _seg(claimed, returned) if sensible else 0.0
        return Measured("SEG IoU", value, settings.seg_iou)
    if action == "OCR":
        value = _ocr(claimed, returned) if sensible else 0.0
        return Measured("OCR ANLS", value, settings.ocr_anls)
    if action == "TRK":
        value = _trk(claimed, returned) if sensible else 0.0
        return Measured("TRK HOTA", value, settings.trk_hota)
    if action == "TEMP":
        pairs = _spans(claimed, returned) if sensible else [(None, (0.0, 1.0))]
        found = [_temp(said, truth, settings) for said, truth in pairs]
        return min(found, key=_margin, default=Measured("TEMP tIoU", 1.0, settings.temp_iou))
    agreed = [_equal(k, v, returned, settings) for k, v in claimed.items()] if sensible else [False]
    return Measured(f"{action} agreement", sum(agreed) / len(agreed), 1.0)


def _seg(claimed: Json, returned: Json) -> float:
    """The worst agreement of mask (IoU at image resolution), box (IoU) and area (ratio)."""
    values = []
    if "mask" in claimed:
        values.append(_mask_agreement(claimed["mask"], returned["mask"]))
    if "box" in claimed:
        values.append(_box_agreement(claimed["box"], returned["box"]))
    if "area" in claimed:
        values.append(_area_agreement(claimed["area"], returned["area"]))
    return min(values, default=1.0)


def _mask_agreement(claimed: Any, returned: Json) -> float:
    try:
        return mask_iou(decode(claimed), decode(returned))
    except ValueError:
        return 0.0


def _box_agreement(claimed: Any, returned: list[int]) -> float:
    return box_iou(claimed, returned) if _is_box(claimed) else 0.0


def _is_box(claimed: Any) -> bool:
    if not isinstance(claimed, (list, tuple)) or len(claimed) != 4 or not all(map(is_number, claimed)):
        return False
    return bool(claimed[0] < claimed[2] and claimed[1] < claimed[3])


def _area_agreement(claimed: Any, returned: int) -> float:
    if not is_number(claimed) or claimed < 0:
        return 0.0
    if abs(claimed - returned) <= PER_MILLE:
        return 1.0
    return float(min(claimed, returned) / max(claimed, returned))


def _ocr(claimed: Json, returned: Json) -> float:
    """The worst agreement of the text and, where they are claimed, of the lines."""
    values = [_text(claimed["text"], returned["text"])] if "text" in claimed else []
    if "lines" in claimed:
        lines = claimed["lines"]
        if not isinstance(lines, (list, tuple)) or len(lines) != len(returned["lines"]):
            return 0.0
        values += [_line(one, other) for one, other in zip(lines, returned["lines"], strict=True)]
    return min(values, default=1.0)


def _line(claimed: Any, returned: Json) -> float:
    """As much as its text agrees, where its box is the returned one's; what else it claims must be equal."""
    if not isinstance(claimed, dict) or not claimed.keys() <= returned.keys():
        return 0.0
    if any(claimed[key] != returned[key] for key in claimed.keys() - {"text", "box"}):
        return 0.0
    if "box" in claimed and _box_agreement(claimed["box"], returned["box"]) < LINE_IOU:
        return 0.0
    return _text(claimed["text"], returned["text"]) if "text" in claimed else float("box" in claimed)


def _text(claimed: Any, returned: str) -> float:
    """Similarity after `plain`. A claim of more than twice the length is not even measured."""
    if not isinstance(claimed, str) or len(claimed) > 2 * len(returned) + 64:
        return 0.0
    return similarity(plain(claimed), plain(returned))


def _equal(name: str, claimed: Any, returned: Json, settings: ReplaySettings) -> bool:
    """ZOOM's sizes are equal or not; PROP's properties match as `attribute_match` says."""
    if name in ("image", "width", "height"):
        return type(claimed) is type(returned[name]) and claimed == returned[name]
    turn = SYMMETRY.get(str(returned.get("shape")), 180)
    return attribute_match(name, claimed, returned[name], settings.prop_number_tolerance, turn)


def _trk(claimed: Json, returned: Json) -> float:
    """HOTA of the boxes, one a frame. Frames are counted, so they are equal or not."""
    if any(type(claimed[end]) is not int or claimed[end] != returned[end] for end in claimed.keys() & ENDS):
        return 0.0
    if "boxes" not in claimed:  # where to look is asked, not found
        return 0.0
    boxes = claimed["boxes"]
    if not isinstance(boxes, (list, tuple)) or len(boxes) != len(returned["boxes"]):
        return 0.0
    if not all(box is None or _is_box(box) for box in boxes):
        return 0.0
    return hota(returned["boxes"], boxes)


def _spans(claimed: Json, returned: Json) -> list[tuple[Any, Sequence[float]]]:
    """What of a claim about time is to be compared with what: the span, and the ranked spans where they are
    claimed too. One end alone says nothing of the other, and is no span."""
    span = (returned["start"], returned["end"])
    pairs: list[tuple[Any, Sequence[float]]] = []
    if claimed.keys() & ENDS:
        pairs.append(((claimed.get("start"), claimed.get("end")), span))
    if "spans" in claimed:
        ranked = claimed["spans"]
        if not isinstance(ranked, (list, tuple)) or len(ranked) != len(returned["spans"]):
            return [(None, span)]
        pairs += zip(ranked, returned["spans"], strict=True)
    return pairs


def _temp(claimed: Any, returned: Sequence[float], settings: ReplaySettings) -> Measured:
    """tIoU of [start, end] or [start, end, score]; where it is too low and both ends lie within
    `temp_seconds`, how near they do: 1 for no offset, .5 (the threshold) for the largest allowed."""
    nothing = Measured("TEMP tIoU", 0.0, settings.temp_iou)
    if not isinstance(claimed, (list, tuple)) or len(claimed) != len(returned):
        return nothing
    if not all(map(is_number, claimed)) or claimed[0] >= claimed[1]:
        return nothing
    if any(abs(one - other) > SCORE for one, other in zip(claimed[2:], returned[2:], strict=True)):
        return nothing
    overlap = Measured("TEMP tIoU", span_iou(claimed, returned), settings.temp_iou)
    apart = max(abs(one - other) for one, other in zip(claimed[:2], returned[:2], strict=True))
    if overlap.same or not apart or apart > settings.temp_seconds:
        return overlap
    return Measured("TEMP ends", 1.0 - apart / (2 * settings.temp_seconds), 0.5)


def _margin(measured: Measured) -> float:
    return measured.value - measured.threshold
