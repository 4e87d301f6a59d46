"""OCR by PaddleOCR 3.x, with models that lie in a local folder.

The folder holds `det/` and `rec/`, and `cls/` where lines may stand on their heads: each an inference
model as PaddleOCR publishes them, with its `inference.yml`. Nothing is downloaded: every model that the
pipeline would otherwise fetch by name is either given by folder or switched off.
"""

import functools
import hashlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pixelis_pipeline.tools.contract import Observation, OcrArguments, Workspace
from pixelis_pipeline.tools.lines import ORDER, Line, looked_at, told

PARTS = {"det": "text_detection", "rec": "text_recognition", "cls": "textline_orientation"}
NEEDED = ("det", "rec")
MISSING = (
    "tools.ocr.backend = paddleocr needs the package paddleocr (3.x), which is not installed here: "
    "pip install 'paddleocr>=3' paddlepaddle (paddlepaddle-gpu for device gpu)"
)
KEEP = 0.5  # score from which a line is believed
TALL = 1.5  # height to width from which PaddleOCR takes a line to stand on its side


class PaddleOcr:
    """Detection, turn and recognition by PaddleOCR; our reading order. `device` is cpu, gpu or cuda, with an
    index where there are several. Raises ValueError where the package or a model is missing."""

    def __init__(self, weights: str, device: str = "cpu") -> None:
        if importlib.util.find_spec("paddleocr") is None:
            raise ValueError(MISSING)
        self._models = models(weights)
        self._device = device.replace("cuda", "gpu")

    @functools.cached_property
    def version(self) -> str:
        libraries = " ".join(
            f"{name} {_installed(name)}" for name in ("paddleocr", "paddlex", "paddlepaddle")
        )
        names = " ".join(f"{part}={_name(folder)}" for part, folder in self._models.items())
        return f"ocr-paddle/1 {libraries} {names} weights={_digest(self._models)} keep={KEEP} {ORDER}"

    @functools.cached_property
    def _engine(self) -> Any:
        from paddleocr import PaddleOCR

        chosen: dict[str, Any] = {"use_textline_orientation": "cls" in self._models}
        for part, folder in self._models.items():
            chosen[f"{PARTS[part]}_model_dir"] = str(folder)
            chosen[f"{PARTS[part]}_model_name"] = _name(folder)
        return PaddleOCR(
            use_doc_orientation_classify=False, use_doc_unwarping=False, device=self._device, **chosen
        )

    def __call__(self, workspace: Workspace, arguments: OcrArguments) -> Observation:
        crop, left, top, size = looked_at(workspace, arguments)
        # No threshold of its own: it would drop lines but not their turns, and the two would not match.
        (page,) = self._engine.predict(np.ascontiguousarray(crop[:, :, ::-1]), text_rec_score_thresh=0.0)
        return told(_lines(page), left, top, size, self.version)


def models(weights: str) -> dict[str, Path]:
    """The model folders under `weights`, by part. ValueError that says what to set or to add."""
    if not weights:
        raise ValueError("tools.ocr.weights: the paddleocr backend needs a folder that holds det/ and rec/")
    found = {part: Path(weights) / part for part in PARTS if (Path(weights) / part).is_dir()}
    for part in NEEDED:
        if part not in found:
            raise ValueError(f"tools.ocr.weights: {weights} holds no folder {part}/ with a PaddleOCR model")
    for folder in found.values():
        _name(folder)
    return found


def _name(folder: Path) -> str:
    """The model's name by its inference.yml. PaddleOCR refuses a folder given under another name."""
    path = folder / "inference.yml"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    match = re.search(r"^\s+model_name:\s*[\"']?([\w.+-]+)", text, re.MULTILINE)
    if match is None:
        raise ValueError(
            f"{path}: there is no such file or it states no model_name (PaddleOCR 3.x writes it)"
        )
    return match.group(1)


def _digest(folders: Mapping[str, Path]) -> str:
    """sha256 hex over all files of the models, by their names below the weights folder."""
    whole = hashlib.sha256()
    for part, folder in folders.items():
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            with path.open("rb") as file:
                inner = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{part}/{path.relative_to(folder).as_posix()} {inner}\n".encode())
    return whole.hexdigest()


def _installed(package: str) -> str:
    for name in (package, f"{package}-gpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "?"


def _lines(page: Mapping[str, Any]) -> list[Line]:
    """The lines of one result of PaddleOCR. It tells turns only where `cls/` was given."""
    texts, scores, polygons = page["rec_texts"], page["rec_scores"], page["rec_polys"]
    angles = page.get("textline_orientation_angles", ())
    if len(angles) != len(texts):
        angles = [0] * len(texts)
    lines = []
    for text, score, polygon, angle in zip(texts, scores, polygons, angles, strict=True):
        corners = np.asarray(polygon, float)
        width, height = np.linalg.norm(corners[0] - corners[1]), np.linalg.norm(corners[0] - corners[3])
        turn = int(height >= TALL * width) + 2 * int(angle == 1)  # class 1 is upside down
        if text.strip() and score >= KEEP:
            lines.append(Line(text.strip(), float(score), corners, turn))
    return lines
