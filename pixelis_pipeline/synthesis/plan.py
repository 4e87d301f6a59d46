"""What the teacher is asked: questions drawn by strata, and which kind of trace is wanted of each.

Evaluation records end here, before a single one is asked. A plan depends on its own partition and on settings
alone, and not on the order of the samples: a batch that is added changes nothing that stands.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pixelis_pipeline.media import MediaError
from pixelis_pipeline.records import (
    Accepted,
    Assignment,
    Failed,
    Outcome,
    Question,
    Rejected,
    Sample,
    TraceKind,
    record_id,
)
from pixelis_pipeline.settings import Settings, SynthesisSettings
from pixelis_pipeline.sources.licences import admit
from pixelis_pipeline.synthesis.questions import Pixels, questions
from pixelis_pipeline.synthesis.strata import KINDS, apportion, lacking, recipes, room, span_of, stratum

STAGE = "synthesis_plan"
VERSION = 2
Hardness = Callable[[Question], float]
LEFT_OUT = (
    "settings give {source} no teacher. An endpoint at an address is asked about your own files only: set "
    "sources.{source}.path, or name a teacher in sources.{source}.teacher"
)


class _Candidate(NamedTuple):
    """A question in the order of drawing: the hardest first, then by a hash of its id."""

    ease: float
    key: str
    sample: int
    question: Question


@dataclass(slots=True)
class _Pool:
    """The candidates of one task, by temporal span. No more are held than there is room for."""

    most: int
    spans: dict[str, list[_Candidate]] = field(default_factory=lambda: defaultdict(list))

    def add(self, candidate: _Candidate) -> None:
        held = self.spans[span_of(candidate.question)]
        held.append(candidate)
        if self.most and len(held) > 2 * self.most + 64:
            held.sort()
            del held[self.most :]


def plan(
    samples: Iterable[Sample],
    pixels: Pixels,
    settings: Settings,
    hardness: Hardness | None = None,
    told: dict[str, int] | None = None,
) -> Iterator[Outcome[Assignment]]:
    """One outcome per sample, in order: what is asked about it, or why nothing is.

    Rejected by the licence registry ("evaluation record", "licence forbids training"), "left out" (settings
    give its source no teacher), for media that cannot be decoded, "no question", or "not drawn" where no
    room is left in the strata that its questions fit. Failed for media that are gone or changed since they
    were read.
    `hardness` is a pinned predictor's (`hardness.predictor`): of a stratum the hardest are drawn first.
    What strata lack is put into `told`, by their names; it is never made up by repeating a question's trace.
    """
    pools: dict[tuple[str, str], _Pool] = {}
    rooms: dict[str, dict[str, int]] = {}
    outcomes: list[tuple[str, int] | Rejected | Failed] = []
    for number, sample in enumerate(samples):
        source = sample.origin.source
        found = _asked(sample, pixels, settings)
        if isinstance(found, (Rejected, Failed)):
            outcomes.append(found)
            continue
        outcomes.append((sample.id, len(found)))
        available = rooms.setdefault(source, room(settings, source))
        for question in found:
            most = sum(n for name, n in available.items() if name.startswith(f"{question.task}/"))
            if most or not settings.synthesis.candidates:
                pool = pools.setdefault((source, question.task), _Pool(most))
                ease = -hardness(question) if hardness else 0.0
                pool.add(_Candidate(ease, order_key(settings.synthesis.seed, question), number, question))
    drawn: dict[int, list[Assignment]] = defaultdict(list)
    for (source, task), pool in sorted(pools.items()):
        for candidate, kind, times in _drawn(pool, task, rooms[source], settings):
            drawn[candidate.sample].append(_assignment(candidate.question, kind, times, settings.synthesis))
    if told is not None:
        for source in rooms:
            planned = (a for mine in drawn.values() for a in mine if a.question.origin.source == source)
            told |= lacking(settings, source, planned)
    for number, outcome in enumerate(outcomes):
        if not isinstance(outcome, tuple):
            yield outcome
        elif number in drawn:
            yield Accepted(outcome[0], tuple(drawn.pop(number)))
        else:
            why = "no room is left in any stratum that its questions fit"
            yield Rejected(outcome[0], STAGE, "not drawn", measured=outcome[1], detail=why)


def asking_order(
    assignments: Iterable[Assignment], settings: SynthesisSettings, hardness: Hardness | None = None
) -> list[Assignment]:
    """The candidates in the order in which they are asked, whatever order they are stored in: the order in
    which they were drawn, the first kind of a question before a second one."""

    def place(each: Assignment) -> tuple[int, float, str, int]:
        ease = -hardness(each.question) if hardness else 0.0
        return each.sample, ease, order_key(settings.seed, each.question), KINDS.index(each.kind)

    return sorted(assignments, key=place)


def order_key(seed: int, question: Question) -> str:
    """Where a question stands among others of its stratum: a hash, so that no order of files shows."""
    return hashlib.sha256(f"{seed} {question.id}".encode()).hexdigest()


def _asked(sample: Sample, pixels: Pixels, settings: Settings) -> list[Question] | Rejected | Failed:
    """The questions that a sample supports, at least one, or why there are none."""
    source = sample.origin.source
    if (refused := admit(sample)) is not None:
        return refused
    if settings.teacher_for(source).endpoint == "none":
        return Rejected(sample.id, STAGE, "left out", detail=LEFT_OUT.format(source=source))
    try:
        found = questions(sample, pixels, seed=settings.sources[source].seed)
    except MediaError as error:
        if error.passing:
            return Failed(sample.id, STAGE, str(error))
        return Rejected(sample.id, STAGE, error.rule, detail=str(error))
    return found or Rejected(sample.id, STAGE, "no question", detail=f"{source} {sample.category}")


def _drawn(
    pool: _Pool, task: str, available: Mapping[str, int], settings: Settings
) -> Iterator[tuple[_Candidate, TraceKind, int]]:
    """(candidate, kind, how often it was drawn before) until a task's room is used up or nothing is left.

    Each stratum takes from its own span; what one span lacks, the others give, so that the task keeps its
    part of the tool shares. Only when every question has been drawn is one drawn for a second kind. A
    question is never drawn twice for the same kind: the traces would be duplicates.
    """
    spans = {span: sorted(held) for span, held in sorted(pool.spans.items())}
    slots = _slots(task, spans, available, settings)
    used: dict[str, list[TraceKind]] = {}
    left: dict[TraceKind, int] = dict.fromkeys(KINDS, 0)
    for span, wanted in slots.items():
        kinds = _mixed(wanted)
        queue = spans.get(span, [])
        for candidate, kind in zip(queue, kinds, strict=False):
            used[candidate.question.id] = [kind]
            yield candidate, kind, 0
        for kind in kinds[len(queue) :]:
            left[kind] += 1
    everything = sorted(candidate for held in spans.values() for candidate in held)
    fresh = [candidate for candidate in everything if candidate.question.id not in used]
    kinds = _mixed(left)
    for candidate, kind in zip(fresh, kinds, strict=False):
        used[candidate.question.id] = [kind]
        yield candidate, kind, 0
    missing = Counter(kinds[len(fresh) :])
    for times in range(1, len(KINDS)):
        for candidate in everything:
            had = used.get(candidate.question.id, [])
            able = [kind for kind in KINDS if missing[kind] and kind not in had]
            if len(had) == times and able:
                kind = max(able, key=lambda each: missing[each])
                missing[kind] -= 1
                had.append(kind)
                yield candidate, kind, times


def _slots(
    task: str, spans: Mapping[str, Sequence[_Candidate]], available: Mapping[str, int], settings: Settings
) -> dict[str, dict[TraceKind, int]]:
    """By span, how many traces of each kind are wanted. Without a bound every question is wanted once."""
    slots: dict[str, dict[TraceKind, int]] = {}
    if not settings.synthesis.candidates:
        owed = [0.0] * len(KINDS)
        for span, held in spans.items():
            slots[span] = dict(zip(KINDS, apportion(len(held), recipes(settings), owed), strict=True))
        return slots
    for name, count in available.items():
        of, span, _ = name.split("/")
        if of == task:
            slots.setdefault(span, dict.fromkeys(KINDS, 0))
            slots[span].update({kind: count for kind in KINDS if name == stratum(task, span, kind)})
    return slots


def _mixed(wanted: Mapping[TraceKind, int]) -> list[TraceKind]:
    """Each kind as often as it is wanted, evenly among the others, so that any beginning has the mixture."""
    places = [((n + 0.5) / count, kind) for kind, count in wanted.items() for n in range(count)]
    return [kind for _, kind in sorted(places, key=lambda place: (place[0], KINDS.index(place[1])))]


def _assignment(question: Question, kind: TraceKind, sample: int, settings: SynthesisSettings) -> Assignment:
    digest = hashlib.sha256(f"{settings.seed} {question.id} {kind}".encode()).digest()
    style = settings.styles[int.from_bytes(digest[:8], "big") % len(settings.styles)]
    temperature = settings.temperatures[int.from_bytes(digest[8:16], "big") % len(settings.temperatures)]
    payload = {"kind": kind, "style": style, "temperature": temperature, "sample": sample}
    return Assignment(
        id=record_id(STAGE, VERSION, {}, [question.id], payload),
        parents=question.parents,
        question=question,
        kind=kind,
        style=style,
        temperature=temperature,
        sample=sample,
        stratum=stratum(question.task, span_of(question), kind),
    )
