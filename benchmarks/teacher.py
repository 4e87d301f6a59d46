"""How busy the teacher's client keeps an endpoint that limits it, how often it is refused and what it loses,
beside two peers under the same load: a plain `asyncio.gather` over the SDK, and bespokelabs-curator.

Clients take turns on the same rows with the same service times. What is permitted is known exactly: the
rate, or the slots, all of them busy. The peers get what is needed to be fair to them: the SDK a version
with many retries, curator the same rate that our client is told (left alone it assumes 200 requests and
100,000 tokens a minute, and would be slow for that reason only). Nobody is told the number of slots.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.limits import Limits
from benchmarks.measurement import Measurement, measured
from benchmarks.peer_environment import python_of
from benchmarks.teacher_load import WARM_UP, Load, Result
from benchmarks.teacher_runs import Client, Crash, crashed, run

CURATOR, CURATOR_VERSION = "bespokelabs-curator", "0.1.31"
THROUGHPUT_AIM, REFUSED_AIM = 0.95, 0.02
BOUND = 64  # requests in flight that our client may go up to, if the endpoint lets it
NO_TOKEN_LIMIT = {"max_tokens_per_minute": 1_000_000_000}
NO_LIMIT = NO_TOKEN_LIMIT | {"max_requests_per_minute": 1_000_000}

T = TypeVar("T", Result, Crash)


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; the defaults take about eight minutes."""

    slots: int = 12
    rate: float = 960.0  # requests a minute
    service: float = 0.75  # seconds an answer takes
    slow: float = 2.0  # where four times as many are answered at a time
    rows: int = 800
    killed: int = 240
    warm_up: float = WARM_UP


def ours(**settings: Any) -> Client:
    """The project's client."""
    command = (sys.executable, "-m", "benchmarks.teacher_clients", "ours")
    return Client("ours", command, {"concurrency": BOUND, **settings})


def gather(**settings: Any) -> Client:
    """One coroutine a row; `max_retries` in place of the SDK's own 2."""
    label = f"asyncio.gather, {settings.get('max_retries', 2)} retries"
    return Client(label, (sys.executable, "-m", "benchmarks.teacher_clients", "gather"), settings)


def curator(python: Path, label: str, **settings: Any) -> Client:
    """The released engine, with `backend_params` of its own."""
    script = str(Path(__file__).with_name("curator_client.py"))
    command = (str(python), "-P", script)  # -P: our modules beside the script are not in the peer's way
    return Client(f"curator {CURATOR_VERSION}, {label}", command, settings)


def suite(size: Size | None = None, with_curator: bool = True) -> list[Measurement]:
    """Both limits beside the peers, then our client under what else endpoints do, then a kill."""
    size = size or Size()
    python = python_of(CURATOR, CURATOR_VERSION) if with_curator else None
    slots = Limits(concurrent=size.slots, retry_after=False, service=size.service)
    rated = Limits(rate=size.rate, service=size.service)
    hidden = Load(f"{size.slots} at a time, not told", slots, size.rows, size.warm_up)
    told = Load(f"{size.rate:,.0f} a minute, told", rated, size.rows, size.warm_up)
    against = [(hidden, ours(), [gather(), gather(max_retries=20)])]
    against += [(told, ours(requests_per_minute=size.rate), [gather(max_retries=20)])]
    if python is not None:
        given = {"max_requests_per_minute": round(size.rate)}
        against[0][2].append(curator(python, "limits lifted", **NO_LIMIT))
        against[1][2].append(curator(python, "told the rate", **NO_TOKEN_LIMIT, **given))
    found = [measured(f"{CURATOR} {CURATOR_VERSION} could be installed (1: yes)", python is not None, "")]
    for load, client, peers in against:
        came = run(client, load)
        found += own(load, came)
        for peer in peers:
            theirs = _of_a_peer(run, peer, load)
            found += beside(load, came, peer, theirs) if theirs else []
    return [*found, *alone(size, slots, rated), *killed(size, slots, python)]


def _of_a_peer(measure: Callable[[Client, Load], T], peer: Client, load: Load) -> T | None:
    """None, and the reason on standard error, for a peer that breaks down: ours is measured all the same."""
    try:
        return measure(peer, load)
    except RuntimeError as error:
        print(f"{load.name}: {error}", file=sys.stderr)
        return None


def own(load: Load, came: Result, aimed: bool = True) -> list[Measurement]:
    """Our figures under one load, beside what was aimed at. `aimed` is false for a rate that nobody told:
    there only what is lost or billed twice has a target."""
    found: list[Measurement] = []
    if came.throughput is not None:
        share = round(came.throughput, 3)
        name = f"{load.name}: throughput after {load.warm_up:.0f} s, of what is permitted"
        aim, met = (THROUGHPUT_AIM, share >= THROUGHPUT_AIM) if aimed else (None, None)
        found.append(Measurement(name, share, "share", aim, met=met))
    most = REFUSED_AIM if aimed else None
    return [
        *found,
        measured(f"{load.name}: calls answered 429", came.refused_share, "share", at_most=most),
        measured(f"{load.name}: rows lost of {load.rows:,}", came.lost, "rows", at_most=0),
        measured(f"{load.name}: rows billed twice", came.twice, "rows", at_most=0),
        measured(f"{load.name}: CPU of the client", 1000 * came.cpu / load.rows, "ms/row"),
    ]


def beside(load: Load, came: Result, peer: Client, theirs: Result) -> list[Measurement]:
    """Ours and a peer's under the same load; a ratio is ours / theirs, so less than 1 is less."""
    label = peer.label if theirs.finished else f"{peer.label} (stopped)"
    return [
        _row(f"{load.name}: wall time", came.seconds, "s", label, theirs.seconds),
        _row(f"{load.name}: calls answered 429", came.refused_share, "share", label, theirs.refused_share),
        _row(f"{load.name}: rows lost of {load.rows:,}", came.lost, "rows", label, theirs.lost),
        _row(f"{load.name}: rows billed twice", came.twice, "rows", label, theirs.twice),
        *(
            [_row(f"{load.name}: throughput", came.throughput, "share", label, theirs.throughput)]
            if came.throughput is not None and theirs.throughput is not None
            else []
        ),
    ]


def _row(name: str, value: float, unit: str, peer: str, other: float) -> Measurement:
    ratio = round(value / other, 3) if other else None
    return Measurement(name, round(value, 3), unit, peer=peer, peer_value=round(other, 3), ratio=ratio)


def alone(size: Size, slots: Limits, rated: Limits) -> list[Measurement]:
    """Our client under more kinds of limits, all at the same time, each with a server of its own."""
    at_once, a_minute = f"{size.slots} at a time, not told", f"{size.rate:,.0f} a minute, not told"
    many = replace(slots, concurrent=4 * size.slots, service=size.slow)
    in_time = round(many.concurrent / many.service * size.rows * slots.service / slots.concurrent)
    given = {
        f"{many.concurrent} at a time, {many.service:g} s each, not told": (many, in_time),
        f"{at_once}, Retry-After": (replace(slots, retry_after=True), size.rows),
        f"{at_once}, 1 % 500, 0.5 % resets": (replace(slots, errors=0.01, resets=0.005), size.rows),
        a_minute: (rated, size.rows),
        f"{a_minute}, sliding windows of 10 s": (replace(rated, counted="sliding"), size.rows),
    }
    loads = [Load(name, limits, rows, size.warm_up) for name, (limits, rows) in given.items()]
    with ThreadPoolExecutor(len(loads)) as together:
        came = list(together.map(lambda load: run(ours(), load), loads))
    return [
        row
        for load, each in zip(loads, came, strict=True)
        for row in own(load, each, aimed=bool(load.limits.concurrent))
    ]


def killed(size: Size, slots: Limits, python: Path | None) -> list[Measurement]:
    """What a SIGKILL at half time costs, both at the same time on servers of their own. Curator is told the
    slots here: refusals are not part of this."""
    load = Load("killed at half time, run again", slots, size.killed, size.warm_up)
    peers = (
        [curator(python, "told the slots", **NO_LIMIT, max_concurrent_requests=size.slots)] if python else []
    )
    with ThreadPoolExecutor(2) as together:
        others = [(peer, together.submit(_of_a_peer, crashed, peer, load)) for peer in peers]
        mine = crashed(ours(), load)
    found = [
        measured(f"{load.name}: billed twice, not in flight", mine.needless, "rows", at_most=0),
        measured(f"{load.name}: rows lost of {load.rows:,}", mine.lost, "rows", at_most=0),
    ]
    for peer, coming in others:
        if (theirs := coming.result()) is not None:
            name, label = load.name, peer.label
            found += [
                _row(f"{name}: billed twice", mine.twice, "rows", label, theirs.twice),
                _row(f"{name}: billed twice, not in flight", mine.needless, "rows", label, theirs.needless),
                _row(f"{name}: rows lost of {load.rows:,}", mine.lost, "rows", label, theirs.lost),
            ]
    return found
