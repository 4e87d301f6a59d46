"""STAR: questions on Charades videos with the situation graph behind them.

`STAR_<split>.json` is a list of records; videos are `<video_id>.mp4`, 480 pixels high, in `Charades_v1_480/`
or `videos/`. `situations` maps zero-padded frame numbers, in no order, to boxes and their classes.
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pixelis_pipeline.media import probe
from pixelis_pipeline.media.files import first
from pixelis_pipeline.records import Json, Media, Outcome, Sample
from pixelis_pipeline.settings import MediaLimits
from pixelis_pipeline.sources.contract import Keep, LayoutError, Wanted, every
from pixelis_pipeline.sources.licences import origin
from pixelis_pipeline.sources.record import BadRecord, Published, Work, outcomes, parse, sample, whole_json
from pixelis_pipeline.sources.windows import duration, window

VERSION = 1
EXPECTED = "STAR_<split>.json (here or in annotations/), a list of questions, and <video_id>.mp4"


class Choice(Published):
    choice_id: int
    choice: str


class Situation(Published):
    bbox: tuple[tuple[float, float, float, float], ...] = ()
    bbox_labels: tuple[str, ...] = ()


class Record(Published):
    question_id: str
    question: str
    video_id: str
    start: float
    end: float
    answer: str | None = None  # the test split has none
    choices: tuple[Choice, ...] = ()
    situations: dict[str, Situation] | None = None


def classes(folder: Path) -> dict[str, str]:
    """Object names by code ("o003": "closet/cabinet"), where the authors' object_classes.txt is there."""
    path = next(iter(sorted(folder.rglob("object_classes.txt"))), None)
    rows = path.read_text(encoding="utf-8").splitlines() if path else []
    return {code: name for code, _, name in (row.partition(" ") for row in rows) if name}


def tracks(situations: dict[str, Situation], names: dict[str, str], media: Media | None) -> Json:
    """`tracks` by label in frame order, boxes cut to the video; `dropped` counts what lies outside it.

    A label that stands twice in one frame gives a second track, "<label> 2". `media` bounds frames and
    boxes; None leaves them as published. BadRecord for a frame key that is no number.
    """
    if bad := [key for key in situations if not re.fullmatch(r"[0-9]{1,9}", key)]:
        raise BadRecord("malformed record", f"situations: {bad[0]!r} is no frame number")
    followed: dict[str, Json] = {}
    dropped: Counter[str] = Counter()
    for key in sorted(situations, key=int):
        frame, situation = int(key), situations[key]
        if len(situation.bbox) != len(situation.bbox_labels):
            raise BadRecord("malformed record", f"frame {key}: boxes and labels differ in number")
        if media is not None and frame >= media.frames:
            dropped["frame past the end"] += 1
            continue
        times: Counter[str] = Counter()
        for box, code in zip(situation.bbox, situation.bbox_labels, strict=True):
            held = _held(box, media)
            if held is None:
                dropped["box outside the frame"] += 1
                continue
            times[code] += 1
            name = names.get(code, code) + (f" {times[code]}" if times[code] > 1 else "")
            track = followed.setdefault(name, {"label": name, "frames": [], "boxes": []})
            track["frames"].append(frame)
            track["boxes"].append(held)
    listed: Json = {"tracks": [followed[name] for name in sorted(followed)]}
    return {**listed, "dropped": dict(sorted(dropped.items()))} if dropped else listed


def _held(box: tuple[float, float, float, float], media: Media | None) -> list[float] | None:
    """The box cut to the video, or None where nothing is left of it."""
    x0, y0, x1, y1 = box
    if media is not None:
        x0, x1 = max(x0, 0.0), min(x1, float(media.width))
        y0, y1 = max(y0, 0.0), min(y1, float(media.height))
    return [x0, y0, x1, y1] if x0 < x1 and y0 < y1 else None


def answer(record: Record) -> tuple[list[str], str]:
    """(choices in the order of their ids, the right one). BadRecord where there is none."""
    choices = [c.choice for c in sorted(record.choices, key=lambda c: c.choice_id)]
    if not record.answer:
        raise BadRecord("no answer", f"{record.question_id}: the authors withhold it")
    if record.answer not in choices:
        raise BadRecord("answer not among choices", f"{record.question_id}: {record.answer!r}")
    return choices, record.answer


def _find(folder: Path, video: str) -> Path:
    places = [folder / sub / f"{video}.mp4" for sub in ("Charades_v1_480", "videos", "")]
    return first(places)


def _sample(folder: Path, value: Any, names: dict[str, str], limits: MediaLimits) -> Sample:
    record = parse(Record, value)
    choices, right = answer(record)
    media = probe(_find(folder, record.video_id), limits, root=folder)
    held = window(record.question, record.start, record.end, duration(media), media.fps)
    return sample(
        VERSION,
        origin("starqa", record.question_id, folder),
        [media],
        annotations={"windows": [held], **tracks(record.situations or {}, names, media)},
        question=record.question,
        choices=choices,
        answer=right,
        answer_kind="choice",
        category=record.question_id.partition("_")[0],
    )


def _work(folder: Path, paths: list[Path], limits: MediaLimits) -> Iterator[Work]:
    names = classes(folder)
    for path in paths:
        rows = whole_json(path, folder, limits, EXPECTED)
        if not isinstance(rows, list):
            raise LayoutError(path, EXPECTED)
        for number, value in enumerate(rows):
            found = value.get("question_id") if isinstance(value, dict) else None
            name = found if isinstance(found, str) else f"{path.name}: row {number}"
            yield name, partial(_sample, folder, value, names, limits)


def read(folder: Path, limits: MediaLimits, keep: Keep, wanted: Wanted = every) -> Iterator[Outcome[Sample]]:
    """The questions of every split that is there, in the order of the files' names."""
    paths = sorted([*folder.glob("STAR_*.json"), *(folder / "annotations").glob("STAR_*.json")])
    if not paths:
        raise LayoutError(folder, EXPECTED)
    return outcomes("starqa", _work(folder, paths, limits), wanted)
