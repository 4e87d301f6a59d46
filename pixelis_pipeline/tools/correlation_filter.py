"""Views of a frame, their features, and a correlation filter over them."""

from typing import Any

import cv2
import numpy as np
from scipy import fft

Array = np.ndarray[Any, Any]

BINS = 8  # directions of gradients
FLOOR = 4.0  # grey levels: weaker gradients are noise
COLOUR_GAIN = 1 / 128  # colours beside gradients
GROUND = 0.5  # how much the filter must not answer to the ground
RIDGE = 0.01
FIRST = 0.3  # of the filter stays what the first frame taught
PARAMETERS = f"bins={BINS} floor={FLOOR} gain={COLOUR_GAIN} ground={GROUND} ridge={RIDGE} first={FIRST}"

_TURNS = np.arange(BINS) * 2 * np.pi / BINS
_DIRECTIONS = np.stack([np.cos(_TURNS), np.sin(_TURNS)], 1).astype(np.float32)


def view_of(frame: Array, x: float, y: float, pixel: float, size: tuple[int, int]) -> Array:
    """The part of `frame` (uint8 [height, width] or [height, width, 3]) around (x, y) as a view of `size`
    (columns, rows), each pixel of which is `pixel` of the frame's wide. Beyond the frame its edge goes on."""
    columns, rows = size
    step = int(pixel)
    if step > 1:  # average first, or what is skipped would alias
        spans = []
        for at, half, length in ((x, columns / 2, frame.shape[1]), (y, rows / 2, frame.shape[0])):
            blocks = max(length // step, 1)
            first = min(max(int((at - half * pixel) / step) - 1, 0), blocks - 1)
            spans.append((first * step, min(int(2 * half * pixel / step) + 4, blocks - first)))
        (left, wide), (top, high) = spans
        part = frame[top : top + high * step, left : left + wide * step]
        frame = cv2.resize(part, (wide, high), interpolation=cv2.INTER_AREA)
        x, y, pixel = (x - left) / step, (y - top) / step, pixel / step
    zoom = 1 / pixel
    to_x, to_y = (n / 2 - 0.5 + 0.5 * zoom - zoom * at for n, at in ((columns, x), (rows, y)))
    matrix = np.array([[zoom, 0, to_x], [0, zoom, to_y]])
    return cv2.warpAffine(frame, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def pooling(size: int, cells: int) -> Array:
    """float32 [cells, size]: overlapping triangular weights, as HOG spreads a pixel over its cells."""
    step = size / cells
    middles = (np.arange(cells)[:, None] + 0.5) * step
    near = np.maximum(1 - np.abs(np.arange(size)[None] + 0.5 - middles) / step, 0)
    return np.asarray(near / near.sum(1, keepdims=True), np.float32)


def features(view: Array, rows: Array, columns: Array) -> Array:
    """float32 [BINS + 3, cells, cells] of a uint8 RGB view: gradients by direction, relative to how strong
    they are around, and Lab colour. `rows` and `columns` are pooling weights."""
    lab = cv2.cvtColor(view, cv2.COLOR_RGB2LAB).astype(np.float32)
    gx = cv2.Sobel(lab, cv2.CV_32F, 1, 0, ksize=1)
    gy = cv2.Sobel(lab, cv2.CV_32F, 0, 1, ksize=1)
    power = gx * gx + gy * gy
    light = power[..., 0] >= np.maximum(power[..., 1], power[..., 2])
    first = power[..., 1] >= power[..., 2]
    gx, gy = (np.where(light, g[..., 0], np.where(first, g[..., 1], g[..., 2])) for g in (gx, gy))
    along = _DIRECTIONS @ np.stack([gx.ravel(), gy.ravel()])
    np.maximum(along, 0, out=along)
    along *= along
    along /= np.sqrt(gx * gx + gy * gy).ravel() + 1e-6
    pooled = rows @ along.reshape(BINS, *view.shape[:2]) @ columns.T
    pooled /= cv2.blur(np.sqrt((pooled * pooled).sum(0)), (3, 3), borderType=cv2.BORDER_REPLICATE) + FLOOR
    colour = (rows @ lab.transpose(2, 0, 1) @ columns.T - 128) * COLOUR_GAIN
    return np.concatenate([pooled, colour])


class Filter:
    """Where a thing stands in a view, against where it stood when the filter was taught: in the middle.

    `sharp` (cells) is how sharp the answer is, `window` (float32 [cells, cells]) what a view is weighted by,
    `rate` how fast new looks replace old ones.
    """

    def __init__(self, sharp: float, window: Array, rate: float) -> None:
        self.window, self._rate = window, rate
        away = [np.minimum(np.arange(n), n - np.arange(n)) / sharp for n in window.shape]
        answer = np.exp(-0.5 * (away[0][:, None] ** 2 + away[1][None] ** 2))
        self._answer = fft.rfft2(answer.astype(np.float32))
        self._first: tuple[Array, Array] | None = None

    def learn(self, seen: Array, thing: Array) -> None:
        """Take in a view's features; `thing` (0-1 a cell) says which of them are the thing's."""
        own, around = fft.rfft2(seen * thing), fft.rfft2(seen * (self.window * (1 - thing)))
        taught = (np.conj(own) * self._answer, _power(own) + GROUND * _power(around))
        if self._first is None:
            self._first = self._recent = taught
        else:
            top, bottom = (
                (1 - self._rate) * a + self._rate * b for a, b in zip(self._recent, taught, strict=True)
            )
            self._recent = (top, bottom)
        top, bottom = (FIRST * a + (1 - FIRST) * b for a, b in zip(self._first, self._recent, strict=True))
        self._filter = top / (bottom + RIDGE * bottom.mean() + 1e-6)

    def respond(self, seen: Array) -> Array:
        """float32 [cells, cells]: how well the thing fits at each shift; no shift is in the middle."""
        answer = fft.irfft2((self._filter * fft.rfft2(seen * self.window)).sum(0), s=self.window.shape)
        return np.asarray(fft.fftshift(answer), np.float32)


def _power(spectrum: Array) -> Array:
    return np.asarray((spectrum.real**2 + spectrum.imag**2).sum(0))


def peak_of(response: Array, row: int, column: int) -> tuple[float, float]:
    """(row, column) of the top of the parabolas through a peak and its neighbours."""
    rows, columns = response.shape
    r, c = min(max(row, 1), rows - 2), min(max(column, 1), columns - 2)
    return r + _off(*response[r - 1 : r + 2, c]), c + _off(*response[r, c - 1 : c + 2])


def _off(before: float, at: float, after: float) -> float:
    bend = before - 2 * at + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0
