"""`pixelis run`: the Dagster jobs in their order, each only where the ledger says something is stale.

A Dagster run has one partitioning, so the graph takes several: a line for each source and batch, then the
whole-graph stages, a run for each policy that is taught and one for each that is asked. All of them are
ordinary runs in the Dagster UI.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
from sqlalchemy import event
from sqlalchemy.engine import Engine

from assets import alive, console, graph, lanes
from assets.catalogue import STAGES
from assets.definitions import definitions
from assets.runs import Run, failed, make
from assets.stage import Project, Stage, StageError
from pixelis_pipeline.ledger.files import locked


@event.listens_for(Engine, "connect")
def _trust_the_page_cache(connection: Any, record: Any) -> None:
    """Dagster's SQLite files need not survive a power cut: the ledger does, and they are only a view of
    it. Without a flush per event a run of the graph spends a third less time."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


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
        # A policy is asked while the next one is taught.
        parts = [(each,) for each in stages] if stages[0].group == "policies" else [tuple(stages)]
        for part in parts:
            for partition in project.partitions(stages[0]):
                yield Run(job, partition, part)


def _closure(key: str) -> set[str]:
    if key not in STAGES:
        raise StageError(f"no asset {key!r}; there are: {', '.join(STAGES)}")
    return {key}.union(*(_closure(above) for above in STAGES[key].inputs))


def run(
    project: Project,
    *,
    to: Sequence[str] = (),
    asset: str | None = None,
    partition: str | None = None,
    jobs: int = 1,
) -> int:
    """Materialise what is stale, up to `jobs` runs at a time, show each in a line, return 0, or 1 if a run
    failed."""
    os.environ["DAGSTER_HOME"] = str(project.root)
    with chdir(project.root):  # dagster.yaml names its folders relative to it
        return _run(project, to, asset, partition, jobs)


def _run(project: Project, to: Sequence[str], asset: str | None, partition: str | None, jobs: int) -> int:
    for folder in project.ledger.recover():
        console.say(f"removed what a killed run had left: {folder.name}")
    graph.use(project)
    for stage in STAGES.values():
        for gone in project.ledger.retire_all_but(stage.key, project.partitions(stage)):
            console.say(f"retired    {stage.key} [{gone}]: settings no longer name it; its versions stay")
    runs = list(plan(project, [asset] if asset else to))
    if asset:
        runs = [replace(each, stages=(STAGES[asset],)) for each in runs if asset in each.makes]
        runs = [each for each in runs if partition in (None, each.partition)]
        if not runs:
            raise StageError(f"{asset} has no partition {partition!r}")
    started = time.monotonic()
    with _instance(project) as instance:
        if jobs > 1:
            good = lanes.side_by_side(project, runs, jobs)
        else:
            location = definitions()
            good = all(make(project, location, instance, each).tell() for each in runs)
    if not good:
        return 1
    console.say(f"all {len(runs)} runs are up to date after {time.monotonic() - started:.1f} s")
    if failures := sum(failed(project, each) for each in runs):
        console.say(f"but {failures} inputs failed (the lines above say why): run again to try them")
    if any("benchmark_report" in each.makes for each in runs):
        console.say(f"report: {project.ledger.folder('benchmark_report') / 'report.html'}")
    return 0


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
        settings = draft / "dagster.yaml"  # without one Dagster tells the user to make it
        settings.touch()
        with dg.DagsterInstance.local_temp(str(draft)):
            pass
        settings.unlink()
        draft.rename(home)
