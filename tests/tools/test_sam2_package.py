"""The `sam2` package behind a child process. The package itself is not here: a stand-in of its two entry
points runs in the real child, over the real messages."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pixelis_pipeline.tools.contract import SegArguments, ToolError, Workspace
from pixelis_pipeline.tools.sam2_package import Sam2Package

pytestmark = pytest.mark.slow

BUILD = """
class Model:
    def load_state_dict(self, tensors):
        self.held = {name: float(tensor.sum()) for name, tensor in tensors.items()}
def build_sam2(config, weights, device="cuda"):
    print("noise on stdout")
    assert weights is None
    model = Model()
    model.config = config
    return model
"""
PREDICT = """
import os
import numpy as np
class SAM2ImagePredictor:
    def __init__(self, model):
        assert model.config == "configs/sam2.1/sam2.1_hiera_t.yaml", model.config
        assert model.held == {"w": 6.0}, model.held
    def set_image(self, pixels):
        self.pixels = pixels
        if (pixels == 1).all():
            os._exit(3)
        if (pixels == 2).all():
            raise ValueError("out of memory")
    def predict(self, point_coords, point_labels, box, multimask_output):
        masks = np.zeros((3 if multimask_output else 1, *self.pixels.shape[:2]), np.float32)
        if box is not None:
            x0, y0, x1, y1 = box.astype(int)
            masks[-1, y0:y1, x0:x1] = 1
        for x, y in (point_coords if point_coords is not None else np.zeros((0, 2))).astype(int):
            masks[-1, y, x] = 1
        masks *= (self.pixels > 9).any(2)
        return masks, np.arange(1, 1 + len(masks)) / 4, None
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with a package `sam2` beside it, as an environment of its own would have."""
    root = tmp_path_factory.mktemp("env")
    site = root / "lib" / "python3" / "site-packages"
    (site / "sam2-1.1.0.dist-info").mkdir(parents=True)
    (site / "sam2").mkdir()
    (site / "sam2" / "__init__.py").touch()
    (site / "sam2" / "build_sam.py").write_text(BUILD)
    (site / "sam2" / "sam2_image_predictor.py").write_text(PREDICT)
    (root / "bin").mkdir()
    run = root / "bin" / "python"
    run.write_text(f'#!/bin/sh\nPYTHONPATH="{site}" exec "{sys.executable}" "$@"\n')
    run.chmod(0o755)
    return run


@pytest.fixture
def tool(python: Path, tmp_path: Path) -> Sam2Package:
    save_file({"w": np.full(3, 2.0, np.float32)}, tmp_path / "sam2.1_hiera_tiny.safetensors")
    return Sam2Package(str(tmp_path), python=python)


def pixels(value: int = 50) -> np.ndarray:
    return np.full((30, 41, 3), value, np.uint8)


def test_masks_come_back_over_the_pipes(tool: Sam2Package) -> None:
    for _ in range(2):
        said = tool(Workspace([pixels()]), SegArguments(box=(0, 0, 500, 500)))
        expected = np.zeros((30, 41), bool)
        expected[:15, :21] = True
        assert said.mask is not None and np.array_equal(said.mask, expected) and said.confidence == 0.25
    one = tool(Workspace([pixels()]), SegArguments(points=((999, 0),)))
    assert one.mask is not None and np.argwhere(one.mask).tolist() == [[0, 40]] and one.confidence == 0.75
    assert "sam2 1.1.0 sam2.1_hiera_tiny" in tool.version


def test_nothing_and_failures(tool: Sam2Package) -> None:
    arguments = SegArguments(box=(0, 0, 500, 500))
    with pytest.raises(ToolError) as nothing:
        tool(Workspace([pixels(0)]), arguments)
    assert nothing.value.kind == "nothing"
    with pytest.raises(RuntimeError, match="out of memory"):
        tool(Workspace([pixels(2)]), arguments)
    with pytest.raises(RuntimeError, match="process ended"):
        tool(Workspace([pixels(1)]), arguments)
    assert tool(Workspace([pixels()]), arguments).valid  # by another child


def test_the_child_ends_with_the_tool(tool: Sam2Package) -> None:
    tool(Workspace([pixels()]), SegArguments(box=(0, 0, 500, 500)))
    assert tool._child is not None
    process = tool._child._process
    os.kill(process.pid, 0)
    tool._child = None
    assert process.poll() is not None


def test_what_is_missing_is_named(python: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="make sam2"):
        Sam2Package(str(tmp_path), python=tmp_path / "bin" / "python")
    with pytest.raises(ValueError, match=r"tools\.seg\.weights: .*sam2\.1_hiera_large.* it holds none"):
        Sam2Package(str(tmp_path), python=python)
    (tmp_path / "sam2.1_hiera_tiny.pt").write_bytes(b"a pickle")
    with pytest.raises(ValueError, match=r"\.pt files are pickles and are not loaded"):
        Sam2Package(str(tmp_path), python=python)
