"""Pictures for pre-training, with what stands in each cell of the grid that the policy sees."""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from pixelis_pipeline.agent.pixels import GRID
from pixelis_pipeline.tools.contract import to_wire
from pixelis_pipeline.world.scene import Box, Scene, Thing, draw_scene, tight_box
from pixelis_pipeline.world.shapes import COLOURS, SHAPES

Array = np.ndarray[Any, Any]
COVERED = 0.2  # the least share of a cell that a thing must cover to be its content
KINDS = ("no", *SHAPES, "label")  # the words for what can stand in a cell
TINTS = ("no", *COLOURS)


@dataclass(frozen=True, slots=True)
class Cells:
    """Dense targets over GRID * GRID cells, int64: `kind` and `tint` [cells] (0: nothing), `box` [cells, 4]
    in wire units. A label's cells have the colour of the thing it belongs to."""

    kind: Array
    tint: Array
    box: Array


def draw(rng: np.random.Generator, progress: float) -> Scene:
    """A scene for the moment `progress` (0-1) of the run: few things come first; photographs lie behind half
    of them from the start. One in five holds things of few shapes, which may be alike."""
    most = 2 + round(4 * min(1.0, progress / 0.3))
    side = int(rng.choice((224, 256, 320)))
    wide, high = (int(side * rng.uniform(0.85, 1.2)) for _ in range(2))
    while True:
        names = list(rng.choice(SHAPES, 3, replace=False))
        alike = [(str(rng.choice(names)), str(rng.choice(COLOURS))) for _ in range(rng.integers(2, 3 + most))]
        scene = draw_scene(
            rng,
            width=wide,
            height=high,
            things=(1, most),
            kinds=alike if rng.random() < 0.2 else None,
            apart=bool(rng.random() < 0.5),
            ground="photograph" if rng.random() < 0.5 else "any",
            labels=float(rng.choice((0.0, 0.6, 1.0))),
            clutter=int(rng.integers(0, 15)),
        )
        if scene.things:
            return scene


def cells(scene: Scene) -> Cells:
    """What stands in each cell of the scene."""
    height, width = scene.image.shape[:2]
    cover = np.full((GRID, GRID), COVERED, np.float32)
    kind, tint = np.zeros((2, GRID, GRID), np.int64)
    box = np.zeros((GRID, GRID, 4), np.int64)
    for thing in scene.things:
        claims = [(thing.mask.astype(np.float32), thing.box, 1 + SHAPES.index(thing.shape))]
        if thing.label_box is not None:
            x0, y0, x1, y1 = thing.label_box
            plate = np.zeros((height, width), np.float32)
            plate[y0:y1, x0:x1] = 1
            claims.append((plate, thing.label_box, len(KINDS) - 1))
        for mask, place, number in claims:
            share = cv2.resize(mask, (GRID, GRID), interpolation=cv2.INTER_AREA)
            won = share > cover
            cover[won], kind[won] = share[won], number
            tint[won] = 1 + COLOURS.index(thing.colour)
            box[won] = to_wire(place, width, height)
    return Cells(kind.ravel(), tint.ravel(), box.reshape(-1, 4))


def enlarged(scene: Scene, box: Box) -> Scene:
    """What of a scene stands in a pixel box, as a scene of its own; a thing that is cut off there ends there.
    Of a label that is cut off nothing is told."""
    left, top, right, bottom = box
    kept: list[Thing] = []
    for thing in scene.things:
        mask = thing.mask[top:bottom, left:right]
        if not mask.any():
            continue
        plate = None
        if thing.label_box is not None:
            x0, y0, x1, y1 = thing.label_box
            if left <= x0 and top <= y0 and x1 <= right and y1 <= bottom:
                plate = (x0 - left, y0 - top, x1 - left, y1 - top)
        area = int(np.count_nonzero(mask))
        kept.append(replace(thing, mask=mask, box=tight_box(mask), area=area, label_box=plate))
    return Scene(np.ascontiguousarray(scene.image[top:bottom, left:right]), tuple(kept), scene.ground)
