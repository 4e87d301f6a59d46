"""What a policy says in one turn: a thought and a call, or an answer. Written one way, read strictly.

    <think>Look at A.</think><call>SEG {"box":[120,340,220,420]}</call>
    <answer>A</answer>

Anything else is `Malformed`; it becomes an invalid step and its reason is what the policy reads next.
"""

import json
import re
from dataclasses import dataclass

from pixelis_pipeline.records import Action, canonical

ENDS = ("</call>", "</answer>")  # a turn is over with either
_CALL = re.compile(r"<think>([^<>]*)</think><call>([A-Z]{2,8}) (\{[^<>]*\})</call>")
_ANSWER = re.compile(r"<answer>([^<>]*)</answer>")


@dataclass(frozen=True, slots=True)
class Call:
    """A thought and the action it leads to."""

    thought: str
    action: Action


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a rollout."""

    text: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """A turn that cannot be read, and why."""

    text: str
    reason: str


def plain(text: str) -> str:
    """Text that cannot hold a mark of the grammar: angle brackets become their single quotation kin."""
    return text.replace("<", "\u2039").replace(">", "\u203a")


def write_call(thought: str, action: Action) -> str:
    """The turn that `read` gives back as `Call(thought, action)`, angle brackets in texts aside."""
    arguments = plain(canonical(action.arguments).decode())
    return f"<think>{plain(thought)}</think><call>{action.name} {arguments}</call>"


def write_answer(text: str) -> str:
    """The turn that ends a rollout."""
    return f"<answer>{plain(text)}</answer>"


def read(text: str) -> Call | Answer | Malformed:
    """One turn, as a policy wrote it."""
    if answer := _ANSWER.fullmatch(text):
        return Answer(answer[1].strip())
    call = _CALL.fullmatch(text)
    if call is None:
        ended = text.endswith(ENDS)
        return Malformed(text, "not a call or an answer" if ended else "the turn did not end")
    try:
        arguments = json.loads(call[3])
        canonical(arguments)  # NaN and lone surrogates load, but cannot be recorded
    except (ValueError, RecursionError):
        return Malformed(text, "the arguments are not JSON")
    return Call(call[1], Action(call[2], arguments))
