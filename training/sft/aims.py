"""What the auxiliary heads are to say: the outputs that replay got back for a step, as arrays.

Four kinds (specification section 3): the box that SEG or TRK found, the span of time that TEMP found, SEG's
mask, and PROP's properties. OCR and ZOOM have none: what they return is words, or nothing new.
"""

from typing import Any, Literal

import cv2
import numpy as np

from pixelis_pipeline.media.colour import COLOURS, GREY
from pixelis_pipeline.records import Media, Step
from pixelis_pipeline.tools.contract import WIRE
from pixelis_pipeline.tools.masks import decode
from pixelis_pipeline.tools.outlines import SYMMETRY

Array = np.ndarray[Any, Any]
Kind = Literal["box", "span", "mask", "properties"]
Aims = dict[Kind, Array]

GRID = 16  # cells a side of the mask that a head draws
MOST = 9  # a higher count is taken for this one
UNKNOWN = -100  # the class of a word that PROP's own backend never says; cross-entropy leaves it out
PROPERTIES: dict[str, tuple[Any, ...]] = {
    "colour": (*COLOURS, GREY),
    "shape": (*SYMMETRY, "other"),
    "size": ("small", "medium", "large"),
    "count": tuple(range(MOST + 1)),
}


def aims(step: Step, medium: Media) -> Aims:
    """The targets of one replayed, valid step on a medium; none where its action has none.

    `box` float32 [4] left, top, right, bottom in shares of the picture (TRK's is where the thing was last
    seen), `span` float32 [2] in shares of the video, `mask` float32 [GRID, GRID] share of each cell that is
    covered, `properties` int64 [4] classes in the order of PROPERTIES. ValueError for a mask that is none.
    """
    found = step.replayed
    match step.action.name:
        case "SEG":
            small = cv2.resize(
                decode(found["mask"]).astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA
            )
            return {"box": _box(found["box"]), "mask": small}
        case "TRK":
            seen = [box for box in found["boxes"] if box is not None]
            return {"box": _box(seen[-1])} if seen else {}
        case "TEMP" if medium.frames and medium.fps > 0:
            span = np.array([found["start"], found["end"]], np.float32)
            return {"span": (span * medium.fps / medium.frames).clip(0, 1)}
        case "PROP":
            said = found | {"count": min(found["count"], MOST)}
            classes = [
                words.index(said[name]) if said[name] in words else UNKNOWN
                for name, words in PROPERTIES.items()
            ]
            return {"properties": np.array(classes)}
    return {}


def _box(wire: list[int]) -> Array:
    return np.array(wire, np.float32) / WIRE
