"""Dagster's view of a stage's process: a run's events and the asset's observations, from a real run."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets import graph, stage
from assets.stage import Project
from tests.assets.conftest import project
from tests.assets.test_child import STAGE, starts
from tests.training import jobs


@pytest.fixture
def asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[dg.AssetsDefinition, Project]]:
    """The stage of the tests as an asset, over a project of its own."""
    monkeypatch.setitem(stage.STAGES, STAGE.key, STAGE)
    made = project(tmp_path / "p")
    before = list(graph._PROJECT)
    graph.use(made)
    yield graph._asset(STAGE), made
    graph._PROJECT[:] = before


def materialised(asset: dg.AssetsDefinition, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    io = {"io_manager": graph.NoStorage()}
    return dg.materialize([asset], instance=instance, resources=io, raise_on_error=False)


def test_a_killed_process_is_tried_again_and_its_progress_is_observed(asset, tmp_path: Path):
    """One run: the process is killed once, the step goes on from what it had saved, and the asset's page
    holds its curve up to the last step."""
    definition, made = asset
    (made.root / "trips").write_text("[9]")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        result = materialised(definition, instance)
        assert result.success
        assert [start for _, start, _ in starts(made.root)] == [0, 10]
        assert any(event.is_step_up_for_retry for event in result.all_events)
        found = instance.fetch_observations(dg.AssetKey(STAGE.key), limit=100).records
        materialisation = instance.get_latest_materialization_event(dg.AssetKey(STAGE.key))
        logs = [each.user_message for each in instance.all_logs(result.run_id)]
    assert 2 <= len(found) < 10, "one event now and then, not one a step"
    newest = found[0].event_log_entry.dagster_event.event_specific_data.asset_observation
    assert newest.description.startswith(f"step {jobs.STEPS} of {jobs.STEPS}")
    assert newest.metadata["step"].value == jobs.STEPS and newest.metadata["loss"].value > 0
    assert "| loss |" in newest.metadata["curves"].value
    assert materialisation is not None and materialisation.asset_materialization is not None
    tags = materialisation.asset_materialization.tags or {}
    assert tags["dagster/data_version"] == made.ledger.current(STAGE.key, "all")
    assert any("opened dagster pipes" in each for each in logs)


def test_a_process_that_is_killed_again_and_again_fails_the_run_with_its_log_named(asset, tmp_path: Path):
    definition, made = asset
    (made.root / "trips").write_text("[1, 3, 5, 7]")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        result = materialised(definition, instance)
    assert not result.success and len(starts(made.root)) == graph.RETRIES + 1
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    error = failure.step_failure_data.error
    told = (error.cause or error).message  # what `pixelis run` prints
    assert "was killed (SIGKILL)" in told and "log.txt" in told
