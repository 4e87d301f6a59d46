"""SEG by SAM 2 (Ravi et al. 2024) through transformers, from a local folder of safetensors.

Pictures are prepared as `Sam2ImageProcessor` does, without torchvision. A batch reads each distinct
picture once; calls of one shape of prompt are answered together. Floating point rounds differently in a
batch, so single pixels of an outline may.
"""

import hashlib
import json
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pixelis_pipeline.media.image import Pixels
from pixelis_pipeline.tools.contract import (
    Observation,
    SegArguments,
    ToolError,
    Workspace,
    pixels_of,
    to_pixels,
)
from pixelis_pipeline.tools.seg import NOTHING, segmented, spots_of
from pixelis_pipeline.tools.weights import weights_digest

Array = np.ndarray[Any, Any]

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as SAM 2 was trained
MODEL = "a SAM 2 model for transformers, such as facebook/sam2.1-hiera-large"
TOGETHER = 8  # pictures that the model sees at once


class Sam2:
    """`Sam2Model` from the folder `weights` (config.json and *.safetensors) on a torch device.

    ValueError where the folder holds no such model or transformers is not installed.
    """

    def __init__(self, weights: str, device: str = "cpu") -> None:
        self._folder, self._device = weights, device
        self._digest = weights_digest(weights, "tools.seg.weights", MODEL)
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        return f"seg-sam2/1 {libraries()} weights={self._digest[:16]} on {self._device}"

    @cached_property
    def _model(self) -> Any:
        return loaded("Sam2Model", self._folder, self._device)

    def __call__(self, workspace: Workspace, arguments: SegArguments) -> Observation:
        (answer,) = self.batch([(workspace, arguments)])
        if isinstance(answer, ToolError):
            raise answer
        return answer

    def batch(self, calls: Sequence[tuple[Workspace, Any]]) -> list[Observation | ToolError]:
        """One answer a call, in order; a call that cannot be carried out is answered by its error."""
        answers: dict[int, Observation | ToolError] = {}
        alike: dict[tuple[bool, int], list[int]] = {}
        pictures: dict[int, Pixels] = {}
        for index, (workspace, arguments) in enumerate(calls):
            try:
                pictures[index] = pixels_of(workspace, arguments)
                height, width = pictures[index].shape[:2]
                shape = (arguments.box is not None, len(spots_of(arguments, width, height)))
                alike.setdefault(shape, []).append(index)
            except ToolError as error:
                answers[index] = error
        for same in alike.values():
            for start in range(0, len(same), TOGETHER):
                chunk = same[start : start + TOGETHER]
                asked = [(pictures[index], calls[index][1]) for index in chunk]
                with self._lock:
                    answers |= zip(chunk, self._answered(asked), strict=True)
        return [answers[index] for index in range(len(calls))]

    def _answered(self, asked: list[tuple[Pixels, SegArguments]]) -> list[Observation | ToolError]:
        import torch

        side = int(self._model.prompt_encoder.input_image_size)
        names = [
            hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest() + str(pixels.shape)
            for pixels, _ in asked
        ]
        distinct = {name: pixels for name, (pixels, _) in zip(names, asked, strict=True)}
        order = {name: row for row, name in enumerate(distinct)}
        rows = torch.tensor([order[name] for name in names], device=self._device)
        prompt = {
            name: torch.from_numpy(values).to(self._device) for name, values in _prompt(asked, side).items()
        }
        with torch.inference_mode():
            seen = torch.from_numpy(np.stack([prepared(pixels, side) for pixels in distinct.values()]))
            features = self._model.get_image_embeddings(seen.to(self._device))
            said = self._model(
                image_embeddings=[each[rows] for each in features],
                # as in SAM 2's own predictor: one click is ambiguous, a box or several clicks are not
                multimask_output=asked[0][1].box is None and len(asked[0][1].points) == 1,
                **prompt,
            )
        scores, logits = said.iou_scores[:, 0].float().cpu().numpy(), said.pred_masks[:, 0].float().cpu()
        answers: list[Observation | ToolError] = []
        for (pixels, arguments), score, each in zip(asked, scores, logits, strict=True):
            best = int(score.argmax())
            mask = enlarged(each[best], *pixels.shape[:2])
            confidence = round(float(np.clip(score[best], 0, 1)), 3)
            answers.append(
                segmented(mask, confidence, self.version, arguments) if mask.any() else ToolError(NOTHING)
            )
        return answers


def _prompt(asked: list[tuple[Pixels, SegArguments]], side: int) -> dict[str, Array]:
    """Boxes and points of calls of one shape, scaled to the model's square picture."""
    boxes, points = [], []
    for pixels, arguments in asked:
        height, width = pixels.shape[:2]
        scale = np.array([side / width, side / height], np.float32)
        if arguments.box is not None:
            corners = np.array(to_pixels(arguments.box, width, height), np.float32)
            boxes.append((corners.reshape(2, 2) * scale).reshape(1, 4))
        points.append([np.array(spots_of(arguments, width, height), np.float32).reshape(-1, 2) * scale])
    prompt: dict[str, Array] = {"input_boxes": np.stack(boxes)} if boxes else {}
    if asked[0][1].points:
        prompt["input_points"] = np.array(points, np.float32)
        prompt["input_labels"] = np.ones(prompt["input_points"].shape[:3], np.int64)
    return prompt


def prepared(pixels: Pixels, side: int) -> Array:
    """A picture as the model takes it: float32 [3, side, side], resized with antialiasing and normalised."""
    resized = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
    scaled = np.asarray(resized, np.float32) / 255
    return np.ascontiguousarray(((scaled - MEAN) / DEVIATION).astype(np.float32).transpose(2, 0, 1))


def enlarged(logits: Any, height: int, width: int) -> Array:
    """The mask (bool [height, width]) where logits (tensor [h, w]), resized, are positive."""
    import torch

    resized = torch.nn.functional.interpolate(
        logits[None, None], (height, width), mode="bilinear", align_corners=False
    )
    return np.asarray((resized[0, 0] > 0).numpy())


def libraries() -> str:
    """The installed torch and transformers, for a version. ValueError where one is missing."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"torch {version('torch')} transformers {version('transformers')}"
    except PackageNotFoundError as error:
        raise ValueError(f"SAM 2 needs the package {error.name}; `make demo` sets it up") from error


def loaded(name: str, folder: str, device: str) -> Any:
    """The class `name` of transformers with the weights of a local folder, ready to answer.

    ValueError where transformers has no such class, or weights of the model are not in the folder: they
    would be left at random.
    """
    try:
        import transformers

        model = getattr(transformers, name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name} needs transformers 4.56 or newer and torch: {error}") from error
    kind = json.loads((Path(folder) / "config.json").read_bytes()).get("model_type")
    if kind not in ("sam2", "sam2_video"):
        raise ValueError(f"{folder} holds a model of type {kind!r}, not SAM 2")
    made, report = model.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{folder} lacks {len(missing)} weights of {name}, among them {missing[0]}")
    return made.to(device).eval()
