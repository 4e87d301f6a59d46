"""The program that a pool's process runs: `python -m pixelis_pipeline.engine.worker FD`.

A waiting worker ends when the line closes. One that is busy when its parent is gone would work on for
nobody: on Linux the kernel is asked to kill it then, and elsewhere a thread looks who the parent is.
"""

import ctypes
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection

from pixelis_pipeline.engine.pool import serve

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
LOOK = 1.0  # seconds between two looks at who the parent is


def _end_with(parent: int) -> None:
    """End this process soon after `parent` has ended."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            threading.Event().wait(LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Serve until the line closes. Interrupts are the parent's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with(os.getppid())
    serve(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    main()
