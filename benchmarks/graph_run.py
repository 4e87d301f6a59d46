"""One run of the graph in a project root of its own, with seconds and peak memory of each stage.

`python -m benchmarks.graph_run ROOT PROFILE [ASSET ...]`, a process of its own for the demo suite. Writes
ROOT/stages.json: asset -> {"seconds", "peak"}, summed and largest over its partitions; a stage that was
skipped is not in it. Memory in bytes, resident.
"""

import json
import re
import sys
from pathlib import Path
from time import perf_counter
from typing import Protocol

from assets import driver, graph
from assets.running import Made
from assets.stage import Project, Stage, Watch
from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import load


class Runner(Protocol):
    """`assets.running.run`."""

    def __call__(
        self,
        project: Project,
        stage: Stage,
        partition: str,
        about: Json | None = None,
        watch: Watch | None = None,
    ) -> Made: ...


def peak() -> int:
    """This process's largest resident memory, in bytes, since it was last asked (Linux)."""
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    Path("/proc/self/clear_refs").write_text("5")  # sets the mark back to what is resident now
    return int(kilobytes) * 1024


def watched(run: Runner, seen: dict[str, dict[str, float]]) -> Runner:
    """`run`, noting into `seen` what each stage took: memory in this process, not in those it starts."""

    def run_and_note(
        project: Project,
        stage: Stage,
        partition: str,
        about: Json | None = None,
        watch: Watch | None = None,
    ) -> Made:
        peak()
        started = perf_counter()
        made = run(project, stage, partition, about, watch)
        if not made.skipped:
            note = seen.setdefault(stage.key, {"seconds": 0.0, "peak": 0.0})
            note["seconds"] += perf_counter() - started
            note["peak"] = max(note["peak"], peak())
        return made

    return run_and_note


def main(root: Path, profile: str, to: list[str]) -> int:
    """What `pixelis run` does, at `root`."""
    seen: dict[str, dict[str, float]] = {}
    graph.run = watched(graph.run, seen)
    code = driver.run(Project(root, load(root, profile)), to=to)
    (root / "stages.json").write_text(json.dumps(seen))
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
