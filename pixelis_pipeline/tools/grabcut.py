"""What stands out in a part of a small picture: two coarse GrabCuts, the better of them made fine.

No weights. The first cut starts from what differs from the surroundings, the second from a core of the
box that must belong to the thing. A box is drawn around a thing so that it touches all four sides, and a
thing ends where the colour changes: the cut that does both better is taken. Where the first does, the
second is not tried; a first that is sharp and no speck gives way only to a second that is nearly perfect,
for a box may be loose, or hold several things. Only a band along the outline is cut again at the crop's
own size, by the colours that the coarse cut has learned: most of GrabCut's time goes with the pixels that
it is free to label.
"""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from pixelis_pipeline.tools.cut_quality import HOLE, SLACK, SPECK, STEP, sharpness, tidy, tightness

Array = np.ndarray[Any, Any]
Pixels = tuple[int, int, int, int]

FRAME = 0.02  # of the crop: its outermost frame counts as background where the box fills the image
COARSE = 96  # pixels: the longer side of the crop in which the thing is sought
BAND = 3  # pixels of the crop to either side of a coarse outline that are cut again
ROUNDS = 2
GROUNDS = 6  # colours that the background is summed up by
LOST, LIKE = 0.05, 0.85  # of what a cut kept, in area and in difference from the ground: it lost no noise
MAIN = 0.1  # of the background: rarer colours in it are not its own
LEAST = 0.03  # of the box: where less is found, a cut has failed
FAINT = 10.0  # Lab distance that noise alone can make
CORE, REACH = 0.65, 1.1  # of the box: the ellipse that is the thing, and the one that may be
CLEAR, GAIN = 0.8, 0.1  # a first cut this good stands; another must be better by so much
SURE, SMALL, WEAK = 0.78, 0.15, 0.5  # and this sharp; less where the first holds too little of its box
FIRM, CRISP = 0.85, 0.95  # a first that holds enough and is so crisp gives way to this score only
COMPARABLE = 0.3  # of the largest piece: such pieces are several things, and a second is not tried
PARAMETERS = (
    f"coarse={COARSE} band={BAND} frame={FRAME} rounds={ROUNDS} grounds={GROUNDS}/{MAIN} least={LEAST} "
    f"faint={FAINT} speck={SPECK} hole={HOLE} core={CORE}/{REACH} slack={SLACK} step={STEP} "
    f"lost={LOST}/{LIKE} clear={CLEAR}/{GAIN} sure={SURE}/{SMALL}/{WEAK} firm={FIRM}/{CRISP}/{COMPARABLE}"
)


@dataclass(frozen=True, slots=True)
class Cut:
    """A mask (bool), how sharp its outline is and how well it fills its box (both 0-1), and GrabCut's
    colours of the ground and of the thing, if any were learned."""

    mask: Array
    sharp: float
    tight: float
    colours: tuple[Array, Array] | None = None

    @property
    def score(self) -> float:
        return self.sharp * self.tight


def best_cut(crop: Array, box: Pixels, seeds: Array | None = None, drawn: bool = True) -> Cut:
    """The thing in a pixel box of a small RGB crop. With `seeds` (bool, over the crop), which certainly
    belong to it, only the pieces that hold one. A box that nobody has `drawn` around the thing says
    nothing of its outline: then the first cut is the answer. `sharp` and `tight` are the coarse cut's."""
    scale = COARSE / max(crop.shape[:2])
    if scale >= 1:
        return _coarse(crop, box, seeds, drawn)
    high, wide = (max(8, round(side * scale)) for side in crop.shape[:2])
    small = cv2.resize(crop, (wide, high), interpolation=cv2.INTER_AREA)
    few = None
    if seeds is not None:
        few = cv2.resize(seeds.astype(np.float32), (wide, high), interpolation=cv2.INTER_AREA) > 0
    cut = _coarse(small, _scaled(box, wide / crop.shape[1], high / crop.shape[0], wide, high), few, drawn)
    return replace(cut, mask=_refined(crop, _inside(crop, box), cut, seeds))


def _scaled(box: Pixels, sx: float, sy: float, wide: int, high: int) -> Pixels:
    """The box in a picture of another size; at least one pixel of it."""
    x, y = min(round(box[0] * sx), wide - 1), min(round(box[1] * sy), high - 1)
    return x, y, max(x + 1, round(box[2] * sx)), max(y + 1, round(box[3] * sy))


def _inside(crop: Array, box: Pixels) -> Array:
    inside = np.zeros(crop.shape[:2], bool)
    inside[box[1] : box[3], box[0] : box[2]] = True
    return inside


def _refined(crop: Array, inside: Array, cut: Cut, seeds: Array | None) -> Array:
    """A coarse cut's mask over the whole crop, cut again along its outline."""
    high, wide = crop.shape[:2]
    large = cv2.resize(cut.mask.astype(np.float32), (wide, high), interpolation=cv2.INTER_LINEAR) > 0.5
    if cut.colours is None or not large.any():
        return np.asarray(large)
    band, level = np.ones((2 * BAND + 1, 2 * BAND + 1), np.uint8), large.astype(np.uint8)
    labels = np.where(large, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.erode(level, band, borderValue=1) > 0] = cv2.GC_FGD
    labels[cv2.dilate(level, band) == 0] = cv2.GC_BGD
    if not _closed(inside):
        labels[~inside] = cv2.GC_BGD
    if seeds is not None:
        labels[seeds] = cv2.GC_FGD
    ground, thing = cut.colours
    cv2.grabCut(crop, labels, (0, 0, 1, 1), ground, thing, 1, cv2.GC_EVAL_FREEZE_MODEL)
    fine = tidy(_things(labels))
    return fine if fine.any() else np.asarray(large)


def _coarse(crop: Array, box: Pixels, seeds: Array | None, drawn: bool) -> Cut:
    """The better of the two cuts, at the size of `crop`."""
    lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(np.float32)
    inside = _inside(crop, box)
    twice = drawn and not _closed(inside)
    found, colours = _first(crop, lab, inside, seeds, twice)
    best = _measured(lab, found, colours, box, seeds)
    # Several things may fill the box together, of which the seeds choose one.
    together = best if seeds is None else _measured(lab, found, colours, box, None)
    if not twice or max(best.score, together.score) >= CLEAR:
        return best
    share = best.mask[inside].mean()
    crisp = share >= SMALL and best.sharp >= CRISP
    if crisp and _several(together.mask):
        return best
    sure = _ellipse(inside.shape, box, CORE)
    sure = sure if seeds is None else sure | seeds
    mask, colours = _cut(crop, _ellipse(inside.shape, box, REACH) & inside, ~inside, sure)
    other = _measured(lab, mask, colours, box, seeds, best.mask)
    least = max(best.score + GAIN, FIRM if crisp else 0.0)
    return other if other.sharp >= (SURE if share >= SMALL else WEAK) and other.score >= least else best


def _closed(inside: Array) -> bool:
    """Whether the box leaves no room around it."""
    return bool(inside.mean() > 0.9)


def _several(mask: Array) -> bool:
    """Whether a mask holds more than one piece of comparable size."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = np.sort(stats[1:, cv2.CC_STAT_AREA])
    return len(areas) > 1 and bool(areas[-2] >= COMPARABLE * areas[-1])


def _first(
    crop: Array, lab: Array, inside: Array, seeds: Array | None, twice: bool
) -> tuple[Array, tuple[Array, Array] | None]:
    """The cut that starts from what differs from the surroundings of the box; else, where it is the only
    one, from the whole box.

    Where there are no surroundings, the crop's outermost frame stands for them, except for what stands out
    there: a thing may touch the picture's edge.
    """
    ring = ~inside
    if _closed(inside):
        frame = max(1, round(FRAME * min(inside.shape)))
        ring = np.ones_like(inside)
        ring[frame:-frame, frame:-frame] = False
        inside = np.ones_like(inside)
    out, levels = _stands_out(lab, ring)
    guess = out & inside
    mask, colours = _cut(crop, guess, ring & ~guess, seeds)
    if twice and mask[inside].mean() >= LEAST:
        mask = _with_lost(lab, mask, guess, levels)
    if twice or mask[inside].mean() >= LEAST:
        return mask, colours
    return _cut(crop, inside & ~ring, ring, seeds)


def _with_lost(lab: Array, mask: Array, guess: Array, levels: Array) -> Array:
    """The mask (bool), and the pieces of the first guess that the cut lost though they are as sharp and
    stand out as much as what it kept: GrabCut's few colours of the ground may hold a stray mark's."""
    kept = tidy(mask)
    if not kept.any():
        return mask
    least, strong = LOST * int(kept.sum()), LIKE * float(levels[kept].mean())
    kernel = np.ones((3, 3), np.uint8)
    apart = cv2.dilate(kept.astype(np.uint8), kernel) == 0
    rest = cv2.morphologyEx((guess & apart).astype(np.uint8), cv2.MORPH_OPEN, kernel)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(rest, connectivity=4)
    for piece in range(1, count):
        if stats[piece, cv2.CC_STAT_AREA] >= least:
            here = labels == piece
            if levels[here].mean() >= strong and sharpness(lab, here) >= CRISP:
                mask = mask | here
    return mask


def _measured(
    lab: Array,
    mask: Array,
    colours: tuple[Array, Array] | None,
    box: Pixels,
    seeds: Array | None,
    known: Array | None = None,
) -> Cut:
    mask = tidy(mask)
    if seeds is not None:
        _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
        mask = mask & np.isin(labels, labels[seeds & mask])
    return Cut(mask, sharpness(lab, mask, known), tightness(mask, box), colours)


def _cut(
    crop: Array, guess: Array, ground: Array, seeds: Array | None
) -> tuple[Array, tuple[Array, Array] | None]:
    """GrabCut's foreground (bool), from a first guess and from what is certainly ground or thing; and its
    colours of both, unless there was nothing to tell apart."""
    labels = np.where(guess, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[ground] = cv2.GC_BGD
    if seeds is not None:
        labels[seeds] = cv2.GC_FGD
    things = _things(labels)
    if not things.any() or things.all():
        return things, None
    cv2.setRNGSeed(0)
    colours = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(crop, labels, (0, 0, 1, 1), *colours, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return _things(labels), colours


def _things(labels: Array) -> Array:
    return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))


def _ellipse(shape: tuple[int, ...], box: Pixels, share: float) -> Array:
    """The ellipse (bool) in the middle of a box, its axes `share` of the box's sides."""
    x0, y0, x1, y1 = box
    middle, axes = ((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2), ((x1 - x0) * share, (y1 - y0) * share)
    return cv2.ellipse(np.zeros(shape[:2], np.uint8), (middle, axes, 0), 1, -1).astype(bool)


def _stands_out(lab: Array, ring: Array) -> tuple[Array, Array]:
    """What lies farther from the main colours of the `ring` than most of the ring itself (bool), and how
    far everything lies (uint8 Lab distance). The ground between several objects then begins on the right
    side.

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
    return levels > min(otsu, max(FAINT, usual)), levels
