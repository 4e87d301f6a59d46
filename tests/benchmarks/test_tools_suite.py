import cv2
import numpy as np
import pytest

from benchmarks import tools
from benchmarks.__main__ import SUITES
from evaluation.tool_audit import CASES
from evaluation.tool_audit import SEED as AUDITED
from evaluation.tools.trials import audit
from pixelis_pipeline.records import Action
from pixelis_pipeline.tools.contract import Observation, Workspace, to_pixels
from pixelis_pipeline.tools.registry import Registry, default_registry


class Spins:
    """Takes a known CPU time, and longer at the first call."""

    version = "spins/1"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, workspace: Workspace, arguments: object) -> Observation:
        import time

        self.calls += 1
        until = time.process_time() + (0.2 if self.calls == 1 else 0.01)
        while time.process_time() < until:
            pass
        return Observation({"text": ""}, "")


def test_what_is_timed_is_the_warm_call_and_the_callers_workspace_stays_as_it_is():
    workspace, tool = Workspace([np.zeros((8, 8, 3), np.uint8)]), Spins()
    spent = tools.milliseconds(Registry({"OCR": tool}), [(workspace, Action("OCR", {}))] * 5)
    assert tool.calls == 6 and spent >= 10
    assert workspace.observations == []


def test_inputs_are_of_the_stated_size_and_not_the_audits():
    for workspace, (x0, y0, x1, y1) in tools._pictures(3):
        assert workspace.images[0].shape == (tools.SIDE, tools.SIDE, 3)
        left, top, right, bottom = to_pixels((x0, y0, x1, y1), tools.SIDE, tools.SIDE)
        assert (right - left, bottom - top) == (tools.BOX, tools.BOX)
    assert all(w.images[0].shape == (tools.CROP, tools.CROP, 3) for w in tools._crops(2))
    assert tools.SEED != AUDITED and "tools" in SUITES


def test_every_target_of_accuracy_is_of_the_value():
    wanted = {"SEG": [0.85, 0.9], "OCR": [0.95], "TRK": [0.7], "TEMP": [0.85], "PROP": [0.92]}
    assert {tool: [target for *_, target in scores] for tool, scores in tools.SCORES.items()} == wanted


@pytest.mark.parametrize("tool", ["SEG", "TRK", "ZOOM"])
def test_a_peer_answers_the_same_calls(tool: str):
    _, peers = tools.PEERS[tool]
    (case, *_) = CASES[tool](tools.SEED, 3)
    if tool == "ZOOM":
        workspace = case.workspace()
        made = Registry(peers).call(workspace, Action("ZOOM", {"box": [0, 0, 500, 500], "scale": 2}))
        assert made.valid and made.image is not None
        height, width = workspace.images[0].shape[:2]
        assert abs(made.image.shape[0] - height) <= 2 and abs(made.image.shape[1] - width) <= 2
    else:
        (found,) = audit(Registry(peers), [case])
        assert found.mean > 0.5


@pytest.mark.slow
def test_the_suite_measures_every_tool_beside_its_peer():
    registry = default_registry()
    rows = [*tools.accuracy(registry, count=4, shared=1), *tools.latency(registry, repeats=2)]
    assert {row.name.split(":")[0] for row in rows} == set(CASES)
    assert all(row.value > 0 for row in rows if row.unit) and cv2.getNumThreads() >= 1
    for row in rows:
        assert (row.met is None) == (row.target is None)
        assert (row.ratio is None) or row.ratio == pytest.approx(row.value / row.peer_value, rel=0.02)
    assert {row.peer for row in rows if row.peer} == {name for name, _ in tools.PEERS.values()}
