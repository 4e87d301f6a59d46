"""The workspace that a question's media make: what replay and a rollout start from."""

from collections.abc import Callable, Sequence

from pixelis_pipeline.media.store import MediaStore
from pixelis_pipeline.records import Media
from pixelis_pipeline.tools.contract import Workspace

Open = Callable[[Sequence[Media]], Workspace]


def opened(store: MediaStore, media: Sequence[Media]) -> Workspace:
    """A fresh workspace over the images of `media`, in order, and the first of its videos.

    Without an image, image 0 is the video's first frame. Raises MediaError, ValueError without media.
    """
    images = [store.pixels(each) for each in media if each.kind == "image"]
    clip = next((store.clip(each) for each in media if each.kind == "video"), None)
    if images:
        return Workspace(images, clip=clip)
    if clip is None:
        raise ValueError("there is neither an image nor a video to look at")
    return Workspace.watching(clip)
