"""A stage of the graph, without Dagster: what it reads and what it makes. `running` runs it.

The modules beside this one declare stages; `graph` turns them into Dagster assets. Kept apart so that
`status`, `trace` and `verify` work where Dagster is not installed, and so that a stage body is a plain
function from records to outcomes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from assets import batches
from pixelis_pipeline.ledger import artifact, code
from pixelis_pipeline.ledger.chain import Input
from pixelis_pipeline.ledger.ledger import WHOLE, Ledger
from pixelis_pipeline.media.image import SIDE, Pixels
from pixelis_pipeline.media.store import MediaStore
from pixelis_pipeline.records import Json, Media, Outcome
from pixelis_pipeline.settings import SOURCES, Settings

R = TypeVar("R")
Advance = Callable[[int], None]
Progress = Callable[[str, int], AbstractContextManager[Advance]]

LINE = "line"  # one partition a batch and source
POLICY = "policy"  # one partition a policy and benchmark
MADE_FROM = {  # the policies that are measured, controls among them, and the asset each comes from
    "base": "base_policy",
    "majority": "training_splits",
    "sft": "sft_policy",
    "sft_no_tools": "sft_policy",
    "rft": "rft_policy",
}


class Watch(Protocol):
    """Who follows a process that a stage starts for long work. It speaks the protocol of Dagster Pipes."""

    def session(self, messages: Path) -> AbstractContextManager[Mapping[str, str]]:
        """The environment variables by which the process learns that it is followed, and that its messages
        go to the file `messages`."""
        ...

    def hear(self, message: Json) -> None:
        """A message of the protocol."""
        ...

    def show(self, description: str, numbers: Mapping[str, float], curves: str) -> None:
        """How far the work is: in words, in numbers by name, and as a Markdown table of curves."""
        ...


class StageError(RuntimeError):
    """A stage that cannot be run as things stand; the message says what to do."""


@contextmanager
def silent(description: str, total: int) -> Iterator[Advance]:
    """Progress that nobody watches."""
    yield lambda done: None


def home() -> Path:
    """The project's folder: the current one if it holds workspace.yaml, else this checkout."""
    here = Path.cwd()
    return here if (here / "workspace.yaml").is_file() else Path(__file__).resolve().parent.parent


@dataclass
class Project:
    """A checkout with its settings, its ledger and its media."""

    root: Path
    settings: Settings
    progress: Progress = silent
    # What teachers took in this process: budgets are a run's, and a run asks about many partitions.
    spent: Json = field(default_factory=lambda: {"tokens": 0.0, "dollars": 0.0})

    @cached_property
    def ledger(self) -> Ledger:
        """The versions of this checkout."""
        return Ledger(self.root)

    @cached_property
    def media(self) -> MediaStore:
        """The pictures and clips that records point to."""
        return MediaStore(self.root, self.settings.media)

    def reduced(self, media: Media) -> Pixels:
        """An image, small: its shorter side at least SIDE pixels where it has them, uint8 RGB."""
        return self.media.reduced(media, SIDE)

    def key_frames(self, media: Media) -> list[tuple[float, Pixels]]:
        """The first frame of every second of a video, small: (seconds, uint8 RGB) each."""
        return list(self.media.key_frames(media, SIDE))

    @property
    def batches(self) -> list[str]:
        """The batches that settings name and, after them, those that were opened."""
        named = self.settings.batches
        return [*named, *(batch for batch in batches.read(self.root) if batch not in named)]

    def sources(self, batch: str) -> list[str]:
        """The sources of one batch, sorted."""
        return sorted(batches.read(self.root).get(batch, SOURCES))

    def scratch(self, asset: str, partition: str) -> Path:
        """The folder of work under way on a partition."""
        folder = self.root / "data" / ".work" / asset / partition
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def partitions(self, stage: "Stage") -> list[str]:
        """Every partition that a stage is asked for, in the total order (batch, source)."""
        if stage.partitions == WHOLE:
            return [WHOLE]
        if stage.partitions == POLICY:
            return [f"{policy}-capabilities" for policy in MADE_FROM]
        lines = [(batch, source) for batch in self.batches for source in self.sources(batch)]
        return [f"{batch}-{source}" for batch, source in lines if stage.partitions in (LINE, source)]


Body = Callable[["Work"], Iterable[Outcome[Any]]]
Outside = Callable[[Project, str], Json]
Restore = Callable[[Project, str], None]
Pinned = Callable[[Project], tuple[Input, ...]]


@dataclass(frozen=True)
class Stage:
    """One asset of the graph.

    partitions  WHOLE, LINE, POLICY, or the one source of a raw asset
    settings    names of the sections whose values decide the output
    outside     digests what decides it too and is neither settings nor an input: a user's folder,
                shipped weights
    pinned      versions that settings name and the body reads too. They are inputs of the run and no edges
                of the graph: what is pinned may itself come from this stage
    conserves   the upstreams each of whose records must leave this stage once; by default the first
    restore     brings back what its records point to and can be made again (a deleted embedded world),
                for when the stage itself need not run
    retries     may fail on single inputs of its first upstream: the next run repeats just those
    attested    holds a model's words, which can be kept but never derived again
    stable      is the same bytes on every run
    aside       is made only where it is asked for by name: nothing reads its newest version
    gate        names a blocking check: `Work.block` fails it, and nothing after it runs
    """

    key: str
    body: Body
    record: type
    group: str
    inputs: tuple[str, ...] = ()
    partitions: str = WHOLE
    settings: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    outside: Outside | None = None
    pinned: Pinned | None = None
    conserves: tuple[str, ...] | None = None
    restore: Restore | None = None
    retries: bool = False
    attested: bool = False
    stable: bool = True
    aside: bool = False
    gate: str = ""

    @property
    def conserved(self) -> tuple[str, ...]:
        """The upstreams whose records are counted."""
        return self.inputs[:1] if self.conserves is None else self.conserves

    def reads(self, partition: str) -> tuple[str, ...]:
        """The upstreams that a run of this partition reads: of the policies, the one that is asked."""
        if self.partitions != POLICY:
            return self.inputs
        others = {*MADE_FROM.values()} - {MADE_FROM[partition.rpartition("-")[0]]}
        return tuple(above for above in self.inputs if above not in others)

    @property
    def description(self) -> str:
        """What people read on the asset's page."""
        return (self.body.__doc__ or "").strip()

    @cached_property
    def code(self) -> str:
        """The code version of the body and all it imports."""
        return code.code_version(self.body)


STAGES: dict[str, Stage] = {}


def stage(key: str, *, inputs: Sequence[str] = (), **declared: Any) -> Callable[[Body], Body]:
    """Declare the decorated body as the stage `key`; the other arguments are `Stage`'s fields."""

    def declare(body: Body) -> Body:
        if key in STAGES:
            raise ValueError(f"two stages are called {key}")
        if missing := [name for name in inputs if name not in STAGES]:
            raise ValueError(f"{key} reads {missing[0]}, which is not declared before it")
        STAGES[key] = Stage(key=key, body=body, inputs=tuple(inputs), **declared)
        return body

    return declare


@dataclass
class Work:
    """One run of one partition of a stage: what its body reads from, and writes extra files to."""

    project: Project
    stage: Stage
    partition: str
    folder: Path
    inputs: tuple[Input, ...]
    only: frozenset[str] | None = None
    digests: Json = field(default_factory=dict)
    about: Json = field(default_factory=dict)
    blocked: str = ""
    standing: Sequence[Any] = ()  # on a retry, the records of the inputs that need not be run again
    before: float = 0.0  # on a retry, the seconds that the runs before it took
    afresh: bool = False  # nothing that an earlier run had done may be used
    watch: Watch | None = None  # who follows a process that is started for the body's work

    @property
    def settings(self) -> Settings:
        """The resolved settings."""
        return self.project.settings

    @property
    def batch(self) -> str:
        """The batch of a line partition."""
        return self.partition.rpartition("-")[0]

    @property
    def source(self) -> str:
        """The source of a line partition."""
        return self.partition.rpartition("-")[2]

    @property
    def policy(self) -> str:
        """The policy of a policy partition."""
        return self.partition.rpartition("-")[0]

    @property
    def scratch(self) -> Path:
        """A folder that outlives a killed run of this partition, for long work that can go on."""
        return self.project.scratch(self.stage.key, self.partition)

    def folders(self, asset: str) -> list[Path]:
        """Where the versions of `asset` lie that this run reads, in total order."""
        found = [i for i in self.inputs if i.asset == asset]
        if not found:
            raise StageError(f"{self.stage.key} does not read {asset}")
        return [self.project.ledger.folder(i.asset, i.partition, i.version) for i in found]

    def read(self, asset: str, record: type[R]) -> Iterator[R]:
        """The accepted records of `asset`; on a retry, of the first upstream only the failed inputs."""
        first = asset == self.stage.inputs[0]
        for folder in self.folders(asset):
            for each in artifact.records(folder, record):
                if self.only is None or not first or each.id in self.only:  # type: ignore[attr-defined]
                    yield each

    def block(self, why: str) -> None:
        """Fail the stage's blocking check. The artifact is still kept: it is the evidence."""
        self.blocked = why

    def progress(self, total: int) -> AbstractContextManager[Advance]:
        """A progress bar over `total` records."""
        return self.project.progress(f"{self.stage.key} [{self.partition}]", total)
