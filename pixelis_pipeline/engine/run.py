"""The seam: one function over many items, in this process, in a pool of this machine's, or on Ray.

The function is pure and results come in the order of the items, so where it runs never shows in them.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from pixelis_pipeline.engine import pool, ray_pool
from pixelis_pipeline.engine.mapped import PATIENCE, in_order
from pixelis_pipeline.engine.pool import Lost
from pixelis_pipeline.settings import EngineSettings

T = TypeVar("T")
R = TypeVar("R")

TRIES = 3  # workers that an item may lose before it is given up
AHEAD = 64  # items a worker that may be under way or wait for their turn


def run(
    make: Callable[[], Callable[[T], R]],
    items: Iterable[T],
    settings: EngineSettings,
    *,
    seconds: float,
    patience: float = PATIENCE,
) -> Iterator[R | Lost]:
    """The result of every item, in order; `Lost` for one whose workers died or took over `seconds` each time.

    `make` returns the function; outside this process it, items and results are pickled. Items are taken from
    the iterable only so far ahead as is bounded, so memory does not grow with their number. A pool is started
    once `patience` seconds of work in this process have not been enough. What the function raises passes
    through in this process and is a `PoolError` elsewhere. ModuleNotFoundError names the extra where Ray is
    asked for and absent.
    """
    left = iter(items)
    if settings.kind == "process":
        yield from map(make(), left)
    elif settings.kind == "ray":
        yield from in_order(ray_pool.over(make, left, settings, seconds=seconds, tries=TRIES, ahead=AHEAD))
    else:
        workers = settings.workers or pool.cores()
        if patience > 0 or workers == 1:
            yield from _here(make, left, patience if workers > 1 else math.inf)
        window = AHEAD * workers
        yield from in_order(
            pool.over(make, left, workers=workers, seconds=seconds, tries=TRIES, window=window)
        )


def _here(make: Callable[[], Callable[[T], R]], items: Iterator[T], patience: float) -> Iterator[R]:
    """Results by this process for as long as `patience` seconds; the other items stay in `items`."""
    until, function = time.monotonic() + patience, None
    for item in items:
        function = function or make()
        yield function(item)
        if time.monotonic() >= until:
            return
