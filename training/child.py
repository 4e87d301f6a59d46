"""A training in a process of its own: `python -m training.child ORDER.json`.

The order names a job, a function from an `Order` and a `Tell` to plain JSON. It writes what it makes under
`order.made` and tells after every step how far it is. What it tells goes to whoever started the process,
over Dagster Pipes; the last thing that is written is the proof of completion.

An order for several processes makes this one their launcher (`training.launch`), and each of them carries the
job out, `python -m training.child ORDER.json LAUNCHER`. The first alone speaks, and proves what it made: a
job of several leaves `order.made` to it.
"""

import faulthandler
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, TypeVar

from pixelis_pipeline.engine.parent import end_with
from pixelis_pipeline.ledger import artifact, files
from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import Settings
from training import launch, proof, tracking

R = TypeVar("R")


class Tell(Protocol):
    """How a job says how far it is: after each step, or at least as often as the silence that is borne."""

    def __call__(self, step: int, of: int, scalars: Mapping[str, float], /) -> None:
        """`step` steps of `of` are done; `scalars` are measured at this one (losses, rates), by name."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be trained, from what.

    key       sha256 over all that decides the outcome: inputs, code, settings
    job       "module:function"
    inputs    the folders of the versions of each asset that is read
    root      the project, for media by reference
    tree      all settings, in force and resolved
    folder    where the work is done; an interrupted job finds there what it had saved
    tracked   where files for TensorBoard and the like go, which outlive the work
    parent    the process that waits for this one
    processes how many carry the job out together, each on a device of its own
    sharded   whether weights are split over them, not copied to each
    """

    key: str
    job: str
    inputs: dict[str, list[str]]
    root: str
    tree: Json
    folder: str
    tracked: str
    parent: int
    processes: int = 1
    sharded: bool = False

    @property
    def settings(self) -> Settings:
        """The settings."""
        return Settings.model_validate(self.tree)

    @property
    def made(self) -> Path:
        """Where the job puts what it makes, and until then what it saves on the way."""
        return Path(self.folder) / proof.MADE

    def folders(self, asset: str) -> list[Path]:
        """Where the versions of `asset` lie."""
        return [Path(each) for each in self.inputs[asset]]

    def records(self, asset: str, record: type[R]) -> Iterator[R]:
        """The accepted records of `asset`."""
        for folder in self.folders(asset):
            yield from artifact.records(folder, record)

    def write(self, path: Path) -> None:
        """Write the order down."""
        files.replace(path, json.dumps(asdict(self)).encode())


Job = Callable[[Order, Tell], Json]


def read(path: Path) -> Order:
    """The order that `Order.write` wrote."""
    return Order(**json.loads(path.read_bytes()))


def _job(name: str) -> Job:
    module, _, function = name.partition(":")
    job: Job = getattr(import_module(module), function)
    return job


def _unheard(step: int, of: int, scalars: Mapping[str, float], /) -> None:
    """How all ranks but the first tell."""


def main(path: Path, launcher: int | None = None) -> None:
    """Carry out the order at `path`, as a rank of the process `launcher` where there is one. What the job
    raises ends the process, and is told first."""
    # Asked to (`kill -USR1`), say in the log where every thread is: that is done to a process that hangs.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    faulthandler.enable()
    order = read(path)
    end_with(launcher or order.parent)
    if launcher is None and order.processes > 1:
        launch.launch(path, order.processes, order.sharded)
        return
    if launcher is not None:
        launch.take_device(order.settings)
        if int(os.environ["RANK"]) > 0:
            _job(order.job)(order, _unheard)
            return

    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as pipes:
        order.made.mkdir(parents=True, exist_ok=True)
        with tracking.opened(Path(order.tracked), order.settings.tracking) as track:

            def tell(step: int, of: int, scalars: Mapping[str, float], /) -> None:
                pipes.report_custom_message({"step": step, "of": of, "scalars": dict(scalars)})
                track(step, scalars)

            result = _job(order.job)(order, tell)
        proof.write(Path(order.folder), order.key, result)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
