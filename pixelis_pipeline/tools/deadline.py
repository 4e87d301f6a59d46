"""A time limit on code that does not look at the clock."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, body: Callable[[], T]) -> T:
    """What `body` returns. Raises TimeoutError where it takes longer.

    In the main thread an alarm ends it between two calls into native code. Elsewhere no signal arrives, so
    it runs in a thread of its own that is left behind when its time is up: Python cannot end it.
    """
    started = time.monotonic()
    if threading.current_thread() is threading.main_thread():
        with _alarm(seconds):
            returned = body()
    else:
        returned = _beside(seconds, body)
    if time.monotonic() - started > seconds:  # native code that held the alarm back, or swallowed it
        raise TimeoutError(f"no answer within {seconds:g} s")
    return returned


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no answer within {seconds:g} s")

    started = time.monotonic()
    before = signal.signal(signal.SIGALRM, ring)
    left = 0.0
    try:  # from here on: the alarm may ring before the body is reached, and again where it was swallowed
        left, _ = signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # whoever had set an alarm before gets what remains of it
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - started)))


def _beside(seconds: float, body: Callable[[], T]) -> T:
    done: Future[T] = Future()

    def work() -> None:
        try:
            done.set_result(body())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, daemon=True, name="pixelis tool").start()
    if not wait([done], seconds).done:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return done.result()
