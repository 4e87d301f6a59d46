"""Requests that wait to be sent: fresh ones in their order, and those that must be sent again."""

import heapq
import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from pixelis_pipeline.records import Assignment
from pixelis_pipeline.synthesis.request import Request

Pending = Mapping[str, tuple[Request, Assignment]]


@dataclass(slots=True, eq=False)
class Item:
    """One request that is being asked. `attempts` ended in trouble on the way; `turned_away` counts 429s
    while others were answered, `seen` the answers there were at the last of them (-1: no 429 yet)."""

    key: str
    request: Request
    assignment: Assignment
    sent: bool = False
    attempts: int = 0
    turned_away: int = 0
    seen: int = -1


class Waiting:
    """Fresh requests and retries take turns, so that neither starves the other. Only what was taken out is
    more in memory than its place in `pending`."""

    def __init__(self, pending: Pending) -> None:
        self._fresh = iter(pending.items())
        self._next = next(self._fresh, None)
        self._again: list[tuple[float, int, Item]] = []  # (not before, order of arrival, item)
        self._order = itertools.count()
        self._turn = False

    def __bool__(self) -> bool:
        return self._next is not None or bool(self._again)

    def again(self, item: Item, not_before: float) -> None:
        """Send `item` again, at `not_before` or later."""
        heapq.heappush(self._again, (not_before, next(self._order), item))

    def take(self, now: float) -> Item | None:
        """The next request that may be sent at `now`, None where there is none yet."""
        due = bool(self._again) and self._again[0][0] <= now
        self._turn = not self._turn
        if due and (self._turn or self._next is None):
            return heapq.heappop(self._again)[2]
        if self._next is None:
            return None
        key, (request, assignment) = self._next
        self._next = next(self._fresh, None)
        return Item(key, request, assignment)

    def soonest(self) -> float | None:
        """When the next retry may go out, None without one."""
        return self._again[0][0] if self._again else None

    def rest(self) -> list[Item]:
        """All that is left, taken out."""
        left = [item for _, _, item in sorted(self._again)]
        while self._next is not None:
            key, (request, assignment) = self._next
            left.append(Item(key, request, assignment))
            self._next = next(self._fresh, None)
        self._again = []
        return left
