"""What the command line shows: plain lines where nobody watches, bars and tables in a terminal."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Lock

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from assets.stage import Advance

UNCUT = 10_000  # columns where nobody's terminal sets a limit, so that an id is never cut in a pipe
OUT = Console(highlight=False, width=None if sys.stdout.isatty() else UNCUT)
ERR = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else UNCUT)


_SHARED: list[Lock] = []


def share_bars(turn: Lock) -> None:
    """Show a bar only where `turn` is free: several processes write to one terminal."""
    _SHARED[:] = [turn]


def say(text: str) -> None:
    """One line of result."""
    OUT.print(text, markup=False, soft_wrap=True)


def error(text: str) -> None:
    """One line of what went wrong."""
    ERR.print(f"pixelis: {text}", style="red", markup=False, soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A titled table; numbers are the caller's to format."""
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*map(escape, row))
    OUT.print(shown)


@contextmanager
def progress(description: str, total: int) -> Iterator[Advance]:
    """A bar that goes away when the work is done; nothing where the output is not a terminal."""
    shown = ERR.is_terminal and (not _SHARED or _SHARED[0].acquire(block=False))
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=ERR,
        transient=True,
        disable=not shown,
    )
    try:
        with bar:
            task = bar.add_task(description, total=total or None)
            yield lambda done: bar.advance(task, done)
    finally:
        if shown and _SHARED:
            _SHARED[0].release()
