"""A real HTTP server on loopback that follows a script of faults, and counts what it was asked."""

import email.utils
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pixelis_pipeline.synthesis.asking.endpoint import Endpoint

TRACE = (
    '{"steps":[{"thought":"look","action":"PROP","arguments":{"box":[1,1,9,9]},"output":{"count":1}}],'
    '"answer":"A"}'
)
OK: dict[str, Any] = {"content": TRACE}
FAULTS = {  # what a script may hold besides "<status>", "<status> <retry-after>" and "429 date"
    "ok",
    "reset",  # the connection is reset
    "cut",  # half of a body, then the end of the connection
    "stall",  # nothing at all
    "drip",  # a byte now and then, never the whole
    "not json",
    "no choices",
    "odd words",  # content that is no text
    "two choices",
    "wrong schema",
    "empty",
    "refusal",
    "length",
    "half character",
    "odd usage",
    "no usage",
    "no money",  # 429 insufficient_quota
}


def completion(*messages: dict[str, Any], usage: bool = True, finish: str = "stop") -> bytes:
    body: dict[str, Any] = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m-1",
        "choices": [
            {"index": index, "finish_reason": finish, "message": {"role": "assistant", **message}}
            for index, message in enumerate(messages)
        ],
    }
    if usage:
        body["usage"] = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return json.dumps(body).encode()


BODIES = {
    "ok": completion(OK),
    "not json": b"<html>busy</html>",
    "deep json": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "endless": b" " * (33 * 1024 * 1024),
    "no choices": completion(),
    "odd words": completion({"content": {"text": "A"}}),
    "two choices": completion(OK, {"content": "another"}),
    "wrong schema": completion({"content": '{"steps": "none", "verdict": true}'}),
    "empty": completion({"content": ""}),
    "refusal": completion({"content": None, "refusal": "I will not."}),
    "length": completion({"content": '{"steps":[{"tho'}, finish="length"),
    "half character": completion({"content": '{"steps":[],"answer":"\ud800"}'}),
    "odd usage": completion(OK).replace(b'"prompt_tokens": 7', b'"prompt_tokens": NaN'),
    "large usage": completion(OK).replace(b'"prompt_tokens": 7', b'"prompt_tokens": 9223372036854775807'),
    "no usage": completion(OK, usage=False),
}


class FaultServer(ThreadingHTTPServer):
    """`script` holds one fault per request, in order; when it is used up, every request is answered.

    `asked` counts requests, `charged` by request key those whose answer was written, whole or not;
    `headers` go with every answer, after `delay` seconds. Of requests beyond `slots` at a time each is turned
    away.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        script: list[str],
        delay: float = 0.0,
        headers: dict[str, str] | None = None,
        slots: int = 1_000,
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.asked, self.lock = list(script), 0, threading.Lock()
        self.delay, self.headers = delay, headers or {}
        self.charged: Counter[str] = Counter()
        self.times: list[float] = []
        self.slots = threading.Semaphore(slots)
        self.closing = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the play."""

    def next(self) -> str:
        with self.lock:
            self.asked += 1
            self.times.append(time.monotonic())
            return self.script.pop(0) if self.script else "ok"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FaultServer

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if not self.server.slots.acquire(blocking=False):
            return self._send(429, b'{"error":{"message":"too many at a time"}}')
        try:
            self._play(self.server.next())
        finally:
            self.server.slots.release()

    def _play(self, fault: str) -> None:
        self.server.closing.wait(self.server.delay)
        if fault in BODIES or fault in ("cut", "drip"):
            with self.server.lock:
                self.server.charged[self.headers["idempotency-key"]] += 1
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif fault == "stall":
            self.server.closing.wait()
        elif fault == "cut":
            self._send(200, BODIES["ok"], cut=True)
        elif fault == "drip":
            self._drip(BODIES["ok"])
        elif fault == "no money":
            body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
            self._send(429, json.dumps(body).encode())
        elif fault.startswith("echo "):  # as some gateways do
            said = f"bad header {self.headers['authorization']}"
            self._send(int(fault[5:]), json.dumps({"error": {"message": said}}).encode())
        elif fault == "redirect":
            self._send(307, b"", {"location": "https://elsewhere.example/v1"})
        elif fault in BODIES:
            self._send(200, BODIES[fault], self.server.headers)
        else:
            status, _, after = fault.partition(" ")
            if after == "date":
                after = email.utils.formatdate(time.time() + 1.5, usegmt=True)
            headers = {"retry-after": after} if after else {}
            self._send(int(status), b'{"error":{"message":"scripted"}}', headers)

    def _drip(self, body: bytes) -> None:
        self._head(200, len(body), {})
        for byte in body:
            self.wfile.write(bytes([byte]))
            if self.server.closing.wait(0.05):
                break

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: bool = False
    ) -> None:
        self._head(status, len(body), headers or {})
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def faulty(
    *script: str, delay: float = 0.0, headers: dict[str, str] | None = None, slots: int = 1_000
) -> Iterator[tuple[Endpoint, FaultServer]]:
    server = FaultServer(list(script), delay, headers, slots)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield Endpoint("faulty", f"http://127.0.0.1:{server.server_port}/v1", "key"), server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
