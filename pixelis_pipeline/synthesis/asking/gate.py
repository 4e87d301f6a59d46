"""The gate: lets one request through at a time, as soon as pace, breaker and budget all agree, and tells
them how each came back."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from math import inf

from pixelis_pipeline.settings import TeacherSettings
from pixelis_pipeline.synthesis.asking.admission import Budget, Reserved
from pixelis_pipeline.synthesis.asking.breaker import Breaker
from pixelis_pipeline.synthesis.asking.pace import Pace, Ticket
from pixelis_pipeline.synthesis.asking.traffic import Traffic
from pixelis_pipeline.synthesis.asking.transport import Passing, Received, Throttled

LOOK = 1.0  # seconds after which whoever waits here looks whether there is still hope


@dataclass(frozen=True, slots=True)
class Passed:
    """What a request got at the gate. `probe`: it tries an endpoint that is down; `prompt` is the estimate
    of its prompt's tokens, `reserved` what is held back for it."""

    ticket: Ticket
    probe: bool
    prompt: float
    reserved: Reserved


class Gate:
    """Open until `finish`; `end` then says why. For one event loop."""

    def __init__(self, settings: TeacherSettings, pace: Pace, traffic: Traffic) -> None:
        self._pace, self._traffic = pace, traffic
        self._breaker = Breaker(settings.patience_seconds)
        self._budget = Budget(settings, traffic)
        self.end = ""
        self._turn = asyncio.Lock()
        self._change = asyncio.Event()

    async def enter(self, prompt: float) -> Passed | None:
        """Wait for the turn of a request of about `prompt` tokens; None when nothing more is sent."""
        async with self._turn:
            while not self.end:
                seconds, cause = max((self._breaker.wait(), "endpoint down"), self._pace.wait())
                if seconds <= 0:
                    reserved = self._budget.reserve(prompt)
                    if reserved is not None:
                        self._traffic.sent += 1
                        return Passed(self._pace.sent(), self._breaker.sent(), prompt, reserved)
                    if not self._pace.in_flight:
                        self.finish(self._budget.spent())
                        break
                    seconds, cause = inf, "budget"
                began = time.monotonic()
                await self.pause(min(seconds, LOOK))
                self._traffic.wait(cause, time.monotonic() - began)
                self._look()
        return None

    def answered(self, passed: Passed, received: Received) -> None:
        """It was answered."""
        self._traffic.answered += 1
        self._pace.answered(passed.ticket)
        self._pace.rate.stated(received.per_minute)
        self._breaker.heard()
        self._budget.settle(passed.reserved, passed.prompt, received.answer.usage)
        self.changed()

    def turned_away(self, passed: Passed, error: Throttled) -> None:
        """A 429 came back."""
        self._traffic.turned_away += 1
        self._pace.turned_away(passed.ticket, error.after)
        self._pace.rate.stated(error.per_minute)
        self._breaker.turned_away(passed.probe, str(error))
        self._release(passed, billed=False)

    def broken(self, passed: Passed, error: Passing) -> None:
        """Trouble on the way."""
        self._traffic.broken += 1
        self._pace.lost(passed.ticket)
        self._breaker.failed(passed.probe, str(error))
        self._release(passed, billed=error.billed)

    def refused(self, passed: Passed) -> None:
        """It was refused for good: the endpoint lives."""
        self._traffic.refused += 1
        self._pace.lost(passed.ticket)
        self._breaker.heard()
        self._release(passed, billed=False)

    def lost(self, passed: Passed, billed: bool) -> None:
        """It came back with nothing to learn from, or not at all; `billed`: it may be charged for."""
        self._pace.lost(passed.ticket)
        self._breaker.lost(passed.probe)
        self._release(passed, billed)

    def finish(self, reason: str) -> None:
        """Let nothing more through."""
        self.end = self.end or reason
        self.changed()

    def changed(self) -> None:
        """Wake whoever waits for something to change."""
        event, self._change = self._change, asyncio.Event()
        event.set()

    async def pause(self, seconds: float) -> None:
        """Wait for something to change, so long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == inf else seconds):
                await self._change.wait()

    def _release(self, passed: Passed, billed: bool) -> None:
        self._budget.release(passed.reserved, billed)
        self._look()
        self.changed()

    def _look(self) -> None:
        if hopeless := self._breaker.hopeless():
            self.finish(hopeless)
