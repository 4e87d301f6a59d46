"""What the annotation teacher knows: the annotations of a partition's samples, by the digest of what it will
be shown, in the form of world truth (`world.truth`) so that the same programs answer from both.

An annotation says less than truth does. What it leaves open stays empty here and is never claimed: an object
has a colour only where one palette colour holds most of the pixels under its mask, a shape only where its
category names one, and a track a box only in frames that are annotated or lie shortly between two that are.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from pixelis_pipeline.media import MediaError, MediaStore
from pixelis_pipeline.media.colour import colour_shares
from pixelis_pipeline.records import Json, Media, Sample
from pixelis_pipeline.sources.licences import require_training
from pixelis_pipeline.synthesis.places import objects
from pixelis_pipeline.synthesis.questions import SHAPES, SURE_COLOUR
from pixelis_pipeline.synthesis.teachers.embedded_truth import first_frames
from pixelis_pipeline.tools.masks import decode

LONGEST_GAP = 2.0  # seconds between two annotated frames that a straight line may bridge


def annotated(samples: Iterable[Sample], media: MediaStore) -> dict[str, Json]:
    """sha256 of a picture, or of the first frame that is sent of a film -> all that the samples say of it.

    An entry holds sha256, width, height, of films frames and fps, and lists, empty where nothing is said:

        things   {"box", "rle", "area", "category", "parent", "colour", "shape", "label", "label_box"}
        words, windows   as annotated
        tracks   as annotated, with a box for every frame of a run; "keys" are the annotated frames
        asked    the authors' questions: {"text", "choices", "answer", "windows", "tracks"}

    Several samples of one medium are merged. Media that do not decode are left out. EvaluationRecord for a
    sample that synthesis must not see.
    """
    entries: dict[str, Json] = {}
    films: list[Media] = []
    for sample in samples:
        require_training([sample])
        for item in sample.media[:1]:  # boxes are of the first
            try:
                told = _told(sample, item, media)
            except MediaError:
                continue
            if item.kind == "video":
                films.append(item)
            entry = entries.setdefault(item.sha256, _blank(item))
            for name, found in told.items():
                entry[name] += [each for each in found if each not in entry[name]]
    return entries | {digest: entries[film] for digest, film in first_frames(films, media).items()}


def _blank(item: Media) -> Json:
    entry: Json = {"sha256": item.sha256, "width": item.width, "height": item.height}
    if item.kind == "video":
        entry |= {"frames": item.frames, "fps": item.fps}
    return entry | {name: [] for name in ("things", "words", "tracks", "windows", "asked")}


def _told(sample: Sample, item: Media, media: MediaStore) -> dict[str, list[Json]]:
    """The lists of one sample. MediaError where its picture does not decode."""
    notes = sample.annotations
    tracks, windows = followed(notes.get("tracks", []), item.fps), list(notes.get("windows", []))
    asked: Json = {
        "text": sample.question,
        "choices": list(sample.choices),
        "answer": sample.answer,
        "windows": windows,
        "tracks": tracks,
    }
    return {
        "things": _things(sample, item, media),
        "words": notes.get("words", []),
        "tracks": tracks,
        "windows": [] if sample.question else windows,
        "asked": [asked] if sample.question else [],
    }


# --- objects ------------------------------------------------------------------------------------------


def _things(sample: Sample, item: Media, media: MediaStore) -> list[Json]:
    """The objects that have masks; colours only of those large enough to be asked about."""
    askable = [id(each) for each in objects(sample)]
    return [
        {
            **{name: part[name] for name in ("box", "rle", "area")},
            "category": part.get("category", "").lower(),
            "parent": part.get("parent", "").lower(),
            "colour": _colour(part, item, media) if id(part) in askable else "",
            "shape": _shape(part),
            "label": "",
            "label_box": None,
        }
        for part in sample.annotations.get("objects", [])
        if part.get("rle")
    ]


def _colour(part: Json, item: Media, media: MediaStore) -> str:
    """The palette colour of the pixels under the mask, empty where none is sure."""
    x0, y0, x1, y1 = part["box"]
    shares = colour_shares(media.pixels(item)[y0:y1, x0:x1][decode(part["rle"])[y0:y1, x0:x1]])
    best = max(shares, key=lambda name: shares[name], default="")
    return best if best and shares[best] >= SURE_COLOUR else ""


def _shape(part: Json) -> str:
    """The shape that the category names: "circle", or "circle body", which has the shape of its whole."""
    whole, _, called = part.get("category", "").lower().rpartition(" ")
    name = whole if called == "body" else called if not whole else ""
    return name if name in SHAPES else ""


# --- tracks -------------------------------------------------------------------------------------------


def followed(tracks: Sequence[Json], fps: float) -> list[Json]:
    """Annotated tracks with a box for every frame in between, by a straight line; "keys" keeps the annotated
    frames. Nothing is put where annotators looked and did not see it, nor into gaps of over two seconds.

    A frame counts as looked at where any track of the sample has a box or is said to be hidden.
    """
    looked = sorted({frame for track in tracks for frame in (*track["frames"], *track.get("hidden", []))})
    after = dict(pairwise(looked))
    return [
        {**track, "keys": track["frames"], "frames": [n for n, _ in dense], "boxes": [b for _, b in dense]}
        for track in tracks
        if (dense := _dense(track, after, fps))
    ]


def _dense(track: Json, after: dict[int, int], fps: float) -> list[tuple[int, Sequence[float]]]:
    boxes = list(zip(track["frames"], track["boxes"], strict=True))
    dense = boxes[-1:]
    for (first, start), (last, end) in pairwise(boxes):
        dense.append((first, start))
        if after[first] == last and fps > 0 and last - first <= LONGEST_GAP * fps:
            for frame in range(first + 1, last):
                dense.append((frame, _between(start, end, (frame - first) / (last - first))))
    return sorted(dense, key=lambda seen: seen[0])


def _between(one: Sequence[float], other: Sequence[float], share: float) -> list[float]:
    return [a + (b - a) * share for a, b in zip(one, other, strict=True)]
