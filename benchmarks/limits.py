"""What an endpoint permits: so many requests a minute, so many at a time."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Limits:
    """What is permitted, how long an answer takes and how often one fails.

    `rate` requests a minute (0: no limit), counted in a token bucket that holds `burst`, or in a sliding or a
    fixed window of `window` seconds. `concurrent` calls at a time (0: no limit). `service` is the mean of a
    lognormal with `spread` as the sigma of its logarithm, in seconds. `errors` and `resets` are the shares of
    first attempts that end in a 500 and in a reset connection.
    """

    rate: float = 0.0
    counted: Literal["bucket", "sliding", "fixed"] = "bucket"
    burst: float = 5.0
    window: float = 10.0
    concurrent: int = 0
    retry_after: bool = True
    service: float = 0.5
    spread: float = 0.3
    errors: float = 0.0
    resets: float = 0.0


class Gate:
    """Admits a call or says after how many seconds to ask again."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self.busy, self.clock = limits, 0, clock
        self.tokens, self.filled = limits.burst, clock()
        self.admitted: deque[float] = deque()

    def refused(self) -> float | None:
        """None: the call is admitted and the caller takes it off `busy` when it is answered. A refused call
        uses nothing up."""
        given, now = self.limits, self.clock()
        if given.concurrent and self.busy >= given.concurrent:
            return 1.0
        if given.rate and (wait := self._wait(now)) > 0:
            return wait
        self.tokens -= 1
        self.admitted.append(now)
        self.busy += 1
        return None

    def _wait(self, now: float) -> float:
        given = self.limits
        if given.counted == "bucket":
            self.tokens = min(given.burst, self.tokens + (now - self.filled) * given.rate / 60)
            self.filled = now
            return 0.0 if self.tokens >= 1 else (1 - self.tokens) * 60 / given.rate
        began = now - given.window if given.counted == "sliding" else now // given.window * given.window
        while self.admitted and self.admitted[0] < began:
            self.admitted.popleft()
        if len(self.admitted) < given.rate * given.window / 60:
            return 0.0
        return (self.admitted[0] if given.counted == "sliding" else began) + given.window - now
