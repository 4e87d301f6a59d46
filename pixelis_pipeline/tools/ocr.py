"""OCR: the text in a box, by the PP-OCR weights that rapidocr carries in its wheel.

The detector finds lines, the recogniser reads each at its own width: both take time in proportion to the
pixels they are given, so neither is given more than the text needs. A line that cannot be read as it
stands is tried the other way up.
"""

import functools
import hashlib
import importlib.metadata
import importlib.util
import logging
import unicodedata
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pixelis_pipeline.tools.contract import Observation, OcrArguments, Workspace
from pixelis_pipeline.tools.lines import ORDER, Line, looked_at, told

Array = np.ndarray[Any, Any]

SIDE = 960  # pixels: side of the square whose area the detector is given at most
LEAST = 5  # pixels: a lower picture holds no letters
SHORTEST = 64  # pixels: lower crops are enlarged to this
ENLARGED = 640  # pixels: but no longer than this
BORDER = 0.15  # of the shorter side: ground replicated around the crop, for text that touches its box
BORDER_MOST = 8  # pixels
LINES = 400  # that are read at most, the largest
HEIGHT = 48  # pixels: the recogniser's lines
WIDEST = 2400  # pixels: a longer line is squeezed
LOW = 160  # pixels: a picture whose shorter side is longer is not tried as one line
KEEP = 0.5  # score from which a line that the detector found is believed
SURE = 0.8  # score from which one that it did not find is, and from which no other turn is tried
TALL = 1.5  # height to width from which a line is taken to stand on its side
_CONSTANTS = (
    f"least={LEAST} shortest={SHORTEST} enlarged={ENLARGED} border={BORDER},{BORDER_MOST} lines={LINES} "
    f"widest={WIDEST} low={LOW} keep={KEEP} sure={SURE} tall={TALL} {ORDER}"
)


@functools.cache
def _models() -> dict[str, Path]:
    """The detector's and the recogniser's weights, by the name of their section in rapidocr's settings."""
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("OCR needs the package rapidocr, which the project's lock holds")
    folder = Path(spec.origin).parent / "models"
    return {part: folder / f"PP-OCRv6_{part.lower()}_small.onnx" for part in ("Det", "Rec")}


@functools.cache
def _digest() -> str:
    """sha256 hex over both weights files."""
    whole = hashlib.sha256()
    for path in _models().values():
        whole.update(path.read_bytes())
    return whole.hexdigest()


@functools.cache
def _engine() -> Any:
    """The one engine of this process: one thread, silent. Given its weights by path, it downloads nothing."""
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            "Global.log_level": "critical",
            **{f"{part}.model_path": str(path) for part, path in _models().items()},
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
    logging.getLogger("RapidOCR").setLevel(logging.CRITICAL + 1)
    return engine


class RapidOcr:
    """Detection and recognition, lines joined by spaces in reading order."""

    def __init__(self, side: int = SIDE) -> None:
        self._side = side

    @functools.cached_property
    def version(self) -> str:
        return (
            f"ocr/2 rapidocr {importlib.metadata.version('rapidocr')} onnxruntime "
            f"{importlib.metadata.version('onnxruntime')} weights={_digest()[:16]} side={self._side} "
            f"{_CONSTANTS}"
        )

    def __call__(self, workspace: Workspace, arguments: OcrArguments) -> Observation:
        crop, left, top, size = looked_at(workspace, arguments)
        return told(_read(np.ascontiguousarray(crop[:, :, ::-1]), self._side), left, top, size, self.version)


def _read(image: Array, side: int) -> list[Line]:
    """The lines of a BGR image, unordered.

    Where the detector finds none in a low image, it is read whole as one line, and kept if that is sure:
    the detector misses single words that fill their crop.
    """
    if min(image.shape[:2]) < LEAST:
        return []
    quads = _detected(image, side)
    if not quads:
        height, width = image.shape[:2]
        if min(height, width) > LOW:
            return []
        whole = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        line = _line(image, whole, None)
        return [line] if line.text and line.score >= SURE else []
    lines: list[Line] = []
    usual: int | None = None
    largest = sorted(quads, key=lambda q: -cv2.contourArea(q))[:LINES]
    for quad in largest:  # first, for they tell surest how the page stands
        line = _line(image, quad, usual)
        if line.text and line.score >= SURE:
            usual = line.turn
        if _believed(line, usual or 0):
            lines.append(line)
    return lines


def _believed(line: Line, usual: int) -> bool:
    """Rings and specks are read as a sign or two, on their side as well as upright: so a lone sign, or a
    line that stands otherwise than those before it, has to be sure."""
    if all(unicodedata.category(sign) == "So" for sign in line.text):  # a bullet, a star
        return False
    return line.score >= (SURE if len(line.text) == 1 or line.turn != usual else KEEP)


def _detected(image: Array, side: int) -> list[Array]:
    """Corners [4, 2] (px, clockwise, float32) around each line that the detector finds."""
    height, width = image.shape[:2]
    least, most = min(height, width), max(height, width)
    scale = max(1.0, min(SHORTEST / least, ENLARGED / most))
    scale = min(scale, side / (height * width) ** 0.5)
    border = min(round(BORDER * least * scale), BORDER_MOST)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    ground = cv2.resize(image, size, interpolation=way)
    ground = cv2.copyMakeBorder(ground, border, border, border, border, cv2.BORDER_REPLICATE)
    fitted = [max(32, 32 * round(n / 32)) for n in ground.shape[:2]]
    detector = _engine()._load_det_model()
    given = cv2.resize(ground, (fitted[1], fitted[0])).astype(np.float32) / 127.5 - 1
    map_ = detector.session(given.transpose(2, 0, 1)[None])
    found, _ = detector.postprocess_op(map_, ground.shape[:2])
    stretch = np.array([width / size[0], height / size[1]])
    return [((quad - border) * stretch).astype(np.float32) for quad in found]


def _line(image: Array, quad: Array, usual: int | None) -> Line:
    """The line inside a quad as it is best read, tried first as the surest line before it stood, if any."""
    strip = _strip(image, quad)
    height, width = strip.shape[:2]
    if max(height, width) < TALL * min(height, width):
        turns = [0, 2, 1, 3] if usual is None else [usual]
    else:
        turns = [0, 2] if width > height else [1, 3]
    best = Line("", 0.0, quad)
    for turn in sorted(turns, key=lambda t: t != usual):
        text, score = _recognised(np.rot90(strip, turn))
        if score > best.score:
            best = Line(text, score, quad, turn)
        if score >= SURE:
            break
    return best


def _strip(image: Array, quad: Array) -> Array:
    """What lies inside a quad, straightened: corners come clockwise from the top left."""
    a, b, c, d = quad
    width = max(1, round(max(np.linalg.norm(a - b), np.linalg.norm(c - d))))
    height = max(1, round(max(np.linalg.norm(a - d), np.linalg.norm(b - c))))
    flat = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    turned = cv2.getPerspectiveTransform(quad, flat)
    return cv2.warpPerspective(
        image, turned, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def _recognised(strip: Array) -> tuple[str, float]:
    """(text, mean score of its letters) of one upright line, BGR."""
    height, width = strip.shape[:2]
    wide = min(max(round(width * HEIGHT / height), 16), WIDEST)
    given = cv2.resize(np.ascontiguousarray(strip), (wide, HEIGHT)).astype(np.float32) / 127.5 - 1
    recogniser = _engine()._load_rec_model()
    ((text, score),) = recogniser.postprocess_op(recogniser.session(given.transpose(2, 0, 1)[None]))[0]
    return text.strip(), float(score)
