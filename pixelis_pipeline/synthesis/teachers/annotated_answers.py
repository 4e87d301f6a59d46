"""What the annotation teacher says. It knows every form of question that the embedded teacher knows, and the
authors' own questions about films, whose words are theirs: those it finds among the annotations.

It never says what no annotation does. An answer it cannot show on the film is refused, although it knows it.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from pixelis_pipeline.records import Json
from pixelis_pipeline.synthesis.request import CHOICES, SEPARATOR
from pixelis_pipeline.synthesis.teachers import embedded_answers
from pixelis_pipeline.synthesis.teachers.embedded_answers import Unanswerable
from pixelis_pipeline.tools.contract import to_wire

LONGEST_QUERY = 200  # characters that TEMP takes
BRIDGED = "Between annotated frames its place is a straight line."


def reply(question: str, digests: Sequence[str], truths: Mapping[str, Json]) -> Json:
    """{"steps", "answer"} for a question's text about the pictures with these sha256. Raises Unanswerable."""
    entry = next((truths[digest] for digest in digests if digest in truths), {})
    try:
        said = embedded_answers.reply(question, digests, truths)
    except Unanswerable:
        if not entry.get("asked"):
            raise
        said = _authors(entry, question)
    if not said["answer"]:
        raise Unanswerable("No annotation says so.")
    return {**said, "steps": _honest(said["steps"], entry)}


def _honest(steps: Sequence[Json], entry: Json) -> list[Json]:
    """The steps, the first TRK among them saying so where not all boxes are annotated."""
    bridged = any(
        len(track.get("keys", track["frames"])) < len(track["frames"]) for track in entry.get("tracks", [])
    )
    first = next((n for n, step in enumerate(steps) if step["action"] == "TRK"), None) if bridged else None
    return [
        {**step, "thought": f"{step['thought']} {BRIDGED}"} if n == first else step
        for n, step in enumerate(steps)
    ]


def _authors(entry: Json, question: str) -> Json:
    """The part of the film that the question is about, then the thing that the answer names, followed."""
    words, _, choices = (part.strip() for part in question.partition(CHOICES))
    mine = [
        asked
        for asked in entry["asked"]
        if (asked["text"].strip(), SEPARATOR.join(asked["choices"]).strip()) == (words, choices)
    ]
    answers = {asked["answer"] for asked in mine}
    if len(answers) != 1:
        raise Unanswerable(f"The annotations answer this in {len(answers)} ways.")
    steps: list[Json] = []
    for asked in mine[:1]:
        length = entry["frames"] / entry["fps"] if entry.get("fps") else 0.0
        window = next(iter(asked["windows"]), {"start": 0.0, "end": length})
        keys, track = _shown(asked, window, entry)
        if (window["start"], window["end"]) != (0.0, length):
            steps.append(_find(words, window, length))
        steps.append(_follow(entry, track, keys))
    return {"steps": steps, "answer": answers.pop()}


def _shown(asked: Json, window: Json, entry: Json) -> tuple[list[int], Json]:
    """The longest run of annotated frames within the window, in frames, of what the answer names."""
    fps = entry.get("fps", 0.0)
    runs = [
        (run, track)
        for track in asked["tracks"]
        if _names(asked["answer"], track["label"])
        for run in _runs(track, window["start"] * fps, window["end"] * fps)
    ]
    if not runs:
        raise Unanswerable("No annotation shows what the answer names.")
    return max(runs, key=lambda found: found[0][-1] - found[0][0])


def _names(answer: str, label: str) -> bool:
    """Whether an answer ("Closed the closet/cabinet.") has a track's label as words of its own."""
    return re.search(rf"(?<![\w/]){re.escape(label.lower())}(?![\w/])", answer.lower()) is not None


def _runs(track: Json, start: float, end: float) -> list[list[int]]:
    """Runs of two or more annotated frames from `start` to `end`, with a box for every frame between."""
    runs: list[list[int]] = []
    seen = set(track["frames"])
    keys = [key for key in track["keys"] if start <= key <= end]
    for first, last in pairwise(keys):
        if last > first + 1 and first + 1 not in seen:
            continue
        if runs and runs[-1][-1] == first:
            runs[-1].append(last)
        else:
            runs.append([first, last])
    return runs


def _find(words: str, window: Json, length: float) -> Json:
    return {
        "thought": "Find the part of the video that is asked about.",
        "action": "TEMP",
        "arguments": {"query": words[:LONGEST_QUERY], "start": 0.0, "end": length},
        "output": {"start": window["start"], "end": window["end"]},
    }


def _follow(entry: Json, track: Json, keys: Sequence[int]) -> Json:
    """TRK over a run, claiming the box of every frame."""
    seen = dict(zip(track["frames"], track["boxes"], strict=True))
    start, end = keys[0], keys[-1]
    boxes = [list(to_wire(seen[n], entry["width"], entry["height"])) for n in range(start, end + 1)]
    return {
        "thought": f"Follow the {track['label']}.",
        "action": "TRK",
        "arguments": {"box": boxes[0], "start": start, "end": end},
        "output": {"boxes": boxes},
    }
