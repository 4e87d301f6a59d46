"""What an ended batch says about each of its requests."""

import itertools
import json
from collections import deque
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from openai.types import Batch
from openai.types.chat import ChatCompletion

from pixelis_pipeline.records import Failed, Json, Rejected
from pixelis_pipeline.synthesis.asking.batch_calls import Missing, Provider
from pixelis_pipeline.synthesis.asking.dispatch import STAGE, Trouble
from pixelis_pipeline.synthesis.asking.endpoint import Endpoint
from pixelis_pipeline.synthesis.asking.store import Answer, AnswerStore
from pixelis_pipeline.synthesis.asking.transport import (
    _EMPTY_ACCOUNT,
    _PASSING,
    _STOP,
    TeacherError,
    _answer,
    _Malformed,
)
from pixelis_pipeline.synthesis.asking.waiting import Pending
from pixelis_pipeline.synthesis.request import Request

_TOGETHER = 32  # answers written at a time: the store flushes them to the disk as one


@dataclass(slots=True)
class Results:
    """`settled` requests have an answer in the store or stand in `trouble`; `foreign` lines name a request
    that the batch does not hold, `broken` ones are no lines of results. `stop` is the first error that
    every request would meet: whoever reads it raises it when the results are noted."""

    settled: set[str] = field(default_factory=set)
    trouble: dict[str, Trouble] = field(default_factory=dict)
    foreign: int = 0
    broken: int = 0
    stop: TeacherError | None = None


def collect(
    batch: Batch, keys: Collection[str], pending: Pending, provider: Provider, store: AnswerStore
) -> Results:
    """Put the answers of an ended batch over `keys` into the store.

    Of `keys`, those that are not `pending` are left alone, so that a later run can have them. The first line
    about a request counts, and answers come before errors. Raises Unanswered where a file breaks off.
    """
    results = Results(settled=store.answered(keys))
    with ThreadPoolExecutor(_TOGETHER) as writers:
        for file in (batch.output_file_id, batch.error_file_id):
            lines = provider.lines(file) if file else iter(())
            try:
                while some := list(itertools.islice(lines, _TOGETHER)):
                    found = [
                        _settled(text, batch.id, keys, pending, provider.endpoint, results) for text in some
                    ]
                    answers = [each for each in found if each]
                    deque(writers.map(lambda each: store.write(*each), answers), maxlen=0)
            except Missing:  # deleted: what it said cannot be had again
                continue
    return results


def _settled(
    text: bytes, batch: str, keys: Collection[str], pending: Pending, endpoint: Endpoint, results: Results
) -> tuple[Request, Answer] | None:
    """Enter a line into `results`; the answer that it holds, if it does."""
    key, found = _read(text)
    if key not in keys:
        results.foreign += bool(key)
        results.broken += not key and bool(text.strip())
        return None
    if key not in pending or key in results.settled:
        return None
    results.settled.add(key)
    request, assignment = pending[key]
    try:
        said = _judged(found, request, assignment.id, endpoint, batch)
    except TeacherError as error:
        results.stop = results.stop or error
        said = Failed(assignment.id, STAGE, str(error))
    if isinstance(said, Answer):
        return request, said
    results.trouble[key] = said
    return None


def _read(text: bytes) -> tuple[str, Json]:
    """(custom_id, the line), ("", {}) for what is no line of results."""
    try:
        found = json.loads(text)
        key = found["custom_id"]
        return (key, found) if isinstance(key, str) else ("", {})
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", {}


def _judged(found: Json, request: Request, of: str, endpoint: Endpoint, batch: str) -> Answer | Trouble:
    """What a line says about its request, by the rules of a live answer.

    Raises TeacherError for a status that every request would get.
    """
    response, error = found.get("response"), found.get("error")
    if not isinstance(response, dict) or type(response.get("status_code")) is not int:
        said = error if isinstance(error, dict) else {}
        return Failed(of, STAGE, endpoint.told(f"batch {batch}: {said.get('code')}: {said.get('message')}"))
    status, body = response["status_code"], response.get("body")
    if status == 200:
        try:
            if not isinstance(body, dict):
                raise _Malformed("the body is no JSON object")
            answer = _answer(ChatCompletion.construct(**body), request, endpoint)
        except (_Malformed, AttributeError, TypeError) as problem:
            return Failed(of, STAGE, f"batch {batch}: {problem}")
        return replace(answer, metadata={**answer.metadata, "batch": batch})
    told = body.get("error") if isinstance(body, dict) else None
    words = told.get("message") if isinstance(told, dict) else told or error
    detail = endpoint.told(f"{status}: {words}")
    empty = isinstance(told, dict) and not {str(told.get("code")), str(told.get("type"))}.isdisjoint(
        _EMPTY_ACCOUNT
    )
    if status in _STOP or (status == 429 and empty):
        raise TeacherError(f"{endpoint.base_url} answers {detail}")
    if status in (429, *_PASSING) or not 400 <= status < 500:
        return Failed(of, STAGE, f"batch {batch}: {detail}")
    return Rejected(of, STAGE, "refused by the endpoint", measured=status, detail=detail)
