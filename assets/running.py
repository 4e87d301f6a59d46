"""Running a stage once against the ledger: what it would read, whether it may be skipped, the commit."""

import platform
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from assets.stage import LINE, STAGES, Project, Stage, StageError, Watch, Work
from pixelis_pipeline.ledger import artifact, code, dvc
from pixelis_pipeline.ledger.artifact import Counts
from pixelis_pipeline.ledger.chain import Input, RunRecord
from pixelis_pipeline.ledger.ledger import WHOLE
from pixelis_pipeline.records import Accepted, Failed, Json, Outcome, canonical


def upstream(project: Project, stage: Stage, partition: str) -> tuple[Input, ...]:
    """The versions that a run of this partition reads now. StageError where one is not made yet."""
    found = []
    for key in stage.reads(partition):
        above = STAGES[key]
        wanted = project.partitions(above)
        if stage.partitions == LINE and above.partitions != WHOLE:
            wanted = [p for p in wanted if p == partition]
        for each in wanted:
            version = project.ledger.current(key, each)
            if version is None:
                raise StageError(f"{stage.key} [{partition}] needs {key} [{each}] first: run `pixelis run`")
            found.append(Input(key, each, version))
    return (*found, *(stage.pinned(project) if stage.pinned else ()))


def resolved(project: Project, stage: Stage, partition: str) -> Json:
    """The settings that decide this output. `source` and `benchmark` mean the partition's own entry."""
    tree = project.settings.model_dump(mode="json")
    values: Json = {}
    for section in stage.settings:
        group, _, name = section.partition(".")
        if section == "source":
            group, name = "sources", partition.rpartition("-")[2]
        values[f"{group}.{name}".rstrip(".")] = tree[group][name] if name else tree[group]
    if stage.outside:
        values["outside"] = stage.outside(project, partition)
    return values


@dataclass(frozen=True, slots=True)
class Made:
    """What a run of a stage came to. `skipped` is True where nothing had to be done."""

    record: RunRecord
    skipped: bool
    blocked: str = ""

    @property
    def counts(self) -> Counts:
        """How the inputs left the stage."""
        return Counts(**self.record.counts)


def expected(project: Project, stage: Stage, inputs: Sequence[Input]) -> int | None:
    """How many records must leave a stage that reads these versions, by their manifests; None where it
    reads none one by one."""
    if not stage.conserved:
        return None
    read = [i for i in inputs if i.asset in stage.conserved]
    folders = (project.ledger.folder(i.asset, i.partition, i.version) for i in read)
    return sum(artifact.counts(folder).emitted for folder in folders)


def settled(project: Project, stage: Stage, partition: str) -> RunRecord | None:
    """The record that makes running this partition needless, if there is one."""
    inputs = upstream(project, stage, partition)
    settings = sha256(canonical(resolved(project, stage, partition))).hexdigest()
    return project.ledger.unchanged(stage.key, partition, inputs, stage.code, settings)


def run(
    project: Project, stage: Stage, partition: str, about: Json | None = None, watch: Watch | None = None
) -> Made:
    """Run one partition of a stage and commit its version, or skip it where nothing has changed.

    `about` is kept in the run record (the Dagster run's id, say); `watch` follows what the body has done by
    a process of its own. Whatever the body raises passes through, and then no version is made.
    """
    ledger = project.ledger
    inputs = upstream(project, stage, partition)
    values = resolved(project, stage, partition)
    settings = sha256(canonical(values)).hexdigest()
    if done := ledger.unchanged(stage.key, partition, inputs, stage.code, settings):
        if stage.restore:
            stage.restore(project, partition)
        return Made(done, True, str(done.about.get("blocked", "")))
    started = time.monotonic()
    with ledger.staging() as folder:
        work = Work(project, stage, partition, folder, inputs, about=dict(about or {}), watch=watch)
        counts = artifact.write(folder, stage.record, _outcomes(work, settings))
        if counts.inputs != (due := expected(project, stage, inputs)) and due is not None:
            raise StageError(f"{stage.key} [{partition}] took in {due} records and let out {counts.inputs}")
        artifact.seal(folder, counts, stage.record)
        record = ledger.commit(
            folder,
            RunRecord(
                asset=stage.key,
                partition=partition,
                version="",
                bytes=0,
                files=0,
                inputs=inputs,
                code=stage.code,
                settings=settings,
                counts=asdict(counts),
                resolved=values,
                digests=work.digests,
                git=code.git_state(project.root),
                environment=code.environment(project.root),
                about=work.about
                | {"host": platform.node(), "seconds": round(work.before + time.monotonic() - started, 3)}
                | ({"blocked": work.blocked} if work.blocked else {}),
            ),
        )
    shutil.rmtree(work.scratch, ignore_errors=True)  # what it held is in the version now
    return Made(record, False, work.blocked)


def _outcomes(work: Work, settings: str) -> Iterable[Outcome[Any]]:
    """The body's outcomes; where the last run of the same work failed on single inputs, its other
    outcomes stand and only those inputs are run again."""
    stage, ledger = work.stage, work.project.ledger
    last = ledger.record(stage.key, work.partition)
    same = last and (last.inputs, last.code, last.settings) == (work.inputs, stage.code, settings)
    if not (stage.retries and last and same and last.counts.get("failed")):
        return stage.body(work)
    kept: dict[str, Outcome[Any]] = artifact.outcomes(ledger.folder(stage.key, work.partition), stage.record)
    above: type[Any] = STAGES[stage.inputs[0]].record
    order = [each.id for each in work.read(stage.inputs[0], above)]
    work.standing = [each for of in kept.values() if isinstance(of, Accepted) for each in of.records]
    work.only = frozenset(of for of in kept if isinstance(kept[of], Failed))
    work.before = float(last.about.get("seconds", 0.0))
    kept |= {outcome.of: outcome for outcome in stage.body(work)}
    return [kept[of] for of in order]


def derive(project: Project, record: RunRecord) -> str:
    """Make the version of `record` again, from the inputs it names, without keeping it.

    Returns the version that came out: equal to the record's where the code and settings still are what
    they were and the stage is stable.
    """
    stage = STAGES[record.asset]
    with project.ledger.staging() as folder:
        work = Work(project, stage, record.partition, folder, record.inputs, afresh=True)
        artifact.seal(folder, artifact.write(folder, stage.record, stage.body(work)), stage.record)
        return dvc.hash_directory(folder, project.root, store=False).version
