"""The pictures that a stored trace shows a policy, in the order of its tokens."""

from pixelis_pipeline.agent import film, render
from pixelis_pipeline.agent.pixels import Image
from pixelis_pipeline.agent.rollout import opening
from pixelis_pipeline.records import Trajectory
from pixelis_pipeline.tools.contract import ZoomArguments
from pixelis_pipeline.tools.opening import Open
from pixelis_pipeline.tools.zoom import LanczosZoom


def pictures(contract: render.Contract, trace: Trajectory, open_media: Open) -> list[Image]:
    """Those of its question and, where the contract shows them, the crops that its calls made when they were
    replayed: they are made again, which gives the same bytes. uint8 RGB. MediaError for media that cannot be
    decoded."""
    workspace = open_media(trace.question.media)
    shown = opening(contract, workspace, film.of(trace.question.media))
    if not contract.crops:
        return shown
    zoom = LanczosZoom()
    for step in trace.steps:
        if render.made(step.action.name, step.replayed):
            crop = zoom(workspace, ZoomArguments.model_validate(step.action.arguments)).image
            assert crop is not None
            workspace.images.append(crop)
            if contract.tokens(*crop.shape[:2]):
                shown.append(crop)
    return shown
