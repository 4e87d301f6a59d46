"""One run of a job: made where something of it is stale, and what came of it told in lines."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg

from assets import console, partitions
from assets.running import settled
from assets.stage import Project, Stage, StageError
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.chain import RunRecord

BY_HAND = {"dagster/max_retries": "0"}  # no daemon runs it again: this process says what to do
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}  # the UI keeps every event


@dataclass(frozen=True, slots=True)
class Run:
    """A job at a ledger partition, and its stages in order."""

    job: str
    partition: str
    stages: tuple[Stage, ...]

    @property
    def label(self) -> str:
        """What it is called where it is told of."""
        return f"{self.job} [{self.partition}]"

    @property
    def makes(self) -> frozenset[str]:
        """The assets it makes."""
        return frozenset(stage.key for stage in self.stages)

    @property
    def needs(self) -> frozenset[str]:
        """The assets it reads and does not make itself."""
        return frozenset(above for each in self.stages for above in each.reads(self.partition)) - self.makes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What there is to tell of a run, and whether it is up to date now."""

    good: bool
    lines: tuple[str, ...]

    def tell(self) -> bool:
        """Say it; whether it is good."""
        for line in self.lines:
            (console.say if self.good else console.error)(line)
        return self.good


def make(project: Project, location: dg.Definitions, instance: dg.DagsterInstance, run: Run) -> Outcome:
    """One Dagster run, or none where every stage of it is settled."""
    if _all_settled(project, run):
        for stage in run.stages:
            if stage.restore:
                stage.restore(project, run.partition)
        return Outcome(True, (f"unchanged  {run.label}: {', '.join(s.key for s in run.stages)}",))
    started = time.monotonic()
    result = location.resolve_job_def(run.job).execute_in_process(
        instance=instance,
        partition_key=partitions.to_dagster(run.stages[0], run.partition),
        asset_selection=[dg.AssetKey(s.key.split("/")) for s in run.stages],
        raise_on_error=False,
        run_config=QUIET,
        tags=BY_HAND,
    )
    seconds = time.monotonic() - started
    if result.success:
        return Outcome(True, (f"made       {run.label} in {seconds:.1f} s: {_counts(project, run)}",))
    failed = f"{run.label} failed after {seconds:.1f} s (run {result.run_id}); nothing after it was run"
    return Outcome(False, (failed, *_causes(result)))


def _causes(result: dg.ExecuteInProcessResult) -> Iterator[str]:
    for each in result.all_events:
        if each.is_step_failure and each.step_failure_data.error:
            cause = each.step_failure_data.error.cause or each.step_failure_data.error
            yield f"  {each.step_key}: {cause.message.strip()}"
    for check in result.get_asset_check_evaluations():
        if not check.passed:
            told = "; ".join(str(v.value) for v in check.metadata.values())
            yield f"  {check.asset_key.to_user_string()}: check {check.check_name} failed: {told}"


def _all_settled(project: Project, run: Run) -> bool:
    """Whether every stage of a run may be skipped, as far as that can be known before it."""
    for stage in run.stages:
        try:
            record = settled(project, stage, run.partition)
        except StageError:  # an upstream is not made yet
            return False
        if record is None or record.about.get("blocked"):
            return False
    return True


def failed(project: Project, run: Run) -> int:
    """How many inputs of a run are to be tried again."""
    records = (project.ledger.record(stage.key, run.partition) for stage in run.stages)
    return sum(record.counts["failed"] for record in records if record is not None)


def _reason(project: Project, record: RunRecord) -> str:
    """How many inputs failed, and why the first of them did: the next run tries them again."""
    folder = project.ledger.folder(record.asset, record.partition, record.version)
    return f"{record.counts['failed']} failed: {next(artifact.failed(folder)).error}"


def _counts(project: Project, run: Run) -> str:
    shown = []
    for stage in run.stages:
        record = project.ledger.record(stage.key, run.partition)
        if record is not None:
            failed = f" ({_reason(project, record)})" if record.counts["failed"] else ""
            short = f" ({record.about['short']})" if record.about.get("short") else ""
            shown.append(f"{stage.key} {record.counts['accepted']}/{record.counts['inputs']}{failed}{short}")
    return ", ".join(shown)
