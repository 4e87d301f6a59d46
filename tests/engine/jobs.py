"""Functions that a pool's workers import."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path


def squares() -> Callable[[int], int]:
    return lambda number: number * number


def troubled() -> Callable[[str], str]:
    """Does what the item says: dies, hangs, raises, or answers."""

    def do(item: str) -> str:
        if item == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "hang":
            # As native code hangs: no signal handler of Python's would run.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGALRM})
            time.sleep(600)
        if item == "raise":
            raise KeyError("broken")
        return item.upper()

    return do


def unready() -> Callable[[int], int]:
    raise ValueError("no weights: install them")


def whereabouts() -> Callable[[int], tuple[int, str]]:
    return lambda number: (os.getpid(), os.environ.get("OMP_NUM_THREADS", ""))


def sleepers() -> Callable[[str], None]:
    """Leaves its process id in the folder it is given, then is busy for minutes."""

    def busy(folder: str) -> None:
        (Path(folder) / str(os.getpid())).touch()
        threading.Event().wait(600)

    return busy
