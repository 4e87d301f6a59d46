"""How long the study still takes, from how long its steps took."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from assets.stage import Advance
from pixelis_pipeline.ledger import files

Kind = Literal["sft", "rft", "answers"]
# Seconds a step or an answer takes, until one was taken here: guesses, for a first estimate.
GUESSED: Mapping[Kind, float] = {"sft": 1.0, "rft": 8.0, "answers": 0.2}


class Pace:
    """What is left of each run by name, and the seconds that a step of its kind takes: as `file` says it
    was measured here last, else a guess."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        known = json.loads(file.read_bytes()) if file.is_file() else {}
        self.seconds: dict[Kind, float] = {**GUESSED, **known}
        self._known: dict[str, float] = known
        self._left: dict[str, tuple[Kind, int]] = {}

    def due(self, name: str, kind: Kind, steps: int) -> None:
        """A run of so many steps is still to be done."""
        with self._lock:
            self._left[name] = (kind, steps)

    def done(self, name: str) -> None:
        """A run has been done."""
        with self._lock:
            self._left.pop(name, None)

    @property
    def due_now(self) -> frozenset[str]:
        """The runs that are still to be done."""
        with self._lock:
            return frozenset(self._left)

    @property
    def left(self) -> float:
        """Seconds of all that is due, one run after the other."""
        with self._lock:
            return sum(self.seconds[kind] * steps for kind, steps in self._left.values())

    @contextmanager
    def follow(self, name: str, total: int) -> Iterator[Advance]:
        """Count a run's steps of `total`. What they took is measured from the first that is told: what came
        before was start-up, or had been done by a process before."""
        kind, _ = self._left[name]
        began, told, counted = 0.0, 0, 0

        def advance(steps: int) -> None:
            nonlocal began, told, counted
            now = time.monotonic()
            told, counted = told + steps, counted + steps if began else 0
            began = began or now
            with self._lock:
                self._left[name] = (kind, max(total - told, 0))
                if counted:
                    self.seconds[kind] = (now - began) / counted

        yield advance
        if counted:
            with self._lock:
                self._known[kind] = round(self.seconds[kind], 4)
                self._file.parent.mkdir(parents=True, exist_ok=True)
                files.replace(self._file, json.dumps(self._known).encode())
