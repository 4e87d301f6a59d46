"""Which requests are inside a batch under way, noted in the store so that no kill forgets it.

A batch is noted before it is created, without an id, and again with it; its note goes when the last of its
requests is settled. So a note without an id says: this batch may exist, look for it.
"""

import hashlib
from collections.abc import Collection, Container, Iterable
from dataclasses import asdict, dataclass, replace

from openai.types import Batch

from pixelis_pipeline.records import canonical
from pixelis_pipeline.synthesis.asking.batch_calls import LABEL, labelled
from pixelis_pipeline.synthesis.asking.endpoint import Endpoint
from pixelis_pipeline.synthesis.asking.store import AnswerStore


@dataclass(frozen=True, slots=True)
class Note:
    """One batch under way. `digest` stands for its requests in the provider's list, `file` is what was
    uploaded for it, `address` where, `batch` its id ("" until known), `keys` what is not settled yet."""

    digest: str
    file: str
    address: str
    keys: tuple[str, ...]
    batch: str = ""


class Notes:
    """The notes about one endpoint, each change on disk when the method returns."""

    def __init__(self, store: AnswerStore, endpoint: Endpoint) -> None:
        self._store, self._name = store, f"batches/{endpoint.name}"
        kept = store.recall(self._name) or {"under_way": [], "done": []}
        self.under_way = {
            each["digest"]: Note(**{**each, "keys": tuple(each["keys"])}) for each in kept["under_way"]
        }
        self._done: set[str] = set(kept["done"])
        for note in list(self.under_way.values()):
            if len(store.answered(note.keys)) == len(note.keys):
                self.settle(note, note.keys)  # a kill came between its last answer and this

    def holding(self, keys: Container[str]) -> list[Note]:
        """The batches under way that hold one of `keys`."""
        return [note for note in self.under_way.values() if any(key in keys for key in note.keys)]

    def put(self, note: Note) -> None:
        """Note a batch, in place of what was noted about it before."""
        self.under_way[note.digest] = note
        self._save()

    def settle(self, note: Note, keys: Collection[str]) -> None:
        """`keys` of a batch that has ended have an answer or a reason; the note goes with the last one."""
        left = tuple(key for key in note.keys if key not in keys)
        if left:
            self.under_way[note.digest] = replace(note, keys=left)
        else:
            del self.under_way[note.digest]
            self._done.add(note.batch)
        self._save()

    def drop(self, note: Note) -> None:
        """Forget a batch that was never created or is lost."""
        del self.under_way[note.digest]
        self._save()

    def is_of(self, batch: Batch, note: Note) -> bool:
        """Whether a batch in the provider's list is the noted one, not an earlier one of the same keys."""
        return batch.id not in self._done and (
            labelled(batch).get(LABEL) == note.digest or batch.input_file_id == note.file
        )

    def _save(self) -> None:
        noted = [asdict(note) for note in self.under_way.values()]
        self._store.remember(self._name, {"under_way": noted, "done": sorted(self._done)})


def digest(keys: Iterable[str]) -> str:
    """What stands for a set of requests in a batch's metadata: sha256 hex over their sorted keys."""
    return hashlib.sha256(canonical(sorted(keys))).hexdigest()
