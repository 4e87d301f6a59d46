"""An encoder in the graph: rows beside the descriptors, stale by other weights, nothing where it is off."""

import shutil
from pathlib import Path

import pytest

from assets import encoding
from assets.running import settled
from assets.stage import STAGES, Project, StageError
from pixelis_pipeline.curation import vectors
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.records import Trajectory
from tests.assets.conftest import project, run
from tests.curation.test_encoders import saved

AUDIT = ["leakage_audit"]


def with_encoder(made: Project, folder: Path) -> Project:
    told = made.settings.curation.model_dump() | {"encoder": str(folder), "encoder_image": 0.9999}
    return project(made.root, curation=told | {"encoder_frame": 0.9999})


def folders(made: Project) -> list[Path]:
    stages = [STAGES["media_fingerprints"], STAGES["evaluation_whitelist"]]
    return [made.ledger.folder(s.key, p) for s in stages for p in made.partitions(s)]


def ids(made: Project) -> list[str]:
    folder = made.ledger.folder("deduplicated_trajectories", "all")
    return [each.id for each in artifact.records(folder, Trajectory)]


@pytest.mark.slow
def test_off_there_is_no_file(splits: Project) -> None:
    assert encoding.version(splits, "") == {} and encoding.opened(splits) is None
    assert not [folder for folder in folders(splits) if (folder / vectors.EMBEDDINGS).exists()]


@pytest.mark.slow
def test_an_encoder_writes_its_rows_and_other_weights_make_them_stale(copy: Project, tmp_path: Path) -> None:
    before, records = ids(copy), copy.ledger.record("deduplicated_trajectories", "all")
    made = with_encoder(copy, saved(tmp_path / "clip", "clip"))
    assert run(made, AUDIT) == 0
    for folder in folders(made):
        rows, held = vectors.embeddings([folder]), vectors.read([folder])
        assert rows is not None and rows.encoder == encoding.version(made, "")["encoder"]
        assert set(rows.owner) == set(held.owner)
        views = {(owner, view) for owner, view in zip(held.owner, held.view, strict=True)}
        assert {(owner, view) for owner, view in zip(rows.owner, rows.view, strict=True)} == views
        assert len(rows.owner) == len(views)
    fingerprints = STAGES["media_fingerprints"]
    (partition, *_) = made.partitions(fingerprints)
    record = made.ledger.record(fingerprints.key, partition)
    assert record is not None and record.digests["encoder"] == encoding.version(made, "")["encoder"]
    assert settled(made, fingerprints, partition) is not None
    assert not set(ids(made)) & set(before)  # an id says which encoder was asked

    moved = with_encoder(made, Path(shutil.copytree(tmp_path / "clip", tmp_path / "moved")))
    assert settled(moved, fingerprints, partition) is not None
    other = with_encoder(made, saved(tmp_path / "other", "clip", seed=4))
    assert settled(other, fingerprints, partition) is None
    with pytest.raises(StageError, match=r"curation\.encoder: there is no folder"):
        settled(with_encoder(made, tmp_path / "gone"), fingerprints, partition)

    off = project(made.root)
    assert run(off, AUDIT) == 0 and ids(off) == before
    after = off.ledger.record("deduplicated_trajectories", "all")
    assert records is not None and after is not None and after.version == records.version
