"""Runs side by side: each lane is a process that makes one after the other.

A run begins when all that make what it reads have ended. Lanes end with the process that opened them; what
they had committed stays. One progress bar at a time is shown, by whichever lane had none to wait for.
"""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.synchronize import Lock
from typing import Any

from assets import console
from assets.runs import Outcome, Run, make
from assets.stage import Project
from pixelis_pipeline.engine.parent import end_with

_LANE: dict[str, Any] = {}  # what a lane opens once
_UNDER_WAY: list[Run] = []


def side_by_side(project: Project, runs: Sequence[Run], jobs: int) -> bool:
    """Make the runs, up to `jobs` at a time, telling of each; whether all are up to date. After one that
    fails none is begun."""
    begun: dict[Future[Outcome], Run] = {}
    waiting = list(runs)
    good = True
    method = multiprocessing.get_context("spawn")  # a fork would inherit Dagster's open databases
    opening = (replace(project), os.getpid(), method.Lock())
    with ProcessPoolExecutor(jobs, method, _open, opening) as lanes:
        try:
            while begun or (good and waiting):
                for run in [*waiting] if good else ():
                    earlier = [*waiting[: waiting.index(run)], *begun.values()]
                    if len(begun) < jobs and not any(run.needs & each.makes for each in earlier):
                        begun[_submitted(lanes, run)] = run
                        waiting.remove(run)
                ended, _ = wait(begun, return_when=FIRST_COMPLETED)
                for future in ended:
                    good &= future.result().tell()
                    del begun[future]
        except BrokenProcessPool:  # every run that was under way ends so
            for lane in multiprocessing.active_children():  # one begun just then would be waited for for ever
                lane.terminate()
            lost = ", ".join(run.label for run in begun.values()) or "nothing"
            told = f"a process was killed, for want of memory perhaps; {lost} was under way: run again"
            return Outcome(False, (told,)).tell()
    return good


def _submitted(lanes: ProcessPoolExecutor, run: Run) -> Future[Outcome]:
    """Raises BrokenProcessPool where a lane was killed, also while this run's is being started: its pipes are
    closed then, which concurrent.futures passes on as what the operating system says."""
    try:
        return lanes.submit(_make, run.job, run.partition, sorted(run.makes))
    except (OSError, ValueError) as error:
        raise BrokenProcessPool(str(error)) from error


def _open(project: Project, parent: int, bar: Lock) -> None:
    from dagster import DagsterInstance

    from assets import graph
    from assets.definitions import definitions

    end_with(parent)
    signal.signal(signal.SIGINT, _interrupted)
    console.share_bars(bar)
    graph.use(project)
    _LANE.update(project=project, location=definitions(), instance=DagsterInstance.get())


def _interrupted(*_: object) -> None:
    """Dagster is to note how a run ended; a lane that waits for work has nothing to note."""
    if not _UNDER_WAY:
        os._exit(130)
    raise KeyboardInterrupt


def _make(job: str, partition: str, makes: Sequence[str]) -> Outcome:
    from assets.catalogue import STAGES

    run = Run(job, partition, tuple(stage for stage in STAGES.values() if stage.key in makes))
    _UNDER_WAY.append(run)
    try:
        return make(run=run, **_LANE)
    finally:
        _UNDER_WAY.pop()
