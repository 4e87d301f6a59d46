"""A function over many items in several processes of our own.

Three things that the standard pools do not give together: an item whose process dies or hangs is lost
alone (concurrent.futures gives up the whole pool, multiprocessing.Pool waits for ever); a worker starts
from a clean interpreter that imports nothing of its parent's main program; and it ends with its parent,
however that ends, also in the middle of an item.
"""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from pixelis_pipeline.engine.queue import Queue

T = TypeVar("T")
R = TypeVar("R")

START = 120.0  # seconds that a worker may take to get ready: it may have to load weights
TIMES = 3  # workers in a row that may end before they are ready
# One process a core: libraries that start threads of their own would only get in each other's way.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}


class PoolError(RuntimeError):
    """Workers cannot be started, or the function raised; the message says what."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What stands for the result of an item whose process died or took too long."""

    why: str


def cores() -> int:
    """How many processes can run at once here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """One process and the item it is busy with (-1 while it gets ready, None while it waits)."""

    def __init__(self, make: bytes) -> None:
        from multiprocessing import Pipe

        self.line, theirs = Pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pixelis_pipeline.engine.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            stdout=2,
        )
        theirs.close()
        self.busy: int | None = -1
        self.until = time.monotonic() + START
        with suppress(OSError):  # it has died already; that is seen when its answer is awaited
            self.line.send_bytes(make)

    def give(self, index: int, item: bytes, seconds: float) -> None:
        self.busy, self.until = index, time.monotonic() + seconds
        with suppress(OSError):
            self.line.send_bytes(item)

    def end(self) -> int:
        """Kill it; the exit status that it had or got."""
        self.process.kill()
        self.line.close()
        return self.process.wait()


def over(
    make: Callable[[], Callable[[T], R]],
    items: Iterable[T],
    *,
    workers: int,
    seconds: float,
    tries: int = 1,
    window: int = 0,
) -> Iterator[tuple[int, R | Lost]]:
    """(index of the item, its result or `Lost`), as they are done, by at most `workers` processes.

    `make` is called once in each worker and returns the function that items are given to; it, the items
    and the results are pickled, so it must be importable. An item is lost where its worker dies, or after
    `seconds`: a fresh worker takes over, and the item is given out again until it was lost `tries` times.
    `window`: see `Queue`. PoolError where `make` or the function raises (a function that can fail must say so
    by its result), or no worker gets ready. Workers are gone when the iteration ends.
    """
    queue = Queue(items, tries, window)
    pool: list[_Worker] = []
    pickled, unready = pickle.dumps(make), 0
    try:
        while not queue.finished:
            while queue.waiting and len(pool) < workers:
                pool.append(_Worker(pickled))
            for worker in pool:
                if worker.busy is None and queue.waiting:
                    index, item = queue.take()
                    worker.give(index, pickle.dumps(item), seconds)
            # With nothing left to give out, workers that are still getting ready are not waited for.
            awaited = [w for w in pool if w.busy is not None and (w.busy >= 0 or queue.waiting)]
            for worker in _heard(awaited):
                busy, answer = worker.busy, _answer(worker)
                lost = isinstance(answer, Lost)
                if lost:
                    pool.remove(worker)
                    unready = unready + 1 if busy == -1 else 0
                    if unready >= TIMES:
                        raise PoolError(f"no worker gets ready: {answer.why}")
                else:
                    worker.busy, unready = None, 0
                if busy is None or busy < 0:
                    continue
                if not lost:
                    queue.settle(busy)
                if not lost or queue.lose(busy):
                    yield busy, answer
    finally:
        for worker in pool:
            worker.end()


def _heard(workers: list[_Worker]) -> list[_Worker]:
    """Those that have answered, died, or run out of time; waits until there is one."""
    first = min(worker.until for worker in workers)
    lines = {worker.line: worker for worker in workers}
    ready = wait(list(lines), timeout=max(0.0, first - time.monotonic()))
    now = time.monotonic()
    return [w for line, w in lines.items() if line in ready or w.until <= now]


def _answer(worker: _Worker) -> Any:
    """What a worker has to say: a result, or `Lost` where it says nothing more (it is then ended).
    PoolError where the function raised."""
    try:
        if worker.line.poll():
            kind, value = worker.line.recv()
            if kind == "raised":
                raise PoolError(value)
            return value
    except (EOFError, OSError):
        # The line closes a moment before the process is gone: its own status is told, not our kill's.
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(1.0)
        return Lost(f"its process died (exit status {worker.end()})")
    worker.end()
    return Lost("its process took too long and was ended")


def serve(line: Connection) -> None:
    """A worker's side: get ready, then answer item after item until the line closes."""
    try:
        function = pickle.loads(line.recv_bytes())()
        line.send(("ready", None))
        while True:
            line.send(("done", function(pickle.loads(line.recv_bytes()))))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        with suppress(OSError):
            line.send(("raised", f"{type(error).__name__}: {error}"))
