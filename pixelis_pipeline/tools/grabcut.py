"""What stands out in a part of a small picture: two GrabCuts, and the one whose outline is better.

No weights. The first cut starts from what differs from the surroundings, the second from a core of the
box that must belong to the thing. A box is drawn around a thing so that it touches all four sides, and a
thing ends where the colour changes: the cut that does both better is taken. Where the first does, the
second is not tried.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]
Pixels = tuple[int, int, int, int]

FRAME = 0.02  # of the crop: its outermost frame counts as background where the box fills the image
ROUNDS = 2
GROUNDS = 6  # colours that the background is summed up by
MAIN = 0.1  # of the background: rarer colours in it are not its own
LEAST = 0.03  # of the box: where less is found, a cut has failed
FAINT = 10.0  # Lab distance that noise alone can make
SPECK = 0.03  # of the largest piece: smaller ones are noise
CORE, REACH = 0.65, 1.1  # of the box: the ellipse that is the thing, and the one that may be
SLACK = 0.15  # of the box's side: how far from it a thing may end and still count as touching it
STEP = 30.0  # Lab distance across an outline that leaves no doubt
CLEAR, GAIN = 0.8, 0.1  # a first cut this good stands; another must be better by so much
SURE, SMALL, WEAK = 0.78, 0.15, 0.5  # and this sharp; less where the first holds too little of its box
PARAMETERS = (
    f"frame={FRAME} rounds={ROUNDS} grounds={GROUNDS}/{MAIN} least={LEAST} faint={FAINT} speck={SPECK} "
    f"core={CORE}/{REACH} slack={SLACK} step={STEP} "
    f"clear={CLEAR}/{GAIN} sure={SURE}/{SMALL}/{WEAK}"
)


@dataclass(frozen=True, slots=True)
class Cut:
    """A mask (bool), how sharp its outline is and how well it fills its box (both 0-1)."""

    mask: Array
    sharp: float
    tight: float

    @property
    def score(self) -> float:
        return self.sharp * self.tight


def best_cut(crop: Array, box: Pixels, seeds: Array | None = None, drawn: bool = True) -> Cut:
    """The thing in a pixel box of a small RGB crop. With `seeds` (bool, over the crop), which certainly
    belong to it, only the pieces that hold one. A box that nobody has `drawn` around the thing says
    nothing of its outline: then the first cut is the answer."""
    lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(np.float32)
    inside = np.zeros(crop.shape[:2], bool)
    inside[box[1] : box[3], box[0] : box[2]] = True
    found = tidy(_first(crop, lab, inside, seeds))
    best = _measured(lab, found, box, seeds)
    # Several things may fill the box together, of which the seeds choose one.
    together = best if seeds is None else _measured(lab, found, box, None)
    if not drawn or _closed(inside) or max(best.score, together.score) >= CLEAR:
        return best
    first = best.mask
    needed = SURE if first[inside].mean() >= SMALL else WEAK
    sure = _ellipse(inside.shape, box, CORE)
    sure = sure if seeds is None else sure | seeds
    mask = _cut(crop, _ellipse(inside.shape, box, REACH) & inside, ~inside, sure)
    other = _measured(lab, tidy(mask), box, seeds, first)
    return other if other.sharp >= needed and other.score >= best.score + GAIN else best


def _closed(inside: Array) -> bool:
    """Whether the box leaves no room around it."""
    return bool(inside.mean() > 0.9)


def _first(crop: Array, lab: Array, inside: Array, seeds: Array | None) -> Array:
    """The cut (bool) that starts from what differs from the surroundings of the box.

    Where there are none, the crop's outermost frame stands for the background, except for what stands out
    there: a thing may touch the picture's edge.
    """
    ring = ~inside
    if _closed(inside):
        frame = max(1, round(FRAME * min(inside.shape)))
        ring = np.ones_like(inside)
        ring[frame:-frame, frame:-frame] = False
        inside = np.ones_like(inside)
    for guess in (_stands_out(lab, ring) & inside, inside & ~ring):
        mask = _cut(crop, guess, ring & ~guess, seeds)
        if mask[inside].mean() >= LEAST:
            break
    return mask


def _measured(lab: Array, mask: Array, box: Pixels, seeds: Array | None, known: Array | None = None) -> Cut:
    if seeds is not None:
        _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
        mask = mask & np.isin(labels, labels[seeds & mask])
    return Cut(mask, sharpness(lab, mask, known), tightness(mask, box))


def _cut(crop: Array, guess: Array, ground: Array, seeds: Array | None) -> Array:
    """GrabCut's foreground (bool), from a first guess and from what is certainly ground or thing."""
    labels = np.where(guess, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[ground] = cv2.GC_BGD
    if seeds is not None:
        labels[seeds] = cv2.GC_FGD
    things = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    if things.any() and not things.all():
        cv2.setRNGSeed(0)
        of_ground, of_thing = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(crop, labels, (0, 0, 1, 1), of_ground, of_thing, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def _ellipse(shape: tuple[int, ...], box: Pixels, share: float) -> Array:
    """The ellipse (bool) in the middle of a box, its axes `share` of the box's sides."""
    x0, y0, x1, y1 = box
    middle, axes = ((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2), ((x1 - x0) * share, (y1 - y0) * share)
    return cv2.ellipse(np.zeros(shape[:2], np.uint8), (middle, axes, 0), 1, -1).astype(bool)


def _stands_out(lab: Array, ring: Array) -> Array:
    """What lies farther from the main colours of the `ring` than most of the ring itself (bool). The
    ground between several objects then begins on the right side.

    Otsu's threshold caps this where the background is colourful; colours that only a little of the ring
    has (a neighbour, a stray mark) do not count, or an object of that colour would vanish.
    """
    ground = lab[ring]
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_MAX_ITER, 8, 0.0)
    clusters, start = min(GROUNDS, len(ground)), np.zeros((len(ground), 1), np.int32)
    _, nearest, centres = cv2.kmeans(ground, clusters, start, stop, 1, cv2.KMEANS_PP_CENTERS)
    share = np.bincount(nearest[:, 0], minlength=len(centres)) / len(ground)
    main = share >= min(MAIN, share.max())
    away = np.sqrt(((lab[:, :, None] - centres[main]) ** 2).sum(3)).min(2)
    levels = np.clip(away, 0, 255).astype(np.uint8)
    otsu, _ = cv2.threshold(levels[~ring], 0, 255, cv2.THRESH_OTSU)
    usual = float(np.percentile(levels[ring][main[nearest[:, 0]]], 98))
    return np.asarray(levels > min(otsu, max(FAINT, usual)))


def tidy(mask: Array) -> Array:
    """The mask without specks and holes."""
    kernel = np.ones((2, 2), np.uint8)  # even-sized: opposite anchors keep the mask in its place
    opened = cv2.dilate(cv2.erode(mask.astype(np.uint8), kernel, anchor=(0, 0)), kernel, anchor=(1, 1))
    outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = [cv2.drawContours(np.zeros_like(opened), [o], -1, 1, cv2.FILLED).astype(bool) for o in outlines]
    areas = [int(piece.sum()) for piece in filled]
    whole = np.zeros_like(mask)
    for piece, area in zip(filled, areas, strict=True):
        if area >= SPECK * max(areas):
            whole |= piece
    return whole


def sharpness(lab: Array, mask: Array, known: Array | None = None) -> float:
    """How much the colour (float Lab) changes across the outline of a mask: the mean over the outline of
    the distance between the means of the 5x5 neighbourhood's two sides, 1 for `STEP` or more. Where the
    mask is more than a `known` one, only the part of its outline that is new counts."""
    rim = _rim(mask)
    weight = mask.astype(np.float32)
    near, far = (cv2.boxFilter(each, -1, (5, 5), normalize=False) for each in (weight, 1 - weight))
    rim &= far >= 3
    if known is not None:
        new = rim & ~cv2.dilate(_rim(known).astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
        rim = new if new.any() else rim
    if not rim.any():
        return 0.0
    within = cv2.boxFilter(lab * weight[..., None], -1, (5, 5), normalize=False)[rim]
    without = cv2.boxFilter(lab, -1, (5, 5), normalize=False)[rim] - within
    steps = within / near[rim][:, None] - without / far[rim][:, None]
    return float(np.minimum(np.sqrt((steps**2).sum(1)) / STEP, 1).mean())


def _rim(mask: Array) -> Array:
    return mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1).astype(bool)


def tightness(mask: Array, box: Pixels) -> float:
    """How well a mask fills a box: the mean over the sides of 1 where it touches one, 0 where it ends
    `SLACK` of the box's side or more away."""
    if not mask.any():
        return 0.0
    (x0, y0, x1, y1), (left, top, right, bottom) = box, extent(mask)
    wide, high = SLACK * (x1 - x0), SLACK * (y1 - y0)
    gaps = ((left - x0) / wide, (x1 - right) / wide, (top - y0) / high, (y1 - bottom) / high)
    return float(np.mean([max(0.0, 1 - abs(gap)) for gap in gaps]))


def extent(mask: Array) -> Pixels:
    """The tight pixel box of a mask with at least one pixel (exclusive right and bottom)."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
