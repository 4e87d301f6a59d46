"""Many traces through scores, curriculum and splits: records a second, and the most memory each takes.

The traces are the embedded world's, replayed, and copied under ids, groups and media of their own until
there are enough. Each stage's body runs in a process of its own and writes a whole artifact, as in a run.
The splits' largest deviation stands beside that of a draw by hash of the group.
"""

import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from subprocess import PIPE, run
from tempfile import TemporaryDirectory

from assets.catalogue import STAGES
from assets.stage import Project, Work
from benchmarks.measurement import Measurement, measured, show
from benchmarks.replay import replayed
from benchmarks.traces import world
from pixelis_pipeline.curation.leakage import LeakageReport
from pixelis_pipeline.curation.splits import Outline, shares, stratum, uniform
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.records import Accepted, Trajectory
from pixelis_pipeline.settings import CurationSettings, Settings

ROOT = Path(__file__).resolve().parent.parent
ITEMS = {"sa1b": 12, "partimagenet": 12, "fineweb": 12, "mathvista": 24, "starqa": 6, "ego4d": 6}
TRACES = 200_000  # a million takes 40 minutes on two cores: `python -m benchmarks.curation 1000000`
A_GROUP = 3  # traces, as a picture has several questions
BATCHES = 4
CHAIN = ("deduplicated_trajectories", "scored_trajectories", "curriculum", "training_splits")
AIM = 4.0  # GB


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a trace of the curriculum was placed, from the columns of the splits."""

    parents: tuple[str, ...]
    split: str


@dataclass
class Apart(Work):
    """A run that reads artifacts in `root`, without a ledger."""

    root: Path = field(default_factory=Path)

    def folders(self, asset: str) -> list[Path]:
        return [self.root / asset]


def copies(traces: list[Trajectory], count: int) -> Iterator[Trajectory]:
    """`count` traces in total order, A_GROUP to a group and medium, BATCHES batches of equal size."""
    for n in range(count):
        trace, at = traces[n % len(traces)], n // A_GROUP
        name = sha256(str(n).encode()).hexdigest()
        media = tuple(
            replace(each, sha256=sha256(f"{at} {k}".encode()).hexdigest())
            for k, each in enumerate(trace.question.media)
        )
        question = replace(trace.question, id=name, media=media)
        batch = f"{n * BATCHES // count:03d}"
        yield replace(trace, id=name, question=question, batch=batch, group=media[0].sha256, request=name)


def made(root: Path, count: int) -> None:
    """Write the artifacts that the chain begins with below `root`."""
    small = world(root / "world", ITEMS)
    kept = [each for outcome in replayed(small, small.traces) for each in getattr(outcome, "records", ())]
    for asset, record, records in (
        (CHAIN[0], Trajectory, copies(kept, count)),
        ("leakage_audit", LeakageReport, [LeakageReport(count, 0, "t", "e", 0, 0, (0.0, 1.0), 0.95)]),
    ):
        folder = root / asset
        folder.mkdir()
        outcomes = (Accepted(str(n), (each,)) for n, each in enumerate(records))
        artifact.seal(folder, artifact.write(folder, record, outcomes), record)


def stage(root: Path, key: str) -> None:
    """Run one stage's body over the artifacts in `root`; print its inputs, seconds and peak memory in GB."""
    folder = root / key
    folder.mkdir()
    work = Apart(Project(root, Settings()), STAGES[key], "all", folder, (), root=root)
    started = time.perf_counter()
    counts = artifact.write(folder, work.stage.record, work.stage.body(work))
    seconds = time.perf_counter() - started
    artifact.seal(folder, counts, work.stage.record)
    print(counts.inputs, seconds, _peak())


def _peak() -> float:
    """GB that this process held at most. Not ru_maxrss: that begins at what the parent held."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1e6


def deviations(root: Path, settings: CurationSettings) -> tuple[float, float]:
    """The worst deviation from its share, in traces, of any split of any stratum and of the whole: of the
    splits that were made, and of a draw by hash on the same traces."""
    placed = {each.parents[0]: each.split for each in artifact.records(root / CHAIN[3], Placed)}
    ours: Counter[tuple[tuple[str, ...], str]] = Counter()
    drawn: Counter[tuple[tuple[str, ...], str]] = Counter()
    for each in artifact.records(root / CHAIN[2], Outline):
        if each.id in placed:
            place, edge = uniform(each.group, settings), settings.dev_share + settings.test_share
            name = "dev" if place < settings.dev_share else "test" if place < edge else "train"
            drawn[stratum(each.question), name] += 1
            ours[stratum(each.question), placed[each.id]] += 1
    worst = [max(row["off by"] for row in shares(each, settings).values()) for each in (ours, drawn)]
    return worst[0], worst[1]


def suite(count: int = TRACES) -> list[Measurement]:
    """Rates, peaks and deviations over `count` traces."""
    rows = []
    with TemporaryDirectory(prefix="pixelis-bench-") as temporary:
        root = Path(temporary)
        made(root, count)
        for key in CHAIN[1:]:
            command = [sys.executable, "-m", "benchmarks.curation", temporary, key]
            printed = run(command, cwd=ROOT, check=True, stdout=PIPE, text=True).stdout.split()[-3:]
            inputs, seconds, peak = map(float, printed)
            rows.append(measured(f"{key}: {inputs:,.0f} traces", inputs / seconds, "traces/s"))
            rows.append(measured(f"{key}: peak memory", peak, "GB", at_most=AIM))
            print(f"{key}: {seconds:.0f} s, {peak:.2f} GB", file=sys.stderr, flush=True)
        ours, drawn = deviations(root, CurationSettings())
    worst = Measurement(
        "splits: worst deviation from a share, any stratum",
        round(ours, 2),
        "traces",
        peer="a draw by hash of the group",
        peer_value=round(drawn, 2),
        ratio=round(ours / drawn, 4) if drawn else None,
    )
    return [*rows, worst]


if __name__ == "__main__":
    if len(sys.argv) == 2:
        show("curation", suite(int(sys.argv[1])))
    else:
        stage(Path(sys.argv[1]), sys.argv[2])
