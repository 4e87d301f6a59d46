"""`/v1/files` and `/v1/batches` for the embedded teacher, as OpenAI documents them, in memory.

A batch's requests are answered by the same function as live ones, once, when it has been looked at as often
as it is told to take.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pixelis_pipeline.records import Json

Answering = Callable[[Any], tuple[int, Json]]
"""A chat completion request's body to (HTTP status, body of the response)."""

URL = "/v1/chat/completions"


@dataclass(slots=True)
class _Desk:
    """What was handed in and what came of it."""

    answering: Answering
    looks: int
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, Json] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)  # looks until a batch is completed

    def keep(self, data: bytes) -> str:
        name = f"file-{len(self.files):06d}"
        self.files[name] = data
        return name

    def open(self, asked: Json) -> Json:
        """A new batch. KeyError for an unknown file, ValueError for another endpoint than chat."""
        data = self.files[asked["input_file_id"]]
        if asked.get("endpoint") != URL:
            raise ValueError(f"only {URL} can be asked in batches")
        name = f"batch_{len(self.batches):06d}"
        self.left[name] = self.looks
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "endpoint": URL,
            "input_file_id": asked["input_file_id"],
            "completion_window": asked.get("completion_window", "24h"),
            "created_at": int(time.time()),
            "status": "in_progress",
            "metadata": asked.get("metadata"),
            "request_counts": {"total": data.count(b"\n"), "completed": 0, "failed": 0},
        }
        return self.look(name)

    def look(self, name: str) -> Json:
        """The batch now. Raises KeyError."""
        batch = self.batches[name]
        if batch["status"] == "in_progress":
            if not self.left[name]:
                self._complete(batch)
            self.left[name] -= 1
        return batch

    def _complete(self, batch: Json) -> None:
        answers: list[bytes] = []
        errors: list[bytes] = []
        for text in self.files[batch["input_file_id"]].removesuffix(b"\n").split(b"\n"):
            asked = json.loads(text)
            status, body = self.answering(asked["body"])
            line = {
                "id": f"batch_req_{len(answers) + len(errors):06d}",
                "custom_id": asked["custom_id"],
                "response": {"status_code": status, "request_id": batch["id"], "body": body},
                "error": None,
            }
            (answers if status == 200 else errors).append(json.dumps(line).encode() + b"\n")
        counts = {"total": len(answers) + len(errors), "completed": len(answers), "failed": len(errors)}
        batch |= {"status": "completed", "completed_at": int(time.time()), "request_counts": counts}
        batch["output_file_id"] = self.keep(b"".join(answers)) if answers else None
        batch["error_file_id"] = self.keep(b"".join(errors)) if errors else None


def _file(body: bytes, content_type: str) -> bytes:
    """The part "file" of a multipart/form-data body. Raises ValueError."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    if boundary is None:
        raise ValueError("a file comes as multipart/form-data")
    for part in body.split(b"--" + boundary[1].encode())[1:-1]:
        head, _, data = part.partition(b"\r\n\r\n")
        if b'name="file"' in head:
            return data.removesuffix(b"\r\n")
    raise ValueError("the form holds no file")


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error"}}, status)


def routes(answering: Answering, looks: int = 0) -> list[Route]:
    """What to mount beside the chat completions that `answering` gives.

    A batch is completed at the look after so many: with 0, when it is created.
    """
    desk = _Desk(answering, looks)

    async def upload(request: Request) -> JSONResponse:
        try:
            data = _file(await request.body(), request.headers.get("content-type", ""))
        except ValueError as error:
            return _error(400, str(error))
        name = desk.keep(data)
        described = {"id": name, "object": "file", "bytes": len(data), "purpose": "batch"}
        named = {"created_at": int(time.time()), "filename": f"{name}.jsonl", "status": "processed"}
        return JSONResponse(described | named)

    async def content(request: Request) -> Response:
        found = desk.files.get(request.path_params["name"])
        return _error(404, "there is no such file") if found is None else Response(found)

    async def create(request: Request) -> JSONResponse:
        try:
            return JSONResponse(await asyncio.to_thread(desk.open, await request.json()))
        except (KeyError, TypeError, ValueError) as error:
            return _error(400, f"no batch can be made of this: {error!r}")

    async def look(request: Request) -> JSONResponse:
        try:
            return JSONResponse(await asyncio.to_thread(desk.look, request.path_params["name"]))
        except KeyError:
            return _error(404, "there is no such batch")

    async def listed(request: Request) -> JSONResponse:
        newest = list(reversed(desk.batches.values()))
        names = [batch["id"] for batch in newest]
        after = request.query_params.get("after")
        start = names.index(after) + 1 if after in names else 0
        page = newest[start : start + int(request.query_params.get("limit", "20"))]
        more = start + len(page) < len(newest)
        return JSONResponse({"object": "list", "data": page, "has_more": more})

    return [
        Route("/v1/files", upload, methods=["POST"]),
        Route("/v1/files/{name}/content", content),
        Route("/v1/batches", create, methods=["POST"]),
        Route("/v1/batches", listed, methods=["GET"]),
        Route("/v1/batches/{name}", look),
    ]
