"""PartImageNet: COCO json of part masks, `annotations/<split>/<split>.json` (or flatter), images by split.

Category names read "Quadruped Head", their supercategory is the whole that the part belongs to. The
authors' val split is known to hold annotations that pycocotools cannot decode: those parts are dropped and
counted. Format proven on world files and on the authors' category table only.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pixelis_pipeline.media import probe
from pixelis_pipeline.media.files import first
from pixelis_pipeline.records import Json, Outcome, Sample
from pixelis_pipeline.settings import MediaLimits
from pixelis_pipeline.sources.contract import Keep, LayoutError, Wanted, every
from pixelis_pipeline.sources.licences import origin
from pixelis_pipeline.sources.masks import measured
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

VERSION = 1
SPLITS = ("train", "val", "test")
EXPECTED = "PartImageNet's COCO json: annotations/<split>/<split>.json with images, annotations, categories"


class Category(Published):
    id: int
    name: str
    supercategory: str = ""


class Image(Published):
    id: int
    file_name: str
    width: int
    height: int


class Annotation(Published):
    image_id: int
    category_id: int
    segmentation: Any


def categories(rows: list[Any]) -> dict[int, Category]:
    """Categories by id. BadRecord where one is malformed or an id stands twice."""
    table: dict[int, Category] = {}
    for row in rows:
        category = parse(Category, row)
        if category.id in table:
            raise BadRecord("duplicate id", f"category {category.id} stands twice")
        table[category.id] = category
    return table


def _objects(rows: list[Any], table: dict[int, Category], height: int, width: int) -> Json:
    """The parts of one image. A part that cannot be used is dropped and counted."""
    kept: list[Json] = []
    dropped: Counter[str] = Counter()
    for row in rows:
        try:
            annotation = parse(Annotation, row)
            if annotation.category_id not in table:
                raise BadRecord("unknown category", str(annotation.category_id))
            rle, box, area = measured(annotation.segmentation, height, width)
            if not area:
                raise BadRecord("empty mask", "")
        except BadRecord as error:
            if error.rule == "RLE of the wrong size":
                raise
            dropped[error.rule] += 1
            continue
        category = table[annotation.category_id]
        kept.append(
            {
                "box": box,
                "rle": rle,
                "area": area,
                "category": category.name,
                "parent": category.supercategory,
            }
        )
    return usable(kept, dropped, "objects")


def _find(folder: Path, split: str, name: str) -> Path:
    """Where the image lies: releases differ in whether a folder `images` and one per split is there."""
    places = [folder / "images" / split / name, folder / "images" / name, folder / split / name]
    return first(places)


def _sample(
    folder: Path, split: str, row: Any, parts: list[Any], table: dict[int, Category], limits: MediaLimits
) -> Sample:
    image = parse(Image, row)
    media = probe(_find(folder, split, image.file_name), limits, root=folder)
    if (media.width, media.height) != (image.width, image.height):
        seen, said = f"{media.width}x{media.height}", f"{image.width}x{image.height}"
        raise BadRecord("image of another size", f"{seen}, annotated as {said}")
    annotations = _objects(parts, table, media.height, media.width)
    where = origin("partimagenet", f"{split}/{image.id}", folder)
    return sample(VERSION, where, [media], annotations=annotations)


def _split(folder: Path, split: str, path: Path, limits: MediaLimits) -> Iterator[Work]:
    document = whole_json(path, folder, limits, EXPECTED)
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise LayoutError(path, EXPECTED)
    try:
        table = categories(document["categories"])
    except BadRecord as error:
        raise LayoutError(path, f"{EXPECTED} ({error})") from error
    parts: defaultdict[Any, list[Any]] = defaultdict(list)
    for row in document["annotations"]:
        key = row.get("image_id") if isinstance(row, dict) else None
        parts[key if isinstance(key, int) else None].append(row)
    for number, row in enumerate(document["images"]):
        key = row.get("id") if isinstance(row, dict) else None
        mine = parts.pop(key, []) if isinstance(key, int) else []
        name = f"{split}/{key if isinstance(key, int) else f'row {number}'}"
        yield name, partial(_sample, folder, split, row, mine, table, limits)
    for key, orphans in sorted(parts.items(), key=lambda item: str(item[0])):
        yield f"{split}/annotations of image {key}", partial(_orphans, len(orphans))


def _orphans(count: int) -> Sample:
    raise BadRecord("annotations without image", f"{count} annotations name no listed image", count)


def read(folder: Path, limits: MediaLimits, keep: Keep, wanted: Wanted = every) -> Iterator[Outcome[Sample]]:
    """The images of every split that is there, in the order train, val, test."""
    found = []
    for split in SPLITS:
        name = f"{split}.json"
        places = [folder / "annotations" / split / name, folder / "annotations" / name, folder / name]
        found += [(split, place) for place in places if place.is_file()][:1]
    if not found:
        raise LayoutError(folder, EXPECTED)
    return outcomes(
        "partimagenet",
        (work for split, path in found for work in _split(folder, split, path, limits)),
        wanted,
    )
