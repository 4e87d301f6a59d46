"""Attribute match: whether what is claimed of a thing's properties is what PROP measures."""

from collections.abc import Mapping
from typing import Any

from pixelis_pipeline.tools.outlines import SYMMETRY

TOLERANCE = 0.05  # of the measured number; of the half turn for an orientation
PER_MILLE = 1  # areas are rounded to one per mille on both sides
HUGE = 1e9  # a claimed number beyond this is nonsense, and could overflow a float


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number to reckon with: no bool, no NaN, nothing beyond `HUGE`."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= HUGE


def attribute_match(
    name: str, claimed: Any, measured: str | float, tolerance: float = TOLERANCE, turn: int = 180
) -> bool:
    """Equal strings, letter for letter; numbers within `tolerance` times the measured one.

    An orientation repeats every `turn` degrees: an axis has no direction, so 179 lies next to 0, and a square
    looks alike every 90. Its tolerance is of 180. A count is equal or not; an area in per mille may
    always be off by its rounding.
    Any JSON may stand in `claimed`.
    """
    if isinstance(measured, str):
        return type(claimed) is str and claimed == measured
    if not is_number(claimed):
        return False
    if name == "count":  # things are counted, not measured
        return bool(claimed == measured)
    if name == "orientation":
        apart = abs(claimed - measured) % turn
        return bool(min(apart, turn - apart) <= tolerance * 180)
    slack = PER_MILLE if name == "area" else 0
    return bool(abs(claimed - measured) <= max(slack, tolerance * abs(measured)))


def attribute_agreement(
    claimed: Any, measured: Mapping[str, str | float], tolerance: float = TOLERANCE
) -> float:
    """The share of the claimed attributes that match. 0 for no claim, for what is no JSON object, and for one
    with an attribute that was not measured."""
    if not isinstance(claimed, dict) or not claimed or not claimed.keys() <= measured.keys():
        return 0.0
    turn = SYMMETRY.get(str(measured.get("shape")), 180)
    matches = [attribute_match(k, v, measured[k], tolerance, turn) for k, v in claimed.items()]
    return sum(matches) / len(matches)
