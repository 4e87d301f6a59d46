"""ZOOM: a box of an image, enlarged; the crop becomes the next image."""

import hashlib
from typing import Any

import numpy as np
import PIL
from PIL import Image

from pixelis_pipeline.tools.contract import (
    Observation,
    Workspace,
    ZoomArguments,
    pixels_of,
    spoken,
    to_pixels,
)

LONGEST = 1024  # pixels; a longer crop is enlarged less


def crop_digest(pixels: np.ndarray[Any, Any]) -> str:
    """sha256 hex of an image's shape and raw RGB bytes."""
    header = "x".join(str(side) for side in pixels.shape).encode()
    return hashlib.sha256(header + b"\0" + np.ascontiguousarray(pixels).tobytes()).hexdigest()


class LanczosZoom:
    """Crop, then Lanczos resampling in Pillow, whose fixed-point arithmetic gives equal bytes anywhere."""

    @property
    def version(self) -> str:
        return f"zoom/1 pillow {PIL.__version__} lanczos longest={LONGEST}"

    def __call__(self, workspace: Workspace, arguments: ZoomArguments) -> Observation:
        image = pixels_of(workspace, arguments)
        left, top, right, bottom = to_pixels(arguments.box, image.shape[1], image.shape[0])
        width, height = right - left, bottom - top
        scale = min(float(arguments.scale), LONGEST / max(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        crop = Image.fromarray(image[top:bottom, left:right]).resize(size, Image.Resampling.LANCZOS)
        pixels = np.asarray(crop)
        output = {
            "image": len(workspace.images),
            "width": size[0],
            "height": size[1],
            "sha256": crop_digest(pixels),
        }
        return Observation(output, spoken("ZOOM", output), image=pixels, version=self.version)
