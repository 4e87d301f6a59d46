"""Cases on films: TRK and TEMP, each with its truth."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from evaluation.tools.case import Case, jittered
from pixelis_pipeline.media import video
from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.records import Action, Json
from pixelis_pipeline.settings import MediaLimits
from pixelis_pipeline.tools.contract import Workspace, to_wire
from pixelis_pipeline.world import ego4d, starqa

LINGER = 3  # frames that TRK is asked to go on for after a thing has vanished


def trk(seed: int, count: int) -> Iterator[Case]:
    """A thing's box in one frame; where it is seen from there on. Two in three: STAR's films, the camera
    still. One in three: Ego4D's, the camera drifting, and the thing may vanish before the end."""
    third = count // 3
    yield from _followed(seed, count - third, "still camera", starqa.write)
    yield from _followed(seed, third, "drifting camera", ego4d.write)


def _followed(
    seed: int, count: int, camera: str, write: Callable[[Path, int, int], Iterator[Json]]
) -> Iterator[Case]:
    for k, (line, watching) in enumerate(_films(write, seed, count)):
        rng = np.random.default_rng([seed, 5, k])
        track = line["tracks"][rng.integers(len(line["tracks"]))]
        width, height = line["width"], line["height"]
        seen = dict(zip(track["frames"], track["boxes"], strict=True))
        start = track["frames"][rng.integers(max(1, len(track["frames"]) // 3))]
        end = min(line["frames"] - 1, track["frames"][-1] + LINGER)
        box = to_wire(jittered(rng, seen[start]), width, height)
        boxes = [to_wire(seen[t], width, height) if t in seen else None for t in range(start, end + 1)]
        kind = {
            "camera": camera,
            "end": "seen to the end" if end in seen else "vanishes",
            "shape": track["label"].split()[-1],
        }
        call = Action("TRK", {"box": list(box), "start": start, "end": end})
        yield Case("TRK", (call,), {"boxes": boxes}, kind, watching)


def temp(seed: int, count: int) -> Iterator[Case]:
    """When a thing is seen, asked of the whole clip or of a part that holds the moment."""
    for k, (line, watching) in enumerate(_films(ego4d.write, seed, count)):
        rng = np.random.default_rng([seed, 6, k])
        window = line["windows"][rng.integers(len(line["windows"]))]
        last, part = line["frames"] / line["fps"], bool(rng.random() < 0.5)
        start = float(rng.uniform(0, window["start"])) if part else 0.0
        end = float(rng.uniform(window["end"], last)) if part else last
        call = Action("TEMP", {"query": window["query"], "start": start, "end": end})
        length = window["end"] - window["start"]
        kind = {
            "asked of": "a part" if part else "the whole clip",
            "lasts": "under 3 s" if length < 3 else "3 s and more",
            "colour": window["query"].split()[-3],
            "shape": window["query"].split()[-2],
        }
        truth = {"start": window["start"], "end": window["end"]}
        yield Case("TEMP", (call,), truth, kind, watching)


def _films(
    write: Callable[[Path, int, int], Iterator[Json]], seed: int, count: int
) -> Iterator[tuple[Json, Callable[[], Workspace]]]:
    """The truth of each film of a source and what opens it, decoded from its H.264 as the pipeline does."""
    with TemporaryDirectory(prefix="pixelis-films-") as temporary:
        for line in write(Path(temporary), seed, count):
            data = (Path(temporary) / line["file"]).read_bytes()
            yield line, _watching(line, data)


def _watching(line: Json, data: bytes) -> Callable[[], Workspace]:
    def clip() -> Workspace:
        return Workspace.watching(
            Clip(
                line["frames"],
                line["fps"],
                line["width"],
                line["height"],
                lambda: video.frames(data, "mp4", line["file"], MediaLimits()),
            )
        )

    return clip
