"""A function over many items by actors of a Ray cluster.

Actors and not `map_batches`: the death of one is seen with what it had in hand, so that the rest of a batch
is tried again one by one and only an item that kills every actor that takes it is lost. Items travel in
batches, because a call costs about a millisecond.
"""

import logging
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from pixelis_pipeline.engine.pool import ONE_THREAD, Lost, PoolError, cores
from pixelis_pipeline.engine.queue import Queue
from pixelis_pipeline.settings import EngineSettings

T = TypeVar("T")
R = TypeVar("R")

BATCH = 8  # items a call
LOOK = 1.0  # seconds between two looks at what takes too long
START = 120.0  # seconds that an actor may take to get ready
TIMES = 3  # actors in a row that may end before they are ready


@contextmanager
def cluster(address: str, workers: int) -> Iterator[Any]:
    """Ray, connected to `address`, or where that is empty to a Ray of our own on loopback, which ends with
    the block. A Ray that this process is connected to already is used as it is."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not address:  # what keeps Ray's ports on loopback, on any system; it is read when Ray is imported
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("engine.kind is 'ray': pip install 'pixelis[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    own: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False}
    where: dict[str, Any] = {"address": address} if address else own
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
    try:
        yield ray
    finally:
        ray.shutdown()


@dataclass(slots=True)
class _Actor:
    """One actor, what it has in hand, and until when it may."""

    handle: Any
    call: Any
    until: float
    ready: bool = False
    batch: tuple[int, ...] = ()


class _Work:
    """An actor's side: get ready, then answer batch after batch."""

    def __init__(self, make: bytes) -> None:
        self._function = pickle.loads(make)()

    def ready(self) -> None:
        """Answered once the function is there."""

    def do(self, items: list[bytes]) -> list[tuple[str, Any]]:
        """("done", result) of each item; after one that raises, ("raised", message) and no more."""
        found: list[tuple[str, Any]] = []
        for item in items:
            try:
                found.append(("done", self._function(pickle.loads(item))))
            except Exception as error:
                return [*found, ("raised", f"{type(error).__name__}: {error}")]
        return found


def over(
    make: Callable[[], Callable[[T], R]],
    items: Iterable[T],
    settings: EngineSettings,
    *,
    seconds: float,
    tries: int,
    ahead: int,
) -> Iterator[tuple[int, R | Lost]]:
    """(index, result or `Lost`) of every item, as they are done, like `pool.over`.

    `engine.workers` actors (0: one a core of the cluster, or of this machine where Ray is our own), each with
    one core. The cluster's machines need this project and its media under the same paths.
    """
    with cluster(settings.address, settings.workers or cores()) as ray:
        workers = settings.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        remote = ray.remote(num_cpus=1, max_restarts=0, runtime_env={"env_vars": ONE_THREAD})(_Work)
        yield from _driven(
            ray, remote, pickle.dumps(make), Queue(items, tries, ahead * workers), workers, seconds
        )


def _driven(
    ray: Any, remote: Any, make: bytes, queue: Queue[T], workers: int, seconds: float
) -> Iterator[tuple[int, Any]]:
    actors: list[_Actor] = []
    unready = 0
    try:
        while not queue.finished:
            while queue.waiting and len(actors) < workers:
                handle = remote.remote(make)
                actors.append(_Actor(handle, handle.ready.remote(), time.monotonic() + START))
            for actor in actors:
                if actor.call is None and queue.waiting:
                    _give(actor, queue, seconds)
            calls = {actor.call: actor for actor in actors if actor.call is not None}
            done, _ = ray.wait(list(calls), timeout=LOOK)
            now = time.monotonic()
            late = [a for call, a in calls.items() if call not in done and a.until <= now]
            for actor in [calls[call] for call in done] + late:
                answers = _answers(ray, actor, late=actor in late)
                if isinstance(answers, Lost):
                    actors.remove(actor)
                    unready = 0 if actor.ready else unready + 1
                    if unready >= TIMES:
                        raise PoolError(f"no actor gets ready: {answers.why}")
                    yield from ((k, answers) for k in actor.batch if queue.lose(k))
                    continue
                batch, actor.batch, actor.call, actor.ready = actor.batch, (), None, True
                unready = 0
                for index, (kind, value) in zip(batch, answers, strict=False):
                    if kind == "raised":
                        raise PoolError(value)
                    queue.settle(index)
                    yield index, value
    finally:
        for actor in actors:
            with suppress(Exception):
                ray.kill(actor.handle)


def _give(actor: _Actor, queue: Queue[Any], seconds: float) -> None:
    """Hand an actor its next batch: what was lost before goes alone, so that it takes nothing with it."""
    alone = queue.suspects
    taken = [queue.take()]
    while not alone and len(taken) < BATCH and queue.waiting and not queue.suspects:
        taken.append(queue.take())
    actor.batch = tuple(index for index, _ in taken)
    actor.until = time.monotonic() + seconds * len(taken)
    actor.call = actor.handle.do.remote([pickle.dumps(item) for _, item in taken])


def _answers(ray: Any, actor: _Actor, late: bool) -> Any:
    """What an actor has to say; `Lost` where it says nothing more (it is then ended)."""
    if late:
        ray.kill(actor.handle)
        return Lost("its actor took too long and was ended")
    try:
        return ray.get(actor.call) or []
    except ray.exceptions.RayTaskError as error:
        raise PoolError(str(error).strip().splitlines()[-1]) from error
    except ray.exceptions.RayError as error:
        with suppress(Exception):
            ray.kill(actor.handle)
        return Lost(f"its actor died ({type(error).__name__}): {str(error).strip().splitlines()[-1]}")
