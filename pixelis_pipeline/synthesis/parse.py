"""A teacher's words as a trajectory, or the rule by which they are none. Nothing is repaired on the way.

Only the form of an answer is normalised, never its meaning: NFC, single spaces; a choice in its own words
where its letter or another case was written; a span as "start-end".
"""

import json
import re
import unicodedata
from collections import Counter
from typing import Any

from pydantic import ValidationError

from pixelis_pipeline.records import (
    Accepted,
    Action,
    Json,
    Outcome,
    Question,
    Rejected,
    Step,
    TraceKind,
    Trajectory,
    canonical,
    record_id,
)
from pixelis_pipeline.settings import RecipeSettings, SynthesisSettings
from pixelis_pipeline.synthesis.reply import FLAWED, MOST_STEPS, Flaw, Reply, ReplyStep
from pixelis_pipeline.synthesis.response import Response
from pixelis_pipeline.tools.contract import ARGUMENTS

STAGE = "trajectories"
VERSION = 2
MOST_NESTED = 32  # lists and objects in one another; an honest reply has eight

_LETTER = re.compile(r"\(?([A-Za-z])[).]?")
_SPAN = re.compile(r"(\d+(?:\.\d+)?) ?(?:-|–|to) ?(\d+(?:\.\d+)?) ?s?")


class _Refused(ValueError):
    """A reply that breaks `rule`."""

    def __init__(
        self, rule: str, detail: str = "", measured: float | None = None, threshold: float | None = None
    ):
        super().__init__(detail)
        self.rule, self.measured, self.threshold = rule, measured, threshold


def trajectory(response: Response, settings: SynthesisSettings) -> Outcome[Trajectory]:
    """The trajectory that `response` spells out, with the sampling weight of its kind.

    Rejected by one of: refusal, empty text, truncated text, not json, schema, no steps, too many steps,
    no flaw tagged, flaw at no step, flaw not described, flaw in a positive, flaw in an outcome-negative,
    unknown action, arguments, no output, repeated call, empty answer, not a choice.
    """
    try:
        reply = _reply(response)
        flaw = _flaw(reply, response.kind)
        steps = _steps(reply, response.kind, flaw)
        answer = _final(reply, response.question)
    except _Refused as refused:
        return Rejected(
            response.id,
            STAGE,
            refused.rule,
            measured=refused.measured,
            threshold=refused.threshold,
            detail=str(refused)[:300],
        )
    payload = {
        "steps": [[s.thought, s.action.name, s.action.arguments, s.output, s.flaw] for s in steps],
        "answer": answer,
    }
    recipe: RecipeSettings = getattr(settings, response.kind.replace("-", "_"))
    weight = recipe.sampling_weight
    parameters = {"kind": response.kind, "sampling_weight": weight}
    kept = Trajectory(
        id=record_id(STAGE, VERSION, parameters, [response.id], payload),
        parents=(response.id,),
        question=response.question,
        steps=steps,
        answer=answer,
        kind=response.kind,
        request=response.request,
        teacher=response.model,
        sampling_weight=weight,
    )
    return Accepted(response.id, (kept,))


def _reply(response: Response) -> Reply:
    if response.finish in ("refusal", "content_filter"):
        raise _Refused("refusal", response.text)
    if not response.text.strip():
        raise _Refused("empty text")
    if response.finish == "length":
        raise _Refused("truncated text", response.text[-100:], measured=len(response.text))
    try:
        written = json.loads(response.text, object_pairs_hook=_once)
        _shallow(written)
        canonical(written)  # what has no canonical bytes (NaN, 1e999, a lone surrogate) has no id either
    except (ValueError, RecursionError) as error:
        raise _Refused("not json", str(error)) from error
    if isinstance(written, dict) and isinstance(written.get("steps"), list):
        count = len(written["steps"])
        if count == 0:
            raise _Refused("no steps", measured=0, threshold=1)
        if count > MOST_STEPS:
            raise _Refused("too many steps", measured=count, threshold=MOST_STEPS)
    try:
        return Reply.model_validate(written)
    except ValidationError as error:
        raise _Refused("schema", _first(error)) from error


def _once(pairs: list[tuple[str, Any]]) -> Json:
    """A JSON object. ValueError where a key stands twice: which value was meant is not ours to say."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _shallow(value: Any) -> None:
    """ValueError for what is nested deeper than a record's own levels leave room for when it is written."""
    level = [value]
    for _ in range(MOST_NESTED):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    if level:
        raise ValueError(f"nested more than {MOST_NESTED} deep")


def _flaw(reply: Reply, kind: TraceKind) -> Flaw | None:
    """The tag that a trace of this kind must have, or must not have."""
    flaw = reply.flaw
    if kind not in FLAWED:
        if flaw is not None:
            article = "an" if kind == "outcome-negative" else "a"
            raise _Refused(f"flaw in {article} {kind}", f"step {flaw.step}: {flaw.what}")
        return None
    if flaw is None:
        raise _Refused("no flaw tagged", f"a {kind} tags the step that is wrong")
    if not 0 <= flaw.step < len(reply.steps):
        raise _Refused("flaw at no step", flaw.what, measured=flaw.step, threshold=len(reply.steps) - 1)
    if not flaw.what.strip():
        raise _Refused("flaw not described", f"step {flaw.step}")
    return flaw


def _steps(reply: Reply, kind: TraceKind, flaw: Flaw | None) -> tuple[Step, ...]:
    """The steps as records. No call stands there twice, but for one: the call whose output a
    self-correction misread may be made again, because that is the repair."""
    mended = flaw.step if flaw is not None and kind == "self-correction" else None
    seen: dict[bytes, int] = {}
    for index, step in enumerate(reply.steps):
        if step.action not in ARGUMENTS:
            raise _Refused("unknown action", f"step {index}: {step.action}")
        call = canonical([step.action, _parsed(step, index)])
        if call in seen and seen[call] != mended:
            raise _Refused("repeated call", f"step {index}: {step.action}")
        seen[call] = index
        if not step.output:
            raise _Refused("no output", f"step {index}: {step.action}")
    return tuple(
        Step(
            thought=step.thought,
            action=Action(step.action, step.arguments),
            output=step.output,
            flawed=flaw is not None and index == flaw.step,
            flaw=f"{flaw.type}: {flaw.what.strip()}" if flaw is not None and index == flaw.step else "",
        )
        for index, step in enumerate(reply.steps)
    )


def _parsed(step: ReplyStep, index: int) -> Json:
    """The call's arguments with their defaults, so that two spellings of one call are seen to be equal."""
    try:
        arguments = ARGUMENTS[step.action].model_validate_json(canonical(step.arguments), strict=True)
    except ValidationError as error:
        raise _Refused("arguments", f"step {index}: {step.action} {_first(error)}") from error
    return arguments.model_dump(mode="json")


def _final(reply: Reply, question: Question) -> str:
    """The answer in its normal form. A choice may be named by its own words in any case, or by its letter,
    with a bracket or full stop at most."""
    answer = _form(reply.answer)
    if not answer:
        raise _Refused("empty answer")
    if question.choices:
        return _choice(answer, question.choices)
    if question.answer_kind == "span" and (found := _SPAN.fullmatch(answer)):
        return f"{found[1]}-{found[2]}"
    return answer


def _form(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _choice(answer: str, choices: tuple[str, ...]) -> str:
    alike = [c for c in choices if _form(c) == answer]
    alike = alike or [c for c in choices if _form(c).casefold() == answer.casefold()]
    if len(alike) == 1:
        return alike[0]
    letter = _LETTER.fullmatch(answer)
    place = ord(letter[1].upper()) - ord("A") if letter else len(choices)
    if alike or place >= len(choices):
        raise _Refused("not a choice", answer)
    return choices[place]


def _first(error: ValidationError) -> str:
    """The first thing wrong, in one line."""
    wrong = error.errors(include_url=False, include_context=False)[0]
    return f"{'.'.join(str(part) for part in wrong['loc'])}: {wrong['msg']}"
