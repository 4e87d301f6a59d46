"""SA-V: one JSON a video, `<id>_manual.json` or `<id>_auto.json` beside `<id>.mp4`.

`masklet` holds a row per annotated frame and in it one RLE per masklet; every fourth video frame is
annotated. An empty mask says that the object is out of sight in that frame: it is truth, not damage, and
stands in the track as `hidden`.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pixelis_pipeline.media import MediaError, probe
from pixelis_pipeline.records import Json, Outcome, Sample
from pixelis_pipeline.settings import MediaLimits
from pixelis_pipeline.sources.contract import Wanted, every
from pixelis_pipeline.sources.licences import origin
from pixelis_pipeline.sources.masks import measured
from pixelis_pipeline.sources.record import BadRecord, Published, file_json, outcomes, parse, sample

VERSION = 1
STRIDE = 4  # video frames from one annotated frame to the next: 24 fps annotated at 6 fps


class Record(Published):
    video_id: str
    video_frame_count: float
    video_height: float
    video_width: float
    masklet: list[list[Any]]
    masklet_id: list[int]


def tracks(record: Record) -> list[Json]:
    """A track per masklet: frames and boxes where it is seen, `rles` and `areas` beside them, and `hidden`,
    the annotated frames in which it is not. BadRecord for masks of another size or rows of another length.
    """
    height, width = int(record.video_height), int(record.video_width)
    if any(len(row) != len(record.masklet_id) for row in record.masklet):
        raise BadRecord("malformed record", "a row of masklets is longer or shorter than masklet_id")
    if (len(record.masklet) - 1) * STRIDE >= record.video_frame_count:
        raise BadRecord(
            "frames past the end",
            "more annotated rows than the video has frames for",
            (len(record.masklet) - 1) * STRIDE,
            record.video_frame_count,
        )
    followed = []
    for column, identity in enumerate(record.masklet_id):
        track: Json = {
            "label": str(identity),
            "frames": [],
            "boxes": [],
            "rles": [],
            "areas": [],
            "hidden": [],
        }
        for row, masks in enumerate(record.masklet):
            rle, box, area = measured(masks[column], height, width)
            if not area:
                track["hidden"].append(row * STRIDE)
                continue
            for name, value in (("frames", row * STRIDE), ("boxes", box), ("rles", rle), ("areas", area)):
                track[name].append(value)
        followed.append(track)
    return followed


def _sample(path: Path, folder: Path, limits: MediaLimits) -> Sample:
    record = parse(Record, file_json(path, folder, limits))
    followed = tracks(record)
    masks = len(record.masklet) * len(record.masklet_id)
    counts = {"masks": masks, "empty": sum(len(track["hidden"]) for track in followed)}
    try:
        media = probe(path.parent / f"{record.video_id}.mp4", limits, root=folder)
    except MediaError as error:
        raise BadRecord(error.rule, str(error), record=counts) from error
    if (media.height, media.width) != (int(record.video_height), int(record.video_width)):
        size, said = f"{media.width}x{media.height}", f"{record.video_width:g}x{record.video_height:g}"
        raise BadRecord("RLE of the wrong size", f"a video of {size} with masks for {said}", record=counts)
    return sample(
        VERSION, origin("sa1b", f"sav/{path.stem}", folder), [media], annotations={"tracks": followed}
    )


def read(
    folder: Path, limits: MediaLimits, paths: list[Path], wanted: Wanted = every
) -> Iterator[Outcome[Sample]]:
    """The videos that `paths` annotate, in that order."""
    return outcomes(
        "sa1b",
        ((p.relative_to(folder).as_posix(), partial(_sample, p, folder, limits)) for p in paths),
        wanted,
    )
