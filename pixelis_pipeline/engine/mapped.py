"""A function over many items, in this process while that is the quicker way, then in several."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from pixelis_pipeline.engine import pool
from pixelis_pipeline.engine.pool import Lost

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 2.0  # seconds of work before it is judged how much more there is
# Seconds of work left, at the rate so far, from which a pool is started. A replay worker costs 0.75 s of
# CPU before its first answer (imports, an OCR engine), several times that by the clock on a busy machine.
WORTH = 6.0


def mapped(
    make: Callable[[], Callable[[T], R]],
    items: Sequence[T],
    *,
    workers: int = 0,
    seconds: float,
    patience: float = PATIENCE,
) -> Iterator[tuple[int, R | Lost]]:
    """(index, result) of every item, as they are done: by `make()` here, and by a pool of `workers`
    processes (0: one a core) once `patience` seconds have passed and much work is left.

    One worker means this process. In a pool items can be `Lost`, and `PoolError` is raised (see
    `pool.over`); here whatever the function raises passes through.
    """
    workers = workers or pool.cores()
    started, done = time.monotonic(), 0
    function = make() if workers == 1 or patience > 0 else None
    while function is not None and done < len(items):
        passed = time.monotonic() - started
        if workers > 1 and passed >= patience and passed / max(done, 1) * (len(items) - done) > WORTH:
            break
        yield done, function(items[done])
        done += 1
    left = items[done:]
    if not left:
        return
    for index, result in pool.over(make, left, workers=min(workers, len(left)), seconds=seconds):
        yield done + index, result


def in_order(results: Iterable[tuple[int, R]]) -> Iterator[R]:
    """The results of items 0, 1, 2 ..., each as soon as all before it are there."""
    waiting: dict[int, R] = {}
    due = 0
    for index, result in results:
        waiting[index] = result
        while due in waiting:
            yield waiting.pop(due)
            due += 1
