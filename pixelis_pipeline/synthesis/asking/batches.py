"""Asks a teacher through its batch API: files of requests in, files of answers out, within a day.

Nothing is paid for twice. A batch is noted before it is created and until its last request is settled; a
run first finds out what became of the noted ones, and sends only what is in none of them. Waiting may be
ended at any time, in any way: the next run goes on waiting.
"""

import math
import tempfile
import time
from collections import deque
from collections.abc import Iterable

from openai.types import Batch

from pixelis_pipeline.media import MediaStore
from pixelis_pipeline.records import Failed
from pixelis_pipeline.settings import TeacherSettings
from pixelis_pipeline.synthesis.asking import batch_files, prices
from pixelis_pipeline.synthesis.asking.batch_calls import (
    Missing,
    Provider,
    codes,
    counted,
    explained,
)
from pixelis_pipeline.synthesis.asking.batch_creation import Creation
from pixelis_pipeline.synthesis.asking.batch_notes import Note, Notes, digest
from pixelis_pipeline.synthesis.asking.batch_results import collect
from pixelis_pipeline.synthesis.asking.dispatch import STAGE, Progress, Trouble
from pixelis_pipeline.synthesis.asking.endpoint import Endpoint
from pixelis_pipeline.synthesis.asking.estimate import estimate
from pixelis_pipeline.synthesis.asking.store import AnswerStore
from pixelis_pipeline.synthesis.asking.traffic import Traffic
from pixelis_pipeline.synthesis.asking.transport import _EMPTY_ACCOUNT, TeacherError, Unanswered
from pixelis_pipeline.synthesis.asking.waiting import Pending

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two looks at the batches: doubled each time
LONGEST_WAIT = 26 * 3600.0  # seconds: a provider ends a batch after 24 hours
_ENDED = ("completed", "failed", "expired", "cancelled")
_FULL = "token_limit_exceeded"  # a failed batch's code: the provider's queue has no room
_HOPELESS = {"model_not_found", *_EMPTY_ACCOUNT}


def ask_in_batches(
    pending: Pending,
    endpoint: Endpoint,
    settings: TeacherSettings,
    store: AnswerStore,
    media: MediaStore,
    progress: Progress = lambda done, total: None,
    traffic: Traffic | None = None,
) -> dict[str, Trouble]:
    """Answers into the store, each with its batch's id as `metadata["batch"]`. Returns what had none, by key.

    It returns when every batch has ended. What is still under way after LONGEST_WAIT without any change, or
    when the endpoint has answered nothing for `patience_seconds`, is Failed and stays noted. `progress` is
    told (done, all). With `settings.mode` "live" nothing is sent, but what earlier runs put into batches is
    waited for; what is then neither answered nor in trouble can be asked live.

    The limits `max_cost` and `max_tokens` are held to by the estimate's mean, less what `traffic` has spent;
    what is sent is entered there. The caller holds `store.asking()`. Raises TeacherError as soon as the
    endpoint refuses the key, the model or batches as such, and SettingsError for a budget without a price.
    """
    prices.require_price(settings)
    run = _Run(pending, endpoint, settings, store, media)
    try:
        run.creation.find_lost(pending)
    except Unanswered as error:
        return run.failed(pending, f"nobody says whether a batch was created: {error}")
    run.plan(traffic)
    run.wait(progress)
    return run.trouble


class _Run:
    """One call of `ask_in_batches`."""

    def __init__(
        self,
        pending: Pending,
        endpoint: Endpoint,
        settings: TeacherSettings,
        store: AnswerStore,
        media: MediaStore,
    ) -> None:
        self.pending, self.endpoint, self.settings = pending, endpoint, settings
        self.store, self.media = store, media
        self.provider = Provider(endpoint, settings)
        self.notes = Notes(store, endpoint)
        self.creation = Creation(self.provider, self.notes, settings.attempts)
        self.trouble: dict[str, Trouble] = {}
        self.waiting: deque[str] = deque()
        self.most = batch_files.MOST_REQUESTS
        self.alone = False  # the provider's queue has been full: one batch at a time from then on
        self.sent_alone = ""  # the digest of the last one that was

    def plan(self, traffic: Traffic | None) -> None:
        """Queue what is in no batch, as far as the budget goes."""
        inside = {key for note in self.notes.holding(self.pending) for key in note.keys}
        queue = [key for key in self.pending if key not in inside] if self.settings.mode == "batch" else []
        allowed, most = len(queue), self.settings
        if queue and (most.max_cost or most.max_tokens):
            spent = traffic or Traffic()
            expected = estimate((self.pending[key][1] for key in queue), most, self.store)
            tokens = (expected.prompt_tokens + expected.completion_tokens) / len(queue)
            dollars = (expected.dollars(batch=True) or 0.0) / len(queue)
            if most.max_tokens:
                allowed = min(allowed, math.floor(max(0.0, most.max_tokens - spent.spent_tokens) / tokens))
            if most.max_cost and dollars:
                allowed = min(allowed, math.floor(max(0.0, most.max_cost - spent.spent_dollars) / dollars))
            spent.spent_tokens += allowed * tokens
            spent.spent_dollars += allowed * dollars
        self.waiting.extend(queue[:allowed])
        self.failed(queue[allowed:], f"budget: what is left pays for {allowed} of {len(queue)} requests")

    def wait(self, progress: Progress) -> None:
        """Send what waits and collect what has ended until there is neither."""
        changed = heard = time.monotonic()
        last, pause = (0, 0, 0), FIRST_PAUSE
        while True:
            while self.waiting and not (self.alone and self._under_way()):
                self._send()
            done = 0
            for note in self._under_way():
                try:
                    done += self._look(note)
                    heard = time.monotonic()
                except Unanswered as error:
                    if time.monotonic() - heard > self.settings.patience_seconds:
                        return self._leave(f"its endpoint answers nothing ({error})")
            held = sum(key in self.pending for note in self._under_way() for key in note.keys)
            progress(len(self.pending) - len(self.waiting) - held + min(done, held), len(self.pending))
            if not self.waiting and not held:
                return None
            if last != (len(self.waiting), held, done):
                last, changed = (len(self.waiting), held, done), time.monotonic()
            if time.monotonic() - changed > LONGEST_WAIT:
                return self._leave(f"nothing has come of it in {LONGEST_WAIT / 3600:.0f} hours")
            if held:
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _under_way(self) -> list[Note]:
        return [note for note in self.notes.holding(self.pending) if note.batch]

    def _send(self) -> None:
        """One batch from the left of the queue: its file, its note, the batch, its id."""
        with tempfile.TemporaryFile() as file:  # it has no name, so a kill leaves nothing behind
            most = (self.most, batch_files.MOST_BYTES)
            filled = batch_files.fill(file, self.waiting, self.pending, self.media, *most)
            self.trouble.update(filled.trouble)
            if not filled.keys:
                return
            name = digest(filled.keys)
            try:
                file.seek(0)
                uploaded = self.provider.upload(file, f"pixelis-{name[:16]}.jsonl")
            except Unanswered as error:
                return self._give_up(filled.keys, f"no file could be sent: {error}")
        note = Note(name, uploaded, self.endpoint.base_url, tuple(filled.keys))
        self.sent_alone = name if self.alone else ""
        if problem := self.creation.create(note):
            self._give_up(note.keys, f"no batch could be created: {problem}")

    def _look(self, note: Note) -> int:
        """How many requests of a batch are done; one that has ended is collected. Raises Unanswered."""
        try:
            batch = self.provider.look(note.batch)
        except Missing as error:
            if note.address == self.endpoint.base_url:
                raise TeacherError(
                    f"{note.address} knows no batch {note.batch}, which holds {len(note.keys)} requests that "
                    f"may be paid for: is the key one of another account? ({error})"
                ) from error
            self.notes.drop(note)  # it went with a server that answered at another address
            self._queue_again([key for key in note.keys if key in self.pending])
            return 0
        if batch.status not in _ENDED:
            return counted(batch)
        if batch.status == "failed":
            self._never_begun(note, batch)
        else:
            self._collect(note, batch)
        return 0

    def _collect(self, note: Note, batch: Batch) -> None:
        """What an ended batch says, into the store and `trouble`. Files that lack a line are read twice."""
        keys = set(note.keys)
        results = collect(batch, keys, self.pending, self.provider, self.store)
        missing = [key for key in note.keys if key in self.pending and key not in results.settled]
        if missing:
            time.sleep(FIRST_PAUSE)
            batch = self.provider.look(note.batch)
            results = collect(batch, keys, self.pending, self.provider, self.store)
            missing = [key for key in missing if key not in results.settled]
        strange = f" ({results.foreign} lines are of no request in it, {results.broken} broken)"
        said = f"batch {batch.id} is {batch.status} and says nothing of this request"
        self.failed(missing, said + (strange if results.foreign or results.broken else ""))
        self.trouble.update(results.trouble)
        self.notes.settle(note, results.settled.union(missing))
        if results.stop is not None:
            raise results.stop

    def _never_begun(self, note: Note, batch: Batch) -> None:
        """A batch that was never begun: its requests wait for room in the queue, or are Failed."""
        self.notes.settle(note, note.keys)
        keys = [key for key in note.keys if key in self.pending]
        if not _HOPELESS.isdisjoint(codes(batch)):
            raise TeacherError(f"{self.endpoint.base_url} fails batch {batch.id}: {explained(batch)}")
        if _FULL not in codes(batch):
            self.failed(keys, f"batch {batch.id} failed: {explained(batch)}")
            return None
        if note.digest == self.sent_alone and len(keys) == 1:
            return self._give_up(keys, f"the provider's queue has no room: {explained(batch)}")
        if note.digest == self.sent_alone:
            self.most = len(keys) // 2
        self.alone = True
        return self._queue_again(keys)

    def _queue_again(self, keys: list[str]) -> None:
        if self.settings.mode == "batch":
            self.waiting.extendleft(reversed(keys))

    def failed(self, keys: Iterable[str], said: str) -> dict[str, Trouble]:
        """Enter a reason for each key. Returns all trouble so far."""
        self.trouble |= {key: Failed(self.pending[key][1].id, STAGE, said) for key in keys}
        return self.trouble

    def _give_up(self, keys: Iterable[str], said: str) -> None:
        """Fail these and all that waits, as the endpoint takes nothing now."""
        self.failed([*keys, *self.waiting], said)
        self.waiting.clear()

    def _leave(self, reason: str) -> None:
        """Stop waiting. The notes stay, so that the next run goes on."""
        for note in self._under_way():
            keys = [key for key in note.keys if key in self.pending]
            self.failed(keys, f"batch {note.batch} is under way, and {reason}; the next run waits on")
        self._give_up((), f"not sent: a batch is under way, and {reason}")
