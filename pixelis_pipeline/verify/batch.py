"""Replay of many traces: over the cores, and with a journal that a killed run goes on from."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pixelis_pipeline.columns import to_row
from pixelis_pipeline.engine.journal import Journal, journal
from pixelis_pipeline.engine.mapped import PATIENCE, in_order, mapped
from pixelis_pipeline.engine.pool import Lost
from pixelis_pipeline.media.store import MediaStore
from pixelis_pipeline.records import Failed, Outcome, Trajectory, canonical
from pixelis_pipeline.settings import ReplaySettings, ToolSettings
from pixelis_pipeline.tools.opening import opened
from pixelis_pipeline.tools.registry import default_registry
from pixelis_pipeline.verify.refusal import STAGE
from pixelis_pipeline.verify.replay import replay

Replay = Callable[[Trajectory], Outcome[Trajectory]]


@dataclass(frozen=True, slots=True)
class Bench:
    """What a process needs to replay traces. Called, it sets the tools up: each process has its own."""

    tools: ToolSettings
    media: MediaStore
    settings: ReplaySettings

    def __call__(self) -> Replay:
        return partial(
            replay,
            registry=default_registry(self.tools),
            open_media=partial(opened, self.media),
            settings=self.settings,
        )

    @property
    def digest(self) -> str:
        """sha256 hex over all that decides an outcome besides the trace and this code."""
        decides = [
            default_registry(self.tools).digest,
            self.tools.model_dump(mode="json"),
            self.settings.model_dump(mode="json"),
            self.media.limits.model_dump(mode="json"),
        ]
        return hashlib.sha256(canonical(decides)).hexdigest()


def replay_all(
    traces: Sequence[Trajectory],
    bench: Callable[[], Replay],
    settings: ReplaySettings,
    log: Path | None = None,
    patience: float = PATIENCE,
) -> Iterator[Outcome[Trajectory]]:
    """The outcome of every trace, in their order, the same whatever `settings.workers` is.

    `log` is a journal's path: what stands there is not run again, so it must not outlive the tools and
    settings that wrote it (put `Bench.digest` into its name). A trace whose worker dies or takes longer
    than `settings.seconds` is Failed. Raises PoolError, and here what `replay` raises.
    """
    with journal(log, Trajectory) as written:
        # A run that was cut off may have been ended by one of its traces: that one must not end this too.
        wait = 0.0 if written.begun else patience
        yield from in_order(_outcomes(traces, bench, settings, written, wait))


def _outcomes(
    traces: Sequence[Trajectory],
    bench: Callable[[], Replay],
    settings: ReplaySettings,
    written: Journal,
    patience: float,
) -> Iterator[tuple[int, Outcome[Trajectory]]]:
    """(index, outcome) as they are known: those of the journal, then those that are run now."""
    keys = [hashlib.sha256(canonical(to_row(trace))).hexdigest() for trace in traces]
    for index, key in enumerate(keys):
        if key in written:
            yield index, written.outcome(key)
    left = [index for index, key in enumerate(keys) if key not in written]
    done = mapped(
        bench,
        [traces[index] for index in left],
        workers=settings.workers,
        seconds=settings.seconds,
        patience=patience,
    )
    for number, result in done:
        trace = traces[left[number]]
        if isinstance(result, Lost):
            result = Failed(trace.id, STAGE, result.why, record=to_row(trace))
        written.add(keys[left[number]], result)
        yield left[number], result
