"""Conversations as token ids. Who wrote a part decides how it is read: a mark is a mark where the template
or a grammatical turn holds it, and plain letters where a question, a tool or a picture's text spells it.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.render import Span

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """One tokenizer twice: `marks` reads its special tokens where they are spelt, `letters` has none."""

    marks: "Tokenizer"
    letters: "Tokenizer"

    def encode(self, spans: Sequence[Span]) -> list[int]:
        """The ids of a rendered conversation, span by span."""
        readers = ((self.marks if span.marks else self.letters, span.text) for span in spans)
        return [id_ for by, text in readers for id_ in by.encode(text, add_special_tokens=False).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The words of the ids, marks and all."""
        return str(self.marks.decode(list(ids), skip_special_tokens=False))

    def id(self, mark: str) -> int:
        """The id of one entry. KeyError where there is no such entry."""
        found = self.marks.token_to_id(mark)
        if found is None:
            raise KeyError(f"there is no token {mark}")
        return int(found)


def both(tokenizer: "Tokenizer") -> Vocabulary:
    """The vocabulary of a tokenizer."""
    from tokenizers import Tokenizer

    return Vocabulary(
        tokenizer, Tokenizer.from_str(json.dumps({**json.loads(tokenizer.to_str()), "added_tokens": []}))
    )


@functools.cache
def nano() -> Vocabulary:
    """The nano policy's, one per process."""
    return both(words.shared())
