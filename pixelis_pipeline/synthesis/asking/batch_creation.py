"""A batch comes into being once, whatever becomes of the process or of the provider's answer."""

import time
from collections.abc import Container
from dataclasses import replace

from pixelis_pipeline.synthesis.asking.batch_calls import Provider
from pixelis_pipeline.synthesis.asking.batch_notes import Note, Notes
from pixelis_pipeline.synthesis.asking.transport import TeacherError, Throttled, Unanswered

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds until a 429 is tried again, where it does not say
SETTLING = 30.0  # seconds until a batch whose creation was cut off stands in the provider's list, if it does


class Creation:
    """Creates noted batches, and finds those of which nobody said that they were created.

    What is relied on: a provider that carries out a creation lists the batch, with its metadata or its input
    file's id, `SETTLING` seconds after the connection ended.
    """

    def __init__(self, provider: Provider, notes: Notes, attempts: int) -> None:
        self._provider, self._notes, self._attempts = provider, notes, attempts

    def find_lost(self, keys: Container[str]) -> None:
        """Give every noted batch over some of `keys` its id, or forget it where it was never created.

        Raises Unanswered where the provider does not say which: then none of `keys` may be sent.
        """
        lost = [note for note in self._notes.holding(keys) if not note.batch and not self._found(note)]
        if lost:
            time.sleep(SETTLING)
        for note in lost:
            if not self._found(note):
                self._notes.drop(note)

    def create(self, note: Note) -> str:
        """Create a noted batch and note its id; else why that did not go. Where nobody says that it was done,
        it is looked for before it is done again. Raises TeacherError."""
        self._notes.put(note)
        problem, unsure = "", False
        for attempt in range(self._attempts):
            try:
                made = self._provider.create(note.file, note.digest)
                self._notes.put(replace(note, batch=made.id))
                return ""
            except TeacherError:
                if not unsure:
                    self._notes.drop(note)
                raise
            except Throttled as error:
                problem = str(error)
                time.sleep(min(error.after or FIRST_PAUSE * 2**attempt, LONGEST_PAUSE))
            except Unanswered as error:
                problem, unsure = str(error), True
                time.sleep(SETTLING)
                try:
                    if self._found(note):
                        return ""
                except Unanswered:
                    return problem
        if not unsure:
            self._notes.drop(note)
        return problem

    def _found(self, note: Note) -> bool:
        """Whether the provider's list has a noted batch; if so its id is noted."""
        batch = self._provider.find(lambda each: self._notes.is_of(each, note))
        if batch is not None:
            self._notes.put(replace(note, batch=batch.id))
        return batch is not None
