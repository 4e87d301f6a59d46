"""An endpoint that limits what is asked of it, and a client that is always ready, in virtual time."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, exp, inf
from typing import Any, Literal

from pixelis_pipeline.synthesis.asking.pace import Pace, Ticket


@dataclass
class Limited:
    """`rate` requests a minute (0: no limit), counted in a bucket that holds `burst`, or in a sliding or a
    fixed window of `window` seconds; `slots` at a time (0: no limit)."""

    rate: float = 0.0
    counted: Literal["bucket", "sliding", "fixed"] = "bucket"
    burst: float = 5.0
    window: float = 10.0
    slots: int = 0
    retry_after: bool = False
    busy: int = 0
    tokens: float = 0.0
    filled: float = 0.0
    admitted: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def refused(self, now: float) -> float | None:
        """None: admitted. Else the seconds after which to ask again."""
        if self.slots and self.busy >= self.slots:
            return 1.0
        if self.rate and (wait := self._wait(now)) > 0:
            return float(max(1, ceil(wait)))
        self.tokens -= 1
        self.admitted.append(now)
        self.busy += 1
        return None

    def _wait(self, now: float) -> float:
        if self.counted == "bucket":
            self.tokens = min(self.burst, self.tokens + (now - self.filled) * self.rate / 60)
            self.filled = now
            return 0.0 if self.tokens >= 1 else (1 - self.tokens) * 60 / self.rate
        began = now - self.window if self.counted == "sliding" else now // self.window * self.window
        while self.admitted and self.admitted[0] < began:
            self.admitted.popleft()
        if len(self.admitted) < self.rate * self.window / 60:
            return 0.0
        return (self.admitted[0] if self.counted == "sliding" else began) + self.window - now


@dataclass
class Came:
    """When answers and 429s came, and how many requests went out."""

    pace: Pace
    answers: list[float]
    refusals: list[float]
    sent: int

    def throughput(self, since: float, until: float) -> float:
        """Answers a second."""
        return sum(since <= at < until for at in self.answers) / (until - since)

    @property
    def refused(self) -> float:
        """The share of all requests."""
        return len(self.refusals) / self.sent


def played(
    server: Limited,
    seconds: float,
    bound: int = 64,
    per_minute: float = 0.0,
    known: dict[str, Any] | None = None,
    service: float = 0.75,
    spread: float = 0.3,
    way: float = 0.005,
    seed: int = 0,
) -> Came:
    """Let a `Pace` send as much as it allows. An answer takes a lognormal time of mean `service`, the way to
    the server and back about `way` each, and timers are up to 1.5 ms late."""
    drawn, now = random.Random(seed), 0.0
    pace = Pace(bound, per_minute, known, lambda: now)
    came = Came(pace, [], [], 0)
    events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
    order = alarm = 0.0

    def after(delay: float, what: Callable[..., None], *given: Any) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (now + delay, int(order), what, given))

    def trip() -> float:
        return way * drawn.uniform(0.5, 1.5)

    def arrive(ticket: Ticket) -> None:
        wait = server.refused(now)
        if wait is None:
            factor = exp(drawn.gauss(-(spread**2) / 2, spread))
            after(service * factor, leave, ticket)
        else:
            after(trip(), refuse, ticket, wait if server.retry_after else None)

    def leave(ticket: Ticket) -> None:
        server.busy -= 1
        after(trip(), answer, ticket)

    def answer(ticket: Ticket) -> None:
        came.answers.append(now)
        pace.answered(ticket)

    def refuse(ticket: Ticket, wait: float | None) -> None:
        came.refusals.append(now)
        pace.turned_away(ticket, wait)

    after(0.0, lambda: None)
    while events:
        at, _, what, given = heapq.heappop(events)
        if at > seconds:
            break
        now = at
        what(*given)
        while (wait := pace.wait()[0]) <= 0:
            came.sent += 1
            after(trip(), arrive, pace.sent())
        if wait < inf and not now < alarm <= now + wait + 0.0015:
            alarm = now + wait + drawn.uniform(0, 0.0015)
            after(alarm - now, lambda: None)
    return came
