"""What the page of an asset says of replayed records: each step's claim against its re-run."""

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assets import examples
from assets.stage import Project
from pixelis_pipeline.columns import to_row
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.media import probe
from pixelis_pipeline.records import Action, Origin, Question, Rejected, Step, Trajectory
from pixelis_pipeline.settings import MediaLimits, Settings
from pixelis_pipeline.tools.masks import encode
from tests.media.made import encoded, film, picture

MASK = np.zeros((64, 96), bool)
MASK[10:40, 20:60] = True
SEG = Step(
    "Look.",
    Action("SEG", {"box": [100, 100, 900, 900]}),
    {"box": [300, 300, 800, 800], "area": 9, "mask": encode(MASK[::-1])},
    decisive=True,
    replayed={"box": [208, 156, 625, 625], "area": 195, "mask": encode(MASK)},
    metric="IoU",
    measured=0.4321,
    threshold=0.5,
    verdict="differs",
)
OCR = Step(
    "Read.",
    Action("OCR", {}),
    {"text": "<b>|x|</b>\n# head"},
    replayed={"text": "said"},
    metric="ANLS",
    measured=0.9,
    threshold=0.85,
    verdict="same",
)
TRK = Step(
    "Follow.",
    Action("TRK", {"box": [0, 0, 99, 99], "start": 2, "end": 9}),
    {"start": 2, "end": 9, "boxes": [[0, 0, 99, 99]] * 8},
    replayed={"start": 2, "end": 9, "boxes": [[50 * k, 0, 99 + 50 * k, 99] for k in range(8)]},
    metric="HOTA",
    measured=0.2,
    threshold=0.15,
    verdict="same",
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path, Settings())


@pytest.fixture
def trace(tmp_path: Path) -> Callable[..., Trajectory]:
    def make(*steps: Step, video: bool = False) -> Trajectory:
        path = tmp_path / ("film.mp4" if video else "scene.png")
        path.write_bytes(film(frames=12) if video else encoded(picture(), "PNG"))
        media = probe(path, MediaLimits())
        question = Question(
            "q", (), Origin("sa1b", "r", "CC0-1.0", "training"), (media,), "How many?", "3", "count"
        )
        return Trajectory("t", (), question, steps, "3", "positive")

    return make


def pictures(markdown: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", markdown)
    return [np.asarray(Image.open(BytesIO(base64.b64decode(each)))) for each in found]


def test_every_step_is_a_line_that_markdown_cannot_mistake(trace: Callable[..., Trajectory]) -> None:
    head, rule, seg, ocr = examples.replay_table(to_row(trace(SEG, OCR))).splitlines()
    assert head.count("|") == rule.count("|") == seg.count("|") == ocr.count("|") == 9
    assert [cell.strip() for cell in seg.strip("|").split("|")] == [
        *("0", "SEG", "box 300 300 800 800 area 9 → box 208 156 625 625 area 195"),
        *("IoU", "0.432", "0.5", "differs", "yes"),
    ]
    assert "<b>" not in ocr and "→ said" in ocr and ocr.rstrip("| ").endswith("same")


def test_a_claim_that_no_tool_would_make_is_shown_as_it_is(trace: Callable[..., Trajectory]) -> None:
    odd = replace(TRK, output={"boxes": [None], "start": "x"})
    never = replace(OCR, replayed={}, metric="", verdict="other version")
    _, _, first, second = examples.replay_table(to_row(trace(odd, never))).splitlines()
    assert "boxes" in first and "frame 9 box 350 0 449 99 moved 350 0" in first
    assert "not run" in second and "other version" in second


def test_what_was_not_replayed_has_no_table(trace: Callable[..., Trajectory]) -> None:
    assert examples.replay_table(to_row(trace(replace(OCR, verdict="", replayed={})))) == ""
    assert examples.replay_table({"steps": "?"}) == examples.replay_table({}) == ""


def test_the_picture_shows_the_claim_beside_the_re_run(
    project: Project, trace: Callable[..., Trajectory]
) -> None:
    (both,) = pictures(examples.picture(project, to_row(trace(SEG))))
    (alone,) = pictures(examples.picture(project, to_row(trace(replace(SEG, output={})))))
    assert both.shape == alone.shape == (64, 96, 3) and (both != alone).any()


def test_a_video_is_a_sheet_of_the_frames_that_steps_name(
    project: Project, trace: Callable[..., Trajectory]
) -> None:
    (still,) = pictures(examples.picture(project, to_row(trace(video=True))))
    (sheet,) = pictures(examples.picture(project, to_row(trace(TRK, video=True))))
    assert sheet.shape[0] > still.shape[0] and max(sheet.shape) <= 2 * examples.SIDE


def test_five_kept_and_five_refused_are_shown_whatever_the_files(
    project: Project, trace: Callable[..., Trajectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row: dict[str, Any] = to_row(trace(SEG, OCR))
    refused = [Rejected(str(k), "s", f"rule {k % 3}", 0.4, 0.5, record=row) for k in range(20)]
    monkeypatch.setattr(examples, "first", lambda folder: iter([row] * 12))
    monkeypatch.setattr(artifact, "rejected", lambda folder: iter(refused))
    kept, lost = examples.kept_examples(project, tmp_path), examples.rejected_examples(project, tmp_path)
    for shown in (kept, lost):
        assert len(pictures(shown)) == shown.count("recorded → re-run") == 5
    assert kept.count("How many?") == 5 and all(
        f"**rule {k}** measured 0.4, limit 0.5" in lost for k in range(3)
    )


@pytest.mark.parametrize(
    ("action", "claim"),
    [("TEMP", {"start": 0, "end": 10**400}), ("TRK", {"start": 10**400, "boxes": [[0, 0, 9, 9]]})],
)
def test_a_claim_beyond_all_numbers_costs_no_run(action: str, claim: dict[str, Any]) -> None:
    step = replace(TRK, action=Action(action, {}), output=claim, replayed={"error": "?", "kind": "arguments"})
    assert examples.replay_table({"steps": [to_row(step)]}).startswith("| step |")
