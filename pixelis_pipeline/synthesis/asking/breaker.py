"""A circuit breaker: an endpoint that is down is not hammered, and not waited for without end."""

import time
from collections.abc import Callable
from math import inf

FAILURES = 8  # in a row, with no answer between, open it
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds until one request is let through; doubled when that fails


class Breaker:
    """Closed while there are answers; open after `FAILURES` in a row, when one request at a time goes out
    after a growing pause. After `patience` seconds of trouble without an answer there is no more hope."""

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.patience, self._clock = patience, clock
        self._row, self._pause, self._until = 0, 0.0, 0.0
        self._probing = self._turned_away = False
        self._trouble, self._began = "", 0.0  # the last of it, and when the first of it came

    @property
    def open(self) -> bool:
        """Whether requests are held back, all but one."""
        return self._row >= FAILURES

    def wait(self) -> float:
        """Seconds until a request may go out; inf while the one that tries is out."""
        if not self.open:
            return 0.0
        return inf if self._probing else max(0.0, self._until - self._clock())

    def sent(self) -> bool:
        """A request goes out. Whether it is the one that tries an endpoint that is down: that is no fault of
        the request."""
        self._probing = self.open
        return self.open

    def heard(self) -> None:
        """The endpoint answered: well, or with words about this one request."""
        self._row, self._pause, self._probing = 0, 0.0, False
        self._turned_away, self._trouble = False, ""

    def turned_away(self, probe: bool, problem: str) -> None:
        """A 429. The endpoint lives, so what follows is up to the pace; but it is no answer."""
        self._note(problem)
        self._turned_away = True
        if probe:
            self._row, self._pause, self._probing = 0, 0.0, False

    def failed(self, probe: bool, problem: str) -> None:
        """No answer, or a 5xx."""
        self._note(problem)
        before = self.open
        self._row += 1
        if probe or (self.open and not before):
            self._probing = False
            self._pause = min(self._pause * 2 or FIRST_PAUSE, LONGEST_PAUSE)
            self._until = self._clock() + self._pause

    def lost(self, probe: bool) -> None:
        """A request came back with no news of the endpoint."""
        self._probing = self._probing and not probe

    def hopeless(self) -> str:
        """Why nothing more should be sent, empty while there is hope."""
        silent = self._clock() - self._began
        if not (self._trouble and (self.open or self._turned_away)) or silent < self.patience:
            return ""
        return f"the endpoint answered nothing in {silent:.0f} s (teacher.patience_seconds): {self._trouble}"

    def _note(self, problem: str) -> None:
        if not self._trouble:
            self._began = self._clock()
        self._trouble = problem
