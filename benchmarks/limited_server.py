"""A chat-completions endpoint that permits only so much, on loopback, in a process of its own.

It never shares an interpreter with the client that it measures. What happened to each call is kept as it
happened and served at /stats; every figure of the suite is computed from that, none from what a client says.
How long a row takes and whether its first attempts fail depends on the row alone, so that every client meets
the same load. Plain asyncio streams, because no framework lets a handler reset its connection.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import math
import random
import socket
import struct
import time
from dataclasses import asdict
from typing import Any

from benchmarks.limits import Gate, Limits

RESET = 0  # the status of a call whose connection was reset


def row_key(text: str) -> str:
    """How the server names a row: 16 hex digits over the user's words. The answer to a row is its key."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Server:
    """`calls` holds [key, asked, ended or None, HTTP status] in the order of asking, seconds from the first;
    the status of a call in service is None. `probes` counts what held no user's words."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.gate = limits, Gate(limits)
        self.calls: list[list[Any]] = []
        self.attempts: dict[str, int] = {}
        self.started, self.probes = 0.0, 0

    def now(self) -> float:
        self.started = self.started or time.monotonic()
        return round(time.monotonic() - self.started, 4)

    def stats(self) -> dict[str, Any]:
        return {"limits": asdict(self.limits), "calls": self.calls, "probes": self.probes}

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until its client leaves or a fault resets it."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                _, _, length = head.partition("content-length:")
                body = await reader.readexactly(int(length.split("\r\n")[0])) if length else b""
                if not await self.request(head.split(" ", 1)[0], body, writer):
                    break
        writer.close()

    async def request(self, method: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection lives on."""
        if method == "get":
            return await reply(writer, 200, self.stats())
        asked = json.loads(body)
        text = words(asked["messages"])
        if text is None:
            self.probes += 1
            return await reply(writer, 400, error("no user message"))
        key = row_key(text)
        call: list[Any] = [key, self.now(), None, None]
        self.calls.append(call)
        wait = self.gate.refused()
        if wait is not None:
            call[2:] = [call[1], 429]
            after = {"retry-after": str(max(1, math.ceil(wait)))} if self.limits.retry_after else {}
            return await reply(writer, 429, error("Rate limit reached for requests"), after)
        seconds, status = self.fate(key)
        await asyncio.sleep(seconds)
        self.gate.busy -= 1  # before the client can know: a slot is free as soon as the answer leaves
        call[2:] = [self.now(), status]
        if status == RESET:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            return False
        return await reply(writer, status, completion(key, asked) if status == 200 else error("scripted"))

    def fate(self, key: str) -> tuple[float, int]:
        """(seconds of service, status) of the next admitted call for a row."""
        given, drawn = self.limits, random.Random(key)
        seconds = drawn.lognormvariate(math.log(given.service) - given.spread**2 / 2, given.spread)
        luck = drawn.random()
        first = self.attempts.setdefault(key, 0) == 0
        self.attempts[key] += 1
        if not first or luck >= given.errors + given.resets:
            return seconds, 200
        return seconds, 500 if luck < given.errors else RESET


def words(messages: list[dict[str, Any]]) -> str | None:
    """The text of the last user's message, its pictures left out."""
    said = [each["content"] for each in messages if each.get("role") == "user"]
    if not said:
        return None
    if isinstance(said[-1], str):
        return said[-1]
    return "".join(part["text"] for part in said[-1] if part["type"] == "text")


def completion(key: str, asked: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": json.dumps({"steps": [], "answer": key})}
    return {
        "id": f"c-{key}",
        "object": "chat.completion",
        "created": 1,
        "model": asked["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 40, "completion_tokens": 12, "total_tokens": 52},
    }


def error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "requests", "code": None, "param": None}}


async def reply(
    writer: asyncio.StreamWriter, status: int, body: dict[str, Any], more: dict[str, str] | None = None
) -> bool:
    data = json.dumps(body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(data)), **(more or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + data)
    await writer.drain()
    return True


async def serve(limits: Limits) -> None:
    """Serve until killed; the port is the first line of standard output."""
    server = await asyncio.start_server(Server(limits).connection, "127.0.0.1", 0, backlog=4096, limit=2**24)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limited_server", description=__doc__)
    parser.add_argument("limits", help="fields of Limits as a JSON object")
    asyncio.run(serve(Limits(**json.loads(parser.parse_args().limits))))
