"""What else does the work of a tool: the plain use of a library, as a backend of its own.

Each answers the same typed call in the same wire form, so that one audit judges both sides.
"""

from functools import cache
from typing import Any

import cv2
import numpy as np

from pixelis_pipeline.tools.contract import (
    Observation,
    OcrArguments,
    PropArguments,
    SegArguments,
    ToolError,
    TrkArguments,
    Workspace,
    ZoomArguments,
    mask_of,
    pixels_of,
    to_pixels,
    to_wire,
    video_of,
)


class PlainGrabCut:
    """`cv2.grabCut` on the whole picture, the box as its rectangle, five rounds as in OpenCV's tutorial."""

    version = f"cv2.grabCut {cv2.__version__}"

    def __call__(self, workspace: Workspace, arguments: SegArguments) -> Observation:
        image = pixels_of(workspace, arguments)
        if arguments.box is None:
            raise ToolError("it knows boxes only")
        x0, y0, x1, y1 = to_pixels(arguments.box, image.shape[1], image.shape[0])
        labels = np.zeros(image.shape[:2], np.uint8)
        ground, thing = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(image, labels, (x0, y0, x1 - x0, y1 - y0), ground, thing, 5, cv2.GC_INIT_WITH_RECT)
        return Observation({}, "", mask=(labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))


class Csrt:
    """OpenCV's CSRT (Lukezic et al., CVPR 2017) with its defaults."""

    version = f"cv2.TrackerCSRT {cv2.__version__}"

    def __call__(self, workspace: Workspace, arguments: TrkArguments) -> Observation:
        clip = video_of(workspace, arguments.end)
        if arguments.box is None:
            raise ToolError("it knows boxes only")
        first, *others = clip.between(arguments.start, arguments.end)
        x0, y0, x1, y1 = to_pixels(arguments.box, clip.width, clip.height)
        tracker: Any = cv2.TrackerCSRT_create()  # type: ignore[attr-defined, unused-ignore]
        tracker.init(np.ascontiguousarray(first), (x0, y0, x1 - x0, y1 - y0))
        boxes: list[list[int] | None] = [list(arguments.box)]
        for frame in others:
            found, (x, y, width, height) = tracker.update(np.ascontiguousarray(frame))
            box = to_wire((x, y, x + width, y + height), clip.width, clip.height)
            boxes.append(list(box) if found else None)
        return Observation({"start": arguments.start, "end": arguments.end, "boxes": boxes}, "")


@cache
def _rapidocr() -> Any:
    from rapidocr import RapidOCR

    one = {f"EngineConfig.onnxruntime.{which}_op_num_threads": 1 for which in ("intra", "inter")}
    return RapidOCR(params={"Global.log_level": "critical", **one})


class DefaultRapidOcr:
    """`rapidocr.RapidOCR()` as it comes, but on one thread as ours."""

    version = "rapidocr"

    def __call__(self, workspace: Workspace, arguments: OcrArguments) -> Observation:
        image = pixels_of(workspace, arguments)
        if arguments.box is not None:
            x0, y0, x1, y1 = to_pixels(arguments.box, image.shape[1], image.shape[0])
            image = image[y0:y1, x0:x1]
        found = _rapidocr()(np.ascontiguousarray(image[:, :, ::-1]))
        return Observation({"text": " ".join(found.txts or ())}, "")


class PlainResize:
    """`cv2.resize` by Lanczos, without a digest of what came out."""

    version = f"cv2.resize {cv2.__version__}"

    def __call__(self, workspace: Workspace, arguments: ZoomArguments) -> Observation:
        image = pixels_of(workspace, arguments)
        x0, y0, x1, y1 = to_pixels(arguments.box, image.shape[1], image.shape[0])
        size = ((x1 - x0) * arguments.scale, (y1 - y0) * arguments.scale)
        return Observation(
            {}, "", image=cv2.resize(image[y0:y1, x0:x1], size, interpolation=cv2.INTER_LANCZOS4)
        )


class RegionProperties:
    """scikit-image's label and regionprops: area, orientation, mean colour; no names."""

    version = "skimage.measure.regionprops"

    def __call__(self, workspace: Workspace, arguments: PropArguments) -> Observation:
        from skimage.measure import label, regionprops

        assert arguments.step is not None
        mask = mask_of(workspace, arguments.step).mask
        regions = regionprops(label(mask), intensity_image=pixels_of(workspace, arguments))
        largest = max(regions, key=lambda region: region.area)
        said = {
            "count": len(regions),
            "area": float(largest.area),
            "orientation": float(largest.orientation),
            "colour": [float(value) for value in largest.intensity_mean],
        }
        return Observation(said, "")
