"""Ego4D: `nlq_<split>.json` and `moments_<split>.json` over `clips/<clip_uid>.mp4`; a record is a clip.

Times of both are seconds from the clip's start. A folder that holds `charades_sta_*.txt` instead is read
by `charades`. Format proven on world files only.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pixelis_pipeline.media import probe
from pixelis_pipeline.records import Json, Media, Outcome, Sample
from pixelis_pipeline.settings import MediaLimits
from pixelis_pipeline.sources import charades
from pixelis_pipeline.sources.contract import Keep, LayoutError, Wanted, every
from pixelis_pipeline.sources.licences import origin
from pixelis_pipeline.sources.record import (
    BadRecord,
    Published,
    Work,
    outcomes,
    parse,
    sample,
    usable,
    whole_json,
)
from pixelis_pipeline.sources.windows import duration, window

VERSION = 1
EXPECTED = (
    "Ego4D's nlq_<split>.json or moments_<split>.json (here or in annotations/) and clips/<clip_uid>.mp4"
)
Task = Literal["nlq", "moments"]


class NlqQuery(Published):
    clip_start_sec: float
    clip_end_sec: float
    query: str | None = None  # the authors left some out


class NlqAnnotation(Published):
    language_queries: list[Any]


class MomentsLabel(Published):
    label: str
    start_time: float
    end_time: float


class MomentsAnnotation(Published):
    labels: list[Any]


class Clip(Published):
    clip_uid: str
    annotations: list[Any]


def _rows(task: Task, clip: Clip) -> Iterator[tuple[str, float, float]]:
    """(query, start, end) as published; a malformed one raises when it is reached."""
    for value in clip.annotations:
        if task == "nlq":
            for row in parse(NlqAnnotation, value).language_queries:
                query = parse(NlqQuery, row)
                yield query.query or "", query.clip_start_sec, query.clip_end_sec
        else:
            for row in parse(MomentsAnnotation, value).labels:
                label = parse(MomentsLabel, row)
                yield label.label.replace("_", " "), label.start_time, label.end_time


def windows(rows: Iterator[tuple[str, float, float]], media: Media) -> Json:
    """The windows of one clip, each once, and what was dropped. Several annotators mark the same moment."""
    kept: list[Json] = []
    dropped: Counter[str] = Counter()
    for query, start, end in rows:
        try:
            held = window(query, start, end, duration(media), media.fps)
        except BadRecord as error:
            dropped[error.rule] += 1
            continue
        if held in kept:
            dropped["repeated window"] += 1
        else:
            kept.append(held)
    return usable(kept, dropped, "windows")


def _sample(folder: Path, clips: Path, task: Task, value: Any, limits: MediaLimits) -> Sample:
    clip = parse(Clip, value)
    media = probe(clips / f"{clip.clip_uid}.mp4", limits, root=folder)
    annotations = windows(_rows(task, clip), media)
    where = origin("ego4d", f"{task}/{clip.clip_uid}", folder)
    return sample(VERSION, where, [media], annotations=annotations, category=task)


def _clips(path: Path, folder: Path, limits: MediaLimits) -> Iterator[Any]:
    document = whole_json(path, folder, limits, EXPECTED)
    videos = document.get("videos") if isinstance(document, dict) else None
    if not isinstance(videos, list):
        raise LayoutError(path, EXPECTED)
    for video in videos:
        listed = video.get("clips") if isinstance(video, dict) else None
        yield from listed if isinstance(listed, list) else [video]


def _work(folder: Path, files: list[tuple[Task, Path]], limits: MediaLimits) -> Iterator[Work]:
    for task, path in files:
        clips = next((base / "clips" for base in (folder, path.parent) if (base / "clips").is_dir()), folder)
        for number, value in enumerate(_clips(path, folder, limits)):
            uid = value.get("clip_uid") if isinstance(value, dict) else None
            name = f"{task}/{uid}" if isinstance(uid, str) else f"{path.name}: clip {number}"
            yield name, partial(_sample, folder, clips, task, value, limits)


def read(folder: Path, limits: MediaLimits, keep: Keep, wanted: Wanted = every) -> Iterator[Outcome[Sample]]:
    """The clips of every nlq file, then of every moments file, in the order of the files."""
    tasks: tuple[Task, ...] = ("nlq", "moments")
    files = [
        (task, path)
        for task in tasks
        for base in (folder, folder / "annotations")
        for path in sorted(base.glob(f"{task}_*.json"))
    ]
    if files:
        return outcomes("ego4d", _work(folder, files, limits), wanted)
    if paths := sorted(folder.glob(charades.PATTERN)):
        return charades.read(folder, limits, paths, wanted)
    raise LayoutError(folder, f"{EXPECTED}; or {charades.PATTERN}")
