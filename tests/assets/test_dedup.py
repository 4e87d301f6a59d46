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

from pixelis_pipeline.curation import folder
from pixelis_pipeline.engine.journal import journal
from pixelis_pipeline.records import Failed
from pixelis_pipeline.settings import MediaLimits
from pixelis_pipeline.world.clip import encode
from pixelis_pipeline.world.scene import draw_scene

pytestmark = pytest.mark.slow

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
    place = tmp_path / "photos"
    (place / "below").mkdir(parents=True)
    for k in range(4):
        Image.fromarray(scene(k)).save(place / f"{k}.png")
    Image.fromarray(scene(0)).save(place / "below" / "a re-encoded 0.jpg", quality=70)
    Image.fromarray(scene(1)[20:276, 40:296]).save(place / "below" / "cut 1.png")
    shutil.copy(place / "2.png", place / "below" / "<b>2.png")
    Image.fromarray(scene(3)[:, ::-1]).save(place / "below" / "mirrored 3.png")
    (place / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of a JPEG")
    (place / "notes.txt").write_text("no picture")
    (place / ".hidden.png").write_bytes(b"")
    frames = [np.roll(scene(9), 9 * k, axis=1) for k in range(24)]
    (place / "film.mp4").write_bytes(encode(frames, 8))
    (place / "half the rate.mp4").write_bytes(encode(frames[::2], 4))
    return place


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


def test_every_copy_of_a_leaked_file_is_named(tmp_path: Path) -> None:
    """Equal bytes among the training files hide none of them; equal bytes in both folders are found too."""
    for name in ("training", "benchmark"):
        (tmp_path / name).mkdir()
    Image.fromarray(scene(1)).save(tmp_path / "benchmark" / "held.jpg", quality=80)
    Image.fromarray(scene(2)).save(tmp_path / "benchmark" / "same.png")
    Image.fromarray(scene(1)).save(tmp_path / "training" / "a1.png")
    shutil.copy(tmp_path / "training" / "a1.png", tmp_path / "training" / "a2.png")
    shutil.copy(tmp_path / "benchmark" / "same.png", tmp_path / "training" / "same again.png")
    for k in (5, 6):  # twice in training alone: no leak
        Image.fromarray(scene(9)).save(tmp_path / "training" / f"own {k}.png")
    assert dedup(tmp_path, "training", "--against", "benchmark", "--json", "found.json").returncode == 1
    told = json.loads((tmp_path / "found.json").read_text())
    names = [{Path(name).name for name in group["files"]} for group in told["groups"]]
    assert names == [{"held.jpg", "a1.png", "a2.png"}, {"same.png", "same again.png"}]


def test_many_alike_make_a_short_page_and_flat_ones_none(tmp_path: Path) -> None:
    """40 copies of one picture are tied by 39 links; 200 blank sheets of different greys are no copies."""
    (tmp_path / "many").mkdir()
    for k in range(40):
        Image.fromarray(scene(1)).save(tmp_path / "many" / f"{k:02d}.jpg", quality=50 + k)
    for k in range(200):
        Image.new("RGB", (64, 64), (k, k, k)).save(tmp_path / "many" / f"sheet {k:03d}.png")
    assert dedup(tmp_path, "many", "--json", "found.json").returncode == 0
    (group,) = json.loads((tmp_path / "found.json").read_text())["groups"]
    assert len(group["files"]) == 40 and len(group["links"]) == 39


def test_screens_and_plots_of_one_layout_are_no_copies(tmp_path: Path) -> None:
    """Nine tenths of such pictures agree; the tenth that does not is what they are about."""
    from PIL import ImageDraw

    from pixelis_pipeline.world.lettering import font

    (tmp_path / "screens").mkdir()
    rng = np.random.default_rng(4)
    for k in range(8):
        sheet = Image.new("RGB", (800, 600), (244, 245, 247))
        pen, letters = ImageDraw.Draw(sheet), font("DejaVuSans", 22)
        pen.rectangle((0, 0, 800, 56), fill=(38, 62, 120))
        pen.rectangle((0, 56, 180, 600), fill=(225, 229, 236))
        for row, word in enumerate(("Inbox", "Sent", "Drafts", "Spam", "Archive", "Settings")):
            pen.text((24, 90 + 56 * row), word, font=letters, fill=(50, 60, 80))
        for row in range(4):
            word = "".join(rng.choice(list("abcdefghijklmnop"), size=rng.integers(8, 26)))
            pen.text((230, 110 + 110 * row), word, font=letters, fill=(20, 20, 20))
        sheet.save(tmp_path / "screens" / f"{k}.png")
    assert dedup(tmp_path, "screens", "--json", "found.json").returncode == 0
    assert json.loads((tmp_path / "found.json").read_text())["groups"] == []


def test_a_name_that_is_no_utf8_and_a_file_that_goes_away(photos: Path, tmp_path: Path) -> None:
    """The first is refused by name; the second, where it went while the folder was read, is failed and read
    by the next run."""
    (photos / os.fsdecode(b"bad\xff.png")).write_bytes((photos / "0.png").read_bytes())
    done = dedup(tmp_path, photos, "--json", "found.json")
    assert done.returncode == 0 and "no UTF-8" in done.stderr
    path = photos / "gone.png"
    Image.fromarray(scene(70)).save(path)
    known = folder.key(path, MediaLimits())
    path.unlink()
    assert isinstance(folder.look(path, MediaLimits()), Failed)
    with journal(tmp_path / "log.jsonl", folder.Seen) as log:
        log.add(known, folder.look(path, MediaLimits()))
        assert known not in log


def test_a_file_that_changed_behind_its_time_is_said_and_looked_at_anew(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    sheet = np.full((300, 300, 3), 240, np.uint8)
    sheet[100:140, 80:220] = 30
    for name in ("a.bmp", "b.bmp"):
        Image.fromarray(sheet).save(tmp_path / "two" / name)
        sheet = sheet.copy()
        sheet[0, 0] = 239
    assert dedup(tmp_path, "two").returncode == 0
    path = tmp_path / "two" / "b.bmp"
    about = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    first, second = dedup(tmp_path, "two"), dedup(tmp_path, "two")
    assert first.returncode == 1 and "media changed" in first.stderr and "Traceback" not in first.stderr
    assert second.returncode == 0


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    Image.fromarray(scene(1)).save(tmp_path / "full" / "a.png")
    for arguments, words in (
        (["nowhere"], "is no folder"),
        (["empty"], "holds no image or video"),
        (["empty", "--against", "nowhere"], "is no folder"),
        (["full", "--against", "empty"], "nothing to compare with"),
        (["full", "--against", "full"], "that is not in full too"),
        (["full", "--out", "nowhere/p.html"], "cannot be written"),
        (["full", "--out", "empty"], "cannot be written"),
        (["full", "--out", "p", "--json", "p"], "both name p"),
        (["full", "--out", "/proc/p.html"], "/proc/p.html"),
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


def test_folders_that_may_not_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read all, so the refusal is planted where the system would give it."""
    Image.fromarray(scene(80)).save(tmp_path / "a.png")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refusing(place: Any) -> Any:
        if Path(place).name == "closed":
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refusing)
    told: list[OSError] = []
    assert [path.name for path in folder.files(tmp_path, told.append)] == ["a.png"]
    assert [Path(error.filename).name for error in told] == ["closed"]


def test_other_limits_make_another_file_of_it(tmp_path: Path) -> None:
    Image.fromarray(scene(81)).save(tmp_path / "a.png")
    keys = {folder.key(tmp_path / "a.png", MediaLimits(pixels=n)) for n in (10, 10, 10**6)}
    assert len(keys) == 2


def test_only_files_of_ones_own_could_go(tmp_path: Path) -> None:
    for place in ("ours", "theirs"):
        (tmp_path / place).mkdir()
        for name in ("a.png", "b.webp"):
            Image.fromarray(scene(82)).save(tmp_path / place / name)
    done = dedup(tmp_path, "ours", "--against", "theirs", "--json", "found.json")
    (group,) = json.loads((tmp_path / "found.json").read_text())["groups"]
    assert done.returncode == 1 and "2 files could go" in done.stdout
    assert sorted(Path(path).parent.name for path in group["could go"]) == ["ours", "ours"]
