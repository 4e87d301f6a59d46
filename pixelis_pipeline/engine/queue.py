"""Items on their way through workers: which is next, which has to be tried again, how far ahead to go."""

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Queue(Generic[T]):
    """Hands out (index, item) of an iterable, each until it is settled or was lost `tries` times.

    No item is taken from the iterable that lies `window` or more behind the oldest unsettled one (0: no
    bound), so results that must wait for their turn stay few however slow a single item is.
    """

    def __init__(self, items: Iterable[T], tries: int = 1, window: int = 0) -> None:
        self._items = enumerate(items)
        self._following = next(self._items, None)
        self._tries, self._window = tries, window
        self._out: dict[int, T] = {}
        self._again: list[int] = []
        self._losses: dict[int, int] = {}

    @property
    def waiting(self) -> bool:
        """Whether something can be handed out now."""
        if self._again:
            return True
        if self._following is None:
            return False
        oldest = min(self._out, default=self._following[0])
        return not self._window or self._following[0] < oldest + self._window

    @property
    def finished(self) -> bool:
        """Whether every item is settled."""
        return self._following is None and not self._out

    @property
    def suspects(self) -> bool:
        """Whether what is handed out next was lost before: it may kill who takes it."""
        return bool(self._again)

    def take(self) -> tuple[int, T]:
        """The next item, those that were lost first. IndexError where nothing is `waiting`."""
        if not self.waiting:
            raise IndexError("nothing can be handed out now")
        if self._again:
            index = self._again.pop(0)
            return index, self._out[index]
        assert self._following is not None
        index, item = self._following
        self._out[index] = item
        self._following = next(self._items, None)
        return index, item

    def settle(self, index: int) -> None:
        """An item has its result."""
        del self._out[index]
        self._losses.pop(index, None)

    def lose(self, index: int) -> bool:
        """An item's worker is gone. True where it is given up: it was lost as often as it may be."""
        self._losses[index] = self._losses.get(index, 0) + 1
        if self._losses[index] < self._tries:
            self._again.append(index)
            return False
        self.settle(index)
        return True
