"""Calls an action by name. Whatever a policy writes, it gets an observation back."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.records import Action, Json, canonical
from pixelis_pipeline.settings import ToolSettings
from pixelis_pipeline.tools.contract import (
    ARGUMENTS,
    Arguments,
    BatchTool,
    Look,
    Observation,
    TempArguments,
    ThreadedTool,
    Tool,
    ToolCrash,
    ToolError,
    TrkArguments,
    Workspace,
    pixels_of,
    spoken,
    video_of,
)
from pixelis_pipeline.tools.deadline import within
from pixelis_pipeline.tools.threads import side_by_side

NO_TOOL = "no tool yet"
TOOLS_OFF = "tools are off"


class Registry:
    """The tools of a run, by action name, and the limits under which they are called. Where `closed` is
    set, every call is answered by that error."""

    def __init__(
        self, tools: Mapping[str, Tool], limits: ToolSettings | None = None, closed: str = ""
    ) -> None:
        self._tools = dict(tools)
        self._limits = limits or ToolSettings()
        self._closed = closed

    @property
    def versions(self) -> dict[str, str]:
        """Action name -> version of the tool behind it, for the actions that have one."""
        return {name: self._tools[name].version for name in sorted(self._tools)}

    @property
    def digest(self) -> str:
        """sha256 hex over all tool versions: two registries with one digest answer alike."""
        return hashlib.sha256(canonical([self.versions, self._closed])).hexdigest()

    def call(self, workspace: Workspace, action: Action) -> Observation:
        """Run one action, and append what came back to the workspace (ZOOM's crop to its images).

        A bad call is answered by an invalid observation `{"error": text, "kind": kind}`. Raises ToolCrash
        where the backend itself breaks or runs out of time, MediaError where a frame of the video does
        not decode; nothing has been appended then.
        """
        return self.call_all([(workspace, action)])[0]

    def call_all(self, calls: Sequence[tuple[Workspace, Action]]) -> list[Observation]:
        """One action in each of several workspaces, in as few calls of the backends as they allow.

        Answers and errors as `call`. ValueError where one workspace stands there twice.
        """
        if len({id(workspace) for workspace, _ in calls}) != len(calls):
            raise ValueError("calls of one workspace depend on each other; give one at a time")
        answers: dict[int, Observation | ToolError] = {}
        ready: dict[str, list[tuple[int, Arguments]]] = {}
        for index, (workspace, action) in enumerate(calls):
            try:
                arguments = self._checked(workspace, action)
            except ToolError as error:
                answers[index] = error
            else:
                ready.setdefault(action.name, []).append((index, arguments))
        for name, asked in ready.items():
            group = [(calls[index][0], arguments) for index, arguments in asked]
            answers |= zip((index for index, _ in asked), self._run(name, group), strict=True)
        observations = []
        for index, (workspace, _) in enumerate(calls):
            answer = answers[index]
            observations.append(_invalid(answer) if isinstance(answer, ToolError) else answer)
            workspace.observations.append(observations[-1])
            if (image := observations[-1].image) is not None:
                workspace.images.append(image)
        return observations

    def _checked(self, workspace: Workspace, action: Action) -> Arguments:
        """The call's arguments, where it is well formed and within the limits. Raises ToolError."""
        if self._closed:
            raise ToolError(self._closed, "unavailable")
        if not isinstance(action.name, str) or action.name not in ARGUMENTS:
            # Of what is no text only the type: a list may nest, and a number run, beyond what can be written.
            name = repr(action.name[:40]) if isinstance(action.name, str) else type(action.name).__name__
            raise ToolError(f"unknown action {name}, there are {', '.join(ARGUMENTS)}", "action")
        if action.name not in self._tools:
            raise ToolError(NO_TOOL, "unavailable")
        said = ""
        try:
            arguments = ARGUMENTS[action.name].model_validate(action.arguments)
        except (ValidationError, RecursionError) as error:
            said = _readable(action.name, error)
        if said:
            # Not from inside the handler: a ValidationError is invisible to the garbage collector, and one
            # that hangs on the error that is kept here closes a cycle, 4 KB for every bad call.
            raise ToolError(said, "arguments")
        self._within_limits(workspace, action.name, arguments)
        return arguments

    def _within_limits(self, workspace: Workspace, name: str, arguments: Arguments) -> None:
        limits = self._limits
        if isinstance(arguments, Look):
            width, height = _size(workspace, arguments)
            if height * width > limits.pixels:
                raise ToolError(f"a picture of {width}x{height} is over {limits.pixels} pixels", "limit")
            made = sum(seen.image is not None for seen in workspace.observations)
            if name == "ZOOM" and made >= limits.images:
                raise ToolError(f"no more than {limits.images} images can be made", "limit")
        if isinstance(arguments, TrkArguments):
            clip = video_of(workspace, arguments.end)
            if arguments.end - arguments.start >= limits.frames:
                raise ToolError(f"no more than {limits.frames} frames can be followed", "limit")
            if clip.width * clip.height > limits.pixels:
                raise ToolError(f"frames of {clip.width}x{clip.height} are too large", "limit")
        if isinstance(arguments, TempArguments):
            clip = video_of(workspace)
            # Half a frame of grace: containers round how long they last.
            if clip.fps <= 0 or arguments.end > clip.seconds + 0.5 / clip.fps:
                raise ToolError(f"the video ends at {clip.seconds:.1f} s", "bounds")

    def _run(self, name: str, calls: list[tuple[Workspace, Arguments]]) -> list[Observation | ToolError]:
        tool = self._tools[name]

        def answers() -> list[Observation | ToolError]:
            if isinstance(tool, BatchTool):
                return list(tool.batch(calls))
            if isinstance(tool, ThreadedTool) and tool.threaded:
                return side_by_side(lambda call: _answer(tool, *call), calls)
            return [_answer(tool, *call) for call in calls]

        try:
            given = within(self._limits.seconds * len(calls), answers)
            if len(given) != len(calls) or not all(isinstance(g, Observation | ToolError) for g in given):
                raise TypeError(f"the backend owes {len(calls)} observations and gave {given!r:.200}")
            for seen in given:
                _fit(seen)
            return given
        except MediaError:
            raise
        except Exception as error:
            raise ToolCrash(f"{name}: {type(error).__name__}: {error}"[:500]) from error


def _answer(tool: Tool, workspace: Workspace, arguments: Arguments) -> Observation | ToolError:
    try:
        return tool(workspace, arguments)
    except ToolError as error:
        return error


def _size(workspace: Workspace, look: Look) -> tuple[int, int]:
    """(width, height) of the picture a call names, without decoding a frame for it. Raises ToolError."""
    if look.frame is not None:
        clip = video_of(workspace, look.frame)
        return clip.width, clip.height
    height, width = pixels_of(workspace, look).shape[:2]
    return width, height


def _fit(seen: Observation | ToolError) -> None:
    """Raises where an observation is none that can be recorded and counted."""
    if isinstance(seen, Observation):
        canonical(seen.output)
        if not seen.valid and "kind" not in seen.output:
            raise ValueError("an invalid observation without the kind of its error")


def _invalid(error: ToolError) -> Observation:
    output = {"error": str(error), "kind": error.kind}
    return Observation(output, spoken("", output), confidence=0.0, valid=False)


def _readable(name: str, error: ValidationError | RecursionError) -> str:
    """The first thing wrong with a call, in one line."""
    if isinstance(error, RecursionError):
        return f"{name}: nested too deeply"
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    return f"{name} {where}: {what}"[:200] if where else f"{name}: {what}"[:200]


def default_registry(settings: ToolSettings | None = None) -> Registry:
    """The backends that the settings choose, the embedded ones by default. Engines are built, and weights
    read, at their first call. ValueError for a backend that is not known or cannot be loaded."""
    from pixelis_pipeline.tools.backends import build

    chosen = settings or ToolSettings()
    return Registry(build(chosen), chosen)


def disabled_registry() -> Registry:
    """The control for evaluation: every call is answered `error: tools are off`."""
    return Registry({}, closed=TOOLS_OFF)


def schemas(names: Iterable[str]) -> list[Json]:
    """OpenAI function specifications of the named actions, made from the types that check the calls.

    KeyError for a name that is no action.
    """
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": " ".join((ARGUMENTS[name].__doc__ or "").split()),
                "parameters": _plain(ARGUMENTS[name].model_json_schema()),
            },
        }
        for name in names
    ]


def _plain(schema: Any) -> Any:
    """A schema in the dialect every server understands: no titles, no nullable unions, and a box as an
    array of four equal items instead of a tuple."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key not in ("title", "anyOf", "prefixItems")}
    # "properties" maps argument names, where "title" would be an argument and not a title
    plain = {
        key: {name: _plain(inner) for name, inner in value.items()} if key == "properties" else _plain(value)
        for key, value in kept.items()
        if not (key == "description" and schema.get("type") == "object")
    }
    if "prefixItems" in schema:
        plain["items"] = _plain(schema["prefixItems"][0])
    for option in schema.get("anyOf", ()):
        if option != {"type": "null"}:
            plain = _plain(option) | plain
    if plain.get("default", ...) is None:
        del plain["default"]
    return plain
