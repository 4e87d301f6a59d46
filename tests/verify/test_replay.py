"""Replay lets true traces pass, and catches whatever was planted in them."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixelis_pipeline.columns import from_table, to_table
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.records import (
    Accepted,
    Action,
    Failed,
    Json,
    Outcome,
    Rejected,
    Step,
    Trajectory,
    canonical,
)
from pixelis_pipeline.settings import ReplaySettings
from pixelis_pipeline.tools.contract import Observation, Tool, Workspace
from pixelis_pipeline.tools.masks import decode, encode
from pixelis_pipeline.tools.registry import Registry
from pixelis_pipeline.verify.replay import identity, replay

TOLERANCES = ReplaySettings()


def run(trace: Trajectory, pixels: np.ndarray, registry: Registry) -> Outcome[Trajectory]:
    return replay(trace, registry, lambda media: Workspace([pixels]), TOLERANCES)


def kept(trace: Trajectory, pixels: np.ndarray, registry: Registry) -> Trajectory:
    outcome = run(trace, pixels, registry)
    assert isinstance(outcome, Accepted), outcome
    return outcome.records[0]


def with_step(trace: Trajectory, index: int, **changes: Any) -> Trajectory:
    steps = list(trace.steps)
    steps[index] = replace(steps[index], **changes)
    return replace(trace, steps=tuple(steps))


def claiming(trace: Trajectory, index: int, **claims: Any) -> Trajectory:
    return with_step(trace, index, output={**trace.steps[index].output, **claims})


def asking(trace: Trajectory, index: int, **arguments: Any) -> Trajectory:
    action = trace.steps[index].action
    return with_step(trace, index, action=Action(action.name, {**action.arguments, **arguments}))


def opposite(box: list[int]) -> list[int]:
    """A box of the same size elsewhere in the picture."""
    wide, high = box[2] - box[0], box[3] - box[1]
    x = 0 if box[0] > 999 - box[2] else 999 - wide
    y = 0 if box[1] > 999 - box[3] else 999 - high
    return [x, y, x + wide, y + high]


def moved(mask: Json) -> Json:
    """The mask laid over the opposite half of the picture."""
    pixels = decode(mask)
    return encode(np.roll(pixels, (pixels.shape[0] // 2, pixels.shape[1] // 2), (0, 1)))


def garbled(text: str) -> str:
    return "".join("X" if letter != "X" else "Q" for letter in text)


def mutations(trace: Trajectory) -> Iterator[tuple[str, Trajectory]]:
    """(what was done, the trace with exactly that done to it)."""
    for index, step in enumerate(trace.steps):
        box, claim = step.action.arguments.get("box"), step.output
        if box is not None:
            yield "argument: box", asking(trace, index, box=opposite(box))
        if step.action.name == "SEG":
            yield "output: mask", claiming(trace, index, mask=moved(claim["mask"]))
            yield "output: box", claiming(trace, index, box=opposite(claim["box"]))
            yield "output: area", claiming(trace, index, area=3 * claim["area"] + 3)
        if step.action.name == "ZOOM":
            yield "argument: scale", asking(trace, index, scale=2)
            yield "output: sha256", claiming(trace, index, sha256="0" * 64)
            yield "output: width", claiming(trace, index, width=claim["width"] + 1)
            yield "output: image", claiming(trace, index, image=2)
        if step.action.name == "OCR":
            yield "argument: image", asking(trace, index, image=0, box=[0, 0, 60, 60])
            yield "output: text", claiming(trace, index, text=garbled(claim["text"]))
        if step.action.name == "PROP":
            yield "argument: step", asking(trace, index, step=index)
            size = "large" if claim["size"] != "large" else "small"
            yield "output: size", claiming(trace, index, size=size)
            other = "blue" if claim["colour"] != "blue" else "red"
            yield "output: colour", claiming(trace, index, colour=other)
            yield "output: unknown word", claiming(trace, index, texture="striped")
    if trace.steps[-1].action.name in ("PROP", "OCR"):
        yield "removed step", replace(trace, steps=trace.steps[1:])


def test_true_traces_pass_and_pass_again(cases: list[Any], registry: Registry) -> None:
    for case in cases:
        outcome = run(case.trajectory, case.pixels, registry)
        assert isinstance(outcome, Accepted), outcome
        (kept,) = outcome.records
        assert kept.parents == (case.trajectory.id,) and kept.id != case.trajectory.id
        assert [step.verdict for step in kept.steps] == ["same"] * len(kept.steps)
        assert all(step.measured >= step.threshold and step.tool_version for step in kept.steps)
        again = run(kept, case.pixels, registry)
        assert isinstance(again, Accepted)
        assert again.records[0].steps == kept.steps
        assert from_table(Trajectory, to_table(Trajectory, [kept])) == [kept]


@pytest.mark.slow
def test_replay_catches_planted_mutations(cases: list[Any], registry: Registry) -> None:
    planted: Counter[str] = Counter()
    caught: Counter[str] = Counter()
    for case in cases:
        attempts = [(name, mutant, case.pixels) for name, mutant in mutations(case.trajectory)]
        attempts.append(("swapped image", case.trajectory, case.others))
        for name, mutant, pixels in attempts:
            planted[name] += 1
            caught[name] += isinstance(run(mutant, pixels, registry), Rejected)
    total, found = planted.total(), caught.total()
    print(f"caught {found} of {total} mutations ({found / total:.1%}); missed {dict(planted - caught)}")
    assert total >= 200
    # another scene may by chance hold much the same where a trace looks; nothing else may pass
    assert set(planted - caught) <= {"swapped image"}, planted - caught
    assert found / total >= 0.98


def test_a_rejection_tells_where_and_how_far(cases: list[Any], registry: Registry) -> None:
    case = cases[0]
    outcome = run(claiming(case.trajectory, 1, colour="grey"), case.pixels, registry)
    assert isinstance(outcome, Rejected)
    assert (outcome.of, outcome.stage) == (case.trajectory.id, "replayed_trajectories")
    assert (outcome.rule, outcome.measured, outcome.threshold) == ("replay differs: PROP", 0.5, 1.0)
    assert outcome.detail == "step 1: PROP"
    assert outcome.record["steps"][1]["verdict"] == "differs"
    canonical(outcome.record)


RULES: dict[str, tuple[Callable[[Trajectory], Trajectory], str]] = {
    "unknown action": (lambda t: with_step(t, 0, action=Action("FLY", {})), "unknown action"),
    "arguments": (lambda t: asking(t, 0, box=[5, 5, 5, 5]), "arguments"),
    "extra argument": (lambda t: asking(t, 0, colour="red"), "arguments"),
    "no tool": (lambda t: with_step(t, 0, action=Action("TRK", {}), output={"x": 1}), "no tool yet"),
    "claimed no tool": (
        lambda t: with_step(t, 0, action=Action("TRK", {}), output={"error": "no tool yet"}),
        "no tool yet",
    ),
    "no such image": (lambda t: asking(t, 0, image=3), "invalid call: SEG"),
    "other version": (lambda t: with_step(t, 0, tool_version="seg/0"), "other version"),
    "empty claim": (lambda t: with_step(t, 0, output={}), "replay differs: SEG"),
    "wrong answer": (lambda t: replace(t, answer="grey"), "wrong answer"),
}


@pytest.mark.parametrize("name", RULES)
def test_each_rule(name: str, cases: list[Any], registry: Registry) -> None:
    change, rule = RULES[name]
    outcome = run(change(cases[0].trajectory), cases[0].pixels, registry)
    assert isinstance(outcome, Rejected) and outcome.rule == rule


def test_an_honest_failure_is_the_truth(cases: list[Any], registry: Registry) -> None:
    trace, pixels = cases[0].trajectory, cases[0].pixels
    failing = Action("PROP", {"step": 7})
    error = registry.call(Workspace([pixels]), failing).output
    outcome = run(replace(trace, steps=(*trace.steps, Step("", failing, error))), pixels, registry)
    assert isinstance(outcome, Accepted)
    assert (outcome.records[0].steps[2].verdict, outcome.records[0].steps[2].valid) == ("same", False)


def test_acceptance_by_kind(cases: list[Any], registry: Registry) -> None:
    trace, pixels = cases[0].trajectory, cases[0].pixels
    flawed = with_step(claiming(trace, 1, colour="grey"), 1, flawed=True)

    def outcome(changed: Trajectory, kind: Any, **more: Any) -> str:
        result = run(replace(changed, kind=kind, **more), pixels, registry)
        return result.rule if isinstance(result, Rejected) else type(result).__name__

    assert outcome(trace, "outcome-negative", answer="grey") == "Accepted"
    assert outcome(trace, "outcome-negative") == "right answer"
    assert outcome(flawed, "process-negative") == "Accepted"
    assert outcome(trace, "process-negative") == "trap does not spring"
    assert outcome(with_step(trace, 1, flawed=True), "process-negative") == "trap does not spring"
    two = claiming(flawed, 0, box=opposite(trace.steps[0].output["box"]))
    assert outcome(two, "process-negative") == "replay differs: SEG"
    mended = replace(flawed, steps=(*flawed.steps, trace.steps[1]))
    assert outcome(mended, "self-correction") == "Accepted"
    assert outcome(flawed, "self-correction") == "does not repair"  # nothing comes after it
    assert outcome(trace, "self-correction") == "no error to correct"
    truthful = with_step(replace(trace, steps=(*trace.steps, trace.steps[1])), 1, flawed=True)
    assert outcome(truthful, "self-correction") == "no error to correct"
    odd = with_step(trace, 1, flawed=True, output={"smell": "sweet"})
    assert outcome(odd, "process-negative") == "trap does not spring"
    assert outcome(flawed, "outcome-negative", answer="grey") == "Accepted"
    unsound = claiming(trace, 1, colour="grey")
    assert outcome(unsound, "outcome-negative", answer="grey") == "replay differs: PROP"
    true = trace.question.answer
    assert outcome(trace, "outcome-negative", answer=f"I think {true}") == "right answer"
    assert outcome(trace, "outcome-negative", answer="") == "right answer"
    assert outcome(claiming(trace, 1, colour="grey"), "self-correction") == "replay differs: PROP"
    assert outcome(mended, "self-correction", answer="grey") == "wrong answer"
    assert outcome(flawed, "positive") == "replay differs: PROP"


def test_decisive_steps_are_computed(cases: list[Any], registry: Registry) -> None:
    def flags(trace: Trajectory, pixels: np.ndarray) -> list[bool]:
        result = run(trace, pixels, registry)
        assert isinstance(result, Accepted)
        return [step.decisive for step in result.records[0].steps]

    attribute, compare, read = cases[:3]
    assert flags(attribute.trajectory, attribute.pixels) == [True, True]
    assert flags(compare.trajectory, compare.pixels) == [True, True]
    assert flags(read.trajectory, read.pixels) == [True, True]
    idle = compare.trajectory.steps[0]
    wandering = replace(attribute.trajectory, steps=(*attribute.trajectory.steps, idle))
    claimed = with_step(wandering, 2, decisive=True)
    assert flags(claimed, attribute.pixels) == [True, True, False]


class Renamed:
    """A tool under another version."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool

    @property
    def version(self) -> str:
        return self._tool.version + " patched"

    def __call__(self, workspace: Workspace, arguments: Any) -> Observation:
        return self._tool(workspace, arguments)


def test_a_new_tool_gives_a_new_record_and_does_not_vouch_for_the_old(
    cases: list[Any], registry: Registry
) -> None:
    case = cases[0]
    newer = Registry(registry._tools | {"SEG": Renamed(registry._tools["SEG"])})
    first, second = (kept(case.trajectory, case.pixels, each) for each in (registry, newer))
    assert first.id != second.id
    outcome = run(first, case.pixels, newer)
    assert isinstance(outcome, Rejected) and outcome.rule == "other version"
    unused = Registry(registry._tools | {"OCR": Renamed(registry._tools["OCR"])})
    assert kept(case.trajectory, case.pixels, unused).id == first.id


def acted(trace: Trajectory, pixels: np.ndarray, registry: Registry) -> Trajectory:
    """The trace as a policy would leave it that made the same calls: outputs are the tools'."""
    workspace = Workspace([pixels])
    steps = []
    for step in trace.steps:
        seen = registry.call(workspace, step.action)
        steps.append(replace(step, output=seen.output, tool_version=seen.version, artifact=seen.artifact))
    return replace(trace, steps=tuple(steps))


def forged(trace: Trajectory, index: int, **changes: Any) -> Trajectory:
    """A replayed trace whose evidence at a step is changed, its digest and its id made to fit."""
    evidence = {**trace.steps[index].replayed, **changes}
    artifact = Observation(evidence, "").artifact
    changed = with_step(trace, index, replayed=evidence, artifact=artifact)
    return replace(changed, id=identity(changed))


def verdict(outcome: Outcome[Trajectory], index: int) -> tuple[str, str, float]:
    assert isinstance(outcome, Rejected)
    step = outcome.record["steps"][index]
    return step["verdict"], step["metric"], step["measured"]


def test_what_a_tool_returned_must_come_back_exactly(cases: list[Any], registry: Registry) -> None:
    case = cases[0]
    rolled = acted(case.trajectory, case.pixels, registry)
    first = kept(rolled, case.pixels, registry)
    assert [step.replayed for step in first.steps] == [step.output for step in rolled.steps]
    assert [step.artifact for step in first.steps] == [step.artifact for step in rolled.steps] != ["", ""]
    assert kept(first, case.pixels, registry).steps == first.steps
    area = rolled.steps[0].output["area"]
    # one per mille off: a teacher may say so, a tool may not have
    assert kept(claiming(case.trajectory, 0, area=area + 1), case.pixels, registry)
    lie = {**rolled.steps[0].output, "area": area + 1}
    for claim in (
        with_step(rolled, 0, output=lie),
        with_step(rolled, 0, output=lie, artifact=Observation(lie, "").artifact),
        with_step(rolled, 0, artifact="0" * 64),
    ):
        outcome = run(claim, case.pixels, registry)
        assert isinstance(outcome, Rejected) and outcome.rule == "replay differs: SEG"
        assert verdict(outcome, 0) == ("differs", "artifact", 0.0)


def test_a_replayed_trace_is_held_to_what_was_replayed_not_to_the_claim(
    cases: list[Any], registry: Registry
) -> None:
    case = cases[0]
    first = kept(case.trajectory, case.pixels, registry)
    assert first.steps[0].output == case.trajectory.steps[0].output != first.steps[0].replayed
    lie = forged(first, 0, area=first.steps[0].replayed["area"] + 1)
    assert verdict(run(lie, case.pixels, registry), 0) == ("differs", "artifact", 0.0)
    bare = with_step(first, 0, artifact="")
    bare = replace(bare, id=identity(bare))
    assert verdict(run(bare, case.pixels, registry), 0) == ("differs", "artifact", 0.0)


def test_a_record_that_was_altered_is_noticed_before_anything_is_run(
    cases: list[Any], registry: Registry
) -> None:
    case = cases[0]
    first = kept(case.trajectory, case.pixels, registry)

    def unopened(media: object) -> Workspace:
        raise AssertionError("the media were opened")

    for changed in (
        replace(first, answer=first.answer + "."),
        replace(first, steps=first.steps[1:]),
        with_step(first, 0, thought="I was told."),
        with_step(first, 1, decisive=not first.steps[1].decisive),
        replace(first, parents=("another",)),
        replace(first, id="0" * 64),
        replace(first, question=replace(first.question, text="Another?")),
    ):
        outcome = replay(changed, registry, unopened, TOLERANCES)
        assert isinstance(outcome, Rejected) and outcome.rule == "altered", changed
        assert outcome.of == changed.id
    later = replace(first, batch="000", phash=("0" * 16,), information=(0.5,))
    assert kept(later, case.pixels, registry)
    passed_on = replace(later, id="1" * 64, group="0" * 64)  # de-duplication gives ids of its own
    assert kept(passed_on, case.pixels, registry)
    read_again = from_table(Trajectory, to_table(Trajectory, [first]))[0]
    assert kept(read_again, case.pixels, registry)


def test_a_right_answer_needs_evidence(cases: list[Any], registry: Registry) -> None:
    attribute, compare, read = cases[:3]

    def rule(trace: Trajectory, case: Any) -> str:
        outcome = run(trace, case.pixels, registry)
        return outcome.rule if isinstance(outcome, Rejected) else "kept"

    guess = replace(attribute.trajectory, steps=())
    assert rule(guess, attribute) == "no evidence"
    assert rule(replace(guess, kind="outcome-negative", answer="grey"), attribute) == "no evidence"
    # one of two areas says nothing about which is larger
    assert rule(replace(compare.trajectory, steps=compare.trajectory.steps[:1]), compare) == "no evidence"
    # looked at something else: the answer stands in nothing that was returned
    assert rule(replace(read.trajectory, steps=(read.trajectory.steps[0],)), read) == "no evidence"

    def asking_for(case: Any, *tools: str) -> Trajectory:
        question = replace(case.trajectory.question, tools=tools)
        return replace(case.trajectory, question=question)

    assert rule(asking_for(read, "OCR"), read) == "kept"
    assert rule(asking_for(read, "OCR", "SEG"), read) == "no evidence"
    # an invalid call of it is none, nor a flawed one
    failing = Action("PROP", {"step": 7})
    error = registry.call(Workspace([attribute.pixels]), failing).output
    segmented = asking_for(compare, "PROP")
    tried = replace(segmented, steps=(*segmented.steps, Step("", failing, error)))
    assert rule(tried, compare) == "no evidence"
    flawed = with_step(claiming(asking_for(attribute, "PROP"), 1, colour="grey"), 1, flawed=True)
    after = replace(flawed, kind="self-correction", steps=(*flawed.steps, flawed.steps[0]))
    assert rule(after, attribute) == "does not repair"


class Broken:
    version = "broken/1"

    def __call__(self, workspace: Workspace, arguments: object) -> Observation:
        raise TimeoutError("took too long")


def test_an_id_does_not_depend_on_where_the_media_lie(cases: list[Any], registry: Registry) -> None:
    trace, pixels = cases[0].trajectory, cases[0].pixels

    def replayed(**changes: Any) -> str:
        media = tuple(replace(each, **changes) for each in trace.question.media)
        moved = replace(trace, question=replace(trace.question, media=media))
        outcome = run(moved, pixels, registry)
        assert isinstance(outcome, Accepted) and outcome.records[0].question.media == media
        return outcome.records[0].id

    assert replayed() == replayed(path="/elsewhere/scene.png") != replayed(sha256="1" * 64)


def test_a_broken_tool_fails_and_bad_media_rejects(cases: list[Any], registry: Registry) -> None:
    case = cases[0]
    outcome = run(case.trajectory, case.pixels, Registry({"SEG": Broken()}))
    assert isinstance(outcome, Failed) and "TimeoutError" in outcome.error

    def replayed(rule: str) -> Outcome[Trajectory]:
        def unreadable(media: object) -> Workspace:
            raise MediaError(rule, "scene.png")

        return replay(case.trajectory, registry, unreadable, TOLERANCES)

    refused = replayed("truncated")
    assert isinstance(refused, Rejected) and refused.rule == "truncated"
    for rule in ("missing media", "media changed"):  # the file may be put back
        waiting = replayed(rule)
        assert isinstance(waiting, Failed) and waiting.error.startswith(rule) and waiting.record


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=12),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    ["box", "area", "mask", "image", "width", "sha256", "text", "colour", "count", "error"]
)
claims = st.dictionaries(keys, values | st.fixed_dictionaries({"size": values, "counts": values}), max_size=4)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(claim=claims, which=st.integers(0, 2), step=st.integers(0, 1), answer=st.text(max_size=20))
def test_garbage_never_raises(
    cases: list[Any], registry: Registry, claim: Json, which: int, step: int, answer: str
) -> None:
    case = cases[which]
    # OCR is the slow tool, and its comparison is a string's: leave it to the other tests
    quick = Registry({name: tool for name, tool in registry._tools.items() if name != "OCR"})
    garbage = replace(with_step(case.trajectory, step, output=claim), answer=answer)
    assert isinstance(run(garbage, case.pixels, quick), Rejected)
