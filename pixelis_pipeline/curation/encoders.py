"""Learned encoders of pictures from local files: CLIP (Radford et al. 2021), SigLIP (Zhai et al. 2023) and
DINOv2 (Oquab et al. 2024) through transformers, and the models of open_clip.

What a place holds is said by its config.json, or by the name of an open_clip model. Safetensors only: pickled
weights run code when they are read. Nothing is ever fetched.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pixelis_pipeline.tools.weights import weights_digest

Array = np.ndarray[Any, Any]

SETTING = "curation.encoder"
TOGETHER = 32  # pictures that a model sees at once
OPEN_CLIP = "open_clip:"
# The `model_type` of config.json -> the classes of transformers. The PIL processors need no torchvision.
KINDS = {
    "clip": ("CLIPModel", "CLIPImageProcessorPil"),
    "siglip": ("SiglipModel", "SiglipImageProcessorPil"),  # also of SigLIP 2 at one fixed size
    "siglip2": ("Siglip2Model", "Siglip2ImageProcessorPil"),
    "dinov2": ("Dinov2Model", "BitImageProcessorPil"),
}
MODEL = "a CLIP, SigLIP or DINOv2 model for transformers, such as facebook/dinov2-base"
BESIDE = ("config.json", "preprocessor_config.json")


class Encoder(ABC):
    """Pictures in, unit rows out. `version` is a sha256 over all files that decide the rows, `dimension`
    their length. The same pictures in the same order give the same bytes on one machine."""

    version: str
    dimension: int

    def __call__(self, pictures: Sequence[Array]) -> Array:
        """float32 [n, dimension], unit rows, of n pictures (uint8 [H, W, 3] RGB, of any sizes)."""
        rows = [
            self.batch(pictures[low : low + TOGETHER]).astype(np.float32)
            for low in range(0, len(pictures), TOGETHER)
        ]
        found = np.concatenate([np.empty((0, self.dimension), np.float32), *rows])
        if not np.isfinite(found).all():  # as zeros they would agree with nothing, and nobody would know
            raise ValueError(
                f"{SETTING}: the model gives numbers that are not finite: its weights are broken"
            )
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return np.divide(found, lengths, out=np.zeros_like(found), where=lengths > 0)

    @abstractmethod
    def batch(self, pictures: Sequence[Array]) -> Array:
        """float [n, dimension] of at most TOGETHER pictures, of any length."""


def version(where: str) -> str:
    """The sha256 hex that `opened(where).version` will be, from its files alone. ValueError as `opened`."""
    place = Path(where.removeprefix(OPEN_CLIP).partition(":")[2] if where.startswith(OPEN_CLIP) else where)
    files = sorted(place.parent.glob("*") if place.is_file() else place.glob("*"))
    stamps = tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _version(where, stamps)


@lru_cache(maxsize=8)  # asked for once a partition, of gigabytes
def _version(where: str, stamps: tuple[tuple[str, int, int], ...]) -> str:
    if where.startswith(OPEN_CLIP):
        model, path = _open_clip_named(where)
        told = json.dumps([_open_clip_config(model), _open_clip_processing(path)], sort_keys=True)
        with path.open("rb") as file:
            return hashlib.sha256(
                f"{told}{hashlib.file_digest(file, 'sha256').hexdigest()}".encode()
            ).hexdigest()
    digest = weights_digest(where, SETTING, MODEL, BESIDE)
    _kind(where)
    return digest


def opened(where: str, device: str = "cpu") -> Encoder:
    """The encoder at `where`, a folder of config.json, preprocessor_config.json and *.safetensors, or
    `open_clip:MODEL:/path/to/file.safetensors`, on a torch device. ValueError that names the setting, the
    file and what to do; ModuleNotFoundError that names the extra where open_clip is absent."""
    from safetensors import SafetensorError

    try:
        return _OpenClip(where, device) if where.startswith(OPEN_CLIP) else _Transformers(where, device)
    except (SafetensorError, AssertionError, AttributeError, KeyError, TypeError, OSError) as error:
        # what libraries raise on half a file, a device that is not there, and a JSON of another shape
        raise ValueError(f"{SETTING}: {where} cannot be opened on {device}: {error}") from error


class _Transformers(Encoder):
    """A model of transformers. CLIP and SigLIP give their projected embedding, DINOv2 its class token after
    the last norm."""

    def __init__(self, folder: str, device: str) -> None:
        import transformers

        self.version, self._device = version(folder), device
        model, processor = KINDS[_kind(folder)]
        local = {"local_files_only": True, "trust_remote_code": False}
        loaded, report = getattr(transformers, model).from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, **local
        )
        if missing := sorted(report["missing_keys"]):
            raise ValueError(
                f"{SETTING}: {folder} lacks {len(missing)} of the model's weights, such as {missing[0]}. "
                "Its *.safetensors and config.json are not of one model"
            )
        self._model = loaded.to(device).eval()
        self._processor = getattr(transformers, processor).from_pretrained(folder, **local)
        self.dimension = self.batch([np.zeros((64, 64, 3), np.uint8)]).shape[1]

    def batch(self, pictures: Sequence[Array]) -> Array:
        import torch

        asked = self._processor(
            images=list(pictures), input_data_format="channels_last", return_tensors="pt"
        ).to(self._device)
        with torch.inference_mode():
            see = getattr(self._model, "get_image_features", self._model)
            return np.asarray(see(**asked).pooler_output.float().cpu().numpy())


class _OpenClip(Encoder):
    """A model of open_clip, known to it by name, with weights in one file."""

    def __init__(self, where: str, device: str) -> None:
        self.version, self._device = version(where), device
        model, path = _open_clip_named(where)
        made, _, self._prepare = _open_clip().create_model_and_transforms(
            model, pretrained=str(path), device=device, **_open_clip_processing(path)
        )
        self._model = made.eval()
        self.dimension = self.batch([np.zeros((64, 64, 3), np.uint8)]).shape[1]

    def batch(self, pictures: Sequence[Array]) -> Array:
        import torch
        from PIL import Image

        asked = torch.stack([self._prepare(Image.fromarray(each)) for each in pictures]).to(self._device)
        with torch.inference_mode():
            return np.asarray(self._model.encode_image(asked).float().cpu().numpy())


def _kind(folder: str) -> str:
    path = Path(folder) / "config.json"
    try:
        told = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{SETTING}: {path} is no JSON: {error}") from error
    kind = str(told.get("model_type")) if isinstance(told, dict) else f"{type(told).__name__} in config.json"
    if kind not in KINDS:
        raise ValueError(f"{SETTING}: {folder} holds a model of type {kind!r}, not {', '.join(KINDS)}")
    return kind


def _open_clip() -> Any:
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{SETTING}: open_clip is not installed: pip install 'pixelis[open-clip]'"
        ) from error
    return open_clip


def _open_clip_named(where: str) -> tuple[str, Path]:
    """The model's name and its file of weights."""
    model, _, path = where.removeprefix(OPEN_CLIP).partition(":")
    if not Path(path).is_file() or Path(path).suffix != ".safetensors":
        raise ValueError(
            f"{SETTING}: {path!r} is no file of safetensors (pickled weights are not loaded). "
            f"Write {OPEN_CLIP}MODEL:/path/to/file.safetensors"
        )
    return model, Path(path)


def _open_clip_config(model: str) -> Any:
    """What open_clip itself says of a model; never of a name that it would look up on a hub."""
    known = _open_clip()
    config = known.get_model_config(model) if model in known.list_models() else None
    if config is None:
        near = ", ".join(name for name in known.list_models() if name.lower()[:5] == model.lower()[:5])
        raise ValueError(
            f"{SETTING}: open_clip knows no model {model!r}{f'; near it: {near}' if near else ''}"
        )
    if "hf_model_name" in config.get("text_cfg", {}):
        raise ValueError(f"{SETTING}: open_clip's {model} reads its words by a model that it would fetch")
    return config


def _open_clip_processing(path: Path) -> dict[str, Any]:
    """How pictures are brought to size and normalised, from an open_clip_config.json beside the weights;
    without one open_clip takes CLIP's own way."""
    beside = path.parent / "open_clip_config.json"
    if not beside.is_file():
        return {}
    told = json.loads(beside.read_bytes()).get("preprocess_cfg", {})
    known = ("mean", "std", "interpolation", "resize_mode")
    return {f"image_{name}": told[name] for name in known if name in told}
