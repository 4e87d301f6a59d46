"""How one thing looks, learnt from its first box and kept up from frame to frame.

A correlation filter over gradient and colour channels says where the thing is (Bolme et al., "Visual object
tracking using adaptive correlation filters", 2010), taught on the thing alone and against the ground around
it (Mueller et al., "Context-aware correlation filter tracking", 2017), with the colours of thing and ground
beside it (Bertinetto et al., "Staple", 2016). A second filter over a log-polar view, in which growing is a
shift, says how large it is (Li et al., "Robust estimation of similarity transformation", 2019). Views have a
fixed size, so the cost depends neither on the frame nor on the thing.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from pixelis_pipeline.tools.correlation_filter import Filter, features, peak_of, pooling, view_of

Array = np.ndarray[Any, Any]
Box = tuple[float, float, float, float]

VIEW, CELLS = 96, 32  # pixels a view is wide, and cells that its features are pooled into
POLAR, POLAR_CELLS = 64, 32  # the same for the view that tells the size
CONTEXT = 2.6  # a view's side as a multiple of the thing's (geometric mean of its width and height)
SMALLEST = 2.0  # pixels: a smaller thing is looked for as if it were so large
SHARP = 0.1  # of the thing's size: how sharp an answer the filter is taught
MARGIN = 1.5  # cells around the box that still belong to the thing: its outline
OWN = 0.7  # how far the colours decide, within the box, what belongs to the thing
RATE, SIZE_RATE, COLOUR_RATE = 0.03, 0.03, 0.04  # how fast looks are learnt
COLOURS = 0.3  # the colours' part of a score
GROWTH = 0.6  # of a measured growth is believed at once
THUMB, FAR = 12, 192  # pixels: the thing and the picture's sides where the whole picture is searched
FAR_SCORE, FAR_PLACES = 0.3, 4
PARAMETERS = (
    f"view={VIEW}/{CELLS} polar={POLAR}/{POLAR_CELLS} context={CONTEXT} smallest={SMALLEST} sharp={SHARP} "
    f"margin={MARGIN} own={OWN} rates={RATE}/{SIZE_RATE}/{COLOUR_RATE} colours={COLOURS} growth={GROWTH} "
    f"far={THUMB}/{FAR}/{FAR_SCORE}/{FAR_PLACES}"
)

_POOL, _POLAR_POOL = pooling(VIEW, CELLS), pooling(POLAR, POLAR_CELLS)
_FROM_MIDDLE = np.abs(np.arange(CELLS) + 0.5 - CELLS / 2)


@dataclass(frozen=True, slots=True)
class Sight:
    """A place where the thing may be (its centre, pixels), how much it looks like it there (up to 1), and
    how much of that is the filter's word."""

    x: float
    y: float
    score: float
    fit: float


class Colours:
    """How far each colour (16 levels a channel) belongs to the thing rather than to its ground."""

    def __init__(self) -> None:
        self._counts: Array | None = None

    def learn(self, view: Array, inside: Array, outside: Array) -> None:
        """Take in a view where bool masks say what is the thing and what is ground."""
        cells = _colour_cells(view)
        counts = np.stack(
            [np.bincount(cells[part], minlength=4096) / max(part.sum(), 1) for part in (inside, outside)]
        ).astype(np.float32)
        self._counts = (
            counts if self._counts is None else self._counts + COLOUR_RATE * (counts - self._counts)
        )
        thing, ground = self._counts
        self._share = (thing + 5e-4) / (thing + ground + 1e-3)

    def share(self, view: Array) -> Array:
        """float32 like a view: how likely a pixel's colour is the thing's; .5 for an unknown one."""
        return np.asarray(self._share[_colour_cells(view)])


def _colour_cells(view: Array) -> Array:
    level = (view >> 4).astype(np.int32)
    return np.asarray(level[..., 0] << 8 | level[..., 1] << 4 | level[..., 2])


class Appearance:
    """What is known of the thing in a box (pixels of `frame`, uint8 RGB): filters, colours, size. A bool mask
    over the frame says more exactly which colours are its own."""

    def __init__(self, frame: Array, box: Box, mask: Array | None = None) -> None:
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        self._size = (max(box[2] - box[0], SMALLEST), max(box[3] - box[1], SMALLEST))
        self._scale = 1.0
        mean = float(np.sqrt(self._size[0] * self._size[1]))
        side = max(CONTEXT * mean, 1.5 * max(self._size))
        self._cell = side / CELLS  # in the first frame's pixels; likewise below
        self._polar_pixel = 1.4 * float(np.hypot(*self._size)) / POLAR
        self._in_view = tuple(n * VIEW / side for n in self._size)  # width, height
        self._prepare_masks(frame, x, y, mask)
        hann = np.hanning(CELLS + 2)[1:-1]
        flat = np.minimum(2 * hann, 1).astype(np.float32)  # a full hann window hides what moves fast
        self._where = Filter(max(SHARP * mean / self._cell, 0.6), np.outer(flat, flat), RATE)
        rho = np.hanning(POLAR_CELLS + 2)[1:-1, None].astype(np.float32)
        self._large = Filter(1.0, rho.repeat(POLAR_CELLS, 1), SIZE_RATE)
        self._colours = Colours()
        wide, high = (max(round(24 * n / mean), 3) for n in self._size)
        self._thumb = cv2.cvtColor(view_of(frame, x, y, mean / 24, (wide, high)), cv2.COLOR_RGB2LAB)
        self.learn(frame, x, y)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the thing as last seen, pixels."""
        return self._size[0] * self._scale, self._size[1] * self._scale

    def _prepare_masks(self, frame: Array, x: float, y: float, mask: Array | None) -> None:
        away = np.abs(np.arange(VIEW) + 0.5 - VIEW / 2)
        half_wide, half_high = (n / 2 for n in self._in_view)
        self._inside = (away[:, None] / half_high) ** 2 + (away[None] / half_wide) ** 2 <= 0.9
        self._outside = (away[:, None] > half_high * 1.1) | (away[None] > half_wide * 1.1)
        if mask is not None:
            own = view_of(mask.astype(np.uint8), x, y, self._cell * CELLS / VIEW, (VIEW, VIEW)) > 0
            self._inside = own if own.any() else self._inside
        edges = (
            np.clip(half / VIEW * CELLS / MARGIN + 1.5 - _FROM_MIDDLE / MARGIN, 0, 1)
            for half in (half_high, half_wide)
        )
        self._box = np.outer(*edges).astype(np.float32)

    def learn(self, frame: Array, x: float, y: float) -> None:
        """Take in how the thing looks at (x, y) of a frame where it is surely seen."""
        view = self._view(frame, x, y)
        self._colours.learn(view, self._inside, self._outside)
        share = cv2.resize(self._colours.share(view), (CELLS, CELLS), interpolation=cv2.INTER_AREA)
        share = np.minimum(1.3 * cv2.GaussianBlur(share, (3, 3), 0), 1)
        self._where.learn(features(view, _POOL, _POOL), self._box * (1 - OWN + OWN * share))
        self._large.learn(self._polar(frame, x, y), self._large.window)

    def sights(self, frame: Array, x: float, y: float, least: float, most: int = 4) -> list[Sight]:
        """Where the thing may be around (x, y), best first; none under a score of `least`, or under half
        of the best."""
        view = self._view(frame, x, y)
        fits = self._where.respond(features(view, _POOL, _POOL))
        wide, high = (max(round(n), 1) for n in self._in_view)
        owned = cv2.blur(self._colours.share(view), (wide, high), borderType=cv2.BORDER_REPLICATE)
        step, middle = VIEW // CELLS, CELLS // 2
        owned = (
            cv2.warpAffine(  # cell k of `fits` is a shift by k - middle cells: to the view's middle plus that
                owned,
                np.array([[1 / step, 0, 0.5 / step], [0, 1 / step, 0.5 / step]]),
                (CELLS, CELLS),
                borderMode=cv2.BORDER_REPLICATE,
            )
        )
        scores = (1 - COLOURS) * fits + COLOURS * owned
        tops = (scores == cv2.dilate(scores, np.ones((7, 7)))) & (scores > max(least, 0.5 * scores.max()))
        found, cell = [], self._cell * self._scale
        for row, column in zip(*np.nonzero(tops), strict=True):
            r, c = peak_of(scores, int(row), int(column))
            score, fit = float(scores[row, column]), float(fits[row, column])
            found.append(Sight(x + (c - middle) * cell, y + (r - middle) * cell, score, fit))
        return sorted(found, key=lambda sight: -sight.score)[:most]

    def far(self, frame: Array, x: float, y: float) -> list[tuple[float, float]]:
        """Places in the whole picture (of a large one, as much around (x, y) as is affordable) that are
        worth a look, best first."""
        height, width = frame.shape[:2]
        pixel = max(float(np.sqrt(self.size[0] * self.size[1])) / THUMB, 1.0)
        columns, rows = min(int(width / pixel), FAR), min(int(height / pixel), FAR)
        wide, high = (max(round(n / pixel), 3) for n in self.size)
        if columns < wide + 2 or rows < high + 2:
            return []
        x = min(max(x, columns * pixel / 2), width - columns * pixel / 2)
        y = min(max(y, rows * pixel / 2), height - rows * pixel / 2)
        small = view_of(frame, x, y, pixel, (columns, rows))
        thumb = cv2.resize(self._thumb, (wide, high), interpolation=cv2.INTER_AREA)
        alike = cv2.matchTemplate(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), thumb, cv2.TM_CCOEFF_NORMED)
        owned = cv2.blur(self._colours.share(small), (wide, high), borderType=cv2.BORDER_REPLICATE)
        owned = owned[high // 2 :, wide // 2 :][: alike.shape[0], : alike.shape[1]]
        scores = 0.5 * np.nan_to_num(alike) + 0.5 * owned
        tops = (scores == cv2.dilate(scores, np.ones((high | 1, wide | 1)))) & (scores > FAR_SCORE)
        r, c = np.nonzero(tops)
        best = np.argsort(-scores[r, c], kind="stable")[:FAR_PLACES]
        return [
            (x + (c[i] + wide / 2 - columns / 2) * pixel, y + (r[i] + high / 2 - rows / 2) * pixel)
            for i in best
        ]

    def grow(self, frame: Array, x: float, y: float) -> None:
        """Take over how large the thing is at (x, y)."""
        answer = self._large.respond(self._polar(frame, x, y))
        row, column = np.unravel_index(answer.argmax(), answer.shape)
        shift = peak_of(answer, int(row), int(column))[0] - POLAR_CELLS // 2
        if abs(shift) <= 3:  # more in one frame is a slip
            self._scale *= (POLAR / 2) ** (GROWTH * shift / POLAR_CELLS)

    def _view(self, frame: Array, x: float, y: float) -> Array:
        return view_of(frame, x, y, self._cell * CELLS / VIEW * self._scale, (VIEW, VIEW))

    def _polar(self, frame: Array, x: float, y: float) -> Array:
        """Features of the log-polar view, rows from the middle outwards."""
        view = view_of(frame, x, y, self._polar_pixel * self._scale, (POLAR, POLAR))
        middle = (POLAR - 1) / 2
        how = cv2.INTER_LINEAR | cv2.WARP_POLAR_LOG
        polar = cv2.warpPolar(view, (POLAR, POLAR), (middle, middle), POLAR / 2, how)
        return features(polar, _POLAR_POOL, _POLAR_POOL).transpose(0, 2, 1)
