"""Asks a teacher all that the store cannot answer, and keeps every answer before anyone reads it."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from pixelis_pipeline.media import MediaStore
from pixelis_pipeline.records import Accepted, Assignment, Outcome, Rejected, record_id
from pixelis_pipeline.settings import TeacherSettings
from pixelis_pipeline.sources.licences import EvaluationRecord
from pixelis_pipeline.synthesis import prompt as prompts
from pixelis_pipeline.synthesis.asking.batch_notes import Notes
from pixelis_pipeline.synthesis.asking.batches import ask_in_batches
from pixelis_pipeline.synthesis.asking.dispatch import STAGE, Dispatch, Progress, Trouble
from pixelis_pipeline.synthesis.asking.endpoint import Endpoint, require_key
from pixelis_pipeline.synthesis.asking.pace import Pace
from pixelis_pipeline.synthesis.asking.store import Answer, AnswerStore
from pixelis_pipeline.synthesis.asking.traffic import Traffic
from pixelis_pipeline.synthesis.asking.transport import Transport
from pixelis_pipeline.synthesis.asking.waiting import Pending
from pixelis_pipeline.synthesis.request import Request, request_for
from pixelis_pipeline.synthesis.response import Response

VERSION = 1

__all__ = ["Traffic", "ask"]


def request_keys(assignments: Iterable[Assignment], model: str, endpoint: str) -> dict[str, str]:
    """Assignment id -> the key under which the store keeps what `model` at the endpoint of this name says
    to it."""
    return {each.id: _request(each, model, endpoint).key for each in assignments}


def _request(each: Assignment, model: str, endpoint: str) -> Request:
    return request_for(each, model, endpoint, prompts.load(each.kind, each.style))


def ask(
    assignments: Sequence[Assignment],
    settings: TeacherSettings,
    store: AnswerStore,
    media: MediaStore,
    endpoint: Endpoint,
    progress: Progress = lambda done, total: None,
    traffic: Traffic | None = None,
    keys: Mapping[str, str] | None = None,
) -> list[Outcome[Response]]:
    """One outcome per assignment, in their order; nothing is sent for what the store already holds.

    Assignments with one request (the same words about the same pictures) are asked once. `progress` is told
    (done, all) after each request, `traffic` counts what went to and fro; calls that share it share the
    budget. `keys` are their `request_keys`, where the caller has them. An assignment without an answer is
    Failed where asking again may help, else Rejected ("refused by the endpoint", the rule of its media, or
    "malformed text" for an answer with half a surrogate pair in it, which no record can hold: it stays in
    the store and is not asked for again).

    Raises TeacherError as soon as the endpoint refuses the key or the model, SettingsError for a budget on
    a model without a price, and EvaluationRecord, before anything is sent, where a question comes from an
    evaluation record.
    """
    for each in assignments:
        where = each.question.origin
        if where.role == "evaluation":
            raise EvaluationRecord(f"{where.source}/{where.record}: no teacher may see it")
    known = keys or request_keys(assignments, settings.model, endpoint.name)
    each_key = [known[each.id] for each in assignments]
    trouble: dict[str, Trouble] = {}
    if len(store.answered(each_key)) < len(set(each_key)):
        with store.asking():
            answered = store.answered(each_key)  # another process may have asked meanwhile
            pending = {
                known[each.id]: (_request(each, settings.model, endpoint.name), each)
                for each in assignments
                if known[each.id] not in answered
            }
            if pending:
                require_key(endpoint, settings)
                trouble = _ask(pending, settings, store, media, endpoint, progress, traffic or Traffic())
    answers = store.read_many([key for key in each_key if key not in trouble])
    return list(_outcomes(assignments, each_key, trouble, answers))


def _ask(
    pending: Pending,
    settings: TeacherSettings,
    store: AnswerStore,
    media: MediaStore,
    endpoint: Endpoint,
    progress: Progress,
    traffic: Traffic,
) -> dict[str, Trouble]:
    """Ask everything that is pending. Returns what had no answer, by key."""
    if settings.mode == "live" and not Notes(store, endpoint).holding(pending):
        return _ask_live(pending, settings, store, media, endpoint, progress, traffic)
    # A live run too first collects what an earlier run has put into a batch: it is paid for.
    trouble = ask_in_batches(pending, endpoint, settings, store, media, progress, traffic)
    settled = store.answered(pending) | trouble.keys()
    if settings.mode == "batch" or len(settled) == len(pending):
        return trouble
    left = {key: each for key, each in pending.items() if key not in settled}
    return trouble | _ask_live(left, settings, store, media, endpoint, progress, traffic)


def _ask_live(
    pending: Pending,
    settings: TeacherSettings,
    store: AnswerStore,
    media: MediaStore,
    endpoint: Endpoint,
    progress: Progress,
    traffic: Traffic,
) -> dict[str, Trouble]:
    """As `_ask`, request by request, beginning with what earlier runs found out about the endpoint."""
    note = f"pace/{endpoint.name}/{settings.model}"
    known = store.recall(note)
    pace = Pace(settings.concurrency, settings.requests_per_minute, known)

    async def ask_all() -> dict[str, Trouble]:
        transport = Transport(endpoint, settings)
        return await Dispatch(pending, transport, store, media, pace, traffic, progress).run()

    try:
        return asyncio.run(ask_all())
    finally:
        traffic.ceiling, traffic.per_minute = pace.ceiling.top, pace.rate.per_minute
        if (learned := pace.learned()) != (known or {}):
            store.remember(note, learned)


def _outcomes(
    assignments: Sequence[Assignment],
    keys: Sequence[str],
    trouble: dict[str, Trouble],
    answers: Iterator[tuple[str, Answer]],
) -> Iterator[Outcome[Response]]:
    for each, key in zip(assignments, keys, strict=True):
        if key in trouble:
            yield replace(trouble[key], of=each.id)
        else:
            found, answer = next(answers)
            assert found == key
            yield _response(each, key, answer)


def _response(assignment: Assignment, key: str, answer: Answer) -> Outcome[Response]:
    payload = {"request": key, "model": answer.model, "text": answer.text, "finish": answer.finish}
    try:
        identity = record_id(STAGE, VERSION, {}, [assignment.id], payload)
    except UnicodeEncodeError as error:
        return Rejected(assignment.id, STAGE, "malformed text", detail=f"no UTF-8 can write it: {error}")
    kept = Response(identity, (assignment.id,), assignment.question, assignment.kind, **payload)
    return Accepted(assignment.id, (kept,))
