"""Calls of one backend in several threads."""

from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from typing import TypeVar

from pixelis_pipeline.engine.pool import cores

Given = TypeVar("Given")
T = TypeVar("T")


def side_by_side(answer: Callable[[Given], T], calls: Sequence[Given]) -> list[T]:
    """The answers to `calls`, in order. Where one raises, or a time limit ends the wait, the calls under way
    are left behind: Python cannot end a thread, and these do not hold up the end of the process."""
    workers = min(len(calls), cores())
    if workers < 2:
        return [answer(call) for call in calls]
    with ThreadPool(workers) as pool:
        return pool.map(answer, calls, chunksize=1)
