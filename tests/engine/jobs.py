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


def digests() -> Callable[[int], bytes]:
    """A small computation whose bytes tell whether it was the same everywhere."""
    import hashlib

    import numpy as np

    def do(seed: int) -> bytes:
        made = np.random.default_rng(seed).normal(size=4096)
        return hashlib.sha256(np.fft.rfft(made).round(9).tobytes()).digest()

    return do


def slow_digests() -> Callable[[int], bytes]:
    """The same, slowly enough that somebody can be killed meanwhile."""
    digest = digests()

    def do(seed: int) -> bytes:
        time.sleep(0.03)
        return digest(seed)

    return do


def dies_once() -> Callable[[str], str]:
    """Dies at a path that is not there yet, leaving it behind; the next one that takes it lives."""

    def do(path: str) -> str:
        if not Path(path).exists():
            Path(path).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return path

    return do
