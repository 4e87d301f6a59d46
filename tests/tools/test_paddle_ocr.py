"""The PaddleOCR backend. The real package is not installed here: a stand-in of its interface takes its
place, which proves what is passed to it and what is made of its answer, not what its models read."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

from pixelis_pipeline.settings import BackendSettings, ToolSettings
from pixelis_pipeline.tools import paddle_ocr
from pixelis_pipeline.tools.contract import OcrArguments, Workspace
from pixelis_pipeline.tools.paddle_ocr import PaddleOcr
from pixelis_pipeline.tools.registry import default_registry


def quad(x: float, y: float, wide: float, high: float) -> np.ndarray:
    return np.array([[x, y], [x + wide, y], [x + wide, y + high], [x, y + high]], np.int16)


class StandIn:
    """The interface of paddleocr.PaddleOCR 3.x, as far as it is used."""

    built: ClassVar[list[dict[str, Any]]] = []
    page: ClassVar[dict[str, Any]] = {}
    seen: ClassVar[list[np.ndarray]] = []

    def __init__(self, **given: Any) -> None:
        self.built.append(given)

    def predict(self, picture: np.ndarray, *, text_rec_score_thresh: float) -> list[dict[str, Any]]:
        self.seen.append(picture)
        return [self.page]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    module = ModuleType("paddleocr")
    module.PaddleOCR = StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "paddleocr", module)
    monkeypatch.setattr(paddle_ocr.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(StandIn, "built", [])
    monkeypatch.setattr(StandIn, "seen", [])
    monkeypatch.setattr(StandIn, "page", {"rec_texts": [], "rec_scores": [], "rec_polys": []})
    return StandIn


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    for part in ("det", "rec"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "inference.yml").write_text(f"Global:\n  model_name: PP-OCRv5_mobile_{part}\n")
        (tmp_path / part / "inference.pdiparams").write_bytes(part.encode())
    return tmp_path


def test_without_the_package_the_error_names_it(weights: Path) -> None:
    chosen = ToolSettings(ocr=BackendSettings(backend="paddleocr", weights=str(weights)))
    with pytest.raises(ValueError, match=r"pip install 'paddleocr>=3'"):
        default_registry(chosen)
    assert "paddleocr" not in sys.modules


def test_every_model_is_local_and_named_as_its_folder_says(stand_in: type[StandIn], weights: Path) -> None:
    tool = PaddleOcr(str(weights), "cuda:1")
    assert stand_in.built == []  # weights are read at the first call
    for _ in range(2):
        assert tool(Workspace([np.zeros((40, 40, 3), np.uint8)]), OcrArguments()).output == {"text": ""}
    assert stand_in.built == [
        {
            "text_detection_model_dir": str(weights / "det"),
            "text_detection_model_name": "PP-OCRv5_mobile_det",
            "text_recognition_model_dir": str(weights / "rec"),
            "text_recognition_model_name": "PP-OCRv5_mobile_rec",
            "use_textline_orientation": False,
            "use_doc_orientation_classify": False,
            "use_doc_unwarping": False,
            "device": "gpu:1",
        }
    ]


def test_a_folder_for_turned_lines_is_used_where_there_is_one(stand_in: type[StandIn], weights: Path) -> None:
    (weights / "cls").mkdir()
    (weights / "cls" / "inference.yml").write_text("Global:\n  model_name: PP-LCNet_x0_25_textline_ori\n")
    PaddleOcr(str(weights))(Workspace([np.zeros((40, 40, 3), np.uint8)]), OcrArguments())
    (given,) = stand_in.built
    assert given["use_textline_orientation"] is True
    assert given["textline_orientation_model_dir"] == str(weights / "cls")


def test_its_answer_is_ordered_and_placed_on_the_whole_picture(
    stand_in: type[StandIn], weights: Path
) -> None:
    stand_in.page.update(
        rec_texts=["stone", " ", "river", "noise", "green"],
        rec_scores=[0.9, 0.99, 0.8, 0.3, 0.95],
        rec_polys=[
            quad(10, 60, 60, 20),
            quad(0, 0, 9, 9),
            quad(90, 11, 60, 20),
            quad(5, 5, 9, 9),
            quad(10, 10, 60, 20),
        ],
    )
    picture = np.zeros((200, 400, 3), np.uint8)
    picture[..., 0] = 255  # red, as the workspace has it
    found = PaddleOcr(str(weights))(Workspace([picture]), OcrArguments(box=(500, 500, 999, 999)))
    assert found.output["text"] == found.text == "green river stone"
    assert found.confidence == 0.8 and found.valid
    assert found.output["lines"][0] == {"text": "green", "box": [524, 549, 674, 649], "confidence": 0.95}
    (seen,) = stand_in.seen
    assert seen.shape == (100, 200, 3) and tuple(seen[0, 0]) == (0, 0, 255)  # PaddleOCR reads BGR


def test_a_page_on_its_head_is_read_from_its_own_top(stand_in: type[StandIn], weights: Path) -> None:
    stand_in.page.update(
        rec_texts=["last", "first"],
        rec_scores=[0.9, 0.9],
        rec_polys=[quad(10, 10, 60, 20), quad(10, 60, 60, 20)],
        textline_orientation_angles=[1, 1],
    )
    found = PaddleOcr(str(weights))(Workspace([np.zeros((90, 90, 3), np.uint8)]), OcrArguments())
    assert found.output["text"] == "first last"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: "", "tools.ocr.weights"),
        (lambda folder: str(folder / "absent"), "no folder det/"),
        (lambda folder: (folder / "rec").rename(folder / "other") and str(folder), "no folder rec/"),
        (lambda folder: (folder / "rec" / "inference.yml").unlink() or str(folder), "model_name"),
    ],
    ids=["unset", "absent", "half", "no name"],
)
def test_missing_weights_are_named(stand_in: type[StandIn], weights: Path, spoil: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PaddleOcr(spoil(weights))


def test_the_version_follows_the_weights(stand_in: type[StandIn], weights: Path) -> None:
    first = PaddleOcr(str(weights)).version
    assert PaddleOcr(str(weights)).version == first and "det=PP-OCRv5_mobile_det" in first
    (weights / "rec" / "inference.pdiparams").write_bytes(b"other")
    assert PaddleOcr(str(weights)).version != first
