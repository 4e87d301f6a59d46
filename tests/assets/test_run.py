"""Running the graph for real: skipping, determinism, staleness, retries, leaks."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from assets import graph
from assets.catalogue import STAGES
from assets.running import run as run_stage
from assets.running import settled
from assets.stage import LINE, Project, Stage, StageError
from pixelis_pipeline.ledger import artifact, dvc
from pixelis_pipeline.ledger.verify import in_force
from pixelis_pipeline.records import Accepted, Failed, Origin, Question, Sample, Trajectory
from tests.assets.conftest import project, run

pytestmark = pytest.mark.slow


def versions(made: Project) -> dict[str, dict[str, str]]:
    return json.loads((made.root / dvc.POINTER).read_text())


def test_every_stage_conserves_its_records_and_rejections_say_why(splits: Project):
    made = {key for key in STAGES if splits.ledger.versions()[dvc.name(key)]}
    assert {"training_splits", "evaluation_whitelist", "raw/ego4d"} <= made
    for key in made:
        for partition in splits.partitions(STAGES[key]):
            folder = splits.ledger.folder(key, partition)
            assert artifact.counts(folder).conserved
            assert all(r.rule and r.stage for r in artifact.rejected(folder))
    for partition in ("000-starqa", "000-ego4d"):  # questions about video are proven like the others
        folder = splits.ledger.folder("replayed_trajectories", partition)
        assert artifact.counts(folder).accepted >= 1


def test_splits_are_disjoint_and_traced_to_training_media(splits: Project):
    traces = list(artifact.records(splits.ledger.folder("training_splits"), Trajectory))
    assert len(traces) >= 10
    assert {t.question.origin.role for t in traces} == {"training"}
    assert all(s.tool_version for t in traces for s in t.steps)
    assert all((s.verdict == "same") != s.flawed for t in traces for s in t.steps)
    assert {t.kind for t in traces} >= {"positive", "process-negative", "self-correction"}
    where: dict[str, set[str]] = {}
    for trace in traces:
        for media in trace.question.media:
            where.setdefault(media.sha256, set()).add(trace.split)
            assert splits.media.data(media)
    assert all(len(found) == 1 for found in where.values())


def test_a_second_run_does_nothing_and_says_so(splits: Project, capsys: pytest.CaptureFixture[str]):
    before = versions(splits), sum(1 for _ in (splits.root / "data/ledger").rglob("*.json"))
    assert run(project(splits.root)) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "[" in line]
    assert lines and all(line.startswith("unchanged") for line in lines)
    assert (versions(splits), sum(1 for _ in (splits.root / "data/ledger").rglob("*.json"))) == before


def test_the_same_seed_gives_the_same_versions_from_scratch_elsewhere(splits: Project, tmp_path: Path):
    again = project(tmp_path / "another" / "place")
    assert run(again) == 0
    assert versions(again) == versions(splits)


def test_a_new_seed_of_one_source_runs_only_what_depends_on_it(copy: Project):
    before = versions(copy)
    sources = {name: s.model_dump() for name, s in copy.settings.sources.items()}
    sources["sa1b"]["seed"] = 8
    changed = project(copy.root, sources=sources)
    stale = {
        (stage.key, partition)
        for stage in STAGES.values()
        if stage.partitions in (LINE, "sa1b", "fineweb") or stage.group == "benchmarks"
        for partition in changed.partitions(stage)
        if settled(changed, stage, partition) is None
    }
    assert {partition for _, partition in stale} == {"000-sa1b"}
    assert run(changed) == 0
    after = versions(changed)
    differing = {
        (stage, partition)
        for stage, partitions in after.items()
        for partition, version in partitions.items()
        if before[stage].get(partition) != version
    }
    line = {"raw_sa1b", *(s.key for s in STAGES.values() if s.partitions == LINE)}
    assert {(s, p) for s, p in differing if p != "all"} == {(s, "000-sa1b") for s in line}
    assert ("training_splits", "all") in differing and ("evaluation_whitelist", "all") not in differing


def test_failed_inputs_are_run_again_and_only_those(tmp_path: Path):
    """The result is what an undisturbed run gives, whatever failed before."""
    asked: list[list[str]] = []
    broken = {"b"}

    def make(work):
        ids = [s.id for s in work.read("raw/sa1b", Sample)]
        asked.append(ids)
        return [
            Failed(i, "probe", "timeout")
            if i in broken
            else Accepted(i, (replace(next(iter(samples)), id=i),))
            for i in ids
        ]

    samples = [Sample(i, Origin("sa1b", i, "CC0-1.0", "training"), ()) for i in "abc"]
    above = Stage("raw/sa1b", lambda work: [Accepted(s.id, (s,)) for s in samples], Sample, "raw")
    below = Stage("probe", make, Sample, "raw", inputs=("raw/sa1b",), retries=True)
    made = project(tmp_path / "p")
    original = STAGES["raw/sa1b"]
    STAGES["raw/sa1b"] = above
    try:
        run_stage(made, above, "all")
        first = run_stage(made, below, "all")
        assert first.counts.failed == 1 and not first.skipped
        broken.clear()
        second = run_stage(made, below, "all")
        assert asked == [["a", "b", "c"], ["b"]] and second.counts.failed == 0
        assert [s.id for s in artifact.records(made.ledger.folder("probe"), Sample)] == ["a", "b", "c"]
        assert run_stage(made, below, "all").skipped
        clean = project(tmp_path / "q")
        run_stage(clean, above, "all")
        assert run_stage(clean, below, "all").record.version == second.record.version
    finally:
        STAGES["raw/sa1b"] = original


def test_a_stage_that_loses_a_record_makes_no_version(tmp_path: Path):
    samples = [Sample(i, Origin("sa1b", i, "CC0-1.0", "training"), ()) for i in "abc"]
    above = Stage("raw/sa1b", lambda work: [Accepted(s.id, (s,)) for s in samples], Sample, "raw")

    def careless(work):
        return [Accepted(s.id, (s,)) for s in work.read("raw/sa1b", Sample)][1:]

    below = Stage("probe", careless, Sample, "raw", inputs=("raw/sa1b",))
    made = project(tmp_path / "p")
    original = STAGES["raw/sa1b"]
    STAGES["raw/sa1b"] = above
    try:
        run_stage(made, above, "all")
        with pytest.raises(StageError, match="took in 3 records and let out 2"):
            run_stage(made, below, "all")
        assert made.ledger.current("probe") is None
        assert not list((made.root / "data/.staging").iterdir())
    finally:
        STAGES["raw/sa1b"] = original


def test_a_deleted_world_is_made_again_and_nothing_is_lost(copy: Project):
    """Its pictures are named by records that stand; a later stage must find them."""
    before = artifact.counts(copy.ledger.folder("deduplicated_trajectories"))
    shutil.rmtree(copy.root / "data/world")
    changed = project(copy.root, replay={"seg_iou": 0.51})
    assert run(changed) == 0
    assert artifact.counts(changed.ledger.folder("deduplicated_trajectories")) == before
    assert not any(r.counts["failed"] for r in in_force(changed.ledger))


def test_media_that_vanish_fail_and_are_tried_again(copy: Project, tmp_path: Path):
    """A user's folder: gone for a while is not a rejection for good."""
    sample = next(iter(artifact.records(copy.ledger.folder("raw/sa1b", "000-sa1b"), Sample)))
    path = copy.root / sample.media[0].path
    away = path.rename(tmp_path / path.name)
    changed = project(copy.root, replay={"seg_iou": 0.51})
    stage = replace(STAGES["replayed_trajectories"], restore=None)
    first = run_stage(changed, stage, "000-sa1b")
    assert first.counts.failed >= 1
    away.rename(path)
    again = run_stage(project(copy.root, replay={"seg_iou": 0.51}), stage, "000-sa1b")
    assert again.counts.failed == 0 and again.counts.accepted > first.counts.accepted


def test_a_planted_leak_stops_the_graph_and_names_both_items(
    copy: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A held-out question over a training picture, slipped past the filter at ingest."""
    from pixelis_pipeline.curation import evaluation_twins
    from pixelis_pipeline.sources import whitelist

    trace = next(iter(artifact.records(copy.ledger.folder("training_splits"), Trajectory)))
    questions = list(artifact.records(copy.ledger.folder("benchmarks/capabilities"), Question))
    planted = replace(questions[0], media=trace.question.media)

    original = whitelist.whitelist

    def leaking(samples, *decoders):
        changed = [replace(s, media=planted.media) if s.id == planted.id else s for s in samples]
        return original(changed, *decoders)

    monkeypatch.setattr(whitelist, "whitelist", leaking)
    monkeypatch.setattr(
        evaluation_twins, "against", lambda found, *rest: [Accepted(f.id, (f,)) for f in found]
    )
    shutil.rmtree(copy.ledger.folder("evaluation_whitelist"))  # so that it is made again
    assert run(copy) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "no_leak failed" in told and "capabilities" in told and planted.origin.record in told
    assert copy.ledger.record("leakage_audit").about["blocked"]
    assert run(copy, ["training_splits"]) == 1


def test_dagster_is_told_the_ledgers_versions(splits: Project, monkeypatch: pytest.MonkeyPatch):
    """Partitioned upstreams are re-hashed or cut short by Dagster itself, so their versions are stated."""
    monkeypatch.chdir(splits.root)
    with dg.DagsterInstance.from_config(str(splits.root)) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("deduplicated_trajectories"))
        assert event and event.asset_materialization
        tags = event.asset_materialization.tags or {}
        assert tags["dagster/data_version"] == splits.ledger.current("deduplicated_trajectories")
        assert len(tags["dagster/input_data_version/media_fingerprints"]) == 64
        shown = event.asset_materialization.metadata
        assert "kept examples" in shown and "data:image/webp;base64," in str(shown["kept examples"].value)
    assert graph.project()


def test_another_version_of_a_tool_makes_replay_stale(
    splits: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pixelis_pipeline.tools.zoom import LanczosZoom

    stage = STAGES["replayed_trajectories"]
    assert settled(splits, stage, "000-fineweb") is not None
    monkeypatch.setattr(LanczosZoom, "version", "zoom/9 of another library")
    assert settled(splits, stage, "000-fineweb") is None
