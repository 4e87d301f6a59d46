"""How many requests may be in flight at an endpoint that does not say so: AIMD with a remembered ceiling."""

from math import floor

FIRST = 4  # in flight at first; doubled each round trip until a 429 or the bound
DECREASE = 0.75  # of the ceiling, where a 429 comes right after it was lowered by one
QUIET = 256  # answers at the ceiling before one more is tried; doubled each time that is turned away
LONGEST_QUIET = 32_000


class Ceiling:
    """`limit` requests may be in flight. It rises while it is what holds requests back and stops at `top`,
    the most that was not turned away, which is tried again rarely: every failed try costs a 429."""

    def __init__(self, bound: int, known: int | None = None) -> None:
        self.bound = bound
        self.top: int | None = min(max(known, 1), bound) if known else None
        self._height = float(self.top or min(FIRST, bound))
        self.proven = 0  # the most at which a request was answered
        self._patience, self._quiet, self._rising = QUIET, 0, False

    @property
    def limit(self) -> int:
        """Requests that may be in flight now, at least one."""
        return max(1, floor(self._height))

    def answered(self, in_flight: int, limit: int) -> None:
        """An answer came to a request that went out as the `in_flight`-th, when the limit was `limit`."""
        self.proven = max(self.proven, in_flight)
        if in_flight < limit or self.limit >= self.bound:
            return
        if self.top is None:
            self._height += 1
            return
        if in_flight < self.limit:
            return
        if self._height < self.top:
            self._height = min(self._height + 1 / self._height, self.top)
        else:
            self._quiet += 1
            if self._rising and self._quiet >= self.limit:  # the last try held for a round trip
                self._rising, self._patience = False, max(self.limit, self._patience // 4)
            if self._quiet >= self._patience:
                self.top, self._quiet, self._rising = self.top + 1, 0, True
                self._height = float(self.top)

    def turned_away(self, in_flight: int, left: int, again: bool) -> None:
        """A 429 came to the `in_flight`-th request, and `left` are still in flight, which may be accepted
        (requests overtake each other). `again`: it was sent after the ceiling was lowered."""
        self._quiet = 0
        self.top = max(1, min(max(in_flight - 1, left), self.top or self.bound))
        self.proven = min(self.proven, self.top)
        self._height = max(1.0, min(self._height * DECREASE if again else self._height, float(self.top)))

    def gave_way(self, in_flight: int) -> bool:
        """Whether a 429 to the `in_flight`-th request only says that a try to go higher failed. If so, the
        ceiling is what it was before, and the next try is a long way off."""
        if not self._rising or self.top is None or in_flight < self.top - 1:
            return False
        self.top, self._quiet, self._rising = max(self.top - 1, 1), 0, False
        self._height = float(self.top)
        self._patience = min(self._patience * 2, LONGEST_QUIET)
        return True

    def state(self) -> tuple[int | None, float]:
        """What `restore` takes, for a lowering that turns out to have had another cause."""
        return self.top, self._height

    def restore(self, state: tuple[int | None, float]) -> None:
        """Back to an earlier `state`."""
        self.top, self._height = state
