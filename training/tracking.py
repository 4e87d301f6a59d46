"""Scalars of a training for other programs to draw: TensorBoard's event files, offline runs of W&B.

Both go to a folder of the project. Nothing is sent anywhere: `wandb sync FOLDER` is a person's to run. A
training that goes on from a checkpoint tells some steps again; in TensorBoard the later telling stands.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pixelis_pipeline.settings import TrackingSettings

FLUSH = 10  # seconds of scalars that a kill may cost TensorBoard

Track = Callable[[int, Mapping[str, float]], None]


def _missing(setting: str, package: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"tracking.{setting} is on and {package} is not installed: pip install 'pixelis[tracking]'"
    )


@contextmanager
def opened(folder: Path, settings: TrackingSettings) -> Iterator[Track]:
    """What to tell (step, scalars by name) to. ModuleNotFoundError where settings ask for what is not
    installed; it names the extra."""
    with ExitStack() as stack:
        tracks: list[Track] = []
        if settings.tensorboard:
            tracks.append(stack.enter_context(_tensorboard(folder)))
        if settings.wandb:
            tracks.append(stack.enter_context(_wandb(folder)))

        def track(step: int, scalars: Mapping[str, float]) -> None:
            for each in tracks:
                each(step, scalars)

        yield track


@contextmanager
def _tensorboard(folder: Path) -> Iterator[Track]:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise _missing("tensorboard", "tensorboardX") from error
    writer: Any = None

    def track(step: int, scalars: Mapping[str, float]) -> None:
        nonlocal writer
        # What an interrupted process had told from here on is struck out.
        writer = writer or SummaryWriter(str(folder), purge_step=step, flush_secs=FLUSH)
        for name, value in scalars.items():
            writer.add_scalar(name, value, step)

    try:
        yield track
    finally:
        if writer:
            writer.close()


@contextmanager
def _wandb(folder: Path) -> Iterator[Track]:
    try:
        import wandb
    except ImportError as error:
        raise _missing("wandb", "wandb") from error
    folder.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(console="off", disable_git=True, save_code=False)
    with wandb.init(
        mode="offline", dir=str(folder), project="pixelis", name=folder.name, settings=settings
    ) as run:
        yield lambda step, scalars: run.log(dict(scalars), step=step)
