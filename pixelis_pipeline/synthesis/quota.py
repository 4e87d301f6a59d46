"""Exactly N accepted traces, from at most M candidates: no more is ever asked for than is still missing.

Each round asks for as many candidates as a stratum still lacks, judges the answers, and looks again. So
the last round of a stratum is accepted whole, and what was asked is the shortest beginning of the plan
that holds the accepted traces that are owed: nothing is paid for and thrown away because it came too late.
What was asked does not depend on the order in which answers arrive, nor on what failed in between.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from pixelis_pipeline.records import Accepted, Assignment, Failed, Outcome, Rejected
from pixelis_pipeline.synthesis.response import Response

STAGE = "teacher_responses"

Verdict = Literal["accepted", "declined", "failed"]
Ask = Callable[[Sequence[Assignment]], Sequence[Outcome[Response]]]
Judge = Callable[[Sequence[Response]], Sequence[Verdict]]


def ask_until(
    assignments: Sequence[Assignment], goals: Mapping[str, int], ask: Ask, judge: Judge
) -> list[Outcome[Response]]:
    """One outcome per assignment, in their order, with `goals[stratum]` accepted traces among them.

    `ask` gives one outcome per assignment, `judge` says of each answer whether a trace of it is accepted.
    What one stratum lacks after its last candidate, the others make up for in the order of the plan, so
    that their sum is met as long as candidates last. A candidate that was not asked is Rejected "not
    needed" where the goals are met. What failed keeps its place until it is known: while something is
    failed, the candidates that are left are Failed too, and the next run goes on with them.
    """
    asked: dict[str, Outcome[Response]] = {}
    verdicts: dict[str, Verdict] = {}

    def round_(chosen: Sequence[Assignment]) -> None:
        outcomes = list(ask(chosen))
        answered = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
        judged = judge([outcome.records[0] for outcome in answered])
        asked.update((outcome.of, outcome) for outcome in outcomes)
        verdicts.update((o.of, "failed" if isinstance(o, Failed) else "declined") for o in outcomes)
        verdicts.update((o.of, verdict) for o, verdict in zip(answered, judged, strict=True))

    def lacking(goal: int, of: Iterable[Assignment]) -> int:
        """How many more must be asked for: an open one may yet be accepted."""
        return goal - sum(verdicts.get(each.id) in ("accepted", "failed") for each in of)

    def left(of: Iterable[Assignment]) -> list[Assignment]:
        return [each for each in of if each.id not in asked]

    strata: dict[str, list[Assignment]] = {}
    for each in assignments:
        strata.setdefault(each.stratum, []).append(each)
    while chosen := [
        each
        for name, members in strata.items()
        for each in left(members)[: max(lacking(goals.get(name, 0), members), 0)]
    ]:
        round_(chosen)
    total = sum(goals.values())
    while "failed" not in verdicts.values() and (missing := lacking(total, assignments)) > 0:
        if not (chosen := left(assignments)[:missing]):
            break
        round_(chosen)
    accepted = sum(verdict == "accepted" for verdict in verdicts.values())
    return [asked.get(each.id) or _unasked(each, accepted, total, verdicts) for each in assignments]


def _unasked(
    assignment: Assignment, accepted: int, total: int, verdicts: Mapping[str, Verdict]
) -> Rejected | Failed:
    if accepted >= total:
        return Rejected(assignment.id, STAGE, "not needed", measured=accepted, threshold=total)
    failed = sum(verdict == "failed" for verdict in verdicts.values())
    return Failed(
        assignment.id, STAGE, f"not asked yet: {accepted} of {total} accepted, {failed} failed before it"
    )
