"""SA-1B: `sa_<n>.jpg` beside `sa_<n>.json`, one record an image, masks as COCO RLE without classes.

A folder that holds `*_manual.json` or `*_auto.json` instead is SA-V, the video sibling (see `sav`).
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pixelis_pipeline.media import probe
from pixelis_pipeline.records import Json, Outcome, Sample
from pixelis_pipeline.settings import MediaLimits
from pixelis_pipeline.sources import sav
from pixelis_pipeline.sources.contract import Keep, LayoutError, Wanted, every
from pixelis_pipeline.sources.licences import origin
from pixelis_pipeline.sources.masks import measured
from pixelis_pipeline.sources.record import (
    BadRecord,
    Published,
    Work,
    file_json,
    outcomes,
    parse,
    sample,
    usable,
)

VERSION = 1


class Annotation(Published):
    segmentation: Any


class Image(Published):
    image_id: int | str
    file_name: str
    width: int
    height: int


class Record(Published):
    image: Image
    annotations: list[Annotation]


def objects(annotations: list[Annotation], height: int, width: int) -> Json:
    """`objects` and what was dropped. BadRecord where a mask is of another size, or none is usable."""
    kept: list[Json] = []
    dropped: Counter[str] = Counter()
    for annotation in annotations:
        try:
            rle, box, area = measured(annotation.segmentation, height, width)
        except BadRecord as error:
            if error.rule != "bad mask":
                raise
            dropped[error.rule] += 1
            continue
        if area:
            kept.append({"box": box, "rle": rle, "area": area, "category": "", "parent": ""})
        else:
            dropped["empty mask"] += 1
    return usable(kept, dropped, "objects")


def _sample(path: Path, folder: Path, limits: MediaLimits) -> Sample:
    record = parse(Record, file_json(path, folder, limits))
    media = probe(path.parent / record.image.file_name, limits, root=folder)
    annotations = objects(record.annotations, media.height, media.width)
    name = str(record.image.image_id)
    return sample(VERSION, origin("sa1b", name, folder), [media], annotations=annotations)


def read(folder: Path, limits: MediaLimits, keep: Keep, wanted: Wanted = every) -> Iterator[Outcome[Sample]]:
    """The records of an SA-1B or SA-V folder, in the order of their paths."""
    if videos := sorted([*folder.rglob("*_manual.json"), *folder.rglob("*_auto.json")]):
        return sav.read(folder, limits, videos, wanted)
    paths = sorted(folder.rglob("sa_*.json"))
    if not paths:
        raise LayoutError(folder, "SA-1B's sa_<n>.json beside sa_<n>.jpg, or SA-V's <id>_manual.json")
    work: Iterator[Work] = (
        (path.relative_to(folder).as_posix(), partial(_sample, path, folder, limits)) for path in paths
    )
    return outcomes("sa1b", work, wanted)
