"""The command line on a real run of the graph."""

import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from assets import cli
from assets.catalogue import STAGES
from assets.stage import Project
from pixelis_pipeline.ledger import artifact, dvc
from pixelis_pipeline.records import Assignment, Question, Sample, Trajectory
from tests.assets.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def inside(splits: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(splits.root)
    monkeypatch.setenv("PIXELIS_PROFILE", "tiny")
    return splits


@pytest.fixture
def inside_copy(copy: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(copy.root)
    monkeypatch.setenv("PIXELIS_PROFILE", "tiny")
    return copy


def a_trace(made: Project) -> Trajectory:
    return next(iter(artifact.records(made.ledger.folder("training_splits"), Trajectory)))


def test_help_teaches_and_needs_no_project():
    done = subprocess.run(
        [sys.executable, "-m", "assets.cli", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for word in ("run", "status", "trace", "verify", "gc", "tools", "a first walk", "pixelis.toml"):
        assert word in done.stdout


def test_trace_ends_at_media_bytes_and_a_licence(inside: Project, capsys: pytest.CaptureFixture[str]):
    trace = a_trace(inside)
    assert cli.main(["trace", trace.id[:12]]) == 0
    said = " ".join(capsys.readouterr().out.split())
    media = trace.question.media[0]
    assert f"sha256 {media.sha256}" in said and "bytes intact" in said and "licence CC0-1.0" in said
    for asset in ("curriculum", "replayed_trajectories", "teacher_responses", "synthesis_plan", "raw/"):
        assert asset in said


def test_trace_forward_names_everything_an_image_touched(inside: Project, capsys: pytest.CaptureFixture[str]):
    trace = a_trace(inside)
    assert cli.main(["trace", "--forward", trace.question.media[0].sha256]) == 0
    assert f"training_splits [all] {trace.id[:48]}" in " ".join(capsys.readouterr().out.split())


def test_trace_names_a_gap(inside_copy: Project, capsys: pytest.CaptureFixture[str]):
    trace = a_trace(inside_copy)
    lines = inside_copy.partitions(STAGES["synthesis_plan"])
    plans = [inside_copy.ledger.folder("synthesis_plan", line) for line in lines]
    (planned,) = {
        each.id
        for folder in plans
        for each in artifact.records(folder, Assignment)
        if each.question == trace.question and each.kind == trace.kind
    }
    shutil.rmtree(inside_copy.root / "data/synthesis_plan")
    assert cli.main(["trace", trace.id]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"made from {planned}, which is not on this disk: `dvc checkout`" in said


def test_trace_of_a_question_of_our_own_benchmark_ends_without_a_gap(
    inside: Project, capsys: pytest.CaptureFixture[str]
):
    question = next(iter(artifact.records(inside.ledger.folder("benchmarks/capabilities"), Question)))
    assert question.parents and cli.main(["trace", question.id]) == 0
    said = capsys.readouterr().out
    assert "not on this disk" not in said and "bytes intact" in said


def test_trace_says_what_it_does_not_know(inside: Project, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["trace", "0123456789abcdef0123"]) == 1
    assert "no artifact on this disk holds" in capsys.readouterr().err


def test_verify_is_clean_and_derives_again(inside: Project, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["verify", "--derive"]) == 0
    said = capsys.readouterr().out
    assert "re-derived" in said and "6 attested" in said and "missing" not in said


def test_verify_names_one_flipped_byte_of_an_artifact(
    inside_copy: Project, capsys: pytest.CaptureFixture[str]
):
    path = inside_copy.ledger.folder("trajectories", "000-sa1b") / "accepted-00000.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    assert cli.main(["verify"]) == 1
    assert f"{path} has other bytes" in " ".join(capsys.readouterr().err.split())


def test_verify_names_a_changed_and_a_missing_picture(
    inside_copy: Project, capsys: pytest.CaptureFixture[str]
):
    samples = list(artifact.records(inside_copy.ledger.folder("raw/sa1b", "000-sa1b"), Sample))
    first, second = (inside_copy.root / s.media[0].path for s in samples[:2])
    first.write_bytes(first.read_bytes()[:-1] + b"\0")
    second.unlink()
    assert cli.main(["verify"]) == 1
    said = capsys.readouterr().err
    assert first.name in said and second.name in said


def test_verify_looks_at_the_media_of_the_capabilities(
    inside_copy: Project, capsys: pytest.CaptureFixture[str]
):
    folder = inside_copy.ledger.folder("benchmarks/capabilities")
    paths = [q.media[0].path for q in artifact.records(folder, Question)]
    media = inside_copy.root / next(path for path in paths if "!/" not in path)
    media.write_bytes(media.read_bytes()[:-1] + b"\0")
    assert cli.main(["verify"]) == 1
    assert media.name in capsys.readouterr().err


def test_verify_notices_edited_answers_and_requests_and_misses_none_that_is_gone(
    inside_copy: Project, capsys: pytest.CaptureFixture[str]
):
    answers = sqlite3.connect(inside_copy.root / "data/teacher/answers.sqlite", isolation_level=None)
    for (name,) in answers.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        answers.execute(f"DROP TRIGGER {name}")
    rows = answers.execute("SELECT key, answer FROM answers ORDER BY key LIMIT 4").fetchall()
    (edited, words), (gone, _), (damaged, _), (swapped, _) = rows
    forged = json.dumps(json.loads(words) | {"text": "something else"}).encode()
    seal = hashlib.sha256(forged).hexdigest()  # by somebody who knows the file
    answers.execute("UPDATE answers SET answer = ?, sealed = ? WHERE key = ?", [forged, seal, edited])
    answers.execute("DELETE FROM answers WHERE key = ?", [gone])
    answers.execute("UPDATE answers SET answer = x'7b' WHERE key = ?", [damaged])
    other = "(SELECT request FROM answers WHERE key = ?)"
    answers.execute(f"UPDATE answers SET request = {other} WHERE key = ?", [edited, swapped])
    answers.close()
    assert cli.main(["verify"]) == 1
    said = capsys.readouterr().err
    assert all(f"answer {key}" in said for key in (edited, damaged, swapped)) and gone not in said
    assert f"the request of {swapped} no longer hashes to that key" in said


def test_verify_does_not_derive_under_other_settings(
    inside_copy: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PIXELIS_SOURCES__SA1B__SEED", "4711")
    monkeypatch.setenv("PIXELIS_CURATION__SEED", "4711")
    assert cli.main(["verify", "--derive"]) == 0
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if "not derived: settings differ" in line]
    assert any(line.startswith("raw/sa1b") for line in lines) and "re-derived" in said


def test_verify_notices_an_edited_run_record(inside_copy: Project, capsys: pytest.CaptureFixture[str]):
    path = next((inside_copy.root / "data/ledger/curriculum").glob("*.json"))
    path.write_text(re.sub(r'"accepted": \d+', '"accepted": 999', path.read_text(), count=1))
    assert cli.main(["verify"]) == 1
    assert path.name in capsys.readouterr().err


def test_status_tells_what_is_up_to_date_and_what_waits(inside: Project, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["status"]) == 0
    said = capsys.readouterr().out
    assert "up to date" in said and "waits for its upstream" in said


def test_gc_shows_before_it_frees(inside_copy: Project, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["gc"]) == 0 and "nothing to free" in capsys.readouterr().out
    version = inside_copy.ledger.folder("curriculum")
    shutil.copytree(version, version.with_name("0" * 32))
    assert cli.main(["gc"]) == 0 and "would free" in capsys.readouterr().out
    assert version.with_name("0" * 32).is_dir()
    assert cli.main(["gc", "--yes"]) == 0 and not version.with_name("0" * 32).exists()
    assert version.is_dir() and cli.main(["verify"]) == 0


def test_gc_does_not_free_everything_where_the_pointer_is_gone(
    inside_copy: Project, capsys: pytest.CaptureFixture[str]
):
    (inside_copy.root / dvc.POINTER).unlink()
    assert cli.main(["gc", "--yes"]) == 1
    assert f"{dvc.POINTER} names no version" in capsys.readouterr().err
    assert list((inside_copy.root / "data/curriculum").glob("*/*/manifest.json"))


@pytest.mark.parametrize("text", ["{", "null", "[]", '{"raw_sa1b": 3}'])
def test_a_damaged_pointer_is_one_clear_line_whatever_is_asked(
    inside_copy: Project, capsys: pytest.CaptureFixture[str], text: str
):
    (inside_copy.root / dvc.POINTER).write_text(text)
    for command in (
        ["status"],
        ["verify"],
        ["gc"],
        ["trace", "0123456789"],
        ["run", "--to", "synthesis_plan"],
    ):
        assert cli.main(command) == 1, command
        said = capsys.readouterr().err
        assert dvc.POINTER in said and "restore it from git" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("[sources.sa1b]\npath = '/nowhere/at/all'\n", "/nowhere/at/all: expected"),
        ("[sources.sa1b]\nitmes = 3\n", "sources.sa1b.itmes"),
        ("[sources.coco]\nitems = 3\n", "sources.coco is not one of"),
        ("[teacher\n", "not valid TOML"),
        ("profile = 'large'\n", "no profile 'large'"),
    ],
)
def test_a_mistake_in_the_settings_stops_at_once_and_says_where(
    inside_copy: Project,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    settings: str,
    told: str,
):
    (inside_copy.root / "pixelis.toml").write_text(settings)
    if "profile" in settings:
        monkeypatch.delenv("PIXELIS_PROFILE")
    try:
        code = cli.main(["run", "--to", "synthesis_plan"])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 1
    assert told in " ".join(capsys.readouterr().err.split())


def test_the_embedded_teacher_is_not_asked_about_other_pictures(
    inside_copy: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = inside_copy.settings.sources["sa1b"]
    world = next((inside_copy.root / "data/world/sa1b").iterdir())
    mine = tmp_path / "mine"
    shutil.copytree(world, mine)
    assert source.path == ""
    shutil.rmtree(inside_copy.root / "data/teacher")  # what was answered needs no teacher
    (inside_copy.root / "pixelis.toml").write_text(f"[sources.sa1b]\npath = '{mine}'\n")
    assert cli.main(["run", "--to", "training_splits"]) == 1
    assert "teacher.endpoint to a model that can see" in " ".join(capsys.readouterr().err.split())
