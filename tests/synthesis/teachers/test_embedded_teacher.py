"""The embedded teacher is a server like any other, and what it says is true."""

import hashlib
import json
from typing import Any

import httpx
import numpy as np
import pytest

from pixelis_pipeline.records import Json, TraceKind
from pixelis_pipeline.synthesis import questions as asking
from pixelis_pipeline.synthesis.asking.message import data_url
from pixelis_pipeline.synthesis.prompt import load
from pixelis_pipeline.synthesis.teachers.embedded_answers import Unanswerable, reply
from pixelis_pipeline.synthesis.teachers.embedded_teacher import MODEL, complete, serve
from tests.synthesis.planted import Planted, png

THING: Json = {
    "shape": "circle",
    "colour": "red",
    "box": [0, 0, 20, 20],
    "area": 300,
    "label": "K7",
    "label_box": [0, 22, 20, 30],
}
ENTRY: Json = {"sha256": "d", "width": 100, "height": 50, "things": [THING]}


def test_it_speaks_the_chat_completions_api(planted: Planted) -> None:
    sample = planted.samples[0]
    url = data_url(planted.media.data(sample.media[0]), "a.png")
    first, second = sample.annotations["objects"][:2]
    a, b = (asking.wire_text(o["box"], sample.media[0]) for o in (first, second))
    parts = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": asking.COMPARE.format(a=a, b=b) + "\nChoices: A | B"},
    ]
    turns = [{"role": "system", "content": "Look."}, {"role": "user", "content": parts}]
    body: Json = {"model": MODEL, "messages": turns}
    with serve(planted.truths) as endpoint, httpx.Client(base_url=endpoint.base_url) as client:
        said = client.post("/chat/completions", json=body).json()
        assert client.get("/models").json()["data"][0]["id"] == MODEL
        assert client.get(endpoint.base_url.removesuffix("/v1") + "/healthz").json()["status"] == "ok"
        assert client.post("/chat/completions", json={**body, "model": "gpt"}).status_code == 404
        for broken in ("{", "[]", '{"model":"embedded-teacher","messages":[{"role":"user"}]}'):
            assert client.post("/chat/completions", content=broken).status_code == 400
    with pytest.raises(httpx.ConnectError):
        httpx.get(endpoint.base_url + "/models")
    larger = "A" if first["area"] > second["area"] else "B"
    assert f'"answer":"{larger}"' in said["choices"][0]["message"]["content"]
    assert (
        said["usage"]["total_tokens"] == said["usage"]["prompt_tokens"] + said["usage"]["completion_tokens"]
    )
    assert said == complete(body, planted.truths) | {"created": said["created"]}


def test_the_claimed_mask_is_the_exact_one(planted: Planted) -> None:
    for sample in planted.samples:
        if sample.origin.source == "sa1b":
            a, b = sample.annotations["objects"][:2]
            boxes = {n: asking.wire_text(o["box"], sample.media[0]) for n, o in (("a", a), ("b", b))}
            trace = reply(asking.COMPARE.format(**boxes), [sample.media[0].sha256], planted.truths)
            assert [step["output"]["mask"] for step in trace["steps"]] == [a["rle"], b["rle"]]
            for step, each in zip(trace["steps"], (a, b), strict=True):
                width, height = sample.media[0].width, sample.media[0].height
                assert step["output"]["area"] == round(1000 * each["area"] / (width * height))


@pytest.mark.parametrize(
    ("question", "action", "arguments", "output", "answer"),
    [
        ("What colour is the circle body at [0 0 200 400]?", "PROP", "box", {"colour": "red"}, "red"),
        ("What shape is the thing at [0 0 200 400]?", "PROP", "box", {"shape": "circle"}, "circle"),
        ("What colour is the largest shape?", "PROP", "box", {"colour": "red"}, "red"),
        ("What shape is the red one?", "PROP", "box", {"shape": "circle"}, "circle"),
        ("What does the label on the red circle say?", "OCR", "label_box", {"text": "K7"}, "K7"),
    ],
)
def test_one_step_questions(question: str, action: str, arguments: str, output: Json, answer: str) -> None:
    trace = reply(question, ["d"], {"d": ENTRY})
    (step,) = trace["steps"]
    x0, y0, x1, y1 = THING[arguments]
    wire = [round(x0 * 999 / 100), round(y0 * 999 / 50), round(x1 * 999 / 100), round(y1 * 999 / 50)]
    assert (step["action"], step["output"], trace["answer"]) == (action, output, answer)
    assert all(abs(got - want) <= 1 for got, want in zip(step["arguments"]["box"], wire, strict=True))


@pytest.mark.parametrize(
    "question",
    [
        "What colour is the circle body at [700 700 900 900]?",
        "What does the label on the blue star say?",
        "Which shape moved upwards?",
        "What colour is the largest green shape?",
        "When in the video: a door opens",
        "Why?",
        "",
    ],
)
def test_what_it_cannot_see_it_refuses(question: str) -> None:
    with pytest.raises(Unanswerable):
        reply(question, ["d"], {"d": ENTRY})
    with pytest.raises(Unanswerable):
        reply(question, ["d"], {"d": {"sha256": "d", "width": 100, "height": 50}})
    said = complete({"model": MODEL, "messages": [{"role": "user", "content": question}]}, {})
    assert said["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": "I do not know this picture.",
    }


def test_films_are_followed_and_searched() -> None:
    def track(label: str, *xs: int) -> dict[str, Any]:
        boxes = [[x, 10, x + 10, 20] for x in xs]
        return {"label": label, "frames": list(range(len(xs))), "boxes": boxes}

    film: Json = {
        "sha256": "d",
        "width": 100,
        "height": 50,
        "frames": 8,
        "fps": 2,
        "tracks": [track("red star", 50, 48, 46), track("blue circle", 60, 40, 20)],
        "windows": [{"query": "When does the blue circle appear?", "start": 1.0, "end": 2.5}],
    }
    moved = reply(
        "Which shape moved to the left?\nChoices: The red star. | The blue circle.", ["d"], {"d": film}
    )
    assert moved["answer"] == "The blue circle."
    for followed, x in zip(moved["steps"], (46, 20), strict=True):
        assert followed["action"] == "TRK" and len(followed["output"]["boxes"]) == 3
        assert followed["arguments"] == {"box": followed["output"]["boxes"][0], "start": 0, "end": 2}
        assert abs(followed["output"]["boxes"][-1][0] - x * 999 / 100) <= 1
    for query in ("When does the blue circle appear?", "blue circle appears"):
        when = reply(f"When in the video: {query}", ["d"], {"d": film})
        assert when["answer"] == "1.0-2.5"
        assert when["steps"][0]["output"] == {"start": 1.0, "end": 2.5}
        assert when["steps"][0]["arguments"] == {"query": query, "start": 0.0, "end": 4.0}


def test_it_tells_the_kind_that_the_prompt_asks_for_and_the_same_again() -> None:
    picture = png(np.zeros((8, 8, 3), np.uint8))
    parts = [
        {"type": "image_url", "image_url": {"url": data_url(picture, "a.png")}},
        {"type": "text", "text": "What shape is the red one?"},
    ]
    digest = hashlib.sha256(picture).hexdigest()

    def told(kind: TraceKind, **more: Any) -> Json:
        system = load(kind, "plain").system
        turns = [{"role": "system", "content": system}, {"role": "user", "content": parts}]
        body = {"model": MODEL, "messages": turns, "temperature": 0.7, **more}
        content = complete(body, {digest: ENTRY})["choices"][0]["message"]["content"]
        parsed: Json = json.loads(content)
        assert parsed.keys() == load(kind, "plain").schema["properties"].keys()
        return parsed

    right = told("positive")
    negative, trap, corrected = (
        told(kind) for kind in ("outcome-negative", "process-negative", "self-correction")
    )
    assert right["answer"] == corrected["answer"] == "circle"
    assert negative["steps"] == right["steps"] and negative["answer"] in set(asking.SHAPES) - {"circle"}
    assert trap["steps"][0]["output"] == {"shape": trap["answer"]} != right["steps"][0]["output"]
    assert len(corrected["steps"]) == 2 and corrected["steps"][1]["output"] == right["steps"][0]["output"]
    assert told("process-negative", stream=False) == trap, "how it is asked changes nothing"
    drawn = {json.dumps(told("process-negative", temperature=n / 10)) for n in range(9)}
    assert len(drawn) > 1


def test_a_batch_is_answered_by_the_same_teacher() -> None:
    with serve({}) as endpoint, httpx.Client(base_url=endpoint.base_url) as client:
        line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
                "body": {"model": MODEL, "messages": [{"role": "user", "content": "Why?"}]}}  # fmt: skip
        file = client.post(
            "/files", data={"purpose": "batch"}, files={"file": json.dumps(line) + "\n"}
        ).json()
        asked = {"input_file_id": file["id"], "endpoint": line["url"], "completion_window": "24h"}
        batch = client.post("/batches", json=asked).json()
        out = client.get(f"/files/{batch['output_file_id']}/content").text
    answer = json.loads(out)["response"]["body"]["choices"][0]["message"]
    assert (batch["status"], answer["refusal"]) == ("completed", "I do not know this picture.")
