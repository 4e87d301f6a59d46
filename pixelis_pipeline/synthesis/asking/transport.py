"""One attempt at one request: an answer, or an error that says what kind of trouble it was.

Four kinds are kept apart, because each has a controller of its own. What may pass (5xx, resets, timeouts, a
body cut short) is `Passing`. A 429 is `Throttled`. What cannot pass is told: `Refused` is about this
request, `TeacherError` about every request there could be. Nothing is tried twice here.
"""

import asyncio
import email.utils
import json
import math
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from pixelis_pipeline.settings import OWN_TEACHERS, TeacherSettings
from pixelis_pipeline.synthesis.asking.endpoint import Endpoint
from pixelis_pipeline.synthesis.asking.store import Answer
from pixelis_pipeline.synthesis.request import Request

_STOP = (401, 402, 403, 404)  # a bad key, an empty account, no access, an unknown model or address
_PASSING = (408, 409, 425)
_EMPTY_ACCOUNT = ("insufficient_quota", "billing_hard_limit_reached")  # codes of a 429 that no wait ends

MOST_BYTES = 32 * 1024 * 1024  # of one body; MOST_TOKENS of text are a hundredth of it
MOST_BILLED = 10**9  # tokens of one answer: a bill beyond is none (sums of them must fit SQLite's integers)
_NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")  # of the HTTP library below `openai`


class TeacherError(RuntimeError):
    """The endpoint will not answer anything: a bad key, no access, no money, an unknown model or address."""


class Refused(ValueError):
    """The endpoint will never answer this request; `status` is the HTTP status it said so with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unanswered(RuntimeError):
    """No answer now; asking later may help."""


class Passing(Unanswered):
    """Trouble on the way or at the endpoint. `billed`: an answer may have been written and charged for."""

    def __init__(self, message: str, billed: bool) -> None:
        super().__init__(message)
        self.billed = billed


class Throttled(Unanswered):
    """A 429: too much at the moment. `after` is the number of seconds that it asks to wait, if any."""

    def __init__(self, message: str, after: float | None, per_minute: float) -> None:
        super().__init__(message)
        self.after, self.per_minute = after, per_minute


class _Malformed(ValueError):
    """A 200 whose body is no chat completion."""


@dataclass(frozen=True, slots=True)
class Received:
    """An answer, and the requests a minute that the endpoint says it allows (0: it does not say)."""

    answer: Answer
    per_minute: float


class Transport:
    """A connection to one endpoint, to be used by many requests at a time in one event loop."""

    def __init__(self, endpoint: Endpoint, settings: TeacherSettings) -> None:
        self.endpoint, self.settings = endpoint, settings
        usual = openai.DEFAULT_CONNECTION_LIMITS
        limits = type(usual)(
            max_connections=settings.concurrency,
            max_keepalive_connections=settings.concurrency,
            keepalive_expiry=usual.keepalive_expiry,
        )
        self.client = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.key,
            max_retries=0,
            timeout=settings.timeout_seconds,
            http_client=openai.DefaultAsyncHttpxClient(
                limits=limits,
                follow_redirects=False,  # prompts and pictures go to the address in settings, no other
                trust_env=endpoint.name not in OWN_TEACHERS,  # no proxy stands before our own loopback
            ),
        )

    async def attempt(self, request: Request, messages: list[Any]) -> Received:
        """The answer to `request`, sent as `messages`, within `timeout_seconds` in all: a server that sends
        a byte now and then does not hold a slot for good. Raises TeacherError, Refused, Throttled, Passing.
        """
        try:
            async with asyncio.timeout(self.settings.timeout_seconds):
                return await self._send(request, messages)
        except openai.APIStatusError as error:
            raise self._told(error) from None  # the library's own error repeats all that the endpoint said
        except (TimeoutError, openai.APITimeoutError) as error:
            problem = f"no whole answer in {self.settings.timeout_seconds:g} s"
            raise Passing(problem, billed=True) from error
        except (openai.APIError, ValueError, RecursionError) as error:  # a body that is no JSON, or no text
            sent, cause = type(error.__cause__).__name__ not in _NOT_SENT, error.__cause__ or ""
            problem = f"{type(error).__name__}: {error}{cause and f' ({cause})'}"
            raise Passing(self.endpoint.told(problem), billed=sent) from None

    def _told(self, error: openai.APIStatusError) -> Exception:
        """What a status means."""
        status, headers = error.status_code, error.response.headers
        problem = self.endpoint.told(f"{status}: {error.message}")
        if status == 429 and {error.code, error.type}.isdisjoint(_EMPTY_ACCOUNT):
            return Throttled(problem, waiting_time(headers), per_minute(headers))
        if status == 429:
            return TeacherError(f"{self.endpoint.base_url} says that the account is used up: {problem}")
        if 300 <= status < 400:
            place = self.endpoint.told(headers.get("location", "elsewhere"))
            return TeacherError(f"{self.endpoint.base_url} sends on to {place}: set teacher.endpoint to that")
        if status in _STOP:
            return TeacherError(f"{self.endpoint.base_url} answers {problem}")
        if 400 <= status < 500 and status not in _PASSING:
            return Refused(status, problem)
        return Passing(problem, billed=False)

    async def _send(self, request: Request, messages: list[Any]) -> Received:
        schema = {"name": "trace", "schema": request.schema, "strict": False}
        completions: Any = self.client.chat.completions  # its overloads do not know a request made of data
        async with completions.with_streaming_response.create(
            model=request.model,
            messages=messages,
            response_format={"type": "json_schema", "json_schema": schema},
            # A gateway that keeps these charges once for one request, however often it had to be sent.
            extra_headers={"Idempotency-Key": request.key},
            **request.sampling,
        ) as raw:
            body = json.loads(await _whole(raw.iter_bytes()))
        if not isinstance(body, dict):
            raise _Malformed("the body is no JSON object")
        try:
            answer = _answer(ChatCompletion.construct(**body), request, self.endpoint)
        except (AttributeError, TypeError) as error:
            raise _Malformed(str(error)) from error
        return Received(answer, per_minute(raw.headers))


async def _whole(blocks: AsyncIterator[bytes]) -> bytes:
    """A body, unpacked, up to MOST_BYTES of it: an endpoint must not fill the memory. _Malformed."""
    body = bytearray()
    try:
        async for block in blocks:
            body += block
            if len(body) > MOST_BYTES:
                break
    except Exception as error:  # of the HTTP library below `openai`, which does not wrap these
        raise _Malformed(f"the body broke off: {type(error).__name__}: {error}") from error
    if len(body) > MOST_BYTES:
        raise _Malformed(f"the body is over {MOST_BYTES} bytes")
    return bytes(body)


def _answer(completion: Any, request: Request, endpoint: Endpoint) -> Answer:
    """The first choice of a completion. _Malformed where there is none; empty words are an answer."""
    choices: Any = getattr(completion, "choices", None)
    said = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    if said is None:
        raise _Malformed("the body holds no choice with a message")
    words, refusal = getattr(said, "content", None), getattr(said, "refusal", None)
    if not isinstance(words, str | None) or not isinstance(refusal, str | None):
        raise _Malformed("the message holds no text")
    bill = getattr(completion, "usage", None)
    tokens = {name: getattr(bill, f"{name}_tokens", None) for name in ("prompt", "completion")}
    metered = all(type(count) is int and 0 <= count <= MOST_BILLED for count in tokens.values())
    return Answer(
        text=refusal or words or "",
        finish="refusal" if refusal else str(getattr(choices[0], "finish_reason", None) or "stop"),
        model=str(getattr(completion, "model", None) or request.model),
        usage=tokens if metered else {},
        metadata={
            "endpoint": endpoint.name,
            "id": str(getattr(completion, "id", "")),
            "sample": request.sample,
        },
    )


def per_minute(headers: Mapping[str, str]) -> float:
    """The limit in x-ratelimit-limit-requests, which OpenAI documents as requests a minute; 0 without one."""
    try:
        stated = float(headers.get("x-ratelimit-limit-requests", 0))
    except ValueError:
        return 0.0
    return stated if 0 < stated < math.inf else 0.0


def waiting_time(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks to wait, to the millisecond where it says so."""
    if (exact := retry_after(headers.get("retry-after-ms"))) is not None:
        return exact / 1000
    return retry_after(headers.get("retry-after"))


def retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for (a number or an HTTP date), None where it says nothing."""
    if not header:
        return None
    try:
        seconds = float(header)
        return max(seconds, 0.0) if seconds < float("inf") else None  # NaN is no number of seconds either
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None
