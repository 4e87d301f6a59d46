"""`pixelis tools`: the list, one call of each action on a file, and every mistake with its advice."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from assets import cli, sheet
from tests.assets.conftest import ROOT
from tests.media.made import encoded
from tests.media.made import film as grey_film

WIDTH, HEIGHT = 320, 200


def scene() -> np.ndarray:
    """A red square at 40-120 x 50-130 and a word, on grey."""
    made = np.full((HEIGHT, WIDTH, 3), 205, np.uint8)
    made[50:130, 40:120] = (210, 30, 40)
    cv2.putText(made, "RIVER", (160, 150), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (20, 20, 20), 3)
    return made


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a picture and a film of a moving square, and the command run there."""
    (tmp_path / "scene.png").write_bytes(encoded(Image.fromarray(scene()), "PNG"))
    (tmp_path / "film.mp4").write_bytes(_moving())
    (tmp_path / "workspace.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _moving() -> bytes:
    from pixelis_pipeline.world.clip import encode

    frames = []
    for k in range(16):
        frame = np.full((96, 128, 3), 205, np.uint8)
        frame[30:54, 10 + 5 * k : 34 + 5 * k] = (210, 30, 40)
        frames.append(frame)
    return encode(frames, 8)


@pytest.fixture
def tried(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Runs `pixelis tools try ... --json`: (exit status, the observation, or what went to stderr)."""

    def run(*words: str) -> tuple[int, Any]:
        try:
            code = cli.main(["tools", "try", *words, "--json"])
        except SystemExit as stopped:  # argparse
            assert isinstance(stopped.code, int)
            code = stopped.code
        told = capsys.readouterr()
        return code, json.loads(told.out) if told.out else " ".join(told.err.split())

    return run


def test_the_list_names_every_backend_and_what_is_missing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tools"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = {tuple(line.split()[:2]): line for line in lines if line.split()[:1]}
    for action, backend in (("SEG", "grabcut"), ("ZOOM", "lanczos"), ("OCR", "rapidocr"), ("TEMP", "motion")):
        assert re.search(rf"in use +yes +{action.lower()}/\d", row[action, backend])
    assert re.search(r"sam2 +no +.*tools\.seg\.weights", row["SEG", "sam2"])
    assert "install" in row["OCR", "paddleocr"] and "in use" not in row["OCR", "paddleocr"]


def test_the_list_shows_a_choice_that_cannot_be_used(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "pixelis.toml").write_text('[tools.seg]\nbackend = "magic"\n')
    assert cli.main(["tools"]) == 0
    assert re.search(r"SEG +magic +in use +no +.*no backend 'magic'; there are", capsys.readouterr().out)


def test_seg_by_wire_and_by_pixels_is_the_same_call(tried: Callable[..., Any], here: Path) -> None:
    wire = [
        str(round(n * 999 / side)) for n, side in zip((30, 40, 130, 140), (WIDTH, HEIGHT) * 2, strict=True)
    ]
    code, first = tried("SEG", "--image", "scene.png", "--box", *wire, "--out", "seg.png")
    _, second = tried("seg", "--image", "scene.png", "--box", "30", "40", "130", "140", "--pixels")
    assert code == 0 and first["valid"] and first["output"] == second["output"]
    left, top, right, bottom = first["output"]["box"]
    assert abs(left - 125) < 8 and abs(top - 250) < 10 and abs(right - 375) < 8 and abs(bottom - 649) < 10
    assert first["text"].startswith("box ") and first["version"].startswith("seg/")
    assert first["milliseconds"] > 0 and len(first["artifact"]) == 64
    drawn = np.asarray(Image.open(here / "seg.png"))
    assert (drawn[60:120, 50:110] != scene()[60:120, 50:110]).any(axis=2).all()  # the mask is tinted
    assert (drawn[150:190, 10:100] == scene()[150:190, 10:100]).all()
    assert (here / "scene.SEG.png").is_file()


def test_points(tried: Callable[..., Any]) -> None:
    code, said = tried("SEG", "--image", "scene.png", "--points", "80", "90", "100", "110", "--pixels")
    assert said["arguments"] == {"points": [[250, 450], [312, 549]]} and code in (0, 1)


def test_zoom_shows_its_crop(tried: Callable[..., Any], here: Path) -> None:
    code, said = tried(
        "ZOOM", "--image", "scene.png", "--box", "0", "0", "499", "999", "--scale", "3", "--out", "z.png"
    )
    assert code == 0 and said["output"]["image"] == 1
    assert np.asarray(Image.open(here / "z.png")).shape[0] > HEIGHT + 600


def test_ocr_and_its_page(tried: Callable[..., Any], here: Path) -> None:
    code, said = tried("OCR", "--image", "scene.png", "--out", "page.html")
    assert code == 0 and said["output"]["text"].replace(" ", "") == "RIVER"
    page = (here / "page.html").read_text()
    assert page.count("data:image/png;base64,") == 1 and "RIVER" in page and "://" not in page


def test_what_a_backend_says_is_text_in_the_page(here: Path) -> None:
    from assets.trying import Trial
    from pixelis_pipeline.records import Action
    from pixelis_pipeline.tools.contract import Observation, Workspace

    seen = Observation({"text": "<script>"}, "<script>")
    trial = Trial(Action("OCR", {}), Workspace([scene()]), seen, 1.0, "<b>")
    page = sheet.page(trial).decode()
    assert "<script>" not in page and "&lt;script&gt;" in page and "&lt;b&gt;" in page


def test_prop_prints_its_fields(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["PROP", "--image", "scene.png", "--box", "30", "40", "130", "140", "--pixels"]
    assert cli.main(["tools", "try", *words]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (told["colour"], told["shape"], told["valid"]) == ("red", "square", "yes")
    assert told["picture"] == "scene.PROP.png" and told["version"].startswith("prop/")


def test_a_track_is_a_sheet_of_frames(tried: Callable[..., Any], here: Path) -> None:
    box = ["--box", "10", "30", "34", "54", "--pixels"]
    code, said = tried("TRK", "--video", "film.mp4", *box, "--out", "t.png")
    assert code == 0 and (said["arguments"]["start"], said["arguments"]["end"]) == (0, 15)
    last = said["output"]["boxes"][-1]
    assert last is not None and abs(last[0] - 85 * 999 / 128) < 60
    assert np.asarray(Image.open(here / "t.png")).shape[1] > 2 * 128  # several frames side by side


def test_temp_draws_its_span_on_time(tried: Callable[..., Any], here: Path) -> None:
    code, said = tried("TEMP", "--video", "film.mp4", "--query", "the red square moves", "--out", "t.html")
    assert said["arguments"] == {"start": 0, "end": 2.0, "query": "the red square moves"}
    assert code == (0 if said["valid"] else 1) and (here / "t.html").is_file()


def test_a_frame_of_a_video(tried: Callable[..., Any]) -> None:
    words = ["PROP", "--video", "film.mp4", "--frame", "15", "--box", "75", "20", "119", "64", "--pixels"]
    code, said = tried(*words)
    assert code == 0 and said["output"]["colour"] == "red"


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        (["SEG", "--image", "scene.png"], "arguments", "box, or points"),
        (["SEG", "--image", "scene.png", "--box", "9", "9", "5", "5"], "arguments", "left < right"),
        (["SEG", "--image", "scene.png", "--box", "0", "0", "5", "1000"], "arguments", "999"),
        (["OCR", "--image", "scene.png", "--scale", "2"], "arguments", "scale"),
        (["OCR", "--image", "scene.png", "--frame", "0"], "bounds", "no video"),
        (["OCR", "--video", "film.mp4", "--frame", "16"], "bounds", "the video has 16"),
        (["TEMP", "--video", "film.mp4", "--query", "q", "--end", "9"], "bounds", "ends at 2.0 s"),
        (["TRK", "--image", "scene.png", "--box", "0", "0", "9", "9", "--end", "3"], "bounds", "no video"),
    ],
)
def test_a_bad_call_is_answered_as_a_policy_would_hear_it(
    tried: Callable[..., Any], words: list[str], kind: str, told: str
) -> None:
    code, said = tried(*words)
    assert code == 1 and not said["valid"] and said["output"]["kind"] == kind and told in said["text"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["FLY", "--image", "scene.png"], "invalid choice"),
        (["SEG"], "one of the arguments --image --video is required"),
        (["SEG", "--image", "scene.png", "--box", "1", "2", "3"], "expected 4 arguments"),
        (["SEG", "--image", "scene.png", "--box", "a", "2", "3", "4"], "invalid"),
        (["SEG", "--image", "scene.png", "--points", "1", "2", "3"], "pairs of numbers"),
        (["SEG", "--image", "scene.png", "--box", "0", "0", "321", "9", "--pixels"], "320x200 pixels"),
        (["OCR", "--image", "nowhere.png"], "nowhere.png: missing media"),
        (["OCR", "--image", "."], "missing media"),
        (["OCR", "--image", "film.mp4"], "film.mp4 is a video: give it after --video"),
        (["OCR", "--video", "scene.png"], "scene.png is an image: give it after --image"),
        (["OCR", "--image", "text.png"], "text.png: not an image"),
        (["OCR", "--image", "torn.png"], "torn.png: truncated"),
        (["OCR", "--image", "scene.jpg"], "give it the extension of what it is"),
        (["OCR", "--image", "huge.png"], "raise media.bytes in pixelis.toml"),
        (["OCR", "--image", "wide.png"], "raise media.pixels in pixelis.toml"),
        (["OCR", "--image", "scene.png", "--out", "scene.png"], "this is the file to look at"),
        (["OCR", "--image", "scene.png", "--out", "a.gif"], "ends in .png or .html"),
        (["OCR", "--image", "scene.png", "--out", "no/where/a.png"], "a place that can be written"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    tried: Callable[..., Any], here: Path, words: list[str], told: str
) -> None:
    data = (here / "scene.png").read_bytes()
    (here / "scene.jpg").write_bytes(data)
    (here / "torn.png").write_bytes(data[:300])
    (here / "text.png").write_text("no picture")
    (here / "huge.png").write_bytes(data + b"\0" * 200_000)
    (here / "wide.png").write_bytes(encoded(Image.new("1", (700, 700)), "PNG"))
    (here / "pixelis.toml").write_text("[media]\nbytes = 100_000\npixels = 400_000\n")
    code, said = tried(*words)
    assert code == 2 and told in said and "Traceback" not in said
    assert (here / "scene.png").read_bytes() == data


def test_a_backend_that_breaks_or_is_missing(tried: Callable[..., Any], here: Path) -> None:
    (here / "pixelis.toml").write_text("[tools]\nseconds = 0.000001\n")
    code, said = tried("OCR", "--image", "scene.png")
    assert code == 1 and "the backend broke: OCR: TimeoutError" in said
    (here / "pixelis.toml").write_text('[tools.seg]\nbackend = "sam2"\nweights = "nowhere"\n')
    code, said = tried("SEG", "--image", "scene.png", "--box", "0", "0", "9", "9")
    assert code == 2 and "nowhere" in said and "`pixelis tools`" in said
    assert tried("ZOOM", "--image", "scene.png", "--box", "0", "0", "9", "9")[0] == 0  # needs no SEG


@pytest.mark.slow
def test_help_teaches_by_examples() -> None:
    for words in (["tools", "--help"], ["tools", "try", "--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "assets.cli", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for action in ("SEG", "ZOOM", "TRK", "OCR", "TEMP", "PROP"):
            assert f"pixelis tools try {action} --" in done.stdout
        assert "Exit status: 0" in done.stdout and "counted from 0" in done.stdout


def test_a_grey_film_of_odd_length_has_a_last_frame(tried: Callable[..., Any], here: Path) -> None:
    (here / "grey.mp4").write_bytes(grey_film(frames=7))
    code, said = tried("TRK", "--video", "grey.mp4", "--box", "100", "100", "400", "400")
    assert said["arguments"]["end"] == 6 and code in (0, 1)
