"""A request's messages as they go over the wire, with the pictures in place of their digests."""

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from pixelis_pipeline.media import MediaError, MediaStore
from pixelis_pipeline.media.files import sniff
from pixelis_pipeline.records import Json, Media
from pixelis_pipeline.synthesis.request import FRAME_QUALITY, Request, frame_count

_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
}


def data_url(data: bytes, name: str) -> str:
    """An image file's own bytes as a data URL, so that their sha256 arrives unchanged.

    MediaError "not an image" for a format that chat endpoints do not take.
    """
    form = sniff(data)
    if form not in _TYPES:
        raise MediaError("not an image", f"{name}: {form} is none of {', '.join(_TYPES)}")
    return f"data:{_TYPES[form]};base64,{base64.b64encode(data).decode()}"


def frame_file(pixels: np.ndarray[Any, Any]) -> bytes:
    """One frame (uint8 RGB [height, width, 3]) as the JPEG file that is sent."""
    encoded, file = cv2.imencode(
        ".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, FRAME_QUALITY]
    )
    if not encoded:
        raise MediaError("unsupported pixels", f"a frame of shape {pixels.shape} is no JPEG")
    return bytes(file)


def frames(media: Media, store: MediaStore) -> list[np.ndarray[Any, Any]]:
    """The frames of a video that a request names, uint8 RGB. MediaError where one does not decode."""
    count = frame_count(media)
    found = [pixels for _, pixels in store.frames(media, count)]
    if len(found) != count:
        raise MediaError("truncated", f"{media.path}: {len(found)} of {count} frames can be decoded")
    return found


def message(request: Request, media: Sequence[Media], store: MediaStore) -> list[dict[str, Any]]:
    """System prompt and messages of `request` in the form of the chat completions API. MediaError."""
    of = {item.sha256: item for item in media}
    decoded: dict[str, list[np.ndarray[Any, Any]]] = {}

    def wire(part: Json) -> Json:
        if part["type"] == "text":
            return part
        item = of[part["sha256"]]
        if part["type"] == "image":
            url = data_url(store.data(item), item.path)
        else:
            if item.sha256 not in decoded:
                decoded[item.sha256] = frames(item, store)
            url = data_url(frame_file(decoded[item.sha256][part["frame"]]), item.path)
        return {"type": "image_url", "image_url": {"url": url}}

    turns = [{**turn, "content": [wire(part) for part in turn["content"]]} for turn in request.messages]
    return [{"role": "system", "content": request.system}, *turns]
