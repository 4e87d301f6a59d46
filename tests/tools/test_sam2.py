"""SAM 2 through transformers, on random weights: loading, prompts, batches and errors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.records import Action
from pixelis_pipeline.settings import BackendSettings, ToolSettings
from pixelis_pipeline.tools.contract import (
    BatchTool,
    Observation,
    SegArguments,
    ToolError,
    TrkArguments,
    Workspace,
    spoken,
)
from pixelis_pipeline.tools.registry import default_registry
from pixelis_pipeline.tools.sam2 import DEVIATION, MEAN, Sam2, loaded, prepared
from pixelis_pipeline.tools.sam2_video import Sam2Tracker
from tests.tools.tiny_sam2 import save_image_model, save_video_model

BOX = (100, 100, 800, 900)
PROMPTS = [
    SegArguments(box=BOX),
    SegArguments(points=((500, 500),)),
    SegArguments(box=BOX, points=((500, 500), (300, 300))),
    SegArguments(box=(0, 300, 999, 700)),
]


def noise(seed: int, height: int = 50, width: int = 70) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_image_model(tmp_path_factory.mktemp("sam2"))


@pytest.fixture(scope="module")
def video_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_video_model(tmp_path_factory.mktemp("sam2_video"))


@pytest.fixture(scope="module")
def seg(image_model: str) -> Sam2:
    return Sam2(image_model)


@pytest.fixture(scope="module")
def tracker(video_model: str) -> Sam2Tracker:
    return Sam2Tracker(video_model)


def answered(tool: Sam2, pixels: np.ndarray, arguments: SegArguments) -> Observation | ToolError:
    (answer,) = tool.batch([(Workspace([pixels]), arguments)])
    return answer


def test_masks_have_the_pictures_size_and_repeat(seg: Sam2) -> None:
    assert isinstance(seg, BatchTool)
    masks = 0
    for arguments in PROMPTS:
        first, again = (answered(seg, noise(1), arguments) for _ in range(2))
        if isinstance(first, Observation) and isinstance(again, Observation):
            masks += 1
            assert first.output == again.output and first.mask is not None
            assert first.mask.shape == (50, 70) and 0 <= first.confidence <= 1
    assert masks >= 2


def test_a_batch_answers_as_single_calls_do(seg: Sam2) -> None:
    calls = [(Workspace([noise(k % 3, 40 + k, 60)]), PROMPTS[k % 4]) for k in range(11)]
    calls.insert(3, (Workspace([noise(0)]), SegArguments(box=BOX, image=4)))
    together = seg.batch(calls)
    assert isinstance(together[3], ToolError) and together[3].kind == "bounds"
    for (workspace, arguments), answer in zip(calls, together, strict=True):
        single = seg.batch([(workspace, arguments)])[0]
        assert type(single) is type(answer)
        if isinstance(single, Observation) and isinstance(answer, Observation):
            assert single.mask is not None and answer.mask is not None
            assert np.mean(single.mask != answer.mask) < 0.002  # rounding may move a pixel of the outline


def test_the_prompt_and_the_picture_both_matter(seg: Sam2) -> None:
    def logits(pixels: np.ndarray, box: list[float]) -> torch.Tensor:
        model = seg._model
        with torch.inference_mode():
            seen = torch.from_numpy(prepared(pixels, 64))[None]
            return model(
                pixel_values=seen, input_boxes=torch.tensor([[box]]), multimask_output=False
            ).pred_masks

    base = logits(noise(1), [4.0, 4.0, 40.0, 40.0])
    assert not torch.allclose(base, logits(noise(2), [4.0, 4.0, 40.0, 40.0]))
    assert not torch.allclose(base, logits(noise(1), [20.0, 4.0, 60.0, 40.0]))


def test_pictures_are_prepared_as_by_torchs_antialiasing() -> None:
    pixels = np.repeat(np.repeat(noise(4, 20, 25), 9, 0), 9, 1)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(tensor, (64, 64), mode="bilinear", antialias=True)[0] / 255
    expected = (resized - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    assert np.abs(prepared(pixels, 64) - expected.numpy()).max() < 0.02  # eight bits a channel


def test_the_version_names_the_weights(image_model: str, tmp_path: Path) -> None:
    other = save_image_model(tmp_path / "copy")
    assert Sam2(other).version == Sam2(image_model).version
    config = tmp_path / "copy" / "config.json"
    config.write_text(config.read_text().replace("gelu", "relu"))
    assert Sam2(other).version != Sam2(image_model).version


@pytest.mark.parametrize("tool", [Sam2, Sam2Tracker])
def test_folders_without_usable_weights(tool: type[Sam2] | type[Sam2Tracker], tmp_path: Path) -> None:
    for folder in ("", str(tmp_path / "nowhere")):
        with pytest.raises(ValueError, match=r"tools\.(seg|trk)\.weights: there is no folder"):
            tool(folder)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no weights"):
        tool(str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"only pytorch_model\.bin, and pickled weights are not loaded"):
        tool(str(tmp_path))


def test_half_a_model_is_refused(image_model: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lacks \d+ weights of Sam2VideoModel"):
        loaded("Sam2VideoModel", image_model, "cpu")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="not SAM 2"):
        loaded("Sam2Model", str(tmp_path), "cpu")


def watched(frames: int = 24) -> Workspace:
    return Workspace.watching(Clip(frames, 8.0, 70, 50, lambda: (noise(k) for k in range(frames))))


def test_a_video_model_also_segments(video_model: str) -> None:
    settings = ToolSettings(seg=BackendSettings(backend="sam2", weights=video_model))
    said = default_registry(settings).call(Workspace([noise(1)]), Action("SEG", {"box": list(BOX)}))
    assert said.valid or said.output["kind"] == "nothing"


def test_tracks_are_one_box_a_frame_and_repeat(tracker: Sam2Tracker) -> None:
    workspace = watched()
    arguments = TrkArguments(box=BOX, start=2, end=22)
    first = tracker(workspace, arguments)
    boxes = first.output["boxes"]
    assert (first.output["start"], first.output["end"], len(boxes)) == (2, 22, 21)
    assert boxes[0] is not None and first.text == spoken("TRK", first.output)
    assert all(box is None or (len(box) == 4 and all(0 <= side <= 999 for side in box)) for box in boxes)
    assert tracker(workspace, arguments).output == first.output
    assert tracker(workspace, TrkArguments(box=BOX, start=2, end=8)).output["boxes"] == boxes[:7]


def test_memory_is_the_same_as_when_nothing_is_forgotten(
    tracker: Sam2Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = TrkArguments(box=BOX, start=0, end=23)
    short = tracker(watched(), arguments)
    held: list[int] = []
    monkeypatch.setattr(tracker, "_forget", lambda session, now: held.append(len(session.processed_frames)))
    assert tracker(watched(), arguments).output == short.output
    assert held[-1] == 24


def test_a_track_starts_from_a_mask(tracker: Sam2Tracker) -> None:
    workspace = watched()
    mask = np.zeros((50, 70), bool)
    mask[10:40, 20:60] = True
    workspace.observations.append(Observation({}, "", mask=mask, frame=3))
    boxes = tracker(workspace, TrkArguments(step=0, start=3, end=6)).output["boxes"]
    expected = np.array([20 / 70, 10 / 50, 60 / 70, 40 / 50]) * 999
    assert boxes[0] is not None and np.abs(np.array(boxes[0]) - expected).max() < 40  # the mask itself
    for call, match in (
        (TrkArguments(step=0, start=0, end=6), "lies over frame 3, not frame 0"),
        (TrkArguments(step=1, start=0, end=6), "has no mask"),
        (TrkArguments(box=BOX, start=0, end=24), "there is no frame 24"),
    ):
        with pytest.raises(ToolError, match=match) as error:
            tracker(workspace, call)
        assert error.value.kind == "bounds"
