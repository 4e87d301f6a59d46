"""The form in which a teacher writes a trace: the JSON schema it is given and the types it is read with."""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from pixelis_pipeline.records import Json, TraceKind
from pixelis_pipeline.tools.contract import ARGUMENTS
from pixelis_pipeline.tools.registry import schemas

MOST_STEPS = 12  # twice the length prior of six
FLAWED: tuple[TraceKind, ...] = ("process-negative", "self-correction")  # kinds that tag a step as flawed
FlawType = Literal["perceptual", "logical"]


class ReplyStep(BaseModel):
    """One step as written. `arguments` are checked against the action's own type afterwards, so that an
    unknown action and a bad argument are told apart."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    thought: str
    action: str
    arguments: Json
    output: Json


class Flaw(BaseModel):
    """The tag of the one step that was written wrong on purpose: which, of what type, what is wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    step: int
    type: FlawType
    what: str


class Reply(BaseModel):
    """A whole trace as written. Whether it must have a flaw is a matter of its kind, and looked at later."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    steps: Annotated[list[ReplyStep], Field(max_length=MOST_STEPS)]
    answer: str
    flaw: Flaw | None = None


def schema(kind: TraceKind) -> Json:
    """The JSON schema of a reply to a `kind` of trace, one form of step per action. Tighter than
    `Reply`: it also holds each action's arguments to their type."""
    steps = [
        _closed(
            thought={"type": "string"},
            action={"const": tool["function"]["name"]},
            arguments=tool["function"]["parameters"],
            output={"type": "object"},
        )
        for tool in schemas(ARGUMENTS)
    ]
    flaw = _closed(
        step={"type": "integer", "minimum": 0, "maximum": MOST_STEPS - 1},
        type={"type": "string", "enum": list(get_args(FlawType))},
        what={"type": "string", "minLength": 1},
    )
    return _closed(
        steps={"type": "array", "minItems": 1, "maxItems": MOST_STEPS, "items": {"anyOf": steps}},
        answer={"type": "string", "minLength": 1},
        **({"flaw": flaw} if kind in FLAWED else {}),
    )


def _closed(**properties: Json) -> Json:
    """An object schema with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
