"""A batch's file of requests, cut to what a provider takes."""

import json
from collections import deque
from dataclasses import dataclass
from typing import Any, BinaryIO

from pixelis_pipeline.media import MediaError, MediaStore
from pixelis_pipeline.records import Failed, Rejected
from pixelis_pipeline.synthesis.asking.batch_calls import URL
from pixelis_pipeline.synthesis.asking.dispatch import STAGE, Trouble
from pixelis_pipeline.synthesis.asking.message import message
from pixelis_pipeline.synthesis.asking.waiting import Pending
from pixelis_pipeline.synthesis.request import Request

MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000  # of one file, as OpenAI documents


def line(request: Request, messages: list[Any]) -> bytes:
    """One request as a line of a batch's file."""
    schema = {"name": "trace", "schema": request.schema, "strict": False}
    body = {
        "model": request.model,
        "messages": messages,
        "response_format": {"type": "json_schema", "json_schema": schema},
        **request.sampling,
    }
    return json.dumps({"custom_id": request.key, "method": "POST", "url": URL, "body": body}).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Filled:
    """What went into a file, and what could not."""

    keys: list[str]
    trouble: dict[str, Trouble]


def fill(
    file: BinaryIO, waiting: deque[str], pending: Pending, media: MediaStore, requests: int, size: int
) -> Filled:
    """Move keys from the left of `waiting` into `file` until it holds `requests` or `size` bytes.

    One request is in memory at a time. A request whose media cannot be sent is trouble of its own.
    """
    filled, written = Filled([], {}), 0
    while waiting and len(filled.keys) < requests:
        key = waiting.popleft()
        request, assignment = pending[key]
        try:
            text = line(request, message(request, assignment.question.media, media))
        except MediaError as error:
            filled.trouble[key] = (
                Failed(assignment.id, STAGE, str(error))
                if error.passing
                else Rejected(assignment.id, STAGE, error.rule, detail=str(error))
            )
            continue
        except OSError as error:
            filled.trouble[key] = Failed(assignment.id, STAGE, f"media could not be read: {error}")
            continue
        if len(text) > size:
            said = f'{len(text)} bytes are over the {size} of a batch; teacher.mode = "live" sends them'
            filled.trouble[key] = Failed(assignment.id, STAGE, said)
            continue
        if written + len(text) > size:
            waiting.appendleft(key)
            break
        file.write(text)
        written += len(text)
        filled.keys.append(key)
    return filled
