"""`pixelis dedup` on folders with planted copies, broken files and hostile names."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelis_pipeline.world.clip import encode
from pixelis_pipeline.world.scene import draw_scene

ROOT = Path(__file__).resolve().parents[2]
REALDATA = Path(os.environ.get("PIXELIS_REALDATA", ROOT.parent / "shared" / "realdata"))


def scene(seed: int) -> Any:
    return draw_scene(np.random.default_rng(seed), width=320, height=320, ground="photograph").image


def dedup(cwd: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """The command in a folder that passes for a project, so that nothing is left in this checkout."""
    (cwd / "workspace.yaml").touch()
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "assets.cli", "dedup", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for k in range(4):
        Image.fromarray(scene(k)).save(folder / f"{k}.png")
    Image.fromarray(scene(0)).save(folder / "below" / "a re-encoded 0.jpg", quality=70)
    Image.fromarray(scene(1)[20:276, 40:296]).save(folder / "below" / "cut 1.png")
    shutil.copy(folder / "2.png", folder / "below" / "<b>2.png")
    Image.fromarray(scene(3)[:, ::-1]).save(folder / "below" / "mirrored 3.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of a JPEG")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    frames = [np.roll(scene(9), 9 * k, axis=1) for k in range(24)]
    (folder / "film.mp4").write_bytes(encode(frames, 8))
    (folder / "half the rate.mp4").write_bytes(encode(frames[::2], 4))
    return folder


def test_copies_are_grouped_and_the_page_tells_why(photos: Path, tmp_path: Path) -> None:
    done = dedup(tmp_path, photos, "--json", "found.json")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "found.json").read_text())
    names = [{Path(name).name for name in group["files"]} for group in told["groups"]]
    wanted = [
        {"0.png", "a re-encoded 0.jpg"},
        {"1.png", "cut 1.png"},
        {"2.png", "<b>2.png"},
        {"film.mp4", "half the rate.mp4"},
    ]
    assert sorted(map(sorted, names)) == sorted(map(sorted, wanted))
    signals = {link["signal"] for group in told["groups"] for link in group["links"]}
    assert {"bytes", "cut"} <= signals
    assert [Path(name).name for name in told["not read"]] == ["broken.jpg"]
    assert told["compared"] == 10
    page = (tmp_path / "dedup.html").read_text()
    assert "&lt;b&gt;2.png" in page and "<b>2.png" not in page
    assert page.count("data:image/webp;base64,") == 8
    assert "broken.jpg" in done.stderr


def test_a_second_run_looks_at_nothing_and_a_changed_file_is_seen(photos: Path, tmp_path: Path) -> None:
    first = dedup(tmp_path, photos, "--json", "one.json")
    (log,) = (tmp_path / "data" / ".work" / "dedup").rglob("journal.jsonl")
    size = log.stat().st_size
    dedup(tmp_path, photos, "--json", "two.json")
    assert log.stat().st_size == size
    assert (tmp_path / "one.json").read_text() == (tmp_path / "two.json").read_text(), first.stderr
    Image.fromarray(scene(77)).save(photos / "below" / "cut 1.png")
    dedup(tmp_path, photos, "--json", "three.json")
    assert len(json.loads((tmp_path / "three.json").read_text())["groups"]) == 3
    with log.open("ab") as torn:
        torn.write(b'{"key": "half a li')
    assert dedup(tmp_path, photos, "--json", "four.json").returncode == 0
    assert (tmp_path / "four.json").read_text() == (tmp_path / "three.json").read_text()


def test_against_another_folder(photos: Path, tmp_path: Path) -> None:
    """Only what stands in both, whichever was cut from which; and what is twice in one is not told."""
    benchmark = tmp_path / "benchmark"
    benchmark.mkdir()
    Image.fromarray(scene(1)).resize((200, 200)).save(benchmark / "held.png")
    Image.fromarray(scene(50)).save(benchmark / "other.png")
    done = dedup(tmp_path, photos, "--against", benchmark, "--json", "found.json")
    assert done.returncode == 1
    (group,) = json.loads((tmp_path / "found.json").read_text())["groups"]
    assert {Path(name).name for name in group["files"]} == {"held.png", "1.png", "cut 1.png"}
    clean = tmp_path / "clean"
    clean.mkdir()
    Image.fromarray(scene(60)).save(clean / "x.png")
    assert dedup(tmp_path, clean, "--against", benchmark).returncode == 0


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        (["nowhere"], "is no folder"),
        (["empty"], "holds no image or video"),
        (["empty", "--against", "nowhere"], "is no folder"),
    ):
        done = dedup(tmp_path, *arguments)
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(not REALDATA.is_dir(), reason="the authors' pictures are not at hand")
@pytest.mark.parametrize(
    ("family", "wanted", "refused"),
    [
        ("dedup_image", [{"ukbench00120.jpg", "ukbench00120_resize.jpg"}], {"ukbench09268_corrupt.jpg"}),
        (
            "dedup_media_dj",
            [
                {"img1.png", "img4.png"},
                {"img2.jpg", "img5.jpg"},
                {"img3.jpg", "img6.jpg", "img7.jpg"},
                {"video1.mp4", "video6.mp4"},
            ],
            set(),
        ),
    ],
)
def test_the_authors_groups(tmp_path: Path, family: str, wanted: list[set[str]], refused: set[str]) -> None:
    done = dedup(tmp_path, REALDATA / family, "--json", "found.json")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "found.json").read_text())
    assert [{Path(name).name for name in group["files"]} for group in told["groups"]] == wanted
    assert {Path(name).name for name in told["not read"]} == refused
