"""From the splits to the report: a policy is tuned, asked and scored, and its numbers are walked back."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from assets import cli
from assets.measurements import COMPARISONS
from assets.stage import MADE_FROM, Project
from evaluation.comparisons import Comparison, recompute
from evaluation.scores import Cell, PredictionSet
from pixelis_pipeline.columns import from_table
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.records import Prediction, Question
from tests.assets.conftest import project, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reported(splits: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("reported") / "copy"
    shutil.copytree(splits.root, root, symlinks=True)
    assert run(project(root), ["benchmark_report"]) == 0
    return project(root)


def stored(made: Project) -> list[PredictionSet]:
    return [
        PredictionSet(
            "capabilities",
            made.ledger.current("predictions", f"{policy}-capabilities"),
            tuple(artifact.records(made.ledger.folder("predictions", f"{policy}-capabilities"), Prediction)),
        )
        for policy in MADE_FROM
    ]


def test_every_policy_answers_every_held_out_question(reported: Project):
    questions = {q.id for q in artifact.records(reported.ledger.folder("benchmarks/capabilities"), Question)}
    assert len(questions) == 8
    for each in stored(reported):
        assert {p.question.id for p in each.predictions} == questions


def test_every_cell_of_the_report_follows_from_the_stored_predictions(reported: Project):
    cells = list(artifact.records(reported.ledger.folder("benchmark_scores"), Cell))
    sets = stored(reported)
    assert any(cell.metric == "difference" for cell in cells)
    for cell in cells:
        again = recompute(cell, sets, reported.settings.evaluation)
        assert (again.value, again.low, again.high) == (cell.value, cell.low, cell.high)
    table = pq.read_table(reported.ledger.folder("benchmark_scores") / COMPARISONS)
    overall = {(c.cell.policy, c.control) for c in from_table(Comparison, table) if c.cell.slice == "all"}
    assert overall >= {("rft", "sft"), ("rft", "sft-tools-off"), ("sft", "base"), ("sft", "sft-tools-off")}


def test_a_report_cell_is_traced_to_media_bytes_and_a_licence(
    reported: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Of one phase, and of what the next one changed."""
    monkeypatch.chdir(reported.root)
    monkeypatch.setenv("PIXELIS_PROFILE", "tiny")
    assert cli.main(["trace", "accuracy/sft/capabilities/all", "--all"]) == 0
    said = capsys.readouterr().out
    assert said.count("predictions [sft-capabilities]") == 8
    assert said.count("bytes intact · ") >= 4 and "licence CC0-1.0 · role evaluation" in said
    assert cli.main(["trace", "difference/rft/sft/capabilities/all", "--all"]) == 0
    said = capsys.readouterr().out
    assert [said.count(f"predictions [{policy}-capabilities]") for policy in ("rft", "sft")] == [8, 8]
    assert "rft_policy [all]" in said and said.count("bytes intact · ") >= 4
    assert cli.main(["verify"]) == 0


def test_the_report_stands_alone_and_its_summary_agrees(reported: Project):
    folder = reported.ledger.folder("benchmark_report")
    page, summary = (folder / "report.html").read_text(), json.loads((folder / "summary.json").read_text())
    cell = summary["cells"]["accuracy/sft/capabilities/all"]
    assert cell["n"] == 8 and "accuracy/sft/capabilities/all" in page
    assert "RFT answers" in page and "RFT, after " in page and "From SFT to RFT" in page
    assert {"difference/rft/sft/capabilities/all"} <= set(summary["comparisons"])
    assert "Content-Security-Policy" in page and "<script src" not in page


def test_a_second_run_of_the_whole_graph_does_nothing(reported: Project, capsys: pytest.CaptureFixture[str]):
    assert run(project(reported.root), ["benchmark_report"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "[" in line]
    assert len(lines) == 23 and all(line.startswith("unchanged") for line in lines)
