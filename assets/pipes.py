"""Dagster's end of the line to a process that works for a step.

What the process logs and how it ended become events of the run; how far it is becomes an observation of the
asset, whose numbers Dagster draws over time.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from pixelis_pipeline.records import Json

# A session asks its reader for how many writers there are, which is marked preview; tests hold what is used.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)


class _Relayed(dg.PipesMessageReader):
    """Messages that are read by whoever waits for the process, and are handed on by `Pipes.hear`."""

    def __init__(self, messages: Path) -> None:
        self._messages = messages

    @contextmanager
    def read_messages(self, handler: dg.PipesMessageHandler) -> Iterator[dict[str, str]]:
        self.handler = handler
        yield {"path": str(self._messages)}

    def no_messages_debug_text(self) -> str:
        return f"Messages go to {self._messages}."


class Pipes:
    """Follows a process for the step of `context`."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context

    @contextmanager
    def session(self, messages: Path) -> Iterator[Mapping[str, str]]:
        """A Pipes session: the environment that tells the process of it."""
        self._reader = _Relayed(messages)
        with dg.open_pipes_session(self._context, dg.PipesEnvContextInjector(), self._reader) as session:
            yield session.get_bootstrap_env_vars()

    def hear(self, message: Json) -> None:
        """Hand a message of the process to Dagster."""
        self._reader.handler.handle_message(message)  # type: ignore[arg-type]

    def show(self, description: str, numbers: Mapping[str, float], curves: str) -> None:
        """Observe the asset: one event."""
        metadata: dict[str, Any] = {**numbers, "curves": dg.MetadataValue.md(curves)}
        self._context.log_event(
            dg.AssetObservation(self._context.asset_key, description=description, metadata=metadata)
        )
