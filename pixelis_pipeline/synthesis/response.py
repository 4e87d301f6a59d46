"""What a teacher said to one question: the record that `synthesis.parse` reads."""

from dataclasses import dataclass

from pixelis_pipeline.records import Question, TraceKind


@dataclass(frozen=True, slots=True)
class Response:
    """The words of one answered request. `request` is the key under which the store keeps the whole
    answer; tokens, times and the endpoint's own ids stay there, so that they never enter a hash.

    `kind` is the kind of trace that was asked for; `finish` the endpoint's reason to stop: "stop",
    "length", "content_filter" or "refusal".
    """

    id: str
    parents: tuple[str, ...]
    question: Question
    kind: TraceKind
    request: str
    model: str
    text: str
    finish: str
