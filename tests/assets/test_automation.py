"""What runs without a person, against real instances: ticks, runs, dead processes, and Dagster's daemon."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import dagster as dg
import pytest

from assets import alive, automation, batches, graph
from assets.catalogue import STAGES
from assets.definitions import definitions
from assets.running import run as run_stage
from assets.runs import BY_HAND, QUIET
from assets.stage import LINE, Project, StageError
from pixelis_pipeline.ledger import chain
from pixelis_pipeline.settings import SOURCES, load
from tests.assets.conftest import ROOT, project, run
from tests.assets.test_batches import arrive, on, published  # noqa: F401

NOON = datetime(2026, 11, 3, 12, 0, 0, tzinfo=UTC)
WAIT = 240  # seconds for the daemon to come to something
T = TypeVar("T")


@contextmanager
def instance_of(made: Project) -> Iterator[dg.DagsterInstance]:
    """The project's own instance, and the project as the one that Dagster's code works on."""
    before = graph._PROJECT[:]
    graph.use(made)
    try:
        with chdir(made.root), dg.DagsterInstance.from_config(str(made.root)) as instance:
            yield instance
    finally:
        graph._PROJECT[:] = before


def tick(instance: dg.DagsterInstance, at: datetime = NOON) -> dg.RunRequest | dg.SkipReason:
    context = dg.build_schedule_context(instance, scheduled_execution_time=at)
    result = automation.resynthesis(context)
    assert isinstance(result, dg.RunRequest | dg.SkipReason)
    return result


def look(instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
    result = automation.new_raw_shards(dg.build_sensor_context(instance, cursor=cursor))
    assert isinstance(result, dg.SensorResult)
    return result


# Ticks ------------------------------------------------------------------------------------------


def test_nothing_that_may_cost_money_is_on_by_default():
    assert automation.resynthesis.default_status == dg.DefaultScheduleStatus.STOPPED
    assert automation.new_raw_shards.default_status == dg.DefaultSensorStatus.STOPPED
    repository = definitions().get_repository_def()
    assert {s.name for s in repository.schedule_defs} == {"resynthesis"}
    assert {s.name for s in repository.sensor_defs} == {"new_raw_shards", "dead_runs"}


@pytest.mark.slow
def test_a_tick_opens_one_batch_however_often_it_is_evaluated(tmp_path: Path):
    made = project(tmp_path)
    with instance_of(made) as instance:
        first, again = tick(instance), tick(instance)
        assert isinstance(first, dg.RunRequest) and isinstance(again, dg.RunRequest)
        assert first.run_key == again.run_key == first.partition_key == "20261103.120000"
        assert list(batches.read(made.root)) == ["20261103.120000"]
        assert set(instance.get_dynamic_partitions("batch")) == {"000", "20261103.120000"}
        later = tick(instance, NOON.replace(day=10))
        assert isinstance(later, dg.RunRequest) and later.run_key == "20261110.120000"
        early = tick(instance, NOON.replace(day=5))
        assert isinstance(early, dg.SkipReason) and "would come before" in str(early.skip_message)


def test_new_files_open_a_batch_once_they_have_all_arrived(tmp_path: Path, published: Path):  # noqa: F811
    folder = tmp_path / "mine"
    arrive(folder, published, slice(0, 2))
    made = on(folder, tmp_path / "p")
    with instance_of(made) as instance:
        quiet = look(instance, None)
        assert not quiet.run_requests, "nobody has read the folder yet"
        run_stage(made, STAGES["raw/sa1b"], "000-sa1b")
        for _ in range(2):
            quiet = look(instance, quiet.cursor)
            assert not quiet.run_requests, "nothing has arrived"

        arrive(folder, published, slice(2, 3))
        picture = sorted(folder.glob("*.jpg"))[-1]
        whole = picture.read_bytes()
        picture.write_bytes(whole[:100])  # the copy is under way
        one = look(instance, quiet.cursor)
        assert not one.run_requests and "sa1b" in str(one.skip_reason)
        picture.write_bytes(whole)
        two = look(instance, one.cursor)
        assert not two.run_requests, "it has grown since the last tick"
        (asked,) = look(instance, two.cursor).run_requests or ()
        assert batches.read(made.root) == {asked.partition_key: ("sa1b",)}

        (same,) = look(instance, two.cursor).run_requests or ()
        assert same.run_key == asked.run_key, "a batch that waits to be read is asked for, not another"
        read = run_stage(made, STAGES["raw/sa1b"], f"{asked.partition_key}-sa1b")
        assert (read.counts.accepted, read.counts.rejected) == (1, 0)
        assert not look(instance, two.cursor).run_requests

        sorted(folder.glob("*.jpg"))[0].unlink()
        gone = look(instance, None)
        assert not look(instance, gone.cursor).run_requests, "what was taken away is no new shard"


def test_a_batch_that_nobody_opened_is_refused_by_name(tmp_path: Path):
    with instance_of(project(tmp_path)), pytest.raises(StageError, match="pixelis batch open 777"):
        graph.make(STAGES["raw/sa1b"], "777-sa1b", "a run")


# Dead runs and the pool -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_whose_process_died_is_failed_and_a_live_one_is_left_alone(tmp_path: Path):
    made = project(tmp_path)

    @dg.op
    def nothing() -> None: ...

    @dg.job
    def idle() -> None:
        nothing()

    with instance_of(made) as instance:
        runs = {name: instance.create_run_for_job(idle) for name in ("dead", "mine", "ended", "unknown")}
        ours = instance.create_run_for_job(idle, tags=BY_HAND)  # as `pixelis run` makes them
        for each in runs.values():
            instance.handle_new_event(_started(each))
        code = (
            "import sys; from pathlib import Path; from assets import alive; "
            "alive.hold(Path(sys.argv[1]), sys.argv[2]); print('held', flush=True); sys.stdin.read()"
        )
        other = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, str(tmp_path), runs["dead"].run_id],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert other.stdout and other.stdout.readline()
        alive.hold(tmp_path, runs["mine"].run_id)
        (tmp_path / ".dagster/alive" / runs["ended"].run_id).touch()
        instance.report_run_canceled(runs["ended"])
        assert alive.bury(tmp_path, instance) == []
        other.kill()
        other.communicate()
        said = automation.dead_runs(dg.build_sensor_context(instance))
        assert isinstance(said, dg.SkipReason) and runs["dead"].run_id in str(said.skip_message)

        def status(name: str) -> str:
            found = instance.get_run_by_id(runs[name].run_id)
            assert found
            return found.status.value

        found = instance.get_run_by_id(runs["dead"].run_id)
        assert found and found.tags["dagster/will_retry"] == "true", "the daemon takes it from here"
        instance.report_run_failed(ours)
        found = instance.get_run_by_id(ours.run_id)
        assert found and found.tags["dagster/will_retry"] == "false"
        assert [status(n) for n in runs] == ["FAILURE", "STARTED", "CANCELED", "STARTED"]
        alive.bury(tmp_path, instance)
        assert {p.name for p in (tmp_path / ".dagster/alive").glob("[!.]*")} == {runs["mine"].run_id}


def _started(run_of: dg.DagsterRun) -> dg.EventLogEntry:
    event = dg.DagsterEvent(event_type_value="PIPELINE_START", job_name=run_of.job_name)
    return dg.EventLogEntry(
        user_message="",
        level="debug",
        job_name=run_of.job_name,
        run_id=run_of.run_id,
        error_info=None,
        timestamp=time.time(),
        dagster_event=event,
    )


def test_what_asks_the_teacher_is_in_its_pool_and_dagster_yaml_limits_it(tmp_path: Path):
    pools = {key.to_user_string(): a.op.pool for a in graph.assets() for key in a.keys}
    assert {key for key, pool in pools.items() if pool} == {k for k, s in STAGES.items() if s.attested}
    assert {node.definition.pool for node in automation.resynthesise.nodes} == {"teacher"}
    with instance_of(project(tmp_path)) as instance:
        pool = instance.get_concurrency_config().pool_config
        assert pool.default_pool_limit == 1 and pool.pool_granularity.value == "run"
        assert instance.run_retries_enabled and instance.run_retries_max_retries == 2
        assert not instance.run_retries_retry_on_asset_or_op_failure
        assert instance.run_monitoring_enabled


# Whole runs -------------------------------------------------------------------------------------


def small(root: Path) -> Project:
    """Two items a source, as its own pixelis.toml says, so that Dagster's processes see the same."""
    made = project(root)
    items = "".join(f"[sources.{source}]\nitems = 2\n" for source in SOURCES)
    (root / "pixelis.toml").write_text(f'profile = "tiny"\n{items}')
    return Project(made.root, load(root))


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project whose batch 000 stands up to the fingerprints."""
    made = small(tmp_path_factory.mktemp("standing"))
    assert run(made, ["media_fingerprints"]) == 0
    return made


def records(made: Project) -> dict[str, int]:
    """How many run records each partition of each stage has."""
    return {
        f"{asset} {partition}": sum(r.partition == partition for r in made.ledger.chain(asset))
        for asset in chain.assets(made.root)
        for partition in {r.partition for r in made.ledger.chain(asset)}
    }


@pytest.mark.slow
def test_one_tick_ends_in_replayed_traces_of_a_new_batch_and_touches_nothing(standing: Project):
    before = records(standing)
    with instance_of(standing) as instance:
        asked = tick(instance)
        assert isinstance(asked, dg.RunRequest)
        job = definitions().resolve_job_def(automation.JOB)
        result = job.execute_in_process(
            instance=instance, partition_key=asked.partition_key, run_config=QUIET
        )
        assert result.success
        lines = [stage for stage in STAGES.values() if stage.partitions in (LINE, *SOURCES)]
        new = {f"{s.key} {p}" for s in lines for p in standing.partitions(s) if not p.startswith("000-")}
        after = records(standing)
        assert set(after) - set(before) == new and len(new) == 6 * 6
        assert {name: after[name] for name in before} == before, "what stands was run again"
        accepted = 0
        for source in SOURCES:
            record = standing.ledger.record("replayed_trajectories", f"{asked.partition_key}-{source}")
            assert record and record.about["dagster_run"] == result.run_id
            accepted += record.counts["accepted"]
        assert accepted >= 6

        told = instance.get_latest_materialization_event(dg.AssetKey("replayed_trajectories"))
        assert told and told.asset_materialization and told.asset_materialization.tags
        partition = told.asset_materialization.partition
        assert partition == f"{asked.partition_key}|starqa"
        tags = told.asset_materialization.tags
        version = standing.ledger.current("replayed_trajectories", f"{asked.partition_key}-starqa")
        assert tags["dagster/data_version"] == version
        assert sum(e.passed for e in result.get_asset_check_evaluations()) == 2 * len(new)

        again = job.execute_in_process(instance=instance, partition_key=asked.partition_key, run_config=QUIET)
        assert again.success and records(standing) == after, "made once, it is skipped"


@contextmanager
def daemon(made: Project) -> Iterator[Path]:
    """Dagster's daemon over a project; its log."""
    log = made.root / "daemon.log"
    with log.open("w") as out:
        running = subprocess.Popen(
            [Path(sys.executable).with_name("dagster-daemon"), "run", "-w", "workspace.yaml"],
            cwd=made.root,
            env=environment(made),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield log
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def environment(made: Project) -> dict[str, str]:
    return os.environ | {
        "DAGSTER_HOME": str(made.root),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": "1",
    }


def command(made: Project, *words: str) -> None:
    program = Path(sys.executable).with_name("dagster")
    subprocess.run([program, *words], cwd=made.root, env=environment(made), check=True, capture_output=True)


def awaited(look_for: Callable[[], T | None], log: Path) -> T:
    """What `look_for` finds, once it finds something."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        if found := look_for():
            return found
        time.sleep(0.5)
    raise AssertionError(f"the daemon came to nothing:\n{log.read_text()[-4000:]}")


@pytest.mark.slow
def test_the_daemon_backfills_one_run_at_a_time_and_retries_a_killed_one(standing: Project, tmp_path: Path):
    """Two partitions, one of which stands; then a run whose process is killed."""
    shutil.copytree(standing.root, tmp_path / "copy", symlinks=True)
    made = small(tmp_path / "copy")
    batches.add(made.root, "5", ["fineweb"], ["000"])
    graph.use(made)
    run_stage(made, STAGES["raw/fineweb"], "5-fineweb")
    before = records(made)
    with instance_of(made) as instance, daemon(made) as log:
        instance.add_dynamic_partitions("batch", made.batches)
        keys = ["000|mathvista", "5|fineweb"]
        command(
            made,
            *("job", "backfill", "-w", "workspace.yaml", "-j", "make_traces", "--noprompt"),
            *("--partitions", ",".join(keys)),
        )
        runs = awaited(lambda: _ended(instance, "make_traces", 2), log)
        assert {r.dagster_run.tags["dagster/partition"] for r in runs} == set(keys)
        spans = sorted((r.start_time, r.end_time) for r in runs)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans)), spans
        after = records(made)
        assert {name: after[name] for name in before} == before, "what stands was made again"
        assert {f"{s} 5-fineweb" for s in ("teacher_responses", "replayed_trajectories")} <= set(after)

        batches.add(made.root, "6", ["sa1b"], ["000"])
        instance.add_dynamic_partitions("batch", made.batches)
        command(
            made,
            *("job", "launch", "-w", "workspace.yaml", "-j", automation.JOB),
            *("--tags", json.dumps({"dagster/partition": "6"})),
        )
        killed = awaited(lambda: _working(made, instance), log)
        os.kill(killed[1], signal.SIGKILL)
        (first, second) = awaited(lambda: _ended(instance, automation.JOB, 2), log)
        assert (first.dagster_run.status.value, second.dagster_run.status.value) == ("FAILURE", "SUCCESS")
        assert second.dagster_run.parent_run_id == first.dagster_run.run_id == killed[0]
        assert made.ledger.current("media_fingerprints", "6-sa1b")


def _ended(instance: dg.DagsterInstance, job: str, count: int) -> list[dg.RunRecord] | None:
    """The runs of a job, oldest first, once so many have ended."""
    found = instance.get_run_records(dg.RunsFilter(job_name=job))
    found = [r for r in found if r.dagster_run.remote_job_origin]  # not those of this process
    done = [r for r in found if r.dagster_run.is_finished]
    return sorted(done, key=lambda r: r.start_time or 0) if len(done) >= count else None


def _working(made: Project, instance: dg.DagsterInstance) -> tuple[str, int] | None:
    """(run, process) of a resynthesis that has made something and goes on."""
    for record in instance.get_run_records(dg.RunsFilter(job_name=automation.JOB)):
        run_id = record.dagster_run.run_id
        if record.dagster_run.remote_job_origin and (made.root / ".dagster/alive" / run_id).exists():
            told = " ".join(e.user_message for e in instance.all_logs(run_id))
            if "(pid: " in told:
                return run_id, int(told.split("(pid: ")[1].split(")")[0])
    return None
