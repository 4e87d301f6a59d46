"""A provider of batches on loopback that follows a script, and bills like a real one."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pixelis_pipeline.synthesis.asking.endpoint import Endpoint

Json = dict[str, Any]
Line = Callable[[str, Json], bytes | None]


def said(key: str, asked: Json, text: str = "words") -> bytes:
    """The line of an answered request; the answer repeats what was asked, so that a mix-up shows."""
    body = {
        "id": f"chat-{key[:6]}",
        "object": "chat.completion",
        "created": 1,
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {
                    "role": "assistant",
                    "content": f"{text}: {asked['messages'][-1]['content'][-1]['text']}",
                },
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
    return _line(key, {"status_code": 200, "request_id": "r", "body": body})


def refused(status: int, message: str = "scripted") -> Line:
    """The line of a request that the endpoint refused with `status`."""
    body = {"error": {"message": message}}
    return lambda key, asked: _line(key, {"status_code": status, "request_id": "r", "body": body})


def ended(code: str) -> Line:
    """The line of a request that the end of the batch cut off."""
    return lambda key, asked: _line(key, None, {"code": code, "message": f"ended by {code}"})


def _line(key: str, response: Json | None, error: Json | None = None) -> bytes:
    # U+2028 unescaped, as JSON allows: whoever cuts lines at more than newlines cuts this one in two.
    odd = {"id": "l", "custom_id": key, "response": response, "error": error, "note": "a\u2028b\x85c"}
    return json.dumps(odd, ensure_ascii=False).encode() + b"\n"


class Provider(ThreadingHTTPServer):
    """`states` are the final states of the batches in order of creation (then "completed"), `lines` what
    comes of the requests by their number in all that was handed in (then an answer), `looks` how often a
    batch is seen under way. `script[call]` are faults of upload, create, list, look and content, in order;
    `before` and `after` are run at each call of a name, when nothing or when all has been done."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.states: list[str] = []
        self.errors: list[Json] = [{"code": "bad", "message": "no good", "line": 1}]
        self.lines: dict[int, Line] = {}
        self.extra: bytes = b""  # after the lines of every output file
        self.looks = 1
        self.room: int | None = None  # requests that fit the queue
        self.lists_after = 0  # listings until a new batch shows
        self.script: dict[str, list[str]] = {}
        self.before: dict[str, Callable[[], None]] = {}
        self.after: dict[str, Callable[[], None]] = {}
        self.bills: Counter[str] = Counter()
        self.submitted: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Json] = {}
        self.left: dict[str, int] = {}
        self.lock = threading.RLock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the play."""

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("provider", f"http://127.0.0.1:{self.server_port}/v1", "key")

    def keep(self, data: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = data
        return name

    def create(self, asked: Json) -> Json:
        requests = [json.loads(text) for text in self.files[asked["input_file_id"]].splitlines()]
        state = self.states.pop(0) if self.states else "completed"
        name = f"batch_{len(self.batches)}"
        batch = {
            "id": name,
            "object": "batch",
            "endpoint": asked["endpoint"],
            "input_file_id": asked["input_file_id"],
            "completion_window": "24h",
            "created_at": int(time.time()),
            "metadata": asked["metadata"],
            "status": "validating",
            "end": state,
            "seen": 0,
        }
        under_way = sum(
            each["size"] for each in self.batches.values() if each["status"] in ("validating", "in_progress")
        )
        batch["size"] = len(requests)
        if self.room is not None and under_way + len(requests) > self.room:
            batch |= {"end": "failed", "size": 0}
            batch["errors"] = {
                "object": "list",
                "data": [{"code": "token_limit_exceeded", "message": "full"}],
            }
        elif state == "failed":
            batch["errors"] = {"object": "list", "data": self.errors}
        self.batches[name] = batch
        self.left[name] = self.looks
        if batch["end"] != "failed":
            self._work(batch, requests)
        return batch

    def _work(self, batch: Json, requests: list[Json]) -> None:
        out, bad = b"", b""
        for request in requests:
            key = request["custom_id"]
            line = self.lines.get(self.submitted.total(), said)(key, request["body"])
            self.submitted[key] += 1
            if line is not None and b'"status_code": 200' in line:
                self.bills[key] += 1
                out += line
            else:
                bad += line or b""
        batch["out"] = self.keep(out + self.extra) if out or self.extra else None
        batch["bad"] = self.keep(bad) if bad else None

    def look(self, name: str) -> Json:
        batch = self.batches[name]
        if self.left[name]:
            self.left[name] -= 1
            batch |= {"status": "in_progress"}
            batch["request_counts"] = {"total": batch["size"], "completed": batch["size"] // 2, "failed": 0}
        else:
            batch |= {"status": batch["end"], "output_file_id": batch.get("out")}
            batch["error_file_id"] = batch.get("bad")
        return batch


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Provider

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("/files"):
            found = re.search(rb'name="file".*?\r\n\r\n(.*)\r\n--', body, re.DOTALL)
            assert found is not None
            self._answer("upload", lambda: self._described(found[1]))
        else:
            self._answer("create", lambda: self.server.create(json.loads(body)))

    def _described(self, data: bytes) -> Json:
        described = {"object": "file", "bytes": len(data), "created_at": 1, "filename": "f"}
        return {"id": self.server.keep(data), "purpose": "batch", "status": "processed", **described}

    def do_GET(self) -> None:
        path, _, query = self.path.removeprefix("/v1").partition("?")
        match path.strip("/").split("/"):
            case ["files", name, "content"]:
                self._answer("content", lambda: self.server.files[name])
            case ["batches", name]:
                self._answer("look", lambda: self.server.look(name))
            case _:
                self._answer("list", lambda: self._page(query))

    def _page(self, query: str) -> Json:
        """Two batches a page, newest first."""
        names = list(reversed(self.server.batches))
        if self.server.lists_after:
            self.server.lists_after -= 1
            names = names[1:]
        after = re.search("after=([^&]+)", query)
        start = names.index(after[1]) + 1 if after else 0
        page = [self.server.batches[name] for name in names[start : start + 2]]
        return {"object": "list", "data": page, "has_more": start + 2 < len(names)}

    def _answer(self, call: str, act: Callable[[], Json | bytes]) -> None:
        """Follow the script of a call: "<status>", "<status> <retry-after>", "lost" (done, not told),
        "cut" (half of the answer), "garbage", or what is right."""
        server = self.server
        with server.lock:
            server.calls[call] += 1
            fault = server.script[call].pop(0) if server.script.get(call) else ""
        if call in server.before:
            server.before[call]()
        if fault and fault[0].isdigit():
            status, _, after = fault.partition(" ")
            return self._send(int(status), b'{"error":{"message":"scripted"}}', after=after)
        try:
            with server.lock:
                made = act()
        except KeyError:
            return self._send(404, b'{"error":{"message":"no such thing"}}')
        if call in server.after:
            server.after[call]()
        if fault == "lost":
            self.close_connection = True
            return self.connection.close()
        if fault == "garbage":
            return self._send(200, b"<html>busy</html>")
        data = made if isinstance(made, bytes) else json.dumps(made).encode()
        return self._send(200, data, cut=fault == "cut")

    def _send(self, status: int, body: bytes, after: str = "", cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if after:
            self.send_header("retry-after", after)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def providing() -> Iterator[Provider]:
    server = Provider()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
