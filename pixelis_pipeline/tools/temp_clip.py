"""TEMP by CLIP (Radford et al. 2021) or SigLIP (Zhai et al. 2023): how like the query each sampled frame is,
through the same windows and suppression as the embedded backend.

Which of the two is said by the local folder's config.json. A similarity has no zero of its own, so frames are
compared with the least similar one; where all are alike there is no answer. Each frame is judged by itself:
neither model sees motion.
"""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pixelis_pipeline.tools import proposals
from pixelis_pipeline.tools.contract import (
    Observation,
    TempArguments,
    ToolError,
    Workspace,
    spoken,
    video_of,
)
from pixelis_pipeline.tools.temp import cells, frames_between, looked_at, spread
from pixelis_pipeline.tools.weights import weights_digest

Array = np.ndarray[Any, Any]

SIDE = 448  # pixels of the longer side that a frame is held with before the model's own processor
SAMPLES = 64  # frames that are looked at
TOGETHER = 16  # frames that the model sees at once
SETTING = "tools.temp.weights"
# The `model_type` of config.json -> the classes of transformers. The PIL processors need no torchvision.
KINDS = {
    "clip": ("CLIPModel", "CLIPImageProcessorPil"),
    "siglip": ("SiglipModel", "SiglipImageProcessorPil"),
}
MODEL = "a CLIP or SigLIP model for transformers, such as openai/clip-vit-base-patch32"
BESIDE = ("config.json", "preprocessor_config.json", "tokenizer.json")
ASKING = re.compile(r"^when (does|do|did|is|are|was|were) |\?$")  # the models were taught statements


class ClipScores:
    """A model from the folder `weights` (config.json, preprocessor_config.json, tokenizer.json and
    *.safetensors) on a torch device. ValueError where the folder does not hold that: nothing is fetched."""

    def __init__(self, weights: str, device: str = "cpu") -> None:
        self._folder, self._device = weights, device
        self._digest = weights_digest(weights, SETTING, MODEL, BESIDE)
        self._kind = str(json.loads((Path(weights) / "config.json").read_bytes()).get("model_type"))
        if self._kind not in KINDS:
            raise ValueError(
                f"{SETTING}: {weights} holds a model of type {self._kind!r}, not {' or '.join(KINDS)}"
            )

    @property
    def version(self) -> str:
        return (
            f"temp-clip/1 {self._kind} torch {version('torch')} transformers {version('transformers')} "
            f"weights={self._digest[:16]} on {self._device} side={SIDE} samples={SAMPLES}/{TOGETHER} "
            f"{proposals.PARAMETERS}"
        )

    def __call__(self, workspace: Workspace, arguments: TempArguments) -> Observation:
        clip = video_of(workspace)
        chosen = spread(*frames_between(clip, arguments.start, arguments.end), SAMPLES)
        frames = looked_at(clip, chosen, SIDE)
        images, text = self.image_embeddings(frames), self.text_embedding(arguments.query)
        part, edges = cells(chosen, clip.fps, arguments.start, min(arguments.end, clip.seconds))
        found = proposals.proposals(likelihood(images, text, self._scale)[part], edges)
        if not found:
            raise ToolError("no part of the video is more like the query than the rest", "nothing")
        output = proposals.told(found)
        return Observation(output, spoken("TEMP", output), output["spans"][0][2], version=self.version)

    def image_embeddings(self, frames: Sequence[Array]) -> Array:
        """float32 [frames, dimensions] of uint8 RGB frames, each of length 1."""
        import torch

        batches = []
        for at in range(0, len(frames), TOGETHER):
            pixels = self._processor(images=list(frames[at : at + TOGETHER]), return_tensors="pt")
            with torch.inference_mode():
                seen = self._model.get_image_features(pixel_values=pixels["pixel_values"].to(self._device))
            batches.append(seen.pooler_output.float().cpu().numpy())
        return _unit(np.concatenate(batches))

    def text_embedding(self, query: str) -> Array:
        """float32 [dimensions] of a query, put as a statement, of length 1."""
        import torch

        text = ASKING.sub("", " ".join(query.split()).lower()).strip()
        longest = self._model.config.text_config.max_position_embeddings
        # SigLIP was trained on texts padded to their full length, and reads its last place.
        padding = "max_length" if self._kind == "siglip" else False
        tokens = self._tokenizer(
            [text], padding=padding, truncation=True, max_length=longest, return_tensors="pt"
        )
        with torch.inference_mode():
            read = self._model.get_text_features(input_ids=tokens["input_ids"].to(self._device))
        return np.asarray(_unit(read.pooler_output.float().cpu().numpy())[0])

    @cached_property
    def _scale(self) -> float:
        """What the model multiplies a cosine by to get a logit."""
        return float(self._model.logit_scale.detach().exp())

    @cached_property
    def _model(self) -> Any:
        import transformers

        model, report = getattr(transformers, KINDS[self._kind][0]).from_pretrained(
            self._folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        if missing := sorted(report["missing_keys"]):
            raise ValueError(
                f"{self._folder} lacks {len(missing)} of the model's weights, such as {missing[0]}"
            )
        return model.to(self._device).eval()

    @cached_property
    def _processor(self) -> Any:
        import transformers

        return getattr(transformers, KINDS[self._kind][1]).from_pretrained(
            self._folder, local_files_only=True
        )

    @cached_property
    def _tokenizer(self) -> Any:
        # By tokenizer.json and not by the model's own class: SigLIP's needs sentencepiece.
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast.from_pretrained(self._folder, local_files_only=True)


def likelihood(images: Array, text: Array, scale: float) -> Array:
    """float [n] in 0-1 for unit embeddings [n, d] and [d]: 2 sigmoid(logit - least logit) - 1, so 0 for the
    frame that is least like the text, and near 1 where the odds are a hundred times higher."""
    logits = scale * (images @ text).astype(np.float64)
    return np.asarray(np.tanh((logits - logits.min()) / 2))


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
