"""From plan to replay through the ledger: goals of accepted traces, pinned predictors, budgets, keys."""

import pytest

from assets import running
from assets.catalogue import STAGES
from assets.stage import Project, StageError
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.chain import Input, RunRecord
from pixelis_pipeline.records import (
    Accepted,
    Assignment,
    Prediction,
    Trajectory,
    record_id,
)
from pixelis_pipeline.settings import Settings, SettingsError
from pixelis_pipeline.synthesis.asking.transport import TeacherError
from pixelis_pipeline.synthesis.response import Response
from tests.assets.conftest import project
from tests.synthesis.asking.faults import faulty

pytestmark = pytest.mark.slow
STEPS = ("synthesis_plan", "teacher_responses", "trajectories", "replayed_trajectories")


def changed(made: Project, **sections: dict[str, object]) -> Project:
    """The project under other settings; each keyword names a section and the values that differ in it."""
    tree = made.settings.model_dump()
    for name, values in sections.items():
        tree[name] = {**tree[name], **values}
    return Project(made.root, Settings.model_validate(tree))


def make(made: Project, partition: str, *keys: str) -> None:
    for key in keys:
        running.run(made, STAGES[key], partition)


def kept(made: Project, key: str, kind: type, partition: str) -> list[object]:
    return list(artifact.records(made.ledger.folder(key, partition), kind))


def test_a_plan_ends_at_exactly_so_many_accepted_traces(
    copy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = changed(copy, synthesis={"accepted": 12, "candidates": 30})
    lines = other.partitions(STAGES["synthesis_plan"])
    for partition in lines:
        make(other, partition, *STEPS[:3])

    def again(*given: object, **named: object) -> object:
        raise AssertionError("replayed to decide who is asked, and now once more")

    with monkeypatch.context() as patch:
        patch.setattr("pixelis_pipeline.verify.batch.replay", again)
        for partition in lines:
            make(other, partition, STEPS[3])
    assert sum(len(kept(other, "replayed_trajectories", Trajectory, p)) for p in lines) == 12
    planned = sum(len(kept(other, "synthesis_plan", Assignment, p)) for p in lines)
    asked = sum(len(kept(other, "teacher_responses", Response, p)) for p in lines)
    spared = [r for p in lines for r in artifact.rejected(other.ledger.folder("teacher_responses", p))]
    assert asked < planned <= 30 and asked + len(spared) == planned
    assert {r.rule for r in spared} == {"not needed"}


def test_a_pinned_predictor_is_an_input_of_the_plan_and_no_edge(copy: Project) -> None:
    partition = "000-mathvista"
    with pytest.raises(StageError, match="no version of `predictions`"):
        make(changed(copy, synthesis={"predictor": "nosuch"}), partition, "synthesis_plan")
    asked = kept(copy, "synthesis_plan", Assignment, partition)
    predictions = [
        Accepted(
            each.id,
            (
                Prediction(
                    record_id("p", 1, {}, [each.id], n), (), each.question, "sft", True, 7, (), "", n > 1
                ),
            ),
        )
        for n, each in enumerate(asked)
        if isinstance(each, Assignment)
    ]
    with copy.ledger.staging() as folder:
        artifact.seal(folder, artifact.write(folder, Prediction, predictions), Prediction)
        record = copy.ledger.commit(
            folder,
            RunRecord("predictions", "sft-capabilities", "", 0, 0, (), "c", "s", {}, {}, {}, {}, "", {}),
        )
    pinned = changed(copy, synthesis={"predictor": record.version})
    make(pinned, partition, "synthesis_plan")
    plan = pinned.ledger.record("synthesis_plan", partition)
    assert plan is not None
    assert plan.inputs[-1] == Input("predictions", "sft-capabilities", record.version)
    assert "predictions" not in STAGES["synthesis_plan"].inputs


def test_annotations_write_traces_of_a_users_folder_and_none_leaves_a_source_out(copy: Project) -> None:
    folder = next((copy.root / "data/world/partimagenet").rglob("truth.jsonl")).parent
    sources = {name: each.model_dump() for name, each in copy.settings.sources.items()}
    sources["partimagenet"] |= {"path": str(folder), "teacher": "embedded"}
    sources["sa1b"] |= {"teacher": "none"}
    sources["fineweb"] |= {"teacher": "annotations"}
    other = project(copy.root, sources=sources)
    make(other, "000-partimagenet", "raw/partimagenet", "synthesis_plan")
    with pytest.raises(StageError, match=r'sources\.partimagenet\.teacher to "annotations"'):
        make(other, "000-partimagenet", "teacher_responses")
    sources["partimagenet"]["teacher"] = "annotations"
    other = project(copy.root, sources=sources)
    make(other, "000-partimagenet", "raw/partimagenet", *STEPS)
    make(other, "000-fineweb", "raw/fineweb", *STEPS)
    for partition in ("000-partimagenet", "000-fineweb"):
        traces = kept(other, "replayed_trajectories", Trajectory, partition)
        assert traces and {t.teacher for t in traces if isinstance(t, Trajectory)} == {"annotation-programs"}
    make(other, "000-sa1b", "raw/sa1b", *STEPS)
    plan = other.ledger.folder("synthesis_plan", "000-sa1b")
    assert {r.rule for r in artifact.rejected(plan)} == {"left out"}
    assert not kept(other, "replayed_trajectories", Trajectory, "000-sa1b")


def test_what_was_paid_for_is_read_without_a_key_and_budgets_are_a_runs(
    copy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXELIS_TEACHER_KEY", "secret-key")
    partitions = ("000-mathvista", "000-partimagenet")
    with faulty() as (endpoint, server):
        prices = {"m": {"prompt": 1.0, "completion": 1.0}}
        teacher = {"endpoint": endpoint.base_url, "model": "m", "prices": prices, "max_cost": 1.0}
        named = {name: each.model_dump() for name, each in copy.settings.sources.items()}
        assert changed(copy, teacher=teacher).settings.teacher_for("sa1b").endpoint == "none"
        for source in ("mathvista", "partimagenet", "sa1b"):  # the embedded world, for money: only if so told
            named[source]["teacher"] = endpoint.base_url
        paid = changed(copy, teacher=teacher, sources=named)
        for partition in partitions:
            make(paid, partition, "synthesis_plan", "teacher_responses")
        sent = server.asked
        assert sent == sum(len(kept(paid, "synthesis_plan", Assignment, p)) for p in partitions) > 0
        assert paid.spent["dollars"] == pytest.approx(sent * 10 / 1e6)  # 7 + 3 tokens each
        records = [paid.ledger.record("teacher_responses", p) for p in partitions]
        assert sum(r.about["cost"]["kinds"]["all"]["dollars"] for r in records if r) == pytest.approx(
            sent * 10 / 1e6
        )
        assert not any(
            "secret-key" in path.read_text() for path in (copy.root / "data/ledger").rglob("*.json")
        )
        monkeypatch.delenv("PIXELIS_TEACHER_KEY")
        other = Project(paid.root, paid.settings)
        other.ledger.retire_all_but("teacher_responses", [])
        for partition in partitions:
            make(other, partition, "teacher_responses")
        assert server.asked == sent
        with pytest.raises(SettingsError, match="PIXELIS_TEACHER_KEY"):
            make(other, "000-sa1b", "synthesis_plan", "teacher_responses")
        assert server.asked == sent


def test_what_a_source_spent_before_its_endpoint_gave_up_counts_for_the_run(
    copy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXELIS_TEACHER_KEY", "a key")
    with faulty("ok", "ok", "401", "401", "401", "401") as (endpoint, _):
        named = {name: each.model_dump() for name, each in copy.settings.sources.items()}
        named["mathvista"]["teacher"] = endpoint.base_url
        prices = {"m": {"prompt": 1.0, "completion": 1.0}}
        teacher = {
            "endpoint": endpoint.base_url,
            "model": "m",
            "prices": prices,
            "max_cost": 1.0,
            "concurrency": 1,
        }
        paid = changed(copy, teacher=teacher, sources=named)
        make(paid, "000-mathvista", "synthesis_plan")
        with pytest.raises(TeacherError):
            make(paid, "000-mathvista", "teacher_responses")
    assert paid.spent["dollars"] == pytest.approx(2 * 10 / 1e6)
