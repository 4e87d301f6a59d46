"""A synthesis of 2,000 requests, killed 50 times: nothing is lost, and nothing is paid for twice but what was
on its way at a kill."""

import hashlib
import json
import multiprocessing
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pixelis_pipeline.records import Accepted, canonical
from pixelis_pipeline.synthesis.asking.store import AnswerStore
from tests.synthesis.asking.asking_child import CONCURRENCY, asked, main

REQUESTS, KILLS = 2_000, 50
FEWEST, MOST = 4, 66  # requests that a child gets to send before it is killed: 35 of the 40 there are
NOWHERE = "http://127.0.0.1:9/v1"


class Biller(ThreadingHTTPServer):
    """Answers each request in words of its own, and bills its key when the answer goes out."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.billed: Counter[str] = Counter()
        self.asked = self.busy = 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed hangs up."""

    def settled(self) -> Counter[str]:
        """All bills, once nothing is in the making any more."""
        while self.busy:
            time.sleep(0.001)
        with self.lock:
            return self.billed.copy()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Biller

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.asked += 1
            self.server.busy += 1
            number = self.server.asked
        try:
            time.sleep(0.01)
            said = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()
            with self.server.lock:
                self.server.billed[self.headers["idempotency-key"]] += 1
            # The id, the time and the bill differ from one run to the next, and none is in the artifact.
            self._send(
                {"id": f"c-{number}", "object": "chat.completion", "created": int(time.time())}, said, number
            )
        finally:
            with self.server.lock:
                self.server.busy -= 1

    def _send(self, head: dict[str, Any], said: str, number: int) -> None:
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 7, "completion_tokens": number, "total_tokens": 7 + number}
        data = json.dumps({**head, "model": "m-1", "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def billing() -> Iterator[tuple[Biller, str]]:
    server = Biller()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def artifact(root: Path) -> bytes:
    """The rows that the stage hands on, with nobody left to ask."""
    outcomes = asked(root, NOWHERE, REQUESTS)
    return canonical([asdict(r) for o in outcomes if isinstance(o, Accepted) for r in o.records])


@pytest.mark.slow
def test_fifty_kills_lose_nothing_and_pay_twice_for_nothing_but_what_was_on_its_way(tmp_path: Path) -> None:
    drawn = random.Random(11)
    context = multiprocessing.get_context("forkserver")  # a child of its own each time, without the imports
    context.set_forkserver_preload(["tests.synthesis.asking.asking_child"])
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    paid_again: Counter[str] = Counter()
    during = 0
    with billing() as (server, url):
        for _ in range(KILLS):
            before, start = server.settled(), server.asked
            child = context.Process(target=main, args=(killed, url, REQUESTS))
            child.start()
            goal = start + drawn.randint(FEWEST, MOST)
            while server.asked < goal and child.is_alive():
                time.sleep(0.001)
            time.sleep(drawn.uniform(0, 0.012))
            alive = child.is_alive()
            child.kill()
            child.join()
            fresh = server.settled() - before
            with AnswerStore(killed) as store:
                stored = store.answered(server.billed)
            during += alive and bool(fresh) and len(stored) < REQUESTS
            lost = {key for key in fresh if key not in stored}
            assert len(lost) <= CONCURRENCY, "no more is at risk than what is in flight"
            paid_again.update(lost)
        last = context.Process(target=main, args=(killed, url, REQUESTS))
        last.start()
        last.join()
        assert last.exitcode == 0
        assert during == KILLS, "every kill came while requests went out"
        billed = server.settled()
        assert len(billed) == REQUESTS
        assert billed == Counter(dict.fromkeys(billed, 1)) + paid_again
        assert 0 < paid_again.total() <= KILLS * CONCURRENCY
        asked(whole, url, REQUESTS)
    assert artifact(killed) == artifact(whole)
    assert artifact(whole).count(b'"request":') == REQUESTS
    print(f"{during} kills during the asking, {paid_again.total()} answers paid for again")
