"""What runs without a person: a schedule that opens a batch and re-synthesises it, a sensor for new files of
the sources, and one for runs whose process died. docs/OPERATIONS.md is the operator's page.

A batch is made by one job with an op for each source, because assets of different partitioning (a source's
raw data and its traces) cannot share a job of assets. The ops tell Dagster of the same versions and checks as
the assets would. What stands is skipped by the ledger, so an op that is run again goes on where it was.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from assets import alive, batches, partitions
from assets.batches import BatchError
from assets.graph import TEACHER, checks, make, project, register, shown
from assets.opening import open_batch
from assets.raw import listing, named_folder
from assets.stage import LINE, STAGES, Stage, home
from pixelis_pipeline.ledger.ledger import LedgerError
from pixelis_pipeline.settings import SOURCES, load

Checked = dg.AssetCheckEvaluation
JOB = "resynthesise"
OPERATIONS = load(home()).operations


def _events(stage: Stage, partition: str, run_id: str) -> Iterator[dg.AssetMaterialization | Checked]:
    """Make one partition of a stage; what Dagster is to be told of it."""
    made = make(stage, partition, run_id)
    metadata, tags = shown(stage, partition, made)
    key, at = dg.AssetKey(stage.key.split("/")), partitions.to_dagster(stage, partition)
    versions = {"dagster/data_version": made.record.version, "dagster/code_version": stage.code}
    yield dg.AssetMaterialization(key, partition=at, metadata=metadata, tags=tags | versions)
    for check in checks(stage, made):
        yield dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=check.check_name or "",
            passed=check.passed,
            metadata=check.metadata,
            partition=at,
        )


def _line(source: str) -> dg.OpDefinition:
    @dg.op(
        name=f"{JOB}_{source}",
        description=f"Read, plan, ask, replay and fingerprint {source} of one batch.",
        out=dg.Out(dg.Nothing),
        pool=TEACHER,
    )
    def make_line(context: dg.OpExecutionContext) -> Iterator[dg.AssetMaterialization | Checked]:
        partition = f"{context.partition_key}-{source}"
        stages = [stage for stage in STAGES.values() if stage.partitions in (LINE, source)]
        if partition in project().partitions(stages[0]):
            for stage in stages:
                yield from _events(stage, partition, context.run_id)
        else:
            context.log.info(f"batch {context.partition_key} is not open for {source}")

    return make_line


@dg.job(name=JOB, partitions_def=partitions.BATCHES, executor_def=dg.in_process_executor)
def resynthesise() -> None:
    """Make one batch up to the fingerprints of its replayed traces. The stages over all batches (duplicates,
    splits, training) are left to `pixelis run`."""
    for source in sorted(SOURCES):
        _line(source)()


def request(
    instance: dg.DagsterInstance, name: str, sources: Iterable[str], seen: str = ""
) -> dg.RunRequest | dg.SkipReason:
    """Open the batch `name`, where it is not, and ask for the run that makes it; to do so twice changes
    nothing."""
    try:
        if name not in project().batches:
            open_batch(project(), name, sorted(sources))
    except (BatchError, LedgerError) as error:
        return dg.SkipReason(str(error))
    register(instance)
    return dg.RunRequest(run_key=f"{name} {seen}".strip(), partition_key=name)


@dg.schedule(
    name="resynthesis",
    job=resynthesise,
    cron_schedule=OPERATIONS.resynthesis,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,  # it may spend money: a person switches it on
)
def resynthesis(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Opens a batch of all sources and makes it. The batch is named by the scheduled time, so a tick that is
    evaluated twice opens it once."""
    name = batches.name_at(context.scheduled_execution_time.astimezone(UTC), project().batches)
    return request(context.instance, name, SOURCES)


def _arrived(source: str) -> dict[str, Any]:
    """The listing of a source's folder where it holds more than when the last batch read it, else nothing."""
    folder = named_folder(project().root, project().settings.sources[source])
    records = (
        project().ledger.record(f"raw/{source}", partition)
        for partition in reversed(project().partitions(STAGES[f"raw/{source}"]))
    )
    seen = next((record.resolved.get("outside") for record in records if record), None)
    if folder is None or not seen:
        return {}
    now = listing(folder)
    more = now["files"] > seen["files"] or now["bytes"] > seen["bytes"]
    return now if more and now["sha256"] != seen["sha256"] else {}


def _waiting(source: str) -> str:
    """The newest batch of a source where it was opened and not read yet, else nothing."""
    newest = project().partitions(STAGES[f"raw/{source}"])[-1]
    unread = project().ledger.current(f"raw/{source}", newest) is None
    return newest.rpartition("-")[0] if unread else ""


@dg.sensor(
    name="new_raw_shards",
    job=resynthesise,
    minimum_interval_seconds=OPERATIONS.shard_seconds,
    default_status=dg.DefaultSensorStatus.STOPPED,
)
def new_raw_shards(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Opens a batch of the sources whose folders hold more files or bytes than when they were last read, once
    a folder looks the same (names, sizes, times) at two ticks in a row: it is no longer being copied to."""
    before = json.loads(context.cursor or "{}")
    now = {source: found["sha256"] for source in sorted(SOURCES) if (found := _arrived(source))}
    fresh = batches.name_at(datetime.now(UTC), project().batches)
    due: dict[str, list[str]] = {}
    for source in now:
        if before.get(source) == now[source]:
            due.setdefault(_waiting(source) or fresh, []).append(source)
    # Dagster never runs a key twice, not even one whose run failed: what has arrived since asks again.
    asked = [
        request(context.instance, name, sources, " ".join(now[source][:16] for source in sources))
        for name, sources in due.items()
    ]
    why = [each.skip_message or "" for each in asked if isinstance(each, dg.SkipReason)]
    return dg.SensorResult(
        run_requests=(runs := [each for each in asked if isinstance(each, dg.RunRequest)]),
        skip_reason=None if runs else "; ".join(why) or f"arriving: {', '.join(now) or 'nothing'}",
        cursor=json.dumps(now),
    )


@dg.sensor(name="dead_runs", minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Marks runs whose process is gone as failed: their pool is free again, and the daemon retries them. Also
    tells Dagster of batches that were opened without it."""
    register(context.instance)
    gone = alive.bury(project().root, context.instance)
    return dg.SkipReason(f"marked as failed: {', '.join(gone)}" if gone else "every run has its process")
