"""PROP: colour, shape, size, orientation, count and area, measured on the pixels of a mask.

Units: orientation in whole degrees 0-179, counter-clockwise from the image's x axis; area in whole per mille
of the image; count in objects.
"""

import math
from typing import Any, Protocol

import cv2
import numpy as np

from pixelis_pipeline.media.colour import colour_name
from pixelis_pipeline.records import Json
from pixelis_pipeline.tools.contract import (
    Look,
    Observation,
    PropArguments,
    ThreadedTool,
    ToolError,
    Workspace,
    mask_of,
    pixels_of,
    spoken,
    to_pixels,
)
from pixelis_pipeline.tools.outlines import ANGLES, OTHER, outline_of

Array = np.ndarray[Any, Any]

SMALL, MEDIUM = 20.0, 60.0  # per mille of the image's area
# A piece is counted if it has this share of the image's area, or of the largest piece's.
NOTICEABLE, COMPARABLE = 0.0045, 0.3
THIN = 0.014  # of the image's side: narrower strips are bridges or marks
SAMPLE = 16_384  # pixels at most whose colours are asked


class Segmenter(Protocol):
    """What PROP needs of SEG when it is given a box."""

    @property
    def version(self) -> str: ...

    def mask(self, image: Array, box: tuple[int, int, int, int]) -> Array: ...


class PixelProperties:
    """Measurements with no learned part, on an earlier step's mask or on the segmenter's for a box."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter

    @property
    def threaded(self) -> bool:
        """As its segmenter is."""
        return isinstance(self._segmenter, ThreadedTool) and self._segmenter.threaded

    @property
    def version(self) -> str:
        return (
            f"prop/3 opencv {cv2.__version__} size={SMALL}/{MEDIUM} noticeable={NOTICEABLE}/{COMPARABLE} "
            f"thin={THIN} angles={ANGLES} other={OTHER} sample={SAMPLE} of {self._segmenter.version}"
        )

    def __call__(self, workspace: Workspace, arguments: PropArguments) -> Observation:
        image, mask = self._target(workspace, arguments)
        output, confidence = properties(image, mask)
        return Observation(output, spoken("PROP", output), confidence=confidence, version=self.version)

    def _target(self, workspace: Workspace, arguments: PropArguments) -> tuple[Array, Array]:
        if arguments.step is None:
            image = pixels_of(workspace, arguments)
            assert arguments.box is not None  # PropArguments holds exactly one of the two
            return image, self._segmenter.mask(
                image, to_pixels(arguments.box, image.shape[1], image.shape[0])
            )
        seen = mask_of(workspace, arguments.step)
        over = {"image": seen.source, "frame": seen.frame}
        for name in arguments.model_fields_set & over.keys():
            if getattr(arguments, name) != over[name]:
                raise ToolError(f"step {arguments.step}'s mask lies over {name} {over[name]}", "bounds")
        if seen.mask is None or not seen.mask.any():
            raise ToolError(f"step {arguments.step}'s mask is empty")
        return pixels_of(workspace, Look.model_validate(over)), seen.mask


def properties(image: Array, mask: Array) -> tuple[Json, float]:
    """PROP's wire output for a bool mask [height, width] with at least one pixel, over uint8 RGB `image`,
    and how clear the shape is (0-1).

    Colour, shape, size and orientation are those of the largest piece; count and area of all.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    largest, count = _pieces(np.pad(mask[window], 1), mask.size)
    core = cv2.erode(largest.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    colours = image[window][(core if core.any() else largest)[1:-1, 1:-1]]
    share = 1000 * int(largest.sum()) / mask.size
    shape, turn, clear = outline_of(largest)
    output = {
        "colour": colour_name(colours[:: math.ceil(len(colours) / SAMPLE)]),
        "shape": shape,
        "size": "small" if share < SMALL else "medium" if share < MEDIUM else "large",
        "orientation": turn,
        "count": count,
        "area": round(1000 * float(mask.mean())),
    }
    return output, clear


def _pieces(mask: Array, whole: int) -> tuple[Array, int]:
    """(the largest separate object, how many there are of noticeable size) of a mask with an empty border,
    in an image of `whole` pixels.

    What is thinner than `THIN` neither joins two objects nor is one, unless the mask holds nothing else.
    """
    reach = max(1, round(THIN * math.sqrt(whole) / 2))
    thick = cv2.erode(mask.astype(np.uint8), _square(reach), borderValue=0)
    if not thick.any():
        thick, reach = mask.astype(np.uint8), 0
    _, labels, stats, _ = cv2.connectedComponentsWithStats(thick, connectivity=4)
    if reach:
        around = _square(2 * reach)  # gives back what the erosion took, corners too
        for piece in 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable"):
            window = _window(stats[piece], 2 * reach)
            grown = cv2.dilate((labels[window] == piece).astype(np.uint8), around).astype(bool)
            labels[window][grown & mask[window] & (labels[window] == 0)] = piece
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    first = int(areas.argmax())
    least = min(NOTICEABLE * whole, COMPARABLE * int(areas[first]))
    return labels == first, int(np.count_nonzero(areas >= least))


def _window(stat: Array, around: int) -> tuple[slice, slice]:
    """Where a component lies, with `around` pixels of room on every side."""
    x, y, width, height = stat[:4].tolist()
    return (
        slice(max(0, y - around), y + height + around),
        slice(max(0, x - around), x + width + around),
    )


def _square(reach: int) -> Array:
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
