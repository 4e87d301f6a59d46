"""A process that must not outlive the one that started it.

On Linux the kernel is asked to kill it as soon as its parent is gone (more exactly, the thread that started
it, so that thread has to wait for it). Elsewhere a thread looks who the parent is.
"""

import ctypes
import os
import signal
import threading
from contextlib import suppress

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
LOOK = 1.0  # seconds between two looks at who the parent is


def end_with(parent: int) -> None:
    """End this process soon after the process `parent`, which started it, has ended; at once where it has
    ended already."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            threading.Event().wait(LOOK)
        os._exit(1)

    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()
