"""SEG: the thing that a box surrounds or that points lie on, by GrabCut on a small neighbourhood of it.

The work happens on a crop of bounded size, so the cost depends neither on the image nor on the box.
Several separate things in one box are all in the mask, unless points say which of them are meant. Points
alone are answered by boxes that grow around them until the thing no longer reaches beyond.
"""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from pixelis_pipeline.tools.contract import (
    WIRE,
    Observation,
    SegArguments,
    ToolError,
    Workspace,
    pixels_of,
    spoken,
    to_pixels,
    to_wire,
)
from pixelis_pipeline.tools.cut_quality import extent
from pixelis_pipeline.tools.grabcut import PARAMETERS, Cut, best_cut
from pixelis_pipeline.tools.masks import encode

Array = np.ndarray[Any, Any]
Pixels = tuple[int, int, int, int]
Spots = tuple[tuple[int, int], ...]  # x, y in pixels

SHORT, LONG = 144, 160  # pixels: the thing is cut from a crop of half its size, within these bounds
MARGIN = 0.25  # of the box's longer side, taken around it as background
SEED = 0.03  # of the box's longer side: the radius around a point that belongs to the thing
FILL = 0.1  # of a box around points: a thing of this share or more is not too small for it
DOUBT = 0.05  # no cut with a lower score is a thing
REACHES = (0.04, 0.065, 0.1, 0.16, 0.25, 0.4)  # of the image's longer side: half a box around points
NOTHING = "nothing stands out in the box"
KEPT = 64  # cuts; one takes up to 130 kB with its crop and seeds


class GrabCut:
    """OpenCV's GrabCut, seeded, on a padded and downscaled crop."""

    threaded = True  # OpenCV seeds the random numbers of each thread, and keeps nothing else

    @property
    def version(self) -> str:
        return (
            f"seg/3 grabcut opencv {cv2.__version__} longest={SHORT}-{LONG} margin={MARGIN} seed={SEED} "
            f"fill={FILL} doubt={DOUBT} "
            f"reaches={'/'.join(map(str, REACHES))} {PARAMETERS}"
        )

    def __call__(self, workspace: Workspace, arguments: SegArguments) -> Observation:
        image = pixels_of(workspace, arguments)
        height, width = image.shape[:2]
        spots = spots_of(arguments, width, height)
        if arguments.box is None:
            mask, cut = _around(image, spots)
        else:
            mask, cut = _within(image, to_pixels(arguments.box, width, height), spots)
        if not mask.any():
            raise ToolError(NOTHING)
        return segmented(mask, round(cut.sharp, 3), self.version, arguments)

    def mask(self, image: Array, box: Pixels) -> Array:
        """The bool mask [height, width] of what stands out in a pixel box of uint8 RGB `image`.

        Raises ToolError where nothing does.
        """
        mask, _ = _within(image, box, ())
        if not mask.any():
            raise ToolError(NOTHING)
        return mask


def segmented(mask: Array, confidence: float, version: str, arguments: SegArguments) -> Observation:
    """SEG's observation of a bool mask [height, width] with at least one pixel."""
    output = {
        "box": list(to_wire(extent(mask), mask.shape[1], mask.shape[0])),
        "area": round(1000 * float(mask.mean())),
        "mask": encode(mask),
    }
    return Observation(
        output,
        spoken("SEG", output),
        confidence,
        mask=mask,
        version=version,
        source=arguments.image,
        frame=arguments.frame,
    )


def spots_of(arguments: SegArguments, width: int, height: int) -> Spots:
    """The pixels that a call's points lie in. Raises ToolError for a point outside the call's box."""
    if arguments.box is not None:
        x0, y0, x1, y1 = arguments.box
        for x, y in arguments.points:
            if not (x0 <= x <= x1 and y0 <= y <= y1):
                raise ToolError(f"point {x} {y} lies outside the box", "bounds")
    return tuple((x * (width - 1) // WIRE, y * (height - 1) // WIRE) for x, y in arguments.points)


@lru_cache(KEPT)
def cut_of(crop: bytes, size: tuple[int, int], box: Pixels, seeds: bytes | None, drawn: bool) -> Cut:
    """`best_cut` of a crop (uint8 RGB) of (height, width) and seeds (uint8, 0 or 1), both as their bytes. The
    last few are kept: what is cut out is measured next, and rollouts of one question look at the same box."""
    sure = None if seeds is None else np.frombuffer(seeds, np.uint8).reshape(size).astype(bool)
    return best_cut(np.frombuffer(crop, np.uint8).reshape(*size, 3), box, sure, drawn)


def _within(image: Array, box: Pixels, spots: Spots, drawn: bool = True) -> tuple[Array, Cut]:
    """The mask [height, width] of what stands out in a box, and the cut it comes from. With `spots`, only
    the pieces that hold one. `drawn`: somebody drew the box around a thing."""
    height, width = image.shape[:2]
    left, top, right, bottom = box
    pad = max(4, round(MARGIN * max(right - left, bottom - top)))
    x0, y0 = max(0, left - pad), max(0, top - pad)
    x1, y1 = min(width, right + pad), min(height, bottom + pad)
    longest = max(x1 - x0, y1 - y0)
    scale = min(1.0, min(max(SHORT, longest / 2), LONG) / longest)
    wide, high = max(8, round((x1 - x0) * scale)), max(8, round((y1 - y0) * scale))
    small = cv2.resize(image[y0:y1, x0:x1], (wide, high), interpolation=cv2.INTER_AREA)
    sx, sy = wide / (x1 - x0), high / (y1 - y0)
    x, y = min(round((left - x0) * sx), wide - 1), min(round((top - y0) * sy), high - 1)
    inner = (x, y, max(x + 1, round((right - x0) * sx)), max(y + 1, round((bottom - y0) * sy)))
    seeds = np.zeros((high, wide), np.uint8)
    radius = max(1, round(SEED * max(inner[2] - x, inner[3] - y)))
    for at_x, at_y in spots:
        cv2.circle(seeds, (int((at_x + 0.5 - x0) * sx), int((at_y + 0.5 - y0) * sy)), radius, 1, -1)
    cut = cut_of(small.tobytes(), (high, wide), inner, seeds.tobytes() if spots else None, drawn)
    soft = cv2.resize(cut.mask.astype(np.uint8) * 255, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = soft[top - y0 : bottom - y0, left - x0 : right - x0] > 127
    return mask, cut


def _around(image: Array, spots: Spots) -> tuple[Array, Cut]:
    """The thing under points: of boxes that grow around them, the cut that is sharp, stays within its box,
    fills a fair share of it and changes little in the next one. Raises ToolError where there is none."""
    height, width = image.shape[:2]
    xs, ys = [x for x, _ in spots], [y for _, y in spots]
    best: tuple[float, Array, Cut] | None = None
    last: tuple[float, Array, Cut] | None = None  # only two masks are held: pictures may be huge
    for reach in REACHES:
        side = max(2, round(reach * max(width, height)))
        left, top = max(0, min(xs) - side), max(0, min(ys) - side)
        box = left, top, min(width, max(xs) + side + 1), min(height, max(ys) + side + 1)
        mask, cut = _within(image, box, spots, drawn=False)
        fill = float(mask[box[1] : box[3], left : box[2]].mean())
        if last is not None:
            best = _better(best, (last[0] * (1 + _agreement(last[1], mask)) / 2, *last[1:]))
        last = cut.sharp * (1 - _cut_off(mask, box)) * min(1.0, fill / FILL), mask, cut
    assert last is not None  # there are several reaches
    score, mask, cut = _better(best, last)
    if score < DOUBT:
        raise ToolError("nothing stands out around the points")
    return mask, cut


def _better(
    best: tuple[float, Array, Cut] | None, other: tuple[float, Array, Cut]
) -> tuple[float, Array, Cut]:
    return other if best is None or other[0] > best[0] else best


def _agreement(one: Array, other: Array) -> float:
    """Intersection over union of two masks; 0 where both are empty."""
    return float((one & other).sum() / max(1, (one | other).sum()))


def _cut_off(mask: Array, box: Pixels) -> float:
    """The share of a box's outline, apart from the picture's edge, that a mask [height, width] reaches."""
    (left, top, right, bottom), (height, width) = box, mask.shape
    part = mask[top:bottom, left:right]
    sides = (
        (part[:, 0], left > 0),
        (part[:, -1], right < width),
        (part[0], top > 0),
        (part[-1], bottom < height),
    )
    open_sides = [side for side, inner in sides if inner]
    return float(np.concatenate(open_sides).mean()) if open_sides else 0.0
