"""Exactly N accepted, at most M asked: against teachers and judges of every temper."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from pixelis_pipeline.records import (
    Accepted,
    Assignment,
    Failed,
    Media,
    Origin,
    Outcome,
    Question,
    Rejected,
)
from pixelis_pipeline.synthesis.quota import Verdict, ask_until
from pixelis_pipeline.synthesis.response import Response

QUESTION = Question(
    "q",
    ("s",),
    Origin("sa1b", "1", "CC0-1.0", "training"),
    (Media("0" * 64, "image", "a", 8, 8),),
    "?",
    "A",
    "",
)


@dataclass
class Teacher:
    """What becomes of each candidate, by its number: accepted, declined, refused, or failed so many times
    (asking or judging) before it is accepted or declined."""

    fates: Sequence[str]
    bills: dict[str, int] = field(default_factory=dict)
    trouble: dict[str, int] = field(default_factory=dict)

    def fate(self, identity: str) -> str:
        return self.fates[int(identity)]

    def passing(self, identity: str, kind: str) -> bool:
        """Whether the trouble of this candidate is over, counting this try."""
        if not self.fate(identity).startswith(kind):
            return True
        self.trouble[identity] = self.trouble.get(identity, 0) + 1
        return self.trouble[identity] > 1

    def ask(self, chosen: Sequence[Assignment]) -> list[Outcome[Response]]:
        outcomes: list[Outcome[Response]] = []
        for each in chosen:
            if self.fate(each.id) == "refused":
                outcomes.append(Rejected(each.id, "t", "refused by the endpoint"))
            elif not self.passing(each.id, "unanswered"):
                outcomes.append(Failed(each.id, "t", "500"))
            else:
                self.bills.setdefault(each.id, 1)
                response = Response(
                    f"r{each.id}", (each.id,), QUESTION, "positive", each.id, "m", "words", "stop"
                )
                outcomes.append(Accepted(each.id, (response,)))
        return outcomes

    def judge(self, responses: Sequence[Response]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for each in responses:
            if not self.passing(each.request, "crash"):
                verdicts.append("failed")
            else:
                verdicts.append("accepted" if self.fate(each.request).endswith("accepted") else "declined")
        return verdicts


def plan(strata: Sequence[str]) -> list[Assignment]:
    return [Assignment(str(n), ("s",), QUESTION, stratum=name) for n, name in enumerate(strata)]


STEADY = ("accepted", "declined", "refused")
SHAKY = (*STEADY, "unanswered accepted", "unanswered declined", "crash accepted", "crash declined")


def drawn(fates: Sequence[str]) -> st.SearchStrategy[list[tuple[str, str]]]:
    return st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(fates)), max_size=40)


GOALS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 12))


@given(drawn(STEADY), GOALS)
def test_exactly_so_many_are_accepted_and_nothing_is_paid_for_in_vain(
    drawn: list[tuple[str, str]], goals: dict[str, int]
) -> None:
    assignments, teacher = plan([name for name, _ in drawn]), Teacher([fate for _, fate in drawn])
    outcomes = ask_until(assignments, goals, teacher.ask, teacher.judge)
    assert [outcome.of for outcome in outcomes] == [each.id for each in assignments]
    billed = [n for n in range(len(drawn)) if str(n) in teacher.bills]
    accepted = [n for n in billed if drawn[n][1] == "accepted"]
    there = sum(fate == "accepted" for _, fate in drawn)
    assert len(accepted) == min(sum(goals.values()), there)
    for name in "abc":  # a stratum gets what it is owed before another may use its room
        mine = [n for n, (of, _) in enumerate(drawn) if of == name]
        available = sum(drawn[n][1] == "accepted" for n in mine)
        assert sum(n in accepted for n in mine) >= min(goals.get(name, 0), available)
        asked = [n for n in mine if not _unneeded(outcomes[n])]
        assert asked == mine[: len(asked)], "asked in the order of the plan"
    if len(accepted) == sum(goals.values()):
        unneeded = [outcome for outcome in outcomes if _unneeded(outcome)]
        assert all(o.threshold == sum(goals.values()) for o in unneeded if isinstance(o, Rejected))


def _unneeded(outcome: Outcome[Response]) -> bool:
    return isinstance(outcome, Rejected) and outcome.rule == "not needed"


@given(drawn(SHAKY), GOALS)
def test_runs_that_failed_in_between_end_where_an_undisturbed_one_does(
    drawn: list[tuple[str, str]], goals: dict[str, int]
) -> None:
    assignments = plan([name for name, _ in drawn])
    calm = Teacher([fate.split()[-1] for _, fate in drawn])
    wanted = ask_until(assignments, goals, calm.ask, calm.judge)
    teacher = Teacher([fate for _, fate in drawn])
    for _ in range(2 * len(drawn) + 1):
        before = dict(teacher.trouble)
        outcomes = ask_until(assignments, goals, teacher.ask, teacher.judge)
        if teacher.trouble == before:
            break
    assert outcomes == wanted
    assert teacher.bills == calm.bills


def test_a_failure_keeps_its_place_and_what_is_behind_it_waits() -> None:
    teacher = Teacher(["unanswered declined", "accepted", "accepted"])
    assignments = plan("aaa")
    first = ask_until(assignments, {"a": 2}, teacher.ask, teacher.judge)
    assert [type(outcome) for outcome in first] == [Failed, Accepted, Failed]
    assert "1 of 2 accepted, 1 failed" in first[2].error  # type: ignore[union-attr]
    second = ask_until(assignments, {"a": 2}, teacher.ask, teacher.judge)
    assert [type(outcome) for outcome in second] == [Accepted, Accepted, Accepted]
