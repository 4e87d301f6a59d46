"""One client under one load, in a process of its own: `python -m benchmarks.teacher_clients CLIENT JOB`.

JOB is a JSON file: {"url", "system", "rows": [words of the user], "settings": the client's own}. Beside it,
`<JOB>.done` says what came of it: {"seconds", "cpu", "rows": {words: text of the answer}}. Imports are not in
the seconds. A row without an answer is not in `rows`.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pixelis_pipeline.media import MediaStore
from pixelis_pipeline.records import Accepted, Assignment, Origin, Question, record_id
from pixelis_pipeline.settings import MediaLimits, TeacherSettings
from pixelis_pipeline.synthesis.asking.client import ask
from pixelis_pipeline.synthesis.asking.endpoint import Endpoint
from pixelis_pipeline.synthesis.asking.store import AnswerStore

MODEL = "teacher"
ORIGIN = Origin("benchmark", "row", "CC0-1.0", "training")


def assignment(words: str) -> Assignment:
    """A row as the plan would emit it, without pictures: its request carries exactly these words."""
    identity = record_id("benchmark", 1, {}, [], words)
    question = Question(identity, (), ORIGIN, (), words, answer="", task="benchmark")
    return Assignment(identity, (), question)


def ours(job: dict[str, Any], root: Path) -> dict[str, str]:
    """The project's client over a store below `root`; what stands there from an earlier run is kept."""
    settings = TeacherSettings(model=MODEL, **job["settings"])
    endpoint = Endpoint("benchmark", job["url"], "key")
    outcomes = ask(
        [assignment(words) for words in job["rows"]],
        settings,
        AnswerStore(root),
        MediaStore(root, MediaLimits()),
        endpoint,
    )
    kept = [each.records[0] for each in outcomes if isinstance(each, Accepted)]
    return {response.question.text: response.text for response in kept}


def gather(job: dict[str, Any], root: Path) -> dict[str, str]:
    """What people write first: one coroutine a row, the SDK's retries, errors kept from ending the rest.

    Settings: `max_retries` (the SDK's own default is 2) and `at_once`, a semaphore (0: none).
    """
    import openai

    given = job["settings"]

    async def everything() -> list[Any]:
        room = asyncio.Semaphore(given.get("at_once") or len(job["rows"]))
        more = {"max_retries": given["max_retries"]} if "max_retries" in given else {}
        async with openai.AsyncOpenAI(base_url=job["url"], api_key="key", **more) as client:

            async def one(words: str) -> Any:
                said = [{"role": "system", "content": job["system"]}, {"role": "user", "content": words}]
                create: Any = client.chat.completions.create
                async with room:
                    return await create(model=MODEL, messages=said)

            return await asyncio.gather(*map(one, job["rows"]), return_exceptions=True)

    found = zip(job["rows"], asyncio.run(everything()), strict=True)
    return {
        words: answer.choices[0].message.content
        for words, answer in found
        if not isinstance(answer, BaseException)
    }


CLIENTS: dict[str, Callable[[dict[str, Any], Path], dict[str, str]]] = {"ours": ours, "gather": gather}


def main(name: str, path: Path) -> None:
    """Run one client and write what it did."""
    job = json.loads(path.read_bytes())
    started, cpu = time.perf_counter(), time.process_time()
    rows = CLIENTS[name](job, path.parent)
    done = {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "rows": rows,
    }
    path.with_suffix(".done").write_text(json.dumps(done))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
