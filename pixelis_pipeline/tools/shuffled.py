"""A control for evaluation: every call is answered with what a call about another picture returned."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pixelis_pipeline.records import Action, canonical
from pixelis_pipeline.settings import ToolSettings
from pixelis_pipeline.tools.contract import Observation, Tool, Workspace
from pixelis_pipeline.tools.registry import Registry


@dataclass(frozen=True, slots=True)
class _Heard:
    workspace: Workspace
    seen: Observation


class Shuffled(Registry):
    """The tools, told apart from what they saw: a valid call is answered with the words of the nearest valid
    call of the same action in another workspace, made in the same turn or before. An invalid call is told
    its own error, and a call that has no such neighbour its own answer.

    Only what is told is another's. What later calls may point to, a mask or a crop, stays the call's own:
    another picture's would not fit this one.
    """

    def __init__(self, tools: Mapping[str, Tool], limits: ToolSettings | None = None) -> None:
        super().__init__(tools, limits)
        self._before: dict[str, list[_Heard]] = defaultdict(list)

    @property
    def digest(self) -> str:
        """sha256 hex over all tool versions, another one than that of the tools themselves."""
        return hashlib.sha256(canonical([self.versions, "shuffled"])).hexdigest()

    def call_all(self, calls: Sequence[tuple[Workspace, Action]]) -> list[Observation]:
        """As `Registry.call_all`; the answers are told in another order."""
        told = super().call_all(calls)
        places: dict[str, list[int]] = defaultdict(list)
        for place, (seen, (_, action)) in enumerate(zip(told, calls, strict=True)):
            if seen.valid:
                places[action.name].append(place)
        for name, asked in places.items():
            before = self._before[name]
            heard = [*before, *(_Heard(calls[place][0], told[place]) for place in asked)]
            for k, place in enumerate(asked, len(before)):
                # The nearest before it, and where there is none, the last.
                order = [*reversed(heard[:k]), *reversed(heard[k + 1 :])]
                own = heard[k]
                other = next((each for each in order if each.workspace is not own.workspace), own).seen
                told[place] = replace(
                    own.seen, output=other.output, text=other.text, confidence=other.confidence
                )
                own.workspace.observations[-1] = told[place]
            self._before[name] = _of_two(heard)
        return told


def _of_two(heard: Sequence[_Heard]) -> list[_Heard]:
    """The last of them, and the last from another workspace."""
    last = heard[-1]
    other = next((each for each in reversed(heard) if each.workspace is not last.workspace), None)
    return [last] if other is None else [other, last]


def shuffled_registry(settings: ToolSettings | None = None) -> Shuffled:
    """The tools that the settings choose, shuffled. ValueError as `registry.default_registry`."""
    from pixelis_pipeline.tools.backends import build

    chosen = settings or ToolSettings()
    return Shuffled(build(chosen), chosen)
