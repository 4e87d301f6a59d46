"""When the next request may go out: the number in flight, the rate, and what a 429 asks for, together.

A 429 does not say which limit it met. Where more have never been answered, it is read as "too many in
flight": the ceiling goes below it, and one request goes out until it is answered, then two, and so on. Where
as many were answered before, or lowering the ceiling does not help, their number was not the reason: the
ceiling is put back, the endpoint has run out, and the rate learns from it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from pixelis_pipeline.records import Json
from pixelis_pipeline.synthesis.asking.ceiling import Ceiling
from pixelis_pipeline.synthesis.asking.rate import Rate

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0  # seconds between trials at an endpoint that names no time
LONGEST_RETRY_AFTER = 120.0  # seconds: a server that asks for more is asked again after these


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request on its way: the how-manieth it is, when it went, how many are in flight with it, and
    whether it had to wait for the rate."""

    number: int
    at: float
    in_flight: int
    limit: int
    paced: bool


class Pace:
    """Told of every request that goes out and how it comes back. Not for more than one thread."""

    def __init__(
        self,
        bound: int,
        per_minute: float = 0,
        known: Json | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        known = known or {}
        self._clock = clock
        self.ceiling = Ceiling(bound, known.get("ceiling"))
        self.rate = Rate(clock, per_minute, known.get("rate"))
        self.in_flight = 0
        self._number = 0  # of the last request that went out
        self._closed_until = 0.0
        self._boundary = 0  # requests up to this one went out before the last 429 was known
        self._strikes = 0  # 429s with hardly an answer between them
        self._since = 0  # answers since the last of them
        self._room: int | None = None  # requests after the boundary that may be in flight; None: any number
        self._out = 0  # and those that are
        self._pauses = 0  # trials turned away in a row
        self._before = self.ceiling.state()  # when the strikes began
        self._last = self._shut = 0.0  # when the last of them came, and the first that was about the rate
        self._dry = False  # turned away for the rate, and nothing answered since
        self._rated = False  # these strikes are about the rate

    def wait(self) -> tuple[float, str]:
        """(seconds until the next request may go out, what it waits for); inf: until one comes back."""
        now = self._clock()
        if self._closed_until > now:
            return self._closed_until - now, "turned away"
        if self.in_flight >= self.ceiling.limit or (self._room is not None and self._out >= self._room):
            return inf, "slots"
        return self.rate.wait(), "rate"

    def sent(self) -> Ticket:
        """A request goes out."""
        self._number += 1
        self._out += 1
        self.in_flight += 1
        return Ticket(self._number, self._clock(), self.in_flight, self.ceiling.limit, self.rate.sent())

    def answered(self, ticket: Ticket) -> None:
        """It was answered."""
        self.lost(ticket)
        self.rate.answered()
        self.ceiling.answered(ticket.in_flight, ticket.limit)
        if ticket.number <= self._boundary:
            return
        self._since += 1
        self._pauses = 0
        if self._since == 1:
            self.rate.resumed()
        if self._room is not None:  # doubled each round trip
            self._room = self._room + 1 if self._room < self.ceiling.limit else None
        if self._dry:
            self._dry = False
            self.rate.opened(ticket.at - self._shut, ticket.at - self._last)
        if self._since >= self.ceiling.limit:
            self._strikes, self._rated = 0, False

    def turned_away(self, ticket: Ticket, after: float | None = None) -> None:
        """A 429 came back; `after` is the number of seconds that it asks to wait."""
        self.lost(ticket)
        now = self._clock()
        if after is not None:
            self._closed_until = max(self._closed_until, now + min(after, LONGEST_RETRY_AFTER))
        if ticket.number <= self._boundary:  # it went out with one that was turned away: no news
            if self._strikes == 1 and not self._rated:
                self.ceiling.turned_away(ticket.in_flight, self.in_flight, again=False)
            return
        self._boundary, self._since, self._out = self._number, 0, 0
        if self._strikes == 0 and self.ceiling.gave_way(ticket.in_flight):
            return
        if self._strikes == 0:
            self._before = self.ceiling.state()
        self._strikes += 1
        self._room, self._last = 1, now
        if not (self._rated or self._for_the_rate(ticket)):
            self.ceiling.turned_away(ticket.in_flight, self.in_flight, again=self._strikes > 1)
            return
        if not self._rated:
            self.ceiling.restore(self._before)
        if not self._dry:
            self.rate.ran_out()
            self._shut = now
        self._dry = self._rated = True
        if self._strikes == 1 and self.rate.value is not None:
            self._room = None  # slower from now on, which may be enough
        elif after is None:
            self._closed_until = now + min(FIRST_PAUSE * 2**self._pauses, LONGEST_PAUSE)
            self._pauses += 1

    def _for_the_rate(self, ticket: Ticket) -> bool:
        """Whether a 429 was for something else than the number in flight: as many have been answered before,
        or slots were free, or lowering the ceiling did not help."""
        if ticket.in_flight < self.ceiling.proven or ticket.in_flight + self.in_flight == 1:
            return True
        if ticket.paced or (self.rate.value is not None and ticket.in_flight < self.ceiling.limit):
            return True
        few = ticket.in_flight <= max(1, int(self._before[1] / 2))
        return self._strikes > 2 or (self._strikes == 2 and few)

    def lost(self, ticket: Ticket) -> None:
        """It came back, with or without an answer."""
        self.in_flight -= 1
        self._out -= ticket.number > self._boundary

    def learned(self) -> Json:
        """What a later run should begin with (`known`)."""
        found = {"ceiling": self.ceiling.top, "rate": self.rate.learned}
        return {name: value for name, value in found.items() if value is not None}
