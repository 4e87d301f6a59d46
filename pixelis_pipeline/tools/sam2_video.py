"""TRK by SAM 2's propagation through transformers (`Sam2VideoModel`), from a local folder of safetensors.

Frames are given one by one, and what the model's memory no longer reaches is dropped, so that a long clip
takes no more memory than a short one.
"""

import threading
from functools import cached_property
from typing import Any

import numpy as np

from pixelis_pipeline.tools.contract import (
    Observation,
    ToolError,
    TrkArguments,
    Workspace,
    mask_of,
    spoken,
    to_pixels,
    to_wire,
    video_of,
)
from pixelis_pipeline.tools.cut_quality import extent
from pixelis_pipeline.tools.sam2 import MODEL, enlarged, libraries, loaded, prepared
from pixelis_pipeline.tools.weights import weights_digest

CORNERS = (2, 3)  # SAM 2's point labels for a box's first and second corner


class Sam2Tracker:
    """`Sam2VideoModel` from the folder `weights` (config.json and *.safetensors) on a torch device.

    ValueError where the folder holds no such model or transformers is not installed.
    """

    def __init__(self, weights: str, device: str = "cpu") -> None:
        self._folder, self._device = weights, device
        self._digest = weights_digest(weights, "tools.trk.weights", MODEL)
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        return f"trk-sam2/1 {libraries()} weights={self._digest[:16]} on {self._device}"

    @cached_property
    def _model(self) -> Any:
        return loaded("Sam2VideoModel", self._folder, self._device)

    def __call__(self, workspace: Workspace, arguments: TrkArguments) -> Observation:
        import torch

        clip = video_of(workspace, arguments.end)
        boxes: list[list[int] | None] = []
        sure: list[float] = []
        with self._lock, torch.inference_mode():
            session = self._session(workspace, arguments)
            for index, frame in enumerate(clip.between(arguments.start, arguments.end)):
                height, width = frame.shape[:2]
                pixels = torch.from_numpy(prepared(frame, int(self._model.image_size)))
                said = self._model(session, frame_idx=index, frame=pixels.to(self._device))
                mask = enlarged(said.pred_masks[0, 0].float().cpu(), height, width)
                seen = bool(mask.any()) and float(said.object_score_logits.max()) > 0
                if not boxes and not seen:
                    raise ToolError("nothing stands out at the start")
                boxes.append(list(to_wire(extent(mask), width, height)) if seen else None)
                sure.append(float(torch.sigmoid(said.object_score_logits.float()).max()))
                self._forget(session, index)
        output = {"start": arguments.start, "end": arguments.end, "boxes": boxes}
        return Observation(
            output, spoken("TRK", output), confidence=round(float(np.mean(sure)), 3), version=self.version
        )

    def _session(self, workspace: Workspace, arguments: TrkArguments) -> Any:
        """A session that waits for its first frame and knows what to follow from there."""
        import torch
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        clip = video_of(workspace, arguments.end)
        side = int(self._model.image_size)
        session = Sam2VideoInferenceSession(
            video_height=clip.height,
            video_width=clip.width,
            inference_device=self._device,
            dtype=torch.float32,
        )
        thing = session.obj_id_to_idx(1)
        if arguments.box is not None:
            box = np.array(to_pixels(arguments.box, clip.width, clip.height), np.float32).reshape(2, 2)
            corners = torch.from_numpy(box * np.array([side / clip.width, side / clip.height], np.float32))
            labels = torch.tensor(CORNERS, dtype=torch.int32)
            prompt = {"point_coords": corners[None, None], "point_labels": labels[None, None]}
            session.add_point_inputs(thing, 0, prompt)
        else:
            assert arguments.step is not None  # TrkArguments holds exactly one of the two
            found = mask_of(workspace, arguments.step)
            if found.source or (found.frame or 0) != arguments.start:
                lies = f"image {found.source}" if found.source else f"frame {found.frame or 0}"
                raise ToolError(
                    f"step {arguments.step}'s mask lies over {lies}, not frame {arguments.start}", "bounds"
                )
            mask = torch.from_numpy(np.asarray(found.mask, np.float32))[None, None]
            resized = torch.nn.functional.interpolate(
                mask, (side, side), mode="bilinear", align_corners=False, antialias=True
            )
            session.add_mask_inputs(thing, 0, (resized >= 0.5).float())
        session.obj_with_new_inputs = [1]
        return session

    def _forget(self, session: Any, now: int) -> None:
        """Drop the frame just seen, and answers older than the memory reaches."""
        session.processed_frames.pop(now)
        config = self._model.config
        reach = max(config.num_maskmem, config.max_object_pointers_in_encoder)
        for kept in session.output_dict_per_obj.values():
            kept["non_cond_frame_outputs"].pop(now - reach, None)
