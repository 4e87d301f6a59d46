"""A training's process as the launcher of several on this machine, one a device: by torch's elastic agent, as
`accelerate launch` does it. What accelerate is to do, its own variables say.

Each rank is `training.child` again, told by the environment which one it is (RANK, WORLD_SIZE and so on). All
of them end where one does, and with the process that started them; the launcher ends as a rank ended that was
killed. Nothing is begun anew here: whoever waits for the training does that, from the last checkpoint.
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from pixelis_pipeline.settings import Settings

LOOPBACK = "127.0.0.1"


def take_device(settings: Settings) -> None:
    """Make the GPU of this rank the one that "cuda" means."""
    if settings.policy.device == "cuda":
        import torch

        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def launch(order: Path, processes: int, sharded: bool) -> None:
    """Carry out the order at `order` by so many processes; `sharded`: weights split over them (FSDP2).

    Where one fails the others are ended and ChildFailedError is raised, which names it. Does not return where
    one, or this process, was killed from outside: this process then ends by the same signal.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    signal.signal(signal.SIGUSR1, _ask_all)
    os.environ["ACCELERATE_USE_FSDP"] = str(sharded).lower()
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=order.parent.name,
        rdzv_backend="c10d",
        rdzv_endpoint=f"{LOOPBACK}:0",  # a free port
        local_addr=LOOPBACK,
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "training.child", str(order), str(os.getpid()))
    except SignalException as ended:
        _end_by(ended.sigval)
    except ChildFailedError as error:
        # A rank whose peer is killed fails too; the agent itself ends ranks by SIGTERM.
        if any(failure.exitcode == -signal.SIGKILL for failure in error.failures.values()):
            _end_by(signal.SIGKILL)
        raise


def _ask_all(*_: Any) -> None:
    """Have every rank say in the log where it stands."""
    import psutil

    for rank in psutil.Process().children():
        rank.send_signal(signal.SIGUSR1)


def _end_by(number: int) -> None:
    with suppress(OSError):  # SIGKILL is nobody's to handle
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
