"""The embedded teacher's batch API: the same words as live, and what the client needs of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from pixelis_pipeline.records import Accepted, Json, canonical
from pixelis_pipeline.settings import Settings
from pixelis_pipeline.synthesis.asking import batches
from pixelis_pipeline.synthesis.asking.client import ask
from pixelis_pipeline.synthesis.asking.endpoint import EMBEDDED, Endpoint
from pixelis_pipeline.synthesis.asking.store import AnswerStore
from pixelis_pipeline.synthesis.plan import plan
from pixelis_pipeline.synthesis.teachers.embedded_batches import routes
from pixelis_pipeline.synthesis.teachers.embedded_teacher import complete, serve
from tests.synthesis.planted import Planted


@contextmanager
def batching(truths: dict[str, Json], looks: int) -> Iterator[Endpoint]:
    """A server with the batch routes alone: whoever asks it live gets 404."""

    def answering(body: Any) -> tuple[int, Json]:
        try:
            return 200, complete(body, truths)
        except ValueError as error:
            return 400, {"error": {"message": str(error)}}

    config = uvicorn.Config(Starlette(routes=routes(answering, looks)), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.005)
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Endpoint(EMBEDDED, f"http://127.0.0.1:{port}/v1", EMBEDDED)
    finally:
        server.should_exit = True
        thread.join()


def test_the_planted_world_reads_the_same_live_and_in_batches(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(batches, name, 0.01)
    settings = Settings().teacher
    batch = settings.model_copy(update={"mode": "batch"})
    outcomes = plan(planted.samples, planted.pixels, Settings())
    asked = [each for outcome in outcomes if isinstance(outcome, Accepted) for each in outcome.records]
    with AnswerStore(tmp_path / "live") as live, AnswerStore(tmp_path / "batch") as late:
        with serve(planted.truths) as endpoint:
            first = ask(asked, settings, live, planted.media, endpoint)
        with batching(planted.truths, looks=2) as endpoint:
            second = ask(asked, batch, late, planted.media, endpoint)
        rows = [[canonical(asdict(outcome)) for outcome in each] for each in (first, second)]
        assert rows[0] == rows[1] and len(rows[0]) == len(asked) > 3
        keys = [record.request for each in second if isinstance(each, Accepted) for record in each.records]
        assert len(keys) == len(asked)
        for key, answer in late.read_many(keys):
            told = live.read(key)
            assert answer.metadata == {**told.metadata, "batch": "batch_000000"}
            assert answer.usage == told.usage


def test_what_it_cannot_take_it_refuses_and_lists_newest_first() -> None:
    with batching({}, looks=0) as endpoint, httpx.Client(base_url=endpoint.base_url) as client:
        form = {"purpose": "batch"}
        text = b'{"custom_id": "a", "body": {"messages": 1}}\n{"custom_id": "b", "body": {}}\n'
        name = client.post("/files", files={"file": ("a", text)}, data=form).json()["id"]
        assert client.get(f"/files/{name}/content").content == text
        made: Json = {"input_file_id": name, "endpoint": "/v1/chat/completions", "metadata": {"a": "b"}}
        bodies: list[Any] = [{**made, "endpoint": "/v1/embeddings"}, {**made, "input_file_id": "x"}, {}, []]
        for broken in bodies:
            assert client.post("/batches", json=broken).status_code == 400
        assert client.post("/files", content=b"x").status_code == 400
        for path in ("/batches/x", "/files/x/content"):
            assert client.get(path).status_code == 404
        batch = client.post("/batches", json=made).json()
        assert batch["status"] == "completed" and batch["output_file_id"] is None
        assert batch["request_counts"] == {"total": 2, "completed": 0, "failed": 2}
        errors = client.get(f"/files/{batch['error_file_id']}/content").text
        assert errors.count('"status_code": 400') == 2
        ids = [client.post("/batches", json=made).json()["id"] for _ in range(2)]
        page = client.get("/batches", params={"limit": 2}).json()
        assert [each["id"] for each in page["data"]] == ids[::-1] and page["has_more"]
        rest = client.get("/batches", params={"after": ids[0]}).json()
        assert [each["id"] for each in rest["data"]] == [batch["id"]] and not rest["has_more"]
        assert rest["data"][0]["metadata"] == {"a": "b"}
