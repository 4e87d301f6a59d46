"""One request to a teacher, as the canonical record that its answer is stored under.

Everything that can change an answer is a field, and the key is a hash over all of them; nothing that
cannot (a port, an API key, a time) is. Media stand in it by digest, so a key costs no decoding, and so do
the long parts that thousands of requests share: the system prompt, the schema and the tools.
"""

import functools
import hashlib
import json
import marshal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pixelis_pipeline.records import Assignment, Json, Media, canonical
from pixelis_pipeline.synthesis.prompt import Prompt

MOST_FRAMES = 24
CHOICES, SEPARATOR = "\nChoices: ", " | "  # how a question's choices follow its text
MOST_TOKENS = 8192
FRAME_QUALITY = 90  # of JPEG
LONG = ("system", "schema", "tools")
SHORT = ("endpoint", "model", "messages", "sampling", "sample")


@dataclass(frozen=True, slots=True)
class Request:
    """`endpoint` is its name, `sampling` the parameters sent along, `schema` the JSON schema that the
    answer must have, `tools` the specifications of the actions, `sample` counts repeated askings.

    `messages` hold text parts {"type": "text", "text"}, image parts {"type": "image", "sha256"} and frame
    parts {"type": "frame", "sha256" of the video, "frame" index "of" so many, JPEG "quality"}.
    """

    endpoint: str
    model: str
    system: str
    messages: tuple[Json, ...]
    sampling: Json
    schema: Json
    tools: tuple[Json, ...]
    sample: int = 0

    @property
    def record(self) -> bytes:
        """Canonical bytes that are equal exactly for equal requests; long parts by their sha256."""
        short = {name: getattr(self, name) for name in SHORT}
        return canonical(short | {name: part_digest(getattr(self, name)) for name in LONG})

    @property
    def key(self) -> str:
        """sha256 hex of `record`, and so over every field."""
        return hashlib.sha256(self.record).hexdigest()

    @property
    def parts(self) -> dict[str, bytes]:
        """The long parts' canonical bytes by the sha256 that stands for them in `record`."""
        bodies = [canonical(getattr(self, name)) for name in LONG]
        return {hashlib.sha256(body).hexdigest(): body for body in bodies}


def restored(record: bytes, part: Callable[[str], bytes]) -> Request:
    """The request whose `record` this is; `part` gives a long part's bytes by digest."""
    held = json.loads(record)
    held |= {name: json.loads(part(held[name])) for name in LONG}
    return Request(**held | {name: tuple(held[name]) for name in ("messages", "tools")})


def part_digest(value: Any) -> str:
    """sha256 hex over the canonical bytes of a long part.

    Those bytes are remembered by what the value is now, not by which object it is: marshal writes all of
    it, in a tenth of the time of JSON, so a part that was changed in place is never mistaken for what it was.
    """
    return _digest_of(marshal.dumps(value, 2))  # version 2: without references, so equal values, equal bytes


@functools.lru_cache(maxsize=256)
def _digest_of(marshalled: bytes) -> str:
    return hashlib.sha256(canonical(marshal.loads(marshalled))).hexdigest()


def frame_count(media: Media) -> int:
    """How many frames of a video are sent."""
    return min(media.frames, MOST_FRAMES)


def _media_parts(media: Media) -> list[Json]:
    """An image, or up to 24 frames of a video with their time stamps, each from the middle of an equal
    share of it (as `MediaStore.frames` samples them)."""
    if media.kind == "image":
        return [{"type": "image", "sha256": media.sha256}]
    count = frame_count(media)
    parts: list[Json] = []
    for index in range(count):
        number = (2 * index + 1) * media.frames // (2 * count)
        seconds = number / media.fps if media.fps else 0.0
        parts.append({"type": "text", "text": f"Frame {number} at {seconds:.2f} s:"})
        parts.append(
            {
                "type": "frame",
                "sha256": media.sha256,
                "frame": index,
                "of": count,
                "quality": FRAME_QUALITY,
            }
        )
    return parts


def request_for(assignment: Assignment, model: str, endpoint: str, prompt: Prompt) -> Request:
    """The request that gives `assignment`, in the words of `prompt`, to `model` at the endpoint so named."""
    question = assignment.question
    choices = CHOICES + SEPARATOR.join(question.choices) if question.choices else ""
    parts = [part for media in question.media for part in _media_parts(media)]
    return Request(
        endpoint=endpoint,
        model=model,
        system=prompt.system,
        messages=({"role": "user", "content": [*parts, {"type": "text", "text": question.text + choices}]},),
        sampling={"temperature": assignment.temperature, "max_completion_tokens": MOST_TOKENS},
        schema=prompt.schema,
        tools=prompt.tools,
        sample=assignment.sample,
    )
