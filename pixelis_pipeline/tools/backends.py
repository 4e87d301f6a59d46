"""Which class answers an action: those of this package by name, those of others by entry point.

A package of yours adds a backend by an entry point in the group `pixelis.tools`, named
`<action>.<backend>`, for example `seg.mine = "my_package.seg:build"`, where `build(BackendSettings)`
returns a `contract.Tool`. It is chosen by `tools.seg.backend = "mine"`.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

from pixelis_pipeline.settings import BackendSettings, ToolSettings
from pixelis_pipeline.tools.contract import ARGUMENTS, Tool

GROUP = "pixelis.tools"
Build = Callable[[BackendSettings], Tool]


# Each backend is imported where it is chosen: some need an extra that is not installed everywhere.


def _grabcut(chosen: BackendSettings) -> Tool:
    from pixelis_pipeline.tools.seg import GrabCut

    return GrabCut()


def _sam2(chosen: BackendSettings) -> Tool:
    from pixelis_pipeline.tools.sam2 import Sam2

    return Sam2(chosen.weights, chosen.device)


def _sam2_package(chosen: BackendSettings) -> Tool:
    from pixelis_pipeline.tools.sam2_package import Sam2Package

    return Sam2Package(chosen.weights, chosen.device)


def _lanczos(chosen: BackendSettings) -> Tool:
    from pixelis_pipeline.tools.zoom import LanczosZoom

    return LanczosZoom()


def _correlation(chosen: BackendSettings) -> Tool:
    from pixelis_pipeline.tools.trk import CorrelationTracker

    return CorrelationTracker()


def _sam2_video(chosen: BackendSettings) -> Tool:
    from pixelis_pipeline.tools.sam2_video import Sam2Tracker

    return Sam2Tracker(chosen.weights, chosen.device)


def _rapidocr(chosen: BackendSettings) -> Tool:
    from pixelis_pipeline.tools.ocr import RapidOcr

    return RapidOcr()


def _paddleocr(chosen: BackendSettings) -> Tool:
    from pixelis_pipeline.tools.paddle_ocr import PaddleOcr

    return PaddleOcr(chosen.weights, chosen.device)


def _motion(chosen: BackendSettings) -> Tool:
    from pixelis_pipeline.tools.temp import MotionAndAppearance

    return MotionAndAppearance()


def _clip(chosen: BackendSettings) -> Tool:
    from pixelis_pipeline.tools.temp_clip import ClipScores

    return ClipScores(chosen.weights, chosen.device)


def _pixels(chosen: BackendSettings) -> Tool:
    from pixelis_pipeline.tools.prop import PixelProperties
    from pixelis_pipeline.tools.seg import GrabCut

    return PixelProperties(GrabCut())


OURS: Mapping[str, Build] = {
    "seg.grabcut": _grabcut,
    "seg.sam2": _sam2,
    "seg.sam2-package": _sam2_package,
    "zoom.lanczos": _lanczos,
    "trk.correlation": _correlation,
    "trk.sam2": _sam2_video,
    "ocr.rapidocr": _rapidocr,
    "ocr.paddleocr": _paddleocr,
    "temp.motion": _motion,
    "temp.clip": _clip,
    "prop.pixels": _pixels,
}


def known(action: str) -> list[str]:
    """The names of the backends that an action can be answered by, ours and those of other packages."""
    theirs = {point.name for point in entry_points(group=GROUP)}
    names = (name.partition(".") for name in theirs | set(OURS))
    return sorted(backend for of, _, backend in names if of == action.lower())


def build(settings: ToolSettings) -> dict[str, Tool]:
    """The tools that the settings choose, by action. ValueError for a backend that is not known."""
    return {action: _built(action, getattr(settings, action.lower())) for action in ARGUMENTS}


def _built(action: str, chosen: BackendSettings) -> Tool:
    name = f"{action.lower()}.{chosen.backend}"
    if name in OURS:  # a name of ours cannot be taken over
        return OURS[name](chosen)
    for point in entry_points(group=GROUP):
        if point.name == name:
            make: Build = point.load()
            return make(chosen)
    raise ValueError(
        f"tools.{action.lower()}.backend: no backend {chosen.backend!r}; there are {', '.join(known(action))}"
    )
