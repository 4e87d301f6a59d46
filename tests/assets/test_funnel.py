"""The funnel against the artifacts it counts: nothing is lost on the way, by source as in all, and every cent
that was paid stands in it."""

import dataclasses
import itertools
import shutil
from collections import Counter

import pyarrow.parquet as pq
import pytest

from assets.batches import add
from assets.examples import refused, there
from assets.funnel import EXAMPLES
from assets.stage import STAGES, Project
from assets.tally import lineage, rows
from assets.tracing import show
from evaluation.funnel import ALL, Example, Row
from pixelis_pipeline.columns import from_table
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.artifact import ids
from pixelis_pipeline.ledger.chain import Input
from pixelis_pipeline.records import Trajectory
from tests.assets.conftest import project, run

pytestmark = pytest.mark.slow

COUNTS = ("read", "accepted", "emitted", "failed")


@pytest.fixture(scope="module")
def funnel(splits: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[Row]]:
    root = tmp_path_factory.mktemp("funnel") / "copy"
    shutil.copytree(splits.root, root, symlinks=True)
    assert run(project(root), ["quality_funnel"]) == 0
    made = project(root)
    return made, list(artifact.records(made.ledger.folder("quality_funnel"), Row))


def test_every_stage_takes_in_what_the_one_before_let_out(funnel: tuple[Project, list[Row]]) -> None:
    _, found = funnel
    for source in {row.source for row in found}:
        line = [row for row in found if row.source == source]
        assert [row.stage for row in line][:3] == ["raw", "synthesis_plan", "teacher_responses"]
        for before, after in itertools.pairwise(line):
            assert after.read == before.emitted, (source, before, after)
    whole = [row for row in found if row.source == ALL]
    assert whole[-1].stage == "training_splits"
    for row in whole:
        mine = [each for each in found if each.stage == row.stage and each.source != ALL]
        for name in COUNTS:
            assert getattr(row, name) == sum(getattr(each, name) for each in mine), (row.stage, name)
        assert Counter(row.rules) == sum((Counter(each.rules) for each in mine), Counter())


def test_the_end_of_the_funnel_is_the_training_data(funnel: tuple[Project, list[Row]]) -> None:
    made, found = funnel
    traces = Counter(
        t.question.origin.source for t in artifact.records(made.ledger.folder("training_splits"), Trajectory)
    )
    ends = {r.source: r.emitted for r in found if r.stage == "training_splits"}
    assert ends == {**dict.fromkeys(ends, 0), **traces, ALL: traces.total()}


def test_all_that_was_paid_is_over_what_is_left(funnel: tuple[Project, list[Row]]) -> None:
    made, found = funnel
    bills = [
        made.ledger.record("replayed_trajectories", partition).about["cost"]["kinds"]["all"]
        for partition in made.partitions(STAGES["replayed_trajectories"])
    ]
    tokens = sum(bill["prompt_tokens"] + bill["completion_tokens"] for bill in bills)
    last = next(r for r in found if (r.stage, r.source) == ("training_splits", ALL))
    assert last.tokens == tokens > 0 and last.each(last.tokens) == tokens / last.emitted
    assert sum(r.tokens for r in found if r.stage == "training_splits" and r.source != ALL) == tokens
    assert next(r for r in found if r.stage == "synthesis_plan").tokens is None, "nothing was asked by then"
    spent = [r.seconds for r in found if r.source == ALL]
    assert spent == sorted(spent) and spent[0] > 0


def test_what_is_not_known_is_in_no_sum(splits: Project) -> None:
    made = lineage(splits.ledger, _splits(splits))
    first = made["replayed_trajectories"][0]
    without = dataclasses.replace(first, about={k: v for k, v in first.about.items() if k != "cost"})
    made["replayed_trajectories"] = [without, *made["replayed_trajectories"][1:]]
    found = {r.source: r for r in rows(splits.ledger, made) if r.stage == "training_splits"}
    known = [r for r in found.values() if r.tokens is not None]
    assert found[ALL].tokens is None and len(known) == len(found) - 2


def test_a_number_of_it_is_walked_back(
    funnel: tuple[Project, list[Row]], capsys: pytest.CaptureFixture[str]
) -> None:
    """To the versions it was counted in and to records refused there, which can be walked back too."""
    made, found = funnel
    row = next(row for row in found if row.source == ALL and row.rejected and row.stage != "raw")
    assert show(made, row.id, forward=False, everything=True) == 0
    told = "".join(capsys.readouterr().out.replace("\u2502", "").split())
    assert all(version.replace(" ", "") in told for version in row.counted)
    assert told.count("refusedthere:") == row.rejected
    folder = next(
        folder
        for record in lineage(made.ledger, _splits(made))[row.stage]
        if ids(folder := made.ledger.folder(record.asset, record.partition, record.version), "rejected")
    )
    refused_id = ids(folder, "rejected")[0]
    assert refused_id in told
    assert show(made, refused_id, forward=False, everything=False) == 0
    told = capsys.readouterr().out
    assert "intact" in told and f"REFUSED by {row.stage} [" in told


def test_both_kinds_of_examples_stand_on_the_page(funnel: tuple[Project, list[Row]]) -> None:
    made, _ = funnel
    folder = made.ledger.folder("quality_funnel")
    shown = from_table(Example, pq.read_table(folder / EXAMPLES))
    page = (folder / "funnel.md").read_text()
    assert {each.stage for each in shown if each.kept} >= {"raw", "replayed_trajectories", "training_splits"}
    assert all(each.picture.startswith("data:image/webp;base64,") for each in shown if each.kept)
    refusals = [each for each in shown if not each.kept]
    assert refusals and all(each.rule in page for each in refusals)
    assert (folder / "funnel.png").read_bytes()[:4] == b"\x89PNG"


def test_a_trace_refused_for_its_twin_is_shown_beside_it(copy: Project) -> None:
    """Every trace is its own copy once another batch repeats the first."""
    fingerprints = copy.ledger.record("deduplicated_trajectories")
    assert fingerprints is not None
    folders = [copy.ledger.folder("deduplicated_trajectories"), *there(copy, fingerprints.inputs)]
    some = list(artifact.rejected(folders[0]))[:3]
    for each, row, twin in refused(folders, some):
        assert row["id"] == each.of and (not each.twin or twin["id"] == each.twin)


def test_what_a_pinned_predictor_was_made_from_is_not_counted(copy: Project) -> None:
    """A predictor leads back to earlier splits: counted with them, every stage would seem to read twice."""
    before = rows(copy.ledger, lineage(copy.ledger, _splits(copy)))
    record = copy.ledger.record("curriculum")
    assert record is not None
    extra = dataclasses.replace(record, inputs=(*record.inputs, *_splits(copy)), about={**record.about})
    with copy.ledger.staging() as folder:
        shutil.copytree(copy.ledger.folder("curriculum"), folder, dirs_exist_ok=True)
        copy.ledger.commit(folder, extra)
    assert rows(copy.ledger, lineage(copy.ledger, _splits(copy))) == before


def _splits(made: Project) -> tuple[Input, ...]:
    version = made.ledger.current("training_splits")
    assert version is not None
    return (Input("training_splits", "all", version),)


def test_a_batch_of_which_nothing_is_left_is_counted(copy: Project) -> None:
    """Its records change no byte of the splits, and every one of its later artifacts is empty."""
    sources = copy.settings.model_dump()["sources"]
    sources["sa1b"]["teacher"] = "none"
    out = project(copy.root, sources=sources)
    assert run(out, ["quality_funnel"]) == 0
    before = {row.stage: row for row in _counted(out)}
    add(copy.root, "001", ["sa1b"], out.settings.batches)
    assert run(project(copy.root, sources=sources), ["quality_funnel"]) == 0
    after = {row.stage: row for row in _counted(project(copy.root, sources=sources))}
    more = after["raw"].emitted - before["raw"].emitted
    assert (
        more > 0
        and after["synthesis_plan"].rules["left out"] == before["synthesis_plan"].rules["left out"] + more
    )
    assert after["training_splits"].emitted == before["training_splits"].emitted


def _counted(made: Project) -> list[Row]:
    return [r for r in artifact.records(made.ledger.folder("quality_funnel"), Row) if r.source == ALL]
