"""Prompts as versioned files: what is sent, and a digest of it."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import jinja2

from pixelis_pipeline.records import Json, TraceKind, canonical
from pixelis_pipeline.settings import SettingsError
from pixelis_pipeline.synthesis import reply
from pixelis_pipeline.tools.contract import ARGUMENTS
from pixelis_pipeline.tools.registry import schemas

FOLDER = Path(__file__).parent / "prompts"


@dataclass(frozen=True, slots=True)
class Prompt:
    """The rendered system prompt of one kind of trace in one style, with the reply schema and tool
    specifications sent beside it."""

    kind: TraceKind
    style: str
    system: str
    schema: Json
    tools: tuple[Json, ...]

    @property
    def digest(self) -> str:
        """sha256 hex over all that a teacher is told before it sees a question."""
        return hashlib.sha256(canonical([self.system, self.schema, self.tools])).hexdigest()


@functools.cache
def load(kind: TraceKind, style: str) -> Prompt:
    """The prompt that asks for a `kind` of trace in the words of `style` (settings `synthesis.styles`).
    SettingsError names those there are."""
    for folder, name in (("kinds", kind), ("styles", style)):
        known = sorted(path.stem for path in (FOLDER / folder).glob("*.jinja"))
        if name not in known:
            raise SettingsError(f"no prompt {folder[:-1]} {name!r}; there are {', '.join(known)}")
    tools = tuple(schemas(ARGUMENTS))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), undefined=jinja2.StrictUndefined, autoescape=False
    )
    environment.filters["json"] = lambda value: canonical(value).decode()
    system = environment.get_template("trace.jinja").render(
        kind=kind, style=style, tools=[tool["function"] for tool in tools], most_steps=reply.MOST_STEPS
    )
    return Prompt(kind, style, system, reply.schema(kind), tools)
