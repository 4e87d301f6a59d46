"""The program that a pool's process runs: `python -m pixelis_pipeline.engine.worker FD`.

A waiting worker ends when the line closes. One that is busy when its parent is gone would work on for
nobody: it ends with it.
"""

import os
import signal
import sys
from multiprocessing.connection import Connection

from pixelis_pipeline.engine.parent import end_with
from pixelis_pipeline.engine.pool import serve


def main() -> None:
    """Serve until the line closes. Interrupts are the parent's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(os.getppid())
    serve(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    main()
