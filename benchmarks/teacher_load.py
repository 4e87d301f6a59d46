"""A load, and the figures of what a client made of it.

Refusals, bills and throughput are the server's; rows are counted in what the client hands over, and a row
with another row's answer is lost.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.limited_server import row_key
from benchmarks.limits import Limits

WARM_UP, ENOUGH = 30.0, 10.0  # seconds; how many after the warm-up make a measurement

Call = tuple[str, float, float | None, int | None]  # row, asked, ended, status; see limited_server.Server


@dataclass(frozen=True, slots=True)
class Load:
    """`rows` requests to a server with these limits. `patience` is how long a client may take, in seconds."""

    name: str
    limits: Limits
    rows: int
    warm_up: float = WARM_UP
    patience: float = 180.0

    def words(self) -> list[str]:
        """What the rows say. No two are alike."""
        asked = f"{self.name}: which lantern is nearest to door"
        return [f"{asked} {number}?" for number in range(self.rows)]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one load. `throughput` is a share of what is permitted, None where too little was left to
    ask for after the warm-up; `lost` rows were asked for and not handed over; `twice` rows were answered,
    and billed, more than once; `cpu` is the client's, in seconds; `finished` is false for one that had to
    be stopped, and whose rows count as handed over as far as the server had answered them."""

    seconds: float
    cpu: float
    asked: int
    refused: int
    lost: int
    twice: int
    throughput: float | None
    finished: bool = True

    @property
    def refused_share(self) -> float:
        return self.refused / self.asked if self.asked else 0.0


def result(load: Load, seen: Sequence[Call], done: Mapping[str, Any] | None) -> Result:
    """Figures of the calls that the server saw and of what the client says that it has."""
    if done is None:
        answered = {row for row, _, _, status in seen if status == 200}
        kept = sum(row_key(words) in answered for words in load.words())
    else:
        kept = sum(row_key(words) in (done["rows"].get(words) or "") for words in load.words())
    return Result(
        seconds=load.patience if done is None else done["seconds"],
        cpu=0.0 if done is None else done["cpu"],
        asked=len(seen),
        refused=sum(status == 429 for *_, status in seen),
        lost=load.rows - kept,
        twice=len(billed_twice(seen)),
        throughput=throughput(load, seen),
        finished=done is not None,
    )


def billed_twice(seen: Sequence[Call]) -> set[str]:
    """The rows that were answered more than once."""
    times = Counter(row for row, _, _, status in seen if status == 200)
    return {row for row, count in times.items() if count > 1}


def throughput(load: Load, seen: Sequence[Call]) -> float | None:
    """The share of the permitted throughput that was used after the warm-up, until too few rows were left to
    fill the slots: slot seconds of all that there were, or admitted calls of all that the rate permits. A
    client that never got every row admitted is measured until its last call ended."""
    given = load.limits
    admitted = [(asked, ended) for _, asked, ended, status in seen if status != 429]
    first = sorted({row: asked for row, asked, _, status in reversed(seen) if status != 429}.values())
    if len(first) < load.rows:
        until = max((ended or asked for asked, ended in admitted), default=0.0)
    else:
        until = first[-1 - (given.concurrent or round(given.rate / 60))]
    seconds = until - load.warm_up
    if seconds < ENOUGH:
        return None
    if not given.concurrent:
        return sum(load.warm_up <= asked < until for asked, _ in admitted) / (given.rate / 60 * seconds)
    spans = ((max(asked, load.warm_up), min(ended or until, until)) for asked, ended in admitted)
    return sum(max(0.0, end - begin) for begin, end in spans) / (given.concurrent * seconds)
