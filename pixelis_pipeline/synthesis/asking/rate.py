"""How many requests a minute an endpoint allows: given, stated by it, or learned from its 429s.

Requests are spread evenly, which suits fixed windows, sliding windows and token buckets alike. Where the
rate is not known, a 429 says what it is: an endpoint that has just run out has given away, in the seconds
before, what it allows in that time. From then on the rate rises to just below that, stays there, and rarely
tries more. Where an endpoint is closed for long, it is measured from one opening to the next instead.
"""

from collections import deque
from collections.abc import Callable

MARGIN = 0.98  # of the rate: evenly spread requests bunch a little on the way
ENOUGH, LONG, LONGEST = 20, 2.0, 10.0  # requests that make a measurement, and seconds: at least, at most
DECREASE = 0.95  # at a 429 where there is no measurement
STEEP, SOON = 0.75, 3.0  # likewise, where the rate was changed so few seconds ago
INCREASE = 1.05  # a second, up to the rate at which the endpoint ran out
QUIET, LONGEST_QUIET = 3.0, 3600.0  # seconds there before more is tried; doubled where that went wrong
TRY, LONGEST_TRY = 0.05, 0.4  # how much more; doubled where that went well
LEAST = 0.05  # requests a second
SLACK = 0.02  # seconds that requests may catch up after one that went out late


class Rate:
    """`value` is in requests a second, None while nothing limits it."""

    def __init__(self, clock: Callable[[], float], per_minute: float = 0, known: float | None = None) -> None:
        self._clock = clock
        self._most = MARGIN * per_minute / 60 if per_minute else float("inf")
        self.value = min(known or self._most, self._most) if known or per_minute else None
        self._learned = known is not None
        self._roof = self.value or 0.0  # the rate at which the endpoint ran out
        self._next, self._changed, self._since = 0.0, clock(), clock()
        self._quiet, self._trying, self._try = QUIET, False, TRY
        self._sent: deque[float] = deque(maxlen=4096)
        self._answers = 0
        self._open: tuple[float, int] | None = None  # when it last opened, and the answers until then

    @property
    def per_minute(self) -> float | None:
        """Requests a minute that are sent at most, None where nothing limits them."""
        return round(self.value * 60, 1) if self.value else None

    @property
    def learned(self) -> float | None:
        """`value` where 429s taught it, else None."""
        return self.value if self._learned else None

    def wait(self) -> float:
        """Seconds until the next request may go out."""
        return max(0.0, self._next - self._clock()) if self.value else 0.0

    def sent(self) -> bool:
        """A request goes out. Whether this rate held it back, not slots or a lack of requests."""
        now = self._clock()
        self._sent.append(now)
        if not self.value:
            return False
        space = 1 / self.value
        held_back = now - self._next < space
        self._next = max(self._next, now - max(SLACK, space)) + space
        if held_back:
            self._rise(self.value, now)
        return held_back

    def stated(self, per_minute: float) -> None:
        """The endpoint names its limit. What settings give, or 429s taught, is kept where it is less."""
        if per_minute > 0:
            self._most = min(self._most, MARGIN * per_minute / 60)
            if self.value is None or self.value > self._most:
                self.value = self._roof = self._most

    def answered(self) -> None:
        """An answer came."""
        self._open = self._open or (self._clock(), 0)
        self._answers += 1

    def resumed(self) -> None:
        """Requests go out again after a pause."""
        self._since = self._clock()

    def ran_out(self) -> None:
        """The endpoint turns requests away, and their number in flight is not the reason."""
        now = self._clock()
        flow = max(self._flow(now - LONGEST, now), self._flow(max(self._since, now - LONGEST), now))
        soon, self._changed = now - self._changed < SOON, now
        if self._trying:
            self._quiet = min(self._quiet * 2, LONGEST_QUIET)
        self._trying, self._try = False, TRY
        if flow:
            self._roof = min(flow, self.value or flow)
            self.value = max(self._roof * MARGIN, LEAST)
        elif self.value is not None:
            self._roof, self.value = self.value, max(self.value * (STEEP if soon else DECREASE), LEAST)
        self._learned = self.value is not None

    def opened(self, closed: float, since: float) -> None:
        """The endpoint answers again, `closed` seconds after it ran out, and `since` the last trial."""
        now = self._clock()
        if closed >= LONG:
            if self._open is not None:
                answers, seconds = self._answers - self._open[1], now - self._open[0]
                if answers >= ENOUGH and seconds >= LONG:
                    self.value = min(MARGIN * answers / seconds, self._most)
                    # It may have opened any time since the trial before this one.
                    self._roof = answers / max(seconds - since, LONG)
            self._open = now, self._answers
        self._next = self._changed = self._since = now

    def _flow(self, begun: float, now: float) -> float:
        """Requests a second that went out since `begun`, 0 where they are too few to tell."""
        count = sum(at > begun for at in self._sent)
        seconds = now - max(begun, self._sent[0]) if self._sent else 0.0
        return count / seconds if count >= ENOUGH and seconds >= LONG else 0.0

    def _rise(self, value: float, now: float) -> None:
        calm, top = now - self._changed, min(self._roof * MARGIN, self._most)
        if value < top:
            if calm >= 1.0:
                self.value, self._changed = min(value * INCREASE ** min(calm, LONGEST), top), now
        elif calm >= (LONG if self._trying else self._quiet) and value < self._most:
            if self._trying:
                self._try = min(self._try * 2, LONGEST_TRY)
            self._roof, self._changed, self._trying = self._roof * (1 + self._try), now, True
