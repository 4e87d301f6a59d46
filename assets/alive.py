"""Which of Dagster's runs still have a process.

A run whose process or host died stays STARTED in Dagster for good, and one that asks the teacher then keeps
the teacher's pool. So every run that makes something holds a lock, which the kernel lets go of when the
process dies.
"""

import os
from pathlib import Path

import dagster as dg

from pixelis_pipeline.ledger import files

GUARD = ".guard"  # taken to make a lock, and to look which are held
_HELD: dict[str, int] = {}  # this process' run -> the descriptor that holds its lock


def _folder(root: Path) -> Path:
    return root / ".dagster" / "alive"


def hold(root: Path, run_id: str) -> None:
    """Show that this process works on the run. A process works on one at a time: the lock of the run before
    is let go of."""
    if run_id in _HELD:
        return
    while _HELD:
        os.close(_HELD.popitem()[1])
    with files.locked(_folder(root) / GUARD):
        handle = files.try_lock(_folder(root) / run_id)
    if handle is not None:  # a multiprocess run's other steps hold the same lock
        _HELD[run_id] = handle


def dead(root: Path, instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """The runs under way whose process is gone. A run that has made nothing yet is not judged. Locks of runs
    that ended are removed."""
    found = []
    with files.locked(_folder(root) / GUARD):
        for lock in sorted(_folder(root).glob("[!.]*")):
            handle = None if lock.name in _HELD else files.try_lock(lock)
            if handle is None:
                continue
            os.close(handle)
            run = instance.get_run_by_id(lock.name)
            if run is not None and not run.is_finished:
                found.append(run)
            else:
                lock.unlink()
    return found


def bury(root: Path, instance: dg.DagsterInstance) -> list[str]:
    """Tell Dagster that dead runs failed, which frees their pool and lets the daemon retry them. Returns
    their ids."""
    gone = dead(root, instance)
    for run in gone:
        instance.report_run_failed(run, "its process is gone; what it had committed stays")
    return [run.run_id for run in gone]
