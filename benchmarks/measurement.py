"""One measured number, what it was aimed at, and what another tool needs for the same work."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from assets import console
from pixelis_pipeline.ledger.files import replace

OUT = Path(__file__).resolve().parent / "out"


@dataclass(frozen=True, slots=True)
class Measurement:
    """A value in `unit`. Where there is a peer, `ratio` is value / peer_value and the target is the ratio's;
    elsewhere the target is the value's. `met` is None where nothing was aimed at."""

    name: str
    value: float
    unit: str
    target: float | None = None
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    met: bool | None = None


def measured(
    name: str, value: float, unit: str, at_most: float | None = None, at_least: float | None = None
) -> Measurement:
    """A value by itself; `at_most` or `at_least` is its target."""
    if at_least is not None:
        return Measurement(name, round(value, 4), unit, target=at_least, met=value >= at_least)
    met = None if at_most is None else value <= at_most
    return Measurement(name, round(value, 3), unit, target=at_most, met=met)


def compared(
    name: str, value: float, unit: str, peer: str, peer_value: float, at_least: float | None = None
) -> Measurement:
    """A rate beside a peer's; `at_least` is the target of how many times the peer's it is."""
    ratio = value / peer_value
    met = None if at_least is None else ratio >= at_least
    return Measurement(
        name, round(value, 3), unit, at_least, peer, round(peer_value, 3), round(ratio, 3), met
    )


def write(suite: str, found: Sequence[Measurement]) -> Path:
    """Write `out/<suite>.json` and return its path."""
    path = OUT / f"{suite}.json"
    replace(path, json.dumps([asdict(each) for each in found], indent=1).encode() + b"\n")
    return path


def show(suite: str, found: Sequence[Measurement]) -> None:
    """Print the table, without the columns in which nothing stands."""
    cells = {f.name: [_cell(getattr(each, f.name)) for each in found] for f in fields(Measurement)}
    shown = {name: column for name, column in cells.items() if any(column)}
    console.table(suite, list(shown), list(zip(*shown.values(), strict=True)))


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "" if value is None else str(value)
