"""What the replay suite times and forges is what it says."""

import pytest

from benchmarks import replay
from benchmarks.mutations import FOUR, KINDS
from benchmarks.traces import MIX, World, mixed, world
from pixelis_pipeline.records import Accepted, Trajectory
from pixelis_pipeline.verify.prc import DISTURBANCES
from pixelis_pipeline.verify.replay import identity

ITEMS = {"sa1b": 2, "partimagenet": 2, "fineweb": 2, "mathvista": 3, "starqa": 2, "ego4d": 2}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("world") / "w", ITEMS)


@pytest.fixture(scope="module")
def kept(made: World) -> list[Trajectory]:
    return [o.records[0] for o in replay.replayed(made, made.traces, 1) if isinstance(o, Accepted)]


def test_every_mutation_changes_one_thing_and_makes_the_id_fit(kept: list[Trajectory]):
    forged = list(replay.forgeries(kept, 30, seed=1))
    by_id = {trace.id: trace for trace in kept}
    assert [kind for kind, _, _ in forged] == [kind for kind in KINDS for _ in range(30)]
    for kind, mutant, was in forged:
        trace = by_id[was]
        assert mutant.id == identity(mutant) != was
        if kind == "one step removed":
            assert len(mutant.steps) == len(trace.steps) - 1
            continue
        changed = [(a, b) for a, b in zip(trace.steps, mutant.steps, strict=True) if a != b]
        if kind == "one swapped image":
            assert not changed and mutant.question.media != trace.question.media
            continue
        ((before, after),) = changed
        assert (before.action != after.action) == (kind == "one altered argument")
        assert (before.replayed != after.replayed) == (kind == "one altered output")
        assert (before.artifact != after.artifact) == (kind == "one altered output")
        assert (before.output != after.output) == (kind == "one altered claim")
    assert len({mutant.question.task for _, mutant, _ in forged}) == len({t.question.task for t in kept})


def test_the_study_catches_all_by_id_and_lies_by_running(made: World):
    found = {each.name: each for each in replay.study(made, 4 * 3)}
    assert found["caught, with recorded ids: all of 12"].value == 1.0
    assert found["caught, re-execution alone: one altered output"].value == 1.0
    assert found["caught, re-execution alone: one swapped image"].value > 0.5
    (passed,) = [each for name, each in found.items() if name.startswith("untouched")]
    assert passed.value == 1.0 and passed.met
    assert all(f"caught, with recorded ids: {kind}" in found for kind in FOUR)


def test_the_mix_is_the_papers_and_replays(made: World):
    plans = mixed(made, 6)
    assert {len(plan.steps) for plan in plans} <= {5, 6}
    assert {step.action.name for plan in plans for step in plan.steps} <= set(MIX)
    whole, costs = replay.rate("mix", made, plans, aim=0.0)
    assert whole.peer == "one process" and costs.unit == "ms/trace" and costs.value > 0


def test_each_disturbance_is_tried_on_every_plan_it_can_disturb(made: World):
    found = {each.name: each.value for each in replay.disturbed(made, 7)}
    assert {name.split(",")[1].split(":")[0].strip() for name in found} == set(DISTURBANCES)
    assert found["PRC, jpeg 80: whole plans (7)"] >= 5 / 7  # what hardly changes a picture changes few plans
    assert not any(name.startswith("PRC, frames") and "(7)" in name for name in found)  # pictures have none
