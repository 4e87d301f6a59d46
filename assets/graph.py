"""Stages as Dagster assets: one policy mapped over all of them.

Data moves by reference through the ledger, so no IO manager ever stores anything. The ledger's version is
Dagster's data version; where an upstream has several partitions its versions are stated here, because
Dagster's own record of them is cut short or hashed again.
"""

import warnings
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from typing import Any

import dagster as dg

from assets import alive, page, partitions
from assets.child import Killed
from assets.pipes import Pipes
from assets.running import Made, run, upstream
from assets.stage import LINE, POLICY, STAGES, Project, Stage, StageError, Watch, home
from pixelis_pipeline.ledger.ledger import WHOLE
from pixelis_pipeline.settings import load

# Multi-partition mappings and code references are marked beta; tests hold what is used of them.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

TEACHER = "teacher"  # the pool of what asks the teacher; its limit stands in dagster.yaml
RETRIES = 2  # of a step whose child process was killed from outside
OWNERS = {"policies": ["team:research"], "measurements": ["team:research"]}


class NoStorage(dg.IOManager):
    """Assets here return no values. One that did would be pickled, so it is refused."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Raises: commit to the ledger instead."""
        raise dg.DagsterInvariantViolationError(f"{context.step_key} returned a value; commit it instead")

    def load_input(self, context: dg.InputContext) -> Any:
        """Raises: read from the ledger instead."""
        raise dg.DagsterInvariantViolationError(f"{context.name}: read the upstream from the ledger")


_PROJECT: list[Project] = []


def use(chosen: Project) -> None:
    """Let the assets of this process work on `chosen`."""
    _PROJECT[:] = [chosen]


def project() -> Project:
    """The project this process works on."""
    if not _PROJECT:
        use(Project(home(), load(home())))
    return _PROJECT[0]


def register(instance: dg.DagsterInstance) -> None:
    """Tell an instance which batches there are, and of the teacher's pool: a queue that meets a pool for the
    first time starts all that wait for it before it reads the limit in dagster.yaml."""
    instance.add_dynamic_partitions("batch", project().batches)
    if TEACHER not in instance.event_log_storage.get_concurrency_keys():
        instance.event_log_storage.initialize_concurrency_limit_to_default(TEACHER)


def _input_versions(stage: Stage, partition: str) -> dict[str, str]:
    """Tags that state the versions of partitioned upstreams."""
    tags: dict[str, list[str]] = {}
    for each in upstream(project(), stage, partition):
        if each.asset in stage.inputs and partitions.definition(STAGES[each.asset]) is not None:
            tags.setdefault(each.asset, []).append(each.version)
    return {
        f"dagster/input_data_version/{asset}": sha256("".join(versions).encode()).hexdigest()
        for asset, versions in tags.items()
    }


def make(stage: Stage, partition: str, run_id: str, watch: Watch | None = None) -> Made:
    """Run one partition of a stage for a Dagster run, which `watch` tells of long work. StageError for one
    that the project does not ask for: Dagster offers every batch with every source, also one that was never
    opened."""
    if partition not in project().partitions(stage):
        batch = partition.rpartition("-")[0]
        raise StageError(f"{stage.key} has no partition {partition}: `pixelis batch open {batch}` opens it")
    alive.hold(project().root, run_id)
    return run(project(), stage, partition, {"dagster_run": run_id}, watch)


def shown(stage: Stage, partition: str, made: Made) -> tuple[dict[str, Any], dict[str, str]]:
    """(metadata, tags) of the event that tells Dagster of a version."""
    return page.metadata(project(), stage, made), _input_versions(stage, partition)


def checks(stage: Stage, made: Made) -> Iterator[dg.AssetCheckResult]:
    """What the stage's checks found."""
    due, left = page.conservation(project(), stage, made.record)
    yield dg.AssetCheckResult(
        passed=due == left, check_name="conservation", metadata={"came in": due, "left": left}
    )
    problems = page.schema_problems(project(), stage, made.record)
    yield dg.AssetCheckResult(passed=not problems, check_name="schema", metadata={"problems": problems})
    if stage.gate:
        yield dg.AssetCheckResult(
            passed=not made.blocked, check_name=stage.gate, metadata={"why": made.blocked or "clear"}
        )


def _asset(stage: Stage) -> dg.AssetsDefinition:
    specs = [
        dg.AssetCheckSpec("conservation", asset=stage.key.split("/"), description="every input left once"),
        dg.AssetCheckSpec("schema", asset=stage.key.split("/"), description="files match the manifest"),
    ]
    if stage.gate:
        specs.append(dg.AssetCheckSpec(stage.gate, asset=stage.key.split("/"), blocking=True))

    @dg.asset(
        key=stage.key.split("/"),
        deps=[
            dg.AssetDep(above.split("/"), partition_mapping=partitions.mapping(above, stage))
            for above in stage.inputs
        ],
        partitions_def=partitions.definition(stage),
        group_name=stage.group,
        kinds=set(stage.kinds),
        owners=OWNERS.get(stage.group, ["team:data"]),
        description=stage.description,
        code_version=stage.code,
        check_specs=specs,
        pool=TEACHER if stage.attested else None,
        metadata=page.source_link(stage),
    )
    def materialise(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        key = context.partition_key if context.has_partition_key else None
        partition = partitions.to_ledger(key) if isinstance(key, dg.MultiPartitionKey) else WHOLE
        try:
            made = make(stage, partition, context.run_id, Pipes(context))
        except Killed as error:  # it goes on from its last checkpoint
            raise dg.RetryRequested(max_retries=RETRIES) from error
        metadata, tags = shown(stage, partition, made)
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(made.record.version),
            metadata=metadata,
            tags=tags,
            check_results=list(checks(stage, made)),
        )

    return materialise


@cache
def assets() -> tuple[dg.AssetsDefinition, ...]:
    """Every stage as an asset, in the order of declaration."""
    return tuple(_asset(stage) for stage in STAGES.values())


@cache
def jobs() -> dict[str, Any]:
    """One job a partitioning, since assets of different partitioning cannot share one."""
    groups: dict[str, list[str]] = {}
    for stage in STAGES.values():
        groups.setdefault(job_name(stage), []).append(stage.key)
    return {
        name: dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*[dg.AssetKey(key.split("/")) for key in keys]),
            partitions_def=partitions.definition(STAGES[keys[0]]),
            executor_def=dg.in_process_executor,
        )
        for name, keys in groups.items()
    }


def job_name(stage: Stage) -> str:
    """The job that materialises a stage together with the others of its partitioning."""
    if stage.partitions == WHOLE:
        return f"make_{stage.group}"
    return {LINE: "make_traces", POLICY: "make_predictions"}.get(stage.partitions, f"read_{stage.partitions}")
