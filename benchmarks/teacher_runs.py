"""A client as a process of its own, against a server that is one too: to the end, or killed half way."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.limits import Limits
from benchmarks.peer_environment import ROOT
from benchmarks.teacher_load import Call, Load, Result, billed_twice, result
from pixelis_pipeline.synthesis import prompt

LANDING = 0.1  # seconds: an answer that left so shortly before a kill may still have been on its way


@dataclass(frozen=True, slots=True)
class Client:
    """A label for the table, the command that runs a job file, and the client's own settings."""

    label: str
    command: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Crash:
    """A client killed when half of the rows were answered, and run again. `twice` counts rows that were
    billed in both runs, `needless` those of them that were not in flight at the kill."""

    twice: int
    needless: int
    lost: int


@contextmanager
def served(limits: Limits) -> Iterator[str]:
    """The address of a fresh server with these limits."""
    command = [sys.executable, "-m", "benchmarks.limited_server", json.dumps(asdict(limits))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            server.kill()


def calls(url: str) -> list[Call]:
    """Every call that the server has seen, in the order of asking."""
    with urllib.request.urlopen(f"{url}/stats") as answer:
        return [tuple(call) for call in json.load(answer)["calls"]]


def run(client: Client, load: Load) -> Result:
    """One client under one load. RuntimeError, with the end of what it said, where it breaks down."""
    with TemporaryDirectory(prefix="pixelis-bench-") as temporary, served(load.limits) as url:
        done = _finished(client, load, url, Path(temporary))
        return result(load, calls(url), done)


def crashed(client: Client, load: Load) -> Crash:
    """SIGKILL at half time, then once more. RuntimeError where either run breaks down."""
    with TemporaryDirectory(prefix="pixelis-bench-") as temporary, served(load.limits) as url:
        child = _started(client, load, url, Path(temporary))
        until = time.monotonic() + load.patience
        while sum(status == 200 for *_, status in calls(url)) < load.rows // 2:
            if child.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{client.label} did not get to half of its rows")
            time.sleep(0.2)
        child.kill()
        child.wait()
        seen = calls(url)
        last = max(ended or 0.0 for _, _, ended, _ in seen)
        flying = {row for row, _, ended, _ in seen if ended is None or ended > last - LANDING}
        came = _finished(client, load, url, Path(temporary))
        after = calls(url)
        needless = len(billed_twice(after) - flying)
        return Crash(len(billed_twice(after)), needless, result(load, after, came).lost)


def _started(client: Client, load: Load, url: str, place: Path) -> "subprocess.Popen[bytes]":
    job = place / "job.json"
    system = prompt.load("positive", "plain").system
    given = {"url": url, "system": system, "rows": load.words(), "settings": dict(client.settings)}
    job.write_text(json.dumps(given))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (place / "log").open("ab") as log:
        return subprocess.Popen(
            [*client.command, str(job)], cwd=ROOT, stdout=log, stderr=log, env=environment
        )


def _finished(client: Client, load: Load, url: str, place: Path) -> Mapping[str, Any] | None:
    """What the client says that it did; None where it had to be stopped."""
    child = _started(client, load, url, place)
    try:
        code = child.wait(load.patience)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return None
    if code:
        said = (place / "log").read_text(errors="replace")[-1500:]
        raise RuntimeError(f"{client.label} ended with {code}: {said}")
    done: dict[str, Any] = json.loads((place / "job.done").read_bytes())
    return done
