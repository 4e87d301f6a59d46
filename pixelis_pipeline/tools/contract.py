"""What an action is: typed arguments, a typed observation, and the workspace both refer to.

On the wire every coordinate is an integer 0-999 normalised to the image that the call names; inside,
geometry is exact. On video every call names its frame or its time span. A bad call never raises into a
rollout: it is an invalid observation whose text the policy can read.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.records import Json, canonical

WIRE = 999  # the largest wire coordinate


def _has_area(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = box
    if x0 >= x1 or y0 >= y1:
        raise ValueError("a box is [left, top, right, bottom] with left < right and top < bottom")
    return box


Coordinate = Annotated[int, Field(ge=0, le=WIRE)]
Box = Annotated[
    tuple[Coordinate, Coordinate, Coordinate, Coordinate],
    AfterValidator(_has_area),
    Field(description="[left, top, right, bottom], integers 0-999 over the image's width and height"),
]
Point = Annotated[tuple[Coordinate, Coordinate], Field(description="[x, y], integers 0-999")]
ImageIndex = Annotated[
    int, Field(ge=0, description="0 is the question's image; each ZOOM adds one, counted from 1")
]
FrameIndex = Annotated[
    int | None,
    Field(ge=0, description="on video: which frame to look at, counted from 0; 0 if it is left out"),
]
StepIndex = Annotated[int | None, Field(ge=0, description="an earlier SEG step, counted from 0")]


class Arguments(BaseModel):
    """Arguments of one action. Unknown or missing names make the call invalid."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Look(Arguments):
    """What every action on one picture may say: which image, or which frame of the video."""

    image: ImageIndex = 0
    frame: FrameIndex = None

    @model_validator(mode="after")
    def _one_picture(self) -> "Look":
        if self.image and self.frame is not None:
            raise ValueError("a frame belongs to the question's video; an image that ZOOM made has none")
        return self


class ZoomArguments(Look):
    """Crop a box and enlarge it `scale` times; the crop becomes the next image."""

    box: Box
    scale: Annotated[int, Field(ge=1, le=8)] = 2


class SegArguments(Look):
    """Segment the one object that a box surrounds, or that lies under the points. Points alone are
    enough; with a box they say which thing in it is meant."""

    box: Box | None = None
    points: Annotated[tuple[Point, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _some_target(self) -> "SegArguments":
        if self.box is None and not self.points:
            raise ValueError("give a box, or points, or both")
        return self


class OcrArguments(Look):
    """Read the text in a box, or on the whole image."""

    box: Box | None = None


class PropArguments(Look):
    """Measure colour, shape, size, orientation and count of what stands in a box, or of an earlier
    step's mask (`step`, counted from 0). Give exactly one of the two."""

    box: Box | None = None
    step: StepIndex = None

    @model_validator(mode="after")
    def _one_target(self) -> "PropArguments":
        if (self.box is None) == (self.step is None):
            raise ValueError("give either box or step")
        return self


class TrkArguments(Arguments):
    """Follow what stands in `box`, or an earlier step's mask (`step`), at frame `start` up to and
    including frame `end` of the video. Give exactly one of box and step."""

    box: Box | None = None
    step: StepIndex = None
    start: Annotated[int, Field(ge=0, description="first frame, counted from 0")] = 0
    end: Annotated[int, Field(ge=0, description="last frame, inclusive")]

    @model_validator(mode="after")
    def _one_thing_forwards(self) -> "TrkArguments":
        if (self.box is None) == (self.step is None):
            raise ValueError("give either box or step")
        if self.start > self.end:
            raise ValueError("start must not be after end")
        return self


class TempArguments(Arguments):
    """Find when `query` happens between `start` and `end` seconds of the video."""

    query: Annotated[str, Field(min_length=1, max_length=200)]
    start: Annotated[float, Field(ge=0, allow_inf_nan=False, description="seconds")]
    end: Annotated[float, Field(ge=0, allow_inf_nan=False, description="seconds")]

    @model_validator(mode="after")
    def _some_time(self) -> "TempArguments":
        if self.start >= self.end:
            raise ValueError("start must be before end")
        return self


ARGUMENTS: dict[str, type[Arguments]] = {
    "SEG": SegArguments,
    "TRK": TrkArguments,
    "OCR": OcrArguments,
    "ZOOM": ZoomArguments,
    "TEMP": TempArguments,
    "PROP": PropArguments,
}


ErrorKind = Literal["action", "arguments", "bounds", "limit", "nothing", "unavailable"]


@dataclass(frozen=True, slots=True)
class Observation:
    """What came back from a call.

    `output` is the wire form and is stored; `text` is the short form a policy reads; `image` is set by
    ZOOM only (uint8 [height, width, 3]); `mask` by SEG only (bool [height, width] over image `source`,
    on video over frame `frame`).
    """

    output: Json
    text: str
    confidence: float = 1.0
    valid: bool = True
    image: np.ndarray[Any, Any] | None = None
    mask: np.ndarray[Any, Any] | None = None
    version: str = ""
    source: int = 0
    frame: int | None = None

    @property
    def artifact(self) -> str:
        """sha256 hex of what the call made (mask, crop, tracklet, spans, lines, properties): two calls
        with one digest returned the same thing. Empty for an invalid call."""
        return hashlib.sha256(canonical(self.output)).hexdigest() if self.valid else ""


@dataclass(slots=True)
class Workspace:
    """The images a trajectory can refer to (uint8 RGB; index 0 is the question's, on video its first
    frame), what its calls returned so far, in order, and the question's video where it has one."""

    images: list[np.ndarray[Any, Any]]
    observations: list[Observation] = field(default_factory=list)
    clip: Clip | None = None

    @classmethod
    def watching(cls, clip: Clip) -> "Workspace":
        """The workspace of a question about a video. MediaError where its first frame cannot be decoded."""
        return cls([clip.at(0)], clip=clip)

    def again(self) -> "Workspace":
        """Another start from the same pictures and video, which neither changes."""
        return Workspace(list(self.images), list(self.observations), self.clip)


class Tool(Protocol):
    """A backend of one action. `version` names backend, library version, weights digest and parameters:
    two tools of one version answer alike."""

    @property
    def version(self) -> str: ...

    def __call__(self, workspace: Workspace, arguments: Any) -> Observation:
        """Raises `ToolError` for a call that cannot be carried out."""
        ...


@runtime_checkable
class BatchTool(Protocol):
    """A backend that is faster on many calls at once. The calls are of different workspaces."""

    def batch(self, calls: Sequence[tuple[Workspace, Any]]) -> "list[Observation | ToolError]":
        """One answer a call, in order; a call that cannot be carried out is answered by its error."""
        ...


@runtime_checkable
class ThreadedTool(Protocol):
    """A backend whose calls may run in several threads at once, where `threaded` is true: what it keeps
    between calls bears it, and most of its time goes by in native code."""

    @property
    def threaded(self) -> bool: ...


class ToolError(ValueError):
    """A call that cannot be carried out; the text is for the policy, `kind` for who counts."""

    def __init__(self, text: str, kind: ErrorKind = "nothing") -> None:
        super().__init__(text)
        self.kind: ErrorKind = kind


class ToolCrash(RuntimeError):
    """A backend broke or ran out of time. Not the caller's doing, and it may pass."""


def pixels_of(workspace: Workspace, look: Look) -> np.ndarray[Any, Any]:
    """The picture a call names (uint8 [height, width, 3]). Raises ToolError where there is none,
    MediaError where a frame cannot be decoded."""
    if look.image >= len(workspace.images):
        known = len(workspace.images)
        raise ToolError(f"there is no image {_shown(look.image)}, only {known} counted from 0", "bounds")
    if look.frame is None or look.image:
        return workspace.images[look.image]
    return video_of(workspace, look.frame).at(look.frame)


def video_of(workspace: Workspace, last: int = 0) -> Clip:
    """The question's video, which must hold frame `last`. Raises ToolError where it does not."""
    if workspace.clip is None:
        raise ToolError("the question has no video", "bounds")
    if last >= workspace.clip.frames:
        has = workspace.clip.frames
        raise ToolError(f"there is no frame {_shown(last)}, the video has {has}", "bounds")
    return workspace.clip


def mask_of(workspace: Workspace, step: int) -> Observation:
    """The observation of an earlier SEG step, whose `mask` is set. Raises ToolError where it is none."""
    if step >= len(workspace.observations) or workspace.observations[step].mask is None:
        raise ToolError(f"step {_shown(step)} has no mask", "bounds")
    return workspace.observations[step]


def _shown(index: int) -> str:
    """An index in an error's text. JSON may hold integers of thousands of digits, which Python refuses to
    write out and nobody wants to read."""
    return str(index) if index < 10**9 else "so high"


def spoken(action: str, output: Json) -> str:
    """The short text a policy reads for a stored output of `action`.

    One rule for live calls and for stored steps, so that a policy trains on exactly what it will see.
    """
    if "error" in output:
        return f"error: {output['error']}"
    if action == "SEG":
        return "box {} {} {} {} area {}".format(*output["box"], output["area"])
    if action == "ZOOM":
        return f"image {output['image']}"
    if action == "OCR":
        return str(output["text"])
    if action == "TRK":
        return _told(output)
    if action == "TEMP":
        return f"{output['start']:.1f}-{output['end']:.1f}"
    return " ".join(f"{name} {output[name]}" for name in ("colour", "shape", "size", "count"))


def _told(output: Json) -> str:
    """A tracklet in few words: where the thing was last seen, and how far it came by then."""
    seen = [(output["start"] + n, box) for n, box in enumerate(output["boxes"]) if box is not None]
    (_, first), (frame, last) = seen[0], seen[-1]
    dx, dy = ((last[i] + last[i + 2] - first[i] - first[i + 2]) // 2 for i in (0, 1))
    return "frame {} box {} {} {} {} moved {} {}".format(frame, *last, dx, dy)


def to_pixels(box: tuple[int, int, int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """Wire box -> pixel box (exclusive right and bottom), at least one pixel wide and high."""
    x0, y0, x1, y1 = box
    left = min(round(x0 * width / WIRE), width - 1)
    top = min(round(y0 * height / WIRE), height - 1)
    right = min(max(round(x1 * width / WIRE), left + 1), width)
    bottom = min(max(round(y1 * height / WIRE), top + 1), height)
    return left, top, right, bottom


def to_wire(box: tuple[float, float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    """Pixel box (exclusive right and bottom) -> wire box with a positive area."""
    x0, y0, x1, y1 = box
    left = min(max(round(x0 * WIRE / width), 0), WIRE - 1)
    top = min(max(round(y0 * WIRE / height), 0), WIRE - 1)
    right = min(max(round(x1 * WIRE / width), left + 1), WIRE)
    bottom = min(max(round(y1 * WIRE / height), top + 1), WIRE)
    return left, top, right, bottom
