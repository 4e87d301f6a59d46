"""`pixelis estimate`: what is still to be asked of the teachers and what that takes, by the plan alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from assets import console
from assets.catalogue import STAGES
from assets.running import settled
from assets.stage import Project, StageError
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.records import Assignment
from pixelis_pipeline.settings import OWN_TEACHERS, Settings, TeacherSettings
from pixelis_pipeline.synthesis.asking.endpoint import remote, require_key
from pixelis_pipeline.synthesis.asking.estimate import Estimate, estimate
from pixelis_pipeline.synthesis.asking.prices import require_price, unpriced
from pixelis_pipeline.synthesis.asking.store import AnswerStore

PLAN, RESPONSES = "synthesis_plan", "teacher_responses"
NO_PLAN = "no plan yet: `pixelis run --to synthesis_plan` makes it and asks nobody"


@dataclass(frozen=True, slots=True)
class Row:
    """The estimate of one source under its teacher. `per_minute`: how many requests that takes, where
    settings or earlier answers say so. A teacher that is not `paid` is not waited for either."""

    source: str
    model: str
    paid: bool
    per_minute: float | None
    found: Estimate


def sources(settings: Settings) -> list[str]:
    """The sources that a teacher is asked about."""
    return [name for name in sorted(settings.sources) if settings.teacher_for(name).endpoint != "none"]


def paid(settings: Settings, source: str) -> bool:
    """Whether somebody else's model writes a source's traces."""
    return settings.teacher_for(source).endpoint not in OWN_TEACHERS


def limited(settings: Settings, max_cost: float | None) -> Settings:
    """Settings with the budget of one run. SettingsError for a budget over a model without a price."""
    if max_cost is not None:
        settings = settings.model_copy(
            update={"teacher": settings.teacher.model_copy(update={"max_cost": max_cost})}
        )
    for source in sources(settings):
        require_price(settings.teacher_for(source))
    return settings


def rows(project: Project) -> tuple[list[Row], list[str]]:
    """(the estimate of each source with a plan, what should be known about the plans)."""
    found, notes = [], []
    with AnswerStore(project.root) as store:
        for source in sources(project.settings):
            folders = []
            for partition in project.partitions(STAGES[PLAN]):
                if partition.rpartition("-")[2] != source:
                    continue
                if why := _plan_state(project, partition):
                    notes.append(f"{PLAN} [{partition}]: {why}")
                if project.ledger.current(PLAN, partition) is not None:
                    folders.append(project.ledger.folder(PLAN, partition))
            if folders:
                teacher, costs = project.settings.teacher_for(source), paid(project.settings, source)
                planned = chain.from_iterable(artifact.records(each, Assignment) for each in folders)
                made, rate = estimate(planned, teacher, store), _per_minute(teacher, store)
                found.append(Row(source, teacher.model, costs, rate, made))
    return found, notes


def _per_minute(teacher: TeacherSettings, store: AnswerStore) -> float | None:
    """The endpoint's rate, as settings give it or as `synthesis.asking.client` has found out."""
    learned = store.recall(f"pace/{teacher.endpoint}/{teacher.model}") or {}
    return teacher.requests_per_minute or 60 * (learned.get("rate") or 0.0) or None


def _plan_state(project: Project, partition: str) -> str:
    """What is wrong with a partition's plan, empty where it is as the next run will find it."""
    if project.ledger.current(PLAN, partition) is None:
        return NO_PLAN
    try:
        current = settled(project, STAGES[PLAN], partition)
    except StageError:
        current = None
    return "" if current else "older than its settings, code or inputs; the next run may plan otherwise"


def due(project: Project, to: Sequence[str], asset: str | None) -> bool:
    """Whether a run of these assets (none named: of all) may ask a paid endpoint."""
    if asset:
        reached = {asset}
    else:
        reached, wanted = set[str](), set(to) or {RESPONSES}
        while wanted:
            reached |= wanted
            wanted = {up for key in wanted if key in STAGES for up in STAGES[key].inputs} - reached
    return RESPONSES in reached and any(paid(project.settings, each) for each in sources(project.settings))


def show(project: Project) -> int:
    """Print a line a source and their sum. 1 where there is no plan at all."""
    found, notes = rows(project)
    if not found:
        console.say(NO_PLAN)
        return 1
    columns = [
        "source", "model", "planned", "answered", "to send", "tokens in", "tokens out", "from",
        "dollars", "by /v1/batches", "at most", "time",
    ]  # fmt: skip
    console.table("What asking will take (an estimate; nothing was sent)", columns, _cells(project, found))
    for line in (*notes, *_remarks(project.settings, found)):
        console.say(line)
    return 0


def require_keys(project: Project) -> None:
    """SettingsError where an endpoint is to be asked and there is no key for it: said before a run that would
    end at it."""
    for row in rows(project)[0]:
        if row.paid and row.found.to_send:
            teacher = project.settings.teacher_for(row.source)
            require_key(remote(teacher), teacher)


def _cells(project: Project, found: Sequence[Row]) -> list[list[str]]:
    cells = [[row.source, row.model, *_numbers(project, [row])] for row in found]
    return [*cells, ["all", "", *_numbers(project, found)]] if len(found) > 1 else cells


def _numbers(project: Project, found: Sequence[Row]) -> list[str]:
    each = [row.found for row in found]
    sent = sum(e.to_send for e in each)
    known = sum(e.measured * e.to_send for e in each)
    basis = "" if not sent else "answers" if known == sent else "prior" if not known else "answers, prior"
    return [
        f"{sum(e.planned for e in each):,}",
        f"{sum(e.answered for e in each):,}",
        f"{sent:,}",
        f"{sum(e.prompt_tokens for e in each):,.0f}",
        f"{sum(e.completion_tokens for e in each):,.0f}",
        basis,
        _money([e.dollars() for e in each]),
        _money([e.dollars(batch=True) for e in each]),
        _money([e.most() for e in each]),
        _duration(project, found),
    ]


def _money(amounts: Sequence[float | None]) -> str:
    known = [amount for amount in amounts if amount is not None]
    return f"${sum(known):,.2f}" if len(known) == len(amounts) else "no price"


def _duration(project: Project, found: Sequence[Row]) -> str:
    """How long the paid endpoints take at their rates, one source after the other."""
    waited = [row for row in found if row.paid and row.found.to_send]
    if not waited:
        return ""
    if project.settings.teacher.mode == "batch":
        return "the batch's"
    if not all(row.per_minute for row in waited):
        return "rate not known"
    seconds = sum(60 * row.found.to_send / row.per_minute for row in waited if row.per_minute)
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.0f} s"


def _remarks(settings: Settings, found: Sequence[Row]) -> list[str]:
    """What the table cannot say: missing prices, the budget, and asking that ends early."""
    teacher, batch = settings.teacher, settings.teacher.mode == "batch"
    said = [unpriced(model) for model in sorted({r.model for r in found if r.found.dollars() is None})]
    if teacher.max_cost and not said:
        left, allowed = teacher.max_cost, 0
        for row in found:
            cost = row.found.dollars(batch) or 0.0
            allowed += row.found.within(max(left, 0.0), batch) or 0
            left -= cost
        total = sum(row.found.to_send for row in found)
        said.append(f"max_cost ${teacher.max_cost:,.2f} allows {allowed:,} of {total:,} requests")
    if settings.synthesis.accepted:
        ends = f"asking ends at {settings.synthesis.accepted:,} accepted traces"
        said.append(f"{ends}: the table is about all candidates, the most that is sent")
    return said
