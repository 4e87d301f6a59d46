"""`pixelis run`: the Dagster jobs one after the other, each only where the ledger says something is stale.

A Dagster run has one partitioning, so the graph takes several: a line for each source and batch, then the
whole-graph stages, then a run for each policy. All of them are ordinary runs in the Dagster UI.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from sqlalchemy import event
from sqlalchemy.engine import Engine

from assets import alive, console, graph, partitions
from assets.catalogue import STAGES
from assets.definitions import definitions
from assets.running import settled
from assets.stage import Project, Stage, StageError
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.chain import RunRecord
from pixelis_pipeline.ledger.files import locked

BY_HAND = {"dagster/max_retries": "0"}  # no daemon runs it again: this process says what to do
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}  # the UI keeps every event


@event.listens_for(Engine, "connect")
def _trust_the_page_cache(connection: Any, record: Any) -> None:
    """Dagster's SQLite files need not survive a power cut: the ledger does, and they are only a view of
    it. Without a flush per event a run of the graph spends a third less time."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


Run = tuple[str, str, list[Stage]]  # job, ledger partition, its stages in order


def plan(project: Project, to: Sequence[str] = ()) -> Iterator[Run]:
    """The runs that make everything but what stands aside, or only `to` and what they need, in an order that
    has each stage's upstreams made before it."""
    every = (stage.key for stage in STAGES.values() if not stage.aside)
    needed = set[str]().union(*(_closure(key) for key in to or every))
    jobs: dict[str, list[Stage]] = {}
    for stage in STAGES.values():
        if stage.key in needed:
            jobs.setdefault(graph.job_name(stage), []).append(stage)
    for job, stages in jobs.items():
        for partition in project.partitions(stages[0]):
            yield job, partition, stages


def _closure(key: str) -> set[str]:
    if key not in STAGES:
        raise StageError(f"no asset {key!r}; there are: {', '.join(STAGES)}")
    return {key}.union(*(_closure(above) for above in STAGES[key].inputs))


def run(
    project: Project, *, to: Sequence[str] = (), asset: str | None = None, partition: str | None = None
) -> int:
    """Materialise what is stale, show each run in a line, return 0, or 1 if a run failed."""
    os.environ["DAGSTER_HOME"] = str(project.root)
    with chdir(project.root):  # dagster.yaml names its folders relative to it
        return _run(project, to, asset, partition)


def _run(project: Project, to: Sequence[str], asset: str | None, partition: str | None) -> int:
    for folder in project.ledger.recover():
        console.say(f"removed what a killed run had left: {folder.name}")
    graph.use(project)
    for stage in STAGES.values():
        for gone in project.ledger.retire_all_but(stage.key, project.partitions(stage)):
            console.say(f"retired    {stage.key} [{gone}]: settings no longer name it; its versions stay")
    runs = list(plan(project, [asset] if asset else to))
    if asset:
        runs = [(job, p, [STAGES[asset]]) for job, p, stages in runs if STAGES[asset] in stages]
        runs = [each for each in runs if partition in (None, each[1])]
        if not runs:
            raise StageError(f"{asset} has no partition {partition!r}")
    started = time.monotonic()
    location = definitions()
    with _instance(project) as instance:
        done = [_one(project, location, instance, *each) for each in runs]
        if all(done):
            seconds = time.monotonic() - started
            console.say(f"all {len(done)} runs are up to date after {seconds:.1f} s")
            if failed := sum(_failed(project, p, stages) for _, p, stages in runs):
                console.say(f"but {failed} inputs failed (the lines above say why): run again to try them")
            if any(stage.key == "benchmark_report" for _, _, stages in runs for stage in stages):
                console.say(f"report: {project.ledger.folder('benchmark_report') / 'report.html'}")
            return 0
    return 1


@contextmanager
def _instance(project: Project) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance. Its tables are made by one process at a time: it does not see to that itself."""
    with ExitStack() as stack:
        with locked(project.root / ".dagster.lock"):
            _tables(project.root / ".dagster")
            instance = stack.enter_context(dg.DagsterInstance.get())
            graph.register(instance)
        alive.bury(project.root, instance)
        yield instance


def _tables(home: Path) -> None:
    """Make Dagster's tables, all or none: it takes a file that a killed process left empty for tables."""
    draft = home.with_name(".dagster.new")
    shutil.rmtree(draft, ignore_errors=True)
    if not home.exists():
        draft.mkdir()
        with dg.DagsterInstance.local_temp(str(draft)):
            pass
        draft.rename(home)


def _one(
    project: Project,
    location: dg.Definitions,
    instance: dg.DagsterInstance,
    job: str,
    partition: str,
    stages: list[Stage],
) -> bool:
    """One Dagster run, or none where every stage of it is settled. Raises SystemExit where it fails."""
    label = f"{job} [{partition}]"
    if _all_settled(project, partition, stages):
        for stage in stages:
            if stage.restore:
                stage.restore(project, partition)
        console.say(f"unchanged  {label}: {', '.join(s.key for s in stages)}")
        return True
    started = time.monotonic()
    key = partitions.to_dagster(stages[0], partition)
    result = location.resolve_job_def(job).execute_in_process(
        instance=instance,
        partition_key=key,
        asset_selection=[dg.AssetKey(s.key.split("/")) for s in stages],
        raise_on_error=False,
        run_config=QUIET,
        tags=BY_HAND,
    )
    seconds = time.monotonic() - started
    if result.success:
        console.say(f"made       {label} in {seconds:.1f} s: {_counts(project, partition, stages)}")
        return True
    console.error(f"{label} failed after {seconds:.1f} s (run {result.run_id}); nothing after it was run")
    for each in result.all_events:
        if each.is_step_failure and each.step_failure_data.error:
            cause = each.step_failure_data.error.cause or each.step_failure_data.error
            console.error(f"  {each.step_key}: {cause.message.strip()}")
    for check in result.get_asset_check_evaluations():
        if not check.passed:
            told = "; ".join(str(v.value) for v in check.metadata.values())
            console.error(f"  {check.asset_key.to_user_string()}: check {check.check_name} failed: {told}")
    raise SystemExit(1)


def _all_settled(project: Project, partition: str, stages: list[Stage]) -> bool:
    """Whether every stage of a run may be skipped, as far as that can be known before it."""
    for stage in stages:
        try:
            record = settled(project, stage, partition)
        except StageError:  # an upstream is not made yet
            return False
        if record is None or record.about.get("blocked"):
            return False
    return True


def _failed(project: Project, partition: str, stages: list[Stage]) -> int:
    """How many inputs of these stages are to be tried again."""
    records = (project.ledger.record(stage.key, partition) for stage in stages)
    return sum(record.counts["failed"] for record in records if record is not None)


def _reason(project: Project, record: RunRecord) -> str:
    """How many inputs failed, and why the first of them did: the next run tries them again."""
    folder = project.ledger.folder(record.asset, record.partition, record.version)
    return f"{record.counts['failed']} failed: {next(artifact.failed(folder)).error}"


def _counts(project: Project, partition: str, stages: list[Stage]) -> str:
    shown = []
    for stage in stages:
        record = project.ledger.record(stage.key, partition)
        if record is not None:
            failed = f" ({_reason(project, record)})" if record.counts["failed"] else ""
            short = f" ({record.about['short']})" if record.about.get("short") else ""
            shown.append(f"{stage.key} {record.counts['accepted']}/{record.counts['inputs']}{failed}{short}")
    return ", ".join(shown)
