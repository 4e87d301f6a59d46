"""The loop that asks: `concurrency` workers, one gate, and a queue of what is still to be sent.

A worker takes a request, builds its message, waits at the gate for its turn, sends it and keeps the answer.
A request that must be sent again goes back into the queue and holds no slot while it waits.
"""

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import inf

from pixelis_pipeline.media import MediaError, MediaStore
from pixelis_pipeline.records import Failed, Rejected
from pixelis_pipeline.synthesis.asking.estimate import prompt_tokens
from pixelis_pipeline.synthesis.asking.gate import Gate, Passed
from pixelis_pipeline.synthesis.asking.message import message
from pixelis_pipeline.synthesis.asking.pace import Pace
from pixelis_pipeline.synthesis.asking.store import Answer, AnswerStore
from pixelis_pipeline.synthesis.asking.traffic import Traffic
from pixelis_pipeline.synthesis.asking.transport import (
    Passing,
    Received,
    Refused,
    TeacherError,
    Throttled,
    Transport,
)
from pixelis_pipeline.synthesis.asking.waiting import Item, Pending, Waiting
from pixelis_pipeline.synthesis.request import Request

STAGE = "teacher_responses"
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 20.0  # seconds before a request is sent again: doubled, half of it drawn
TURNS = 4  # 429s while others are answered that one request may meet, times `attempts`
REFUSALS = 20  # that come before any answer at all: then it is not the requests
GRACE = 2.0  # seconds that answers on their way have left when a person interrupts
_THREADS = 32  # that read media and write answers

Progress = Callable[[int, int], None]
Trouble = Rejected | Failed


class Dispatch:
    """Asks all that is `pending`, once."""

    def __init__(
        self,
        pending: Pending,
        transport: Transport,
        store: AnswerStore,
        media: MediaStore,
        pace: Pace,
        traffic: Traffic,
        progress: Progress = lambda done, total: None,
    ) -> None:
        self._transport, self._store, self._media = transport, store, media
        self._traffic, self._progress = traffic, progress
        self._settings = transport.settings
        self._gate = Gate(self._settings, pace, traffic)
        self._waiting, self._total = Waiting(pending), len(pending)
        self._done = self._answers = self._refusals = self._busy = 0
        self._trouble: dict[str, Trouble] = {}
        self._left: list[Item] = []  # taken out, and not sent before the end
        self._stop: TeacherError | None = None

    async def run(self) -> dict[str, Trouble]:
        """What had no answer, by key; the answers are in the store. Raises TeacherError, and what the store
        raises. However it ends, nothing is sent any more then, and what has arrived is kept."""
        size = min(self._settings.concurrency, self._total)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(min(_THREADS, size + 1)))
        workers = [asyncio.create_task(self._work()) for _ in range(size)]
        async with self._transport.client:
            try:
                ended, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                for worker in ended:
                    worker.result()
            except asyncio.CancelledError:
                self._gate.finish("interrupted")
                await asyncio.wait(workers, timeout=GRACE)
                raise
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        if self._stop is not None:
            raise self._stop
        for item in [*self._left, *self._waiting.rest()]:
            self._trouble[item.key] = Failed(item.assignment.id, STAGE, self._gate.end)
            self._traffic.failed += 1
        return self._trouble

    async def _work(self) -> None:
        while (item := await self._take()) is not None:
            try:
                await self._ask(item)
            finally:
                self._busy -= 1
                self._gate.changed()

    async def _take(self) -> Item | None:
        """The next request, None at the end of all."""
        while not self._gate.end:
            if (item := self._waiting.take(time.monotonic())) is not None:
                self._busy += 1
                return item
            if not self._waiting and not self._busy:
                break
            soonest = self._waiting.soonest()
            await self._gate.pause(inf if soonest is None else max(soonest - time.monotonic(), 0.0))
        return None

    async def _ask(self, item: Item) -> None:
        """One attempt at one request, to its answer, its trouble, or back into the queue."""
        of, media = item.assignment.id, item.assignment.question.media
        try:
            messages = await asyncio.to_thread(message, item.request, media, self._media)
        except MediaError as error:
            passing = error.passing
            self._over(
                item,
                Failed(of, STAGE, str(error))
                if passing
                else Rejected(of, STAGE, error.rule, detail=str(error)),
            )
        except OSError as error:
            self._over(item, Failed(of, STAGE, f"media could not be read: {error}"))
        else:
            passed = await self._gate.enter(prompt_tokens(item.request, item.assignment))
            if passed is None:
                self._left.append(item)
                return
            received = await self._sent(item, messages, passed)
            del messages  # the big one, and the store may take its time
            if received is not None:
                await self._kept(item.request, received.answer)
                self._over(item)

    async def _sent(self, item: Item, messages: list[dict[str, object]], passed: Passed) -> Received | None:
        """The answer, or None where the request has gone another way."""
        self._traffic.retried += item.sent
        item.sent = True
        try:
            received = await self._transport.attempt(item.request, messages)
        except Throttled as error:
            self._gate.turned_away(passed, error)
            self._turned_away(item, str(error))
        except Passing as error:
            self._gate.broken(passed, error)
            self._broken(item, str(error), counts=not passed.probe)
        except Refused as error:
            self._gate.refused(passed)
            self._refused(item, error)
        except TeacherError as error:  # a bad key or an unknown model costs nothing
            self._gate.lost(passed, billed=False)
            self._left.append(item)
            self._stop_all(error)
        except BaseException:  # cancelled: the endpoint may have written the answer
            self._gate.lost(passed, billed=True)
            raise
        else:
            self._answers += 1
            self._gate.answered(passed, received)
            return received
        return None

    def _turned_away(self, item: Item, problem: str) -> None:
        """Send it again as soon as the pace allows. It is held against the request only where others were
        answered since the last time: then the limit may be one that no waiting meets."""
        item.turned_away += 0 <= item.seen < self._answers
        item.seen = self._answers
        if item.turned_away >= TURNS * self._settings.attempts:
            said = f"turned away {item.turned_away} times while others were answered: {problem}"
            return self._over(item, Failed(item.assignment.id, STAGE, said))
        return self._waiting.again(item, 0.0)

    def _broken(self, item: Item, problem: str, counts: bool) -> None:
        """Send it again after a pause, unless that has been tried often enough."""
        item.attempts += counts
        if item.attempts >= self._settings.attempts:
            said = f"no answer in {item.attempts} attempts: {problem}"
            return self._over(item, Failed(item.assignment.id, STAGE, said))
        pause = min(FIRST_PAUSE * 2 ** max(item.attempts - 1, 0), LONGEST_PAUSE)
        return self._waiting.again(item, time.monotonic() + pause * random.uniform(0.5, 1.0))

    def _refused(self, item: Item, error: Refused) -> None:
        self._refusals += 1
        of, rule = item.assignment.id, "refused by the endpoint"
        self._over(item, Rejected(of, STAGE, rule, measured=error.status, detail=str(error)))
        if not self._answers and self._refusals >= REFUSALS:
            self._stop_all(TeacherError(f"the endpoint refused the first {REFUSALS} requests: {error}"))

    def _stop_all(self, error: TeacherError) -> None:
        """Send nothing more; what is in flight may still be answered, and is kept then."""
        self._stop = self._stop or error
        self._gate.finish(str(error))

    def _over(self, item: Item, trouble: Trouble | None = None) -> None:
        """The request is answered and kept, or in trouble for this run."""
        if trouble is not None:
            self._trouble[item.key] = trouble
            self._traffic.failed += isinstance(trouble, Failed)
        self._done += 1
        self._progress(self._done, self._total)

    async def _kept(self, request: Request, answer: Answer) -> None:
        """In the store when this returns, and also where it is cancelled meanwhile."""
        writing = asyncio.ensure_future(asyncio.to_thread(self._store.write, request, answer))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing
            raise
