"""Charades-STA windows: a text file of lines `<video> <start> <end>##<query>`, with the videos beside it.

`Charades_v1_*.csv`, where it lies there too, states each video's length: a video that is missing is
rejected, and the rejection still says whether its window would have been cut.
"""

import csv
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pixelis_pipeline.media import MediaError, probe
from pixelis_pipeline.media.files import first
from pixelis_pipeline.records import Outcome, Sample
from pixelis_pipeline.settings import MediaLimits
from pixelis_pipeline.sources.contract import LayoutError, Wanted, every
from pixelis_pipeline.sources.licences import origin
from pixelis_pipeline.sources.record import BadRecord, Work, lines, outcomes, sample
from pixelis_pipeline.sources.windows import duration, window

VERSION = 1
PATTERN = "charades_sta_*.txt"
_LINE = re.compile(r"(?P<video>\S+) (?P<start>\d+(?:\.\d+)?) (?P<end>\d+(?:\.\d+)?)##(?P<query>.*)")


def lengths(folder: Path) -> dict[str, float]:
    """Seconds by video id from every `Charades_v1_*.csv` of the folder. LayoutError for a bad table."""
    seconds: dict[str, float] = {}
    for path in sorted(folder.glob("Charades_v1_*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            try:
                seconds.update({row["id"]: float(row["length"]) for row in csv.DictReader(file)})
            except (KeyError, TypeError, ValueError, csv.Error) as error:
                raise LayoutError(path, f"Charades' columns id and length ({error!r})") from error
    return seconds


def _find(folder: Path, video: str) -> Path:
    places = [folder / sub / f"{video}.mp4" for sub in ("Charades_v1_480", "Charades_v1", "videos", "")]
    return first(places)


def _sample(folder: Path, name: str, line: bytes, seconds: dict[str, float], limits: MediaLimits) -> Sample:
    match = _LINE.fullmatch(line.decode("utf-8", "replace").strip())
    if match is None:
        raise BadRecord("unparsable line", "not `<video> <start> <end>##<query>`")
    video, query = match["video"], match["query"]
    start, end = float(match["start"]), float(match["end"])
    try:
        media = probe(_find(folder, video), limits, root=folder)
    except MediaError as error:
        record = {"window": window(query, start, end, seconds[video])} if video in seconds else {}
        raise BadRecord(error.rule, str(error), record=record) from error
    held = window(query, start, end, duration(media), media.fps)
    where = origin("ego4d", f"charades-sta/{name}", folder)
    return sample(VERSION, where, [media], annotations={"windows": [held]}, category="charades-sta")


def _work(folder: Path, paths: list[Path], limits: MediaLimits) -> Iterator[Work]:
    seconds = lengths(folder)
    for path in paths:
        for number, line in lines(path, folder):
            name = f"{path.name}:{number}"
            yield name, partial(_sample, folder, name, line, seconds, limits)


def read(
    folder: Path, limits: MediaLimits, paths: list[Path], wanted: Wanted = every
) -> Iterator[Outcome[Sample]]:
    """One outcome a line; the line's number is its id, since a query may well be asked twice."""
    return outcomes("ego4d", _work(folder, paths, limits), wanted)
