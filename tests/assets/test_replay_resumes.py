"""The replay stage in the graph: its work file serves a killed run and nobody else."""

from pathlib import Path

import pytest

from assets import running
from assets.catalogue import STAGES
from assets.stage import Project
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.records import Trajectory

pytestmark = pytest.mark.slow
PARTITION = "000-sa1b"


def test_a_cut_run_goes_on_and_makes_the_same_version(copy: Project, monkeypatch: pytest.MonkeyPatch):
    stage = STAGES["replayed_trajectories"]
    record = copy.ledger.record(stage.key, PARTITION)
    assert record is not None
    assert not list((copy.root / "data/.work").glob("*/*/*"))
    written: list[list[str]] = []
    whole = artifact.write

    def cut(folder: Path, kind: type, outcomes: object) -> object:
        """Killed after everything was replayed and before it was committed."""
        whole(folder, kind, outcomes)  # type: ignore[arg-type]
        written.append([path.name for path in (copy.root / "data/.work").rglob("*.jsonl")])
        raise KeyboardInterrupt

    changed = copy.settings.replay.model_copy(update={"seg_iou": 0.51, "workers": 1})
    other = Project(copy.root, copy.settings.model_copy(update={"replay": changed}))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(artifact, "write", cut)
        running.run(other, stage, PARTITION)
    assert len(written[0]) == 1
    asked: list[str] = []

    def counted(trace: Trajectory, **rest: object) -> object:
        asked.append(trace.id)
        raise AssertionError("run again although it is written down")

    with monkeypatch.context() as patch:
        patch.setattr("pixelis_pipeline.verify.batch.replay", counted)
        again = running.run(other, stage, PARTITION)
    assert not asked and again.counts.conserved and again.counts.failed == 0
    assert not list((copy.root / "data/.work").rglob("*.jsonl"))
    # An auditor's re-derivation runs the calls: it reads no work file and leaves none.
    assert running.derive(other, again.record) == again.record.version
    with monkeypatch.context() as patch, pytest.raises(AssertionError, match="run again"):
        patch.setattr("pixelis_pipeline.verify.batch.replay", counted)
        running.derive(other, again.record)
