"""Tracks that go astray: TRK claimed to follow another thing than it does, and what one concludes from it."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from pixelis_pipeline.records import Json
from pixelis_pipeline.synthesis.teachers.embedded_conclusions import concluded
from pixelis_pipeline.synthesis.teachers.embedded_surroundings import named, overlap, wire
from pixelis_pipeline.synthesis.teachers.embedded_told import Lie, Told, free

LOST = 8  # a track goes astray after one frame in so many: what is left agrees to a HOTA below .1


def astray(told: Told, index: int) -> Iterator[Lie]:
    """The track of another thing, from the beginning or joined on to that of the right one."""
    step = told.steps[index]
    true, start = step["output"]["boxes"], step["arguments"].get("start", 0)
    for track in told.entry.get("tracks", []):
        seen = dict(zip(track["frames"], track["boxes"], strict=True))
        there = [wire(told.entry, seen[f]) if f in seen else None for f in range(start, start + len(true))]
        if any(a and b and overlap(a, b) > 0.05 for a, b in zip(true, there, strict=True)):
            continue
        for right in sorted({0, math.floor(len(true) / LOST)}):
            said = [*true[:right], *there[right:]]
            later = _on_the_other(told, index, said, start, {**named(track["label"]), "count": 1})
            if later is None or not any(said[right:]):
                continue
            what = f"follows the {track['label']} from frame {start + right} on"
            output = {**step["output"], "boxes": said}
            for answer, ends in _after_track(told, index, output, track["label"]):
                yield Lie(index, output, answer, "perceptual", what, tuple(later), ends=ends)


def _after_track(told: Told, index: int, output: Json, label: str) -> Iterator[tuple[str, bool]]:
    """(the answer, whether the trace ends at this step) of one who believes that the thing moved as the one
    called `label` does.

    Where the choices name things, things are followed until one moves as it is asked. So what seems to move
    like the right one is the answer at once, and where the right one seems not to, it is one of the others.
    """
    followed = [_label(told, n) for n, step in enumerate(told.steps) if step["action"] == "TRK"]
    naming = [choice for choice in told.choices if any(name and name in choice for name in followed)]
    if told.answer not in naming:
        if answer := concluded(told.steps, told.answer, index, output):
            yield answer, False
        return
    mine = _label(told, index)
    if mine and mine in told.answer:
        rest = [choice for choice in told.choices if choice not in naming]
        yield from ((choice, False) for choice in rest)
    elif mine and label in told.answer:
        yield from ((choice, True) for choice in naming if mine in choice)


def _label(told: Told, index: int) -> str:
    """What the track is called that a TRK step begins on; empty where none is there."""
    step = told.steps[index]
    start, first = step["arguments"].get("start", 0), step["output"]["boxes"][0]
    for track in told.entry.get("tracks", []):
        if first and start in track["frames"]:
            there = wire(told.entry, track["boxes"][track["frames"].index(start)])
            if overlap(there, first) > 0.9:
                return str(track["label"])
    return ""


def _on_the_other(
    told: Told, index: int, boxes: Sequence[Any], start: int, truth: Json
) -> list[tuple[int, Json]] | None:
    """The later steps that looked where the thing was, looking where it is now said to be. None where one
    did what cannot be answered there."""
    if free(told, index):
        return []
    changed = []
    for n, later in enumerate(told.steps[index + 1 :], index + 1):
        asked = later["arguments"]
        at = asked.get("frame", 0) - start
        if later["action"] != "PROP" or "box" not in asked or not later["output"].keys() <= truth.keys():
            return None
        if not 0 <= at < len(boxes) or boxes[at] is None:
            return None
        output = {name: truth[name] for name in later["output"]}
        changed.append((n, {**later, "arguments": {**asked, "box": boxes[at]}, "output": output}))
    return changed
