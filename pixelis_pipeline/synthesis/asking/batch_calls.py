"""The calls to a provider's batch API, and what each of their failures means.

What may pass is tried again by the `openai` library itself, save for the one call that costs money: a batch
whose creation was not answered may exist, so it is looked for before it is created again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final, TypeVar

import openai
from openai.types import Batch, FileObject

from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import OWN_TEACHERS, TeacherSettings
from pixelis_pipeline.synthesis.asking.endpoint import Endpoint
from pixelis_pipeline.synthesis.asking.transport import (
    _EMPTY_ACCOUNT,
    _PASSING,
    TeacherError,
    Throttled,
    Unanswered,
    waiting_time,
)

URL: Final = "/v1/chat/completions"
LABEL = "pixelis"  # the name that a batch's digest has in its metadata
FILE_SECONDS = 600.0  # time limit of a transfer: a file holds up to 200 MB
_NO_SUCH_CALL = (404, 405, 501)

T = TypeVar("T")


class Missing(LookupError):
    """The provider knows no batch or file of that name."""


class Provider:
    """The files and batches of one endpoint."""

    def __init__(self, endpoint: Endpoint, settings: TeacherSettings) -> None:
        self.endpoint = endpoint
        self.client = openai.OpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.key,
            max_retries=settings.attempts - 1,
            timeout=settings.timeout_seconds,
            http_client=openai.DefaultHttpxClient(trust_env=endpoint.name not in OWN_TEACHERS),
        )
        self._files = self.client.with_options(timeout=FILE_SECONDS).files
        self._once = self.client.with_options(max_retries=0).batches

    def upload(self, file: BinaryIO, name: str) -> str:
        """The id of a new file. Raises TeacherError or Unanswered, as every call here."""
        with self._telling(speaks=False):
            return _whole(self._files.create(file=(name, file), purpose="batch"), FileObject).id

    def create(self, file: str, digest: str) -> Batch:
        """A batch over an uploaded file. After Unanswered that is not Throttled the batch may exist."""
        with self._telling(speaks=False):
            made = self._once.create(
                input_file_id=file, endpoint=URL, completion_window="24h", metadata={LABEL: digest}
            )
            return _whole(made, Batch)

    def look(self, batch: str) -> Batch:
        """The batch as it stands now. Raises Missing."""
        with self._telling(missing=True):
            return _whole(self.client.batches.retrieve(batch), Batch)

    def find(self, wanted: Callable[[Batch], bool]) -> Batch | None:
        """The first batch in the provider's list, newest first, that is `wanted`."""
        with self._telling(speaks=False):
            return next((batch for batch in self.client.batches.list(limit=100) if wanted(batch)), None)

    def lines(self, file: str) -> Iterator[bytes]:
        """The lines of a file as they arrive. Raises Missing.

        Cut at newlines alone: what stands for one in Unicode is allowed inside a JSON string.
        """
        with (
            self._telling(missing=True),
            self._files.with_streaming_response.content(file) as response,
        ):
            rest = b""
            for block in _received(response.iter_bytes()):
                *lines, rest = (rest + block).split(b"\n")
                yield from lines
            if rest:
                yield rest

    @contextmanager
    def _telling(self, missing: bool = False, speaks: bool = True) -> Iterator[None]:
        """Turn the library's errors into ours. `missing`: a 404 is about the name that was asked for;
        not `speaks`: it says that the provider has no batch API."""
        try:
            yield
        except openai.APIStatusError as error:
            status, problem = error.status_code, self.endpoint.told(f"{error.status_code}: {error.message}")
            if status == 404 and missing:
                raise Missing(problem) from None
            if status in _NO_SUCH_CALL and not speaks:
                advice = 'it seems to have no batch API; set teacher.mode = "live"'
                raise TeacherError(f"{self.endpoint.base_url} answers {problem}: {advice}") from None
            if status == 429 and {error.code, error.type}.isdisjoint(_EMPTY_ACCOUNT):
                raise Throttled(problem, waiting_time(error.response.headers), 0.0) from None
            if status >= 500 or status in _PASSING:
                raise Unanswered(problem) from None
            raise TeacherError(f"{self.endpoint.base_url} answers {problem}") from None
        except (openai.APIError, ValueError, RecursionError) as error:  # a body that is no JSON
            raise Unanswered(self.endpoint.told(f"{type(error).__name__}: {error}")) from None


def _whole(answer: object, form: type[T]) -> T:
    """The library hands on whatever a 200 held. ValueError where it is not what was asked for."""
    if not isinstance(answer, form) or not isinstance(getattr(answer, "id", None), str):
        raise ValueError(f"the body holds no {form.__name__.lower()}")
    return answer


def _received(blocks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from blocks
    except Exception as error:  # of the HTTP library below `openai`, which does not wrap these
        raise Unanswered(f"a file broke off: {type(error).__name__}: {error}"[:300]) from error


def explained(batch: Batch) -> str:
    """What a failed batch says is wrong with it."""
    found = [
        f"{'' if error.line is None else f'line {error.line}: '}{error.message or error.code}"
        for error in (batch.errors and batch.errors.data) or ()
    ]
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return ("; ".join(found[:3]) + more)[:500] or "no reason was given"


def codes(batch: Batch) -> set[str | None]:
    """The error codes of a failed batch."""
    return {error.code for error in (batch.errors and batch.errors.data) or ()}


def counted(batch: Batch) -> int:
    """How many of a batch's requests the provider has done with."""
    counts = batch.request_counts
    return (counts.completed or 0) + (counts.failed or 0) if counts else 0


def labelled(batch: Batch) -> Json:
    """A batch's metadata, {} where the provider keeps none."""
    return dict(batch.metadata or {})
