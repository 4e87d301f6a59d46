"""How much memory and time 76,000 planned requests take: writing the plan, storing the answers, and coming
back to a finished store, each in a process of its own.

The plan's questions are made up over a few media that nobody opens (a key needs their digests alone): two
thirds about a picture, a third about a video, of which 24 frames are named. Answers have the paper's 5.8
steps at the length that the embedded teacher writes. `python -m benchmarks.requests PHASE ROOT COUNT` is one
of the processes; it prints its wall seconds, its CPU seconds and its peak resident memory.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measurement import Measurement, measured
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.media import MediaStore
from pixelis_pipeline.records import (
    Accepted,
    Assignment,
    Media,
    Origin,
    Outcome,
    Question,
    TraceKind,
    record_id,
)
from pixelis_pipeline.settings import MediaLimits, TeacherSettings
from pixelis_pipeline.synthesis import prompt as prompts
from pixelis_pipeline.synthesis.asking.client import ask
from pixelis_pipeline.synthesis.asking.endpoint import Endpoint
from pixelis_pipeline.synthesis.asking.estimate import PAPER_STEPS, STEP_BYTES
from pixelis_pipeline.synthesis.asking.store import Answer, AnswerStore
from pixelis_pipeline.synthesis.request import Request, request_for
from pixelis_pipeline.synthesis.response import Response

ROOT = Path(__file__).resolve().parent.parent
COUNT = 76_000
WRITERS = 8
TEACHER = TeacherSettings(endpoint="http://127.0.0.1:9/v1", model="m")  # where nobody answers
KINDS: tuple[TraceKind, ...] = ("positive",) * 7 + (
    "outcome-negative",
    "process-negative",
    "self-correction",
)
STYLES = ("plain", "careful", "terse")
MEMORY, SECONDS, RATE = 1_500, 20.0, 500.0  # MB, s, answers a second


def plan(count: int) -> Iterator[Assignment]:
    """`count` assignments, no two with one request."""
    media = [Media(sha256(b"%d" % n).hexdigest(), "image", f"raw/{n}.jpg", 640, 480) for n in range(8)] + [
        Media(sha256(b"v%d" % n).hexdigest(), "video", f"raw/{n}.mp4", 640, 480, 60, 10.0) for n in range(4)
    ]
    for number in range(count):
        about = media[number % len(media)]
        source = "starqa" if about.kind == "video" else "sa1b"
        parent = record_id("raw", 1, {}, [], number)
        question = Question(
            record_id("question", 1, {}, [parent], number),
            (parent,),
            Origin(source, f"record-{number}", "CC0-1.0", "training"),
            (about,),
            f"Which of the boxed objects at [{number % 997}, 120, {number}, 480] is larger?",
            "A",
            "compare",
            ("SEG", "SEG"),
            ("A", "B"),
            "choice",
        )
        identity = record_id("synthesis_plan", 1, {}, [question.id], number)
        kind, style = KINDS[number % len(KINDS)], STYLES[number % len(STYLES)]
        yield Assignment(identity, (parent,), question, kind, style, stratum=f"compare/{source}")


def request(each: Assignment) -> Request:
    """What the teacher would be sent."""
    return request_for(each, TEACHER.model, TEACHER.endpoint, prompts.load(each.kind, each.style))


def planned(root: Path, count: int) -> None:
    """Write the plan's record."""
    folder = root / "plan"
    folder.mkdir()
    artifact.write(folder, Assignment, (Accepted(each.id, (each,)) for each in plan(count)))


def answered(root: Path, count: int) -> None:
    """Read the plan, and keep an answer to each of its requests, from several threads as they come."""
    text = json.dumps({"steps": [], "answer": "A", "thought": "x" * round(PAPER_STEPS * STEP_BYTES)})
    usage = {"prompt": 3_000, "completion": 600}

    def keep(request: Request) -> None:
        store.write(request, Answer(text, "stop", "m", usage, {"id": f"chatcmpl-{request.sample}"}))

    requests = map(request, artifact.records(root / "plan", Assignment))
    with AnswerStore(root) as store, ThreadPoolExecutor(WRITERS) as pool:
        while chunk := list(islice(requests, 1_000)):
            list(pool.map(keep, chunk))


def resumed(root: Path, count: int) -> None:
    """Read the plan, ask for all of it once more, and write the responses' record."""
    media, nowhere = MediaStore(root, MediaLimits()), Endpoint(TEACHER.endpoint, TEACHER.endpoint, "no key")
    with AnswerStore(root) as store:
        assignments = list(artifact.records(root / "plan", Assignment))
        outcomes: list[Outcome[Response]] = ask(assignments, TEACHER, store, media, nowhere)
    folder = root / "responses"
    folder.mkdir()
    if (counts := artifact.write(folder, Response, outcomes)).accepted != count:
        raise SystemExit(f"{counts.accepted} of {count} were answered")


PHASES: dict[str, Callable[[Path, int], None]] = {
    "planned": planned,
    "answered": answered,
    "resumed": resumed,
}


def peak() -> float:
    """Peak resident memory of this process in MB. That of `getrusage` would begin with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e3


def in_child(phase: str, root: Path, count: int) -> tuple[float, float, float]:
    """(wall seconds, CPU seconds, peak MB) of a phase in a fresh process, without the time of its start."""
    command = [sys.executable, "-m", "benchmarks.requests", phase, str(root), str(count)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    seconds, cpu, megabytes = json.loads(done.stdout)
    return seconds, cpu, megabytes


def compare(root: Path, count: int) -> list[Measurement]:
    """All phases over `count` requests below `root`."""
    found = {phase: in_child(phase, root, count) for phase in PHASES}
    most = max(megabytes for _, _, megabytes in found.values())
    rate = count / found["answered"][0]
    size = (root / "data/teacher/answers.sqlite").stat().st_size / 1e6
    label = f"{count:,} requests"
    return [
        *(measured(f"{label}, {phase}: peak memory", mb, "MB") for phase, (_, _, mb) in found.items()),
        measured(f"{label}: most memory of any of these", most, "MB", MEMORY),
        measured(f"{label}, planned: time", found["planned"][0], "s"),
        measured(f"{label}, resumed with all answered: time", found["resumed"][0], "s", SECONDS),
        measured(f"{label}, resumed with all answered: CPU time", found["resumed"][1], "s"),
        Measurement(
            f"{label}, answered: kept durably by {WRITERS} threads",
            round(rate, 1),
            "answers/s",
            target=RATE,
            met=rate >= RATE,
        ),
        measured(f"{label}: the store", size, "MB"),
    ]


def suite() -> list[Measurement]:
    """The paper's 76,000 traces."""
    with TemporaryDirectory(prefix="pixelis-bench-") as temporary:
        return compare(Path(temporary), COUNT)


def main(phase: str, root: str, count: str) -> None:
    """Run one phase in this process and print [wall seconds, CPU seconds, peak MB]."""
    started, cpu = time.perf_counter(), time.process_time()
    PHASES[phase](Path(root), int(count))
    print(json.dumps([time.perf_counter() - started, time.process_time() - cpu, peak()]))


if __name__ == "__main__":
    main(*sys.argv[1:])
