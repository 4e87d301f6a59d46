"""Things that come and go: pieces of a clip's frames that differ from the ground, linked over time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from pixelis_pipeline.media.colour import CHROMA_FLOOR, COLOURS, HUES
from pixelis_pipeline.tools import outlines
from pixelis_pipeline.tools.outlines import outline_of

Array = np.ndarray[Any, Any]

DIFFERS = 26  # grey levels in any channel by which a thing stands out from the ground
LEAST_AREA, FULL_AREA = 0.0012, 0.004  # shares of the frame: nothing smaller; from here on with full weight
BORDER = 6.0  # degrees by which a colour's pixels may lie beyond the border to the next colour
DARK, LIGHT = 64, 184  # the value up to which colourless pixels are black, from which on they are white
NEAR, GROWTH = 1.6, 2.5  # sides of itself that a thing may jump between samples, and how its area may change
LEAP = 0.7  # sides: beyond such a jump, what has another outline is another thing
PATIENCE = 2  # samples for which a thing may be hidden
NAMED = 5  # of a thing's sightings, the largest, whose outlines are named
OTHER_SHAPE = 0.35  # weight of a thing of the right colour with another outline
PIECES = 12  # of a frame, the largest, that are looked at

PARAMETERS = (
    f"things={DIFFERS}/{LEAST_AREA}/{FULL_AREA}/{BORDER}/{DARK}/{LIGHT}/{NEAR}/{GROWTH}/{LEAP}/{PATIENCE}/{NAMED}"
    f"/{OTHER_SHAPE}/{PIECES} outlines={outlines.ANGLES}/{outlines.OTHER}"
)


@dataclass(eq=False)
class Sighting:
    """One piece in one sample: its centre in the picture and over the ground (px), its mask [h, w] with a
    rim of one pixel, its area (px), the share of it that has the colour asked for, and whether it touches
    the picture's border."""

    at: int
    centre: Array
    grounded: Array
    mask: Array
    area: int
    purity: float
    touches: bool

    @cached_property
    def outline(self) -> str:
        """The name of its shape, or "other"."""
        return outline_of(self.mask)[0]


@dataclass(slots=True, eq=False)
class Thing:
    """Sightings of one thing, in order of time, and how well it fits the query (0-1)."""

    seen: list[Sighting] = field(default_factory=list)
    fit: float = 0.0


def likeness(frame: Array, colour: str) -> tuple[Array, Array]:
    """For uint8 RGB [height, width, 3]: where a pixel may pass for `colour`, and where that is its nearest
    name (both uint8 0/1 [height, width])."""
    hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV_FULL)
    hue, saturation, value = cv2.split(hsv)
    vivid: Array = (cv2.multiply(saturation, value, scale=1 / 255) >= CHROMA_FLOOR * 255).astype(np.uint8)
    if colour in HUES:
        loose, strict = (np.asarray(cv2.LUT(hue, table)) for table in _tables(colour))
        return loose & vivid, strict & vivid
    dull = 1 - vivid
    if colour == "black":
        dull &= (value <= DARK).astype(np.uint8)
    elif colour == "white":
        dull &= (value >= LIGHT).astype(np.uint8)
    else:
        dull &= ((value > DARK) & (value < LIGHT)).astype(np.uint8)
    return dull, dull


def _tables(colour: str) -> tuple[Array, Array]:
    """Which of the 256 hues may pass for a palette colour, and which are nearest to it."""
    hues = np.arange(256)[:, None] * (360 / 256)
    away = np.abs(hues - np.array(list(HUES.values())))
    away = np.minimum(away, 360 - away)
    mine = away[:, COLOURS.index(colour)]
    nearest = away.min(1)
    # A hue half-way between two anchors is equally far from both: 2 * BORDER beyond it is BORDER past it.
    return (mine <= nearest + 2 * BORDER).astype(np.uint8), (mine <= nearest).astype(np.uint8)


def sightings(frame: Array, behind: Array | None, colour: str, at: int, place: Array) -> list[Sighting]:
    """The pieces of `frame` (uint8 RGB) that differ from the ground `behind` (not asked where it is None)
    and have `colour` ("" for any), largest first."""
    height, width = frame.shape[:2]
    like, nearest = likeness(frame, colour) if colour else (np.ones((height, width), np.uint8),) * 2
    mask = like
    if behind is not None:
        apart = cv2.absdiff(frame, behind)
        red, green, blue = cv2.split(apart)
        _, stands = cv2.threshold(cv2.max(cv2.max(red, green), blue), DIFFERS, 1, cv2.THRESH_BINARY)
        mask = like & stands
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
    large = [k for k in range(1, count) if stats[k, cv2.CC_STAT_AREA] >= LEAST_AREA * height * width]
    large.sort(key=lambda k: -int(stats[k, cv2.CC_STAT_AREA]))
    found = []
    for k in large[:PIECES]:
        x, y, w, h, area = (int(v) for v in stats[k])
        piece = labels[y : y + h, x : x + w] == k
        purity = float(nearest[y : y + h, x : x + w][piece].mean())
        touches = x == 0 or y == 0 or x + w == width or y + h == height
        found.append(Sighting(at, centres[k], centres[k] + place, np.pad(piece, 1), area, purity, touches))
    return found


def linked(samples: Sequence[Sequence[Sighting]]) -> list[Thing]:
    """Things, from the sightings of each sample: the nearest pairs of one sample and the next are the same
    thing, where neither the place (in the picture or over the ground) nor the area changes too much."""
    things: list[Thing] = []
    for at, seen in enumerate(samples):
        alive = [thing for thing in things if at - thing.seen[-1].at <= PATIENCE + 1]
        pairs = sorted(
            (cost, a, b)
            for a, thing in enumerate(alive)
            for b, sighting in enumerate(seen)
            if (cost := _step(thing.seen[-1], sighting)) <= NEAR
        )
        taken_a: set[int] = set()
        taken_b: set[int] = set()
        for _, a, b in pairs:
            if a not in taken_a and b not in taken_b:
                alive[a].seen.append(seen[b])
                taken_a.add(a)
                taken_b.add(b)
        things.extend(Thing([sighting]) for b, sighting in enumerate(seen) if b not in taken_b)
    return things


def _step(before: Sighting, after: Sighting) -> float:
    """How far a thing has come in sides of itself; infinite where the areas do not go together."""
    if not 1 / GROWTH <= after.area / before.area <= GROWTH and not (before.touches or after.touches):
        return math.inf
    away = min(math.dist(before.centre, after.centre), math.dist(before.grounded, after.grounded))
    sides = away / (max(before.area, after.area) * (after.at - before.at)) ** 0.5
    return math.inf if LEAP < sides <= NEAR and before.outline != after.outline else sides


def fitted(things: Sequence[Thing], shape: str, pixels: int) -> None:
    """Set each thing's `fit`: purity of colour, size, how long it is seen, and what its outline is called."""
    for thing in things:
        purity = float(np.mean([sighting.purity for sighting in thing.seen]))
        area = float(np.median([sighting.area for sighting in thing.seen])) / pixels
        lasting = (0.5, 0.85, 1.0)[min(len(thing.seen), 3) - 1]
        fit = purity * min(1.0, area / FULL_AREA) * lasting
        if shape and fit > 0.1:
            whole = [s for s in thing.seen if not s.touches] or thing.seen
            best = sorted(whole, key=lambda s: (-s.area, s.at))[:NAMED]
            votes = float(np.mean([sighting.outline == shape for sighting in best]))
            fit *= OTHER_SHAPE + (1 - OTHER_SHAPE) * votes
        thing.fit = fit
