"""How numbers and names read on the page."""

import json
from typing import Any

from evaluation.comparisons import Comparison
from evaluation.funnel import Row
from evaluation.majority import BY_TASK, OVERALL
from evaluation.scores import BASE, TOOLS_OFF, Cell
from pixelis_pipeline.records import Json, Step
from pixelis_pipeline.tools.contract import spoken

_POLICIES = {
    "sft": "SFT",
    "rft": "RFT",
    BASE: "Base",
    BY_TASK: "Majority answer per task",
    OVERALL: "Majority answer overall",
}
_CONTROLS = {
    BASE: "its base",
    BY_TASK: "the majority answer of each task",
    OVERALL: "the overall majority answer",
}
_LONGEST = 400


def policy_name(arm: str) -> str:
    """An arm as a label of tables and plots."""
    name = arm.removesuffix(TOOLS_OFF)
    return _POLICIES.get(name, name) + (", tools off" if arm != name else "")


def control_name(policy: str, control: str) -> str:
    """A control in a sentence about `policy`."""
    if control == policy + TOOLS_OFF:
        return "itself with the tools off"
    name = control.removesuffix(TOOLS_OFF)
    return _CONTROLS.get(name, policy_name(name)) + (" with the tools off" if control != name else "")


def each(row: Row, name: str, digits: int) -> str:
    """What a record left after a stage has cost by then, in "seconds", "tokens" or "dollars"; "" unknown."""
    value = row.each(getattr(row, name))
    return "" if value is None else f"{value:,.{digits}f}"


def percent(share: float) -> str:
    """0.7154 as 71.5 %, with spaces that do not break."""
    return f"{100 * share:.1f}\u202f%"


def points(difference: float) -> str:
    """0.305 as +30.5, in percentage points, with a true minus sign and no negative zero."""
    text = f"{100 * difference:+.1f}".replace("-0.0", "+0.0")
    return "0.0" if text == "+0.0" else text.replace("-", "\u2212")


def bounds(cell: Cell) -> str:
    """The interval of a cell in the cell's own unit."""
    if cell.metric == "difference":
        return f"{points(cell.low)} to {points(cell.high)}"
    if cell.metric == "chain_length":
        return f"{cell.low:.2f} to {cell.high:.2f}"
    return f"{100 * cell.low:.1f} to {100 * cell.high:.1f}"


def amount(cell: Cell) -> str:
    """The value of a cell in its own unit: percentage points, steps or percent."""
    if cell.metric == "difference":
        return points(cell.value)
    return f"{cell.value:.2f}" if cell.metric == "chain_length" else percent(cell.value)


def level(cell: Cell) -> str:
    """The confidence of a cell's interval, as 95 %."""
    return f"{100 * cell.confidence:g}\u202f%"


def p_number(p: float) -> str:
    """0.031 as it stands in a column of p, or `< 0.001`."""
    return "<\u00a00.001" if p < 0.001 else f"{p:.3f}"


def p_value(p: float) -> str:
    """`p = 0.031`, or `p < 0.001`."""
    number = p_number(p)
    return f"p\u00a0{number}" if number.startswith("<") else f"p\u00a0=\u00a0{number}"


def shows(comparison: Comparison) -> str:
    """What a difference shows: "better", "worse", or "nothing" where its interval holds 0 or its p, adjusted
    for all comparisons that were made, is not below what the interval leaves out."""
    cell = comparison.cell
    if comparison.q >= 1 - cell.confidence or cell.low <= 0 <= cell.high:
        return "nothing"
    return "better" if cell.low > 0 else "worse"


def verdict(comparison: Comparison) -> str:
    """The same in a sentence, with the reason."""
    cell, found = comparison.cell, shows(comparison)
    policy, control = policy_name(cell.policy), control_name(cell.policy, comparison.control)
    side = "lies above 0" if cell.low > 0 else "lies below 0" if cell.high < 0 else "includes 0"
    reason = f"the {level(cell)} interval of the difference {side}"
    if found != "nothing":
        return f"{policy} is {found} than {control}: {reason}."
    if side != "includes 0":
        reason += f", but adjusted for all comparisons of this report {p_value(comparison.q)}"
    return f"{policy} is not shown to differ from {control}: {reason}."


def call(name: str, arguments: Json) -> str:
    """An action as it stands on the wire."""
    return f"{name} {json.dumps(arguments, ensure_ascii=False, sort_keys=True)}"


def observation(output: Json) -> str:
    """What came back, without a mask's run lengths and cut where it is long."""
    shown: dict[str, Any] = dict(output)
    mask = shown.get("mask")
    if isinstance(mask, dict) and "size" in mask:
        shown["mask"] = "{} x {} pixels".format(*mask["size"])
    text = str(shown["error"]) if set(shown) == {"error"} else json.dumps(shown, ensure_ascii=False)
    return brief(text)


def brief(text: str) -> str:
    """Text, cut where it is long."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "\u2026"


def heard(step: Step) -> str:
    """What the policy read of a step, cut where it is long; a claim that no tool would make, as it stands."""
    try:
        return brief(spoken(step.action.name, step.output))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return observation(step.output)


def signed(value: float) -> str:
    """A reward with its sign: +0.12, a true minus, and no negative zero."""
    text = f"{value:+.2f}"
    return "0" if float(text) == 0 else text.replace("-", "\u2212")
