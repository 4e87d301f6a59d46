"""The world's own teacher: an OpenAI-compatible server on loopback that answers from exact truth.

The pipeline cannot tell it from a paid one. It gets what any endpoint gets, a system prompt, a question and
the bytes of a picture, and finds the truth by the sha256 of those bytes.
"""

import base64
import binascii
import hashlib
import json
import math
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from pixelis_pipeline.records import Json, canonical
from pixelis_pipeline.settings import OWN_TEACHERS
from pixelis_pipeline.synthesis.asking.endpoint import EMBEDDED, Endpoint
from pixelis_pipeline.synthesis.request import CHOICES, SEPARATOR
from pixelis_pipeline.synthesis.teachers import embedded_batches
from pixelis_pipeline.synthesis.teachers.annotated_answers import reply
from pixelis_pipeline.synthesis.teachers.embedded_answers import Unanswerable
from pixelis_pipeline.synthesis.teachers.embedded_flaws import as_kind, kind_of

MODEL = OWN_TEACHERS[EMBEDDED]
LARGEST_BODY = 256 * 1024 * 1024
BYTES_PER_TOKEN = 4  # the usual estimate for English and JSON
TOKENS_PER_PICTURE = 256  # a fixed price per picture, as endpoints have for a small one
_START_SECONDS = 10.0


class _BadRequest(ValueError):
    """A body that is no chat completion request."""


def _words_and_digests(messages: Any) -> tuple[str, list[str], str]:
    """(all text, sha256 of each picture in order, the last text) of a request's messages."""
    texts: list[str] = []
    digests: list[str] = []
    try:
        for turn in messages:
            content = turn["content"]
            parts: Any = [{"type": "text", "text": content}] if isinstance(content, str) else content
            for part in parts:
                if part["type"] == "text":
                    texts.append(part["text"])
                elif part["type"] == "image_url":
                    _, _, encoded = part["image_url"]["url"].partition(";base64,")
                    digests.append(hashlib.sha256(base64.b64decode(encoded, validate=True)).hexdigest())
    except (KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise _BadRequest(f"messages are not in the chat completions form: {error!r}") from error
    if not texts:
        raise _BadRequest("messages hold no text")
    return "\n".join(texts), digests, texts[-1]


def complete(body: Json, truths: Mapping[str, Json]) -> Json:
    """The chat completion for a request body. Raises _BadRequest.

    What it has no truth for, it refuses as a model would. What is wrong with a flawed trace is drawn from the
    words, the pictures and the sampling parameters alone, so it is the same however it is asked for. Usage
    counts a token for every 4 bytes of UTF-8 and 256 for every picture.
    """
    said, digests, question = _words_and_digests(body.get("messages"))
    draw = canonical([said, digests, body.get("temperature"), body.get("seed")])
    rng = np.random.default_rng(list(hashlib.sha256(draw).digest()))
    message: Json = {"role": "assistant", "content": None, "refusal": None}
    try:
        told = _trace(said, question, digests, truths, rng)
        message["content"] = json.dumps(told, separators=(",", ":"))
    except Unanswerable as error:
        message["refusal"] = str(error)
    prompt = math.ceil(len(said.encode()) / BYTES_PER_TOKEN) + TOKENS_PER_PICTURE * len(digests)
    completion = math.ceil(len((message["content"] or message["refusal"]).encode()) / BYTES_PER_TOKEN)
    return {
        "id": "chatcmpl-" + hashlib.sha256(canonical(body)).hexdigest()[:24],
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        },
    }


def _trace(
    said: str, question: str, digests: list[str], truths: Mapping[str, Json], rng: np.random.Generator
) -> Json:
    """The trace of the kind that the prompt asks for; `rng` draws what is wrong with it, if anything is.
    Raises Unanswerable."""
    right = reply(question, digests, truths)
    _, _, choices = question.partition(CHOICES)
    entry = next(truths[digest] for digest in digests if digest in truths)
    return as_kind(kind_of(said), right, choices.split(SEPARATOR) if choices else (), entry, rng)


def _error(message: str) -> Json:
    return {"error": {"message": message, "type": "invalid_request_error"}}


def application(truths: Mapping[str, Json], model: str = MODEL) -> Starlette:
    """The ASGI application: under `/v1` chat completions, files, batches and models; and `/healthz`."""

    def answering(body: Any) -> tuple[int, Json]:
        if not isinstance(body, dict):
            return 400, _error("the body is no JSON object")
        if body.get("model") != model:
            return 404, _error(f"there is no model {body.get('model')!r}, only {model}")
        try:
            return 200, complete(body, truths)
        except _BadRequest as error:
            return 400, _error(str(error))

    async def completions(request: Request) -> JSONResponse:
        if int(request.headers.get("content-length", LARGEST_BODY + 1)) > LARGEST_BODY:
            return JSONResponse(
                _error(f"a body of at most {LARGEST_BODY} bytes, with its length stated"), 413
            )
        try:
            status, answer = answering(await request.json())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            status, answer = 400, _error(str(error))
        return JSONResponse(answer, status)

    async def models(request: Request) -> JSONResponse:
        return JSONResponse(
            {"object": "list", "data": [{"id": model, "object": "model", "owned_by": "pixelis"}]}
        )

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "pictures": len(truths)})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", completions, methods=["POST"]),
            *embedded_batches.routes(answering),
            Route("/v1/models", models),
            Route("/healthz", health),
        ]
    )


@contextmanager
def serve(truths: Mapping[str, Json], name: str = EMBEDDED) -> Iterator[Endpoint]:
    """Run the teacher on a free port of 127.0.0.1 while the context lasts.

    `truths` maps a picture's sha256 to its entry: the world's (`world.truth`), or what annotations say
    (`annotated_truth`) under the name of that teacher. RuntimeError if it does not come up.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        application(truths, OWN_TEACHERS[name]), log_level="warning", lifespan="off", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name=name, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"the {name} teacher did not start within {_START_SECONDS:.0f} s")
            time.sleep(0.005)
        yield Endpoint(name, f"http://127.0.0.1:{listener.getsockname()[1]}/v1", name)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
