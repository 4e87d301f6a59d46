"""`pixelis status`: every partition of every stage, and whether a run would do something."""

from assets import console
from assets.catalogue import STAGES
from assets.running import settled
from assets.stage import Project, Stage, StageError


def state(project: Project, stage: Stage, partition: str) -> str:
    """One of: up to date, stale, failed inputs, blocked, missing, made where asked for, waits for its
    upstream."""
    record = project.ledger.record(stage.key, partition)
    try:
        if found := settled(project, stage, partition):
            return f"blocked: {found.about['blocked']}" if found.about.get("blocked") else "up to date"
    except StageError:
        return "waits for its upstream" if record is None else "stale"
    if record is None:
        return "made where asked for" if stage.aside else "missing"
    return f"{record.counts['failed']} failed inputs" if record.counts.get("failed") else "stale"


def cost(project: Project) -> str:
    """What a trace that replay kept has cost, over all partitions; empty where no run has told."""
    key = "replayed_trajectories"
    records = [project.ledger.record(key, partition) for partition in project.partitions(STAGES[key])]
    kept = [each.about["cost"]["kinds"]["all"] for each in records if each and "cost" in each.about]
    accepted = sum(each["accepted"] or 0 for each in kept)
    if not accepted:
        return ""
    tokens = sum(each["prompt_tokens"] + each["completion_tokens"] for each in kept)
    dollars = [each["dollars"] for each in kept if each["dollars"] is not None]
    money = f"${sum(dollars) / accepted:,.4f}" if len(dollars) == len(kept) else "dollars unknown (no price)"
    return f"the teacher: {tokens / accepted:,.0f} tokens and {money} per accepted trace, of {accepted:,}"


def show(project: Project) -> int:
    """Print the table."""
    rows = []
    for stage in STAGES.values():
        for partition in project.partitions(stage):
            record = project.ledger.record(stage.key, partition)
            counts = record.counts if record else {}
            numbers = [str(counts.get(k, "")) for k in ("inputs", "accepted", "rejected", "failed")]
            version = record.version[:12] if record else ""
            rows.append([stage.key, partition, version, *numbers, state(project, stage, partition)])
    columns = ["asset", "partition", "version", "in", "accepted", "rejected", "failed", "state"]
    console.table(f"profile {project.settings.profile}", columns, rows)
    if told := cost(project):
        console.say(told)
    return 0
