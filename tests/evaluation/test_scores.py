"""Scores over planted predictions: every value is known before it is computed."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from evaluation.comparisons import Comparison, compare, recompute
from evaluation.majority import majority_predictions
from evaluation.scores import Cell, PredictionSet, phases, rapr, score
from pixelis_pipeline import columns
from pixelis_pipeline.records import Prediction
from pixelis_pipeline.settings import EvaluationSettings

Plant = Callable[..., list[PredictionSet]]


def _by_id(cells: tuple[Cell, ...]) -> dict[str, Cell]:
    return {cell.id: cell for cell in cells}


def test_planted_accuracies_come_back(plant: Plant, settings: EvaluationSettings) -> None:
    cells = _by_id(score(plant(40), settings))
    sft = cells["accuracy/sft/capabilities/all"]
    assert (sft.value, sft.n, sft.seeds, sft.sd) == (0.75, 40, 1, None)
    assert sft.low < 0.75 < sft.high
    assert cells["accuracy/base/capabilities/all"].value == 0.25
    assert cells["accuracy/sft-tools-off/capabilities/all"].value == 0.4
    # `compare`, `count` and `attribute` have their answer as training majority, `read` another one.
    assert cells["accuracy/majority-task/capabilities/all"].value == 0.75
    assert cells["accuracy/majority-overall/capabilities/all"].value == 0.25


def test_slices_add_up_to_the_whole(plant: Plant, settings: EvaluationSettings) -> None:
    cells = _by_id(score(plant(40), settings))
    for kind in ("task=", "source="):
        parts = [c for c in cells.values() if c.id.startswith(f"accuracy/sft/capabilities/{kind}")]
        assert sum(c.value * c.n for c in parts) == pytest.approx(30)
        assert sum(c.n for c in parts) == 40
    assert cells["accuracy/sft/capabilities/task=read"].value == 0.0
    assert cells["accuracy/sft/capabilities/task=read"].high > 0.1, "10 of 10 wrong is no proof of 0"


def test_chains(plant: Plant, settings: EvaluationSettings) -> None:
    cells = _by_id(score(plant(40), settings))
    assert cells["chain_length/sft/capabilities/all"].value == 2
    assert cells["chain_length/base/capabilities/all"].value == 0.5
    assert cells["rapr/sft/capabilities/all"].value == 1
    assert cells["rapr/base/capabilities/all"].value == 0.5, "an empty chain counts as 0"
    assert cells["valid_call_rate/base/capabilities/all"].value == 1, "only calls count"
    assert cells["valid_call_rate/base/capabilities/all"].n == 20
    assert cells["rapr/sft-tools-off/capabilities/all"].value == 0
    assert "valid_call_rate/base/capabilities/task=compare" not in cells, "it made no call there"
    assert not [c for c in cells if "majority" in c and not c.startswith("accuracy/")]


def test_rapr_is_the_share_of_valid_tool_steps(plant: Plant) -> None:
    one = plant(4)[0].predictions[0]
    a, b = one.steps
    foreign = replace(a, action=replace(a.action, name="SEARCH"))
    assert rapr(replace(one, steps=(a, replace(b, valid=False), foreign, b))) == 0.5
    assert rapr(replace(one, steps=())) == 0


def test_several_seeds_give_mean_and_sd_and_questions_count_once(
    plant: Plant, settings: EvaluationSettings
) -> None:
    cells = _by_id(score(plant(40, seeds=(0, 1, 2)), settings))
    sft = cells["accuracy/sft/capabilities/all"]
    assert (sft.n, sft.seeds) == (40, 3)
    assert sft.value == pytest.approx((30 + 29 + 28) / 120)
    assert sft.sd == pytest.approx(1 / 40)
    assert len(sft.predictions) == 120
    chain = cells["chain_length/sft/capabilities/all"]
    assert (chain.value, chain.sd) == (2.0, 0.0)


def test_differences_and_their_controls(plant: Plant, settings: EvaluationSettings) -> None:
    made = {c.cell.id: c for c in compare(plant(40), settings)}
    overall = {c.control: c for c in made.values() if c.cell.slice == "all"}
    assert list(overall) == ["base", "majority-task", "sft-tools-off"]
    assert overall["base"].cell.value == pytest.approx(0.5) and overall["base"].cell.low > 0
    assert overall["base"].p < 0.01
    assert overall["majority-task"].cell.value == 0, "the stronger of the two majority answers"
    assert overall["majority-task"].cell.low < 0 < overall["majority-task"].cell.high
    assert overall["majority-task"].p == 1.0
    assert overall["sft-tools-off"].cell.value == pytest.approx(0.35)
    assert all(c.q >= c.p for c in made.values())
    assert made["difference/sft/base/capabilities/task=read"].cell.value == 0
    assert overall["base"].cell.versions == ("version-base", "version-sft")
    assert len(overall["base"].cell.predictions) == 80


def test_each_phase_is_compared_with_the_one_before_it_and_with_the_controls(
    plant: Plant, settings: EvaluationSettings
) -> None:
    """A phase that was not asked without its tools stands beside the latest one before it that was."""
    sft, base, blind = plant(40)
    later = tuple(replace(p, id=f"rft {p.id}", policy="rft") for p in sft.predictions if p.tools)
    rft = replace(sft, version="version-rft", predictions=later)
    made = [c for c in compare([sft, base, blind, rft], settings) if c.cell.slice == "all"]
    assert [(c.cell.policy, c.control) for c in made] == [
        *(("rft", "sft"), ("rft", "base"), ("rft", "majority-task"), ("rft", "sft-tools-off")),
        *(("sft", "base"), ("sft", "majority-task"), ("sft", "sft-tools-off")),
    ]
    change = made[0]
    assert (change.cell.value, change.p, change.cell.versions) == (0.0, 1.0, ("version-rft", "version-sft"))
    assert recompute(change.cell, [sft, rft], settings) == change.cell
    alone = [c.control for c in compare([sft, blind], settings) if c.cell.slice == "all"]
    assert alone == ["majority-task", "sft-tools-off"], "without a base"
    own = tuple(replace(p, id=f"off {p.id}", policy="rft") for p in sft.predictions if not p.tools)
    off = replace(sft, version="version-off", predictions=own)
    asked = [c for c in compare([sft, base, rft, off], settings) if c.cell.slice == "all"]
    assert [c.control for c in asked if c.cell.policy == "rft"] == ["sft", "base", "rft-tools-off"]


def test_phases_have_an_order_and_controls_are_none() -> None:
    arms = ["rft", "sft-tools-off", "majority-task", "base", "sft", "other"]
    assert phases(arms) == ["base", "sft", "rft", "other"]


def test_arms_must_have_answered_the_same_questions(plant: Plant, settings: EvaluationSettings) -> None:
    sft, base, _ = plant(12)
    shorter = replace(base, predictions=base.predictions[:-1])
    with pytest.raises(ValueError, match="same questions"):
        compare([sft, shorter], settings)


def test_every_cell_recomputes_from_stored_predictions(plant: Plant, settings: EvaluationSettings) -> None:
    """Through Arrow and back, in another order and with other predictions beside them."""
    sets = plant(24, seeds=(0, 1))
    cells = score(sets, settings)
    comparisons = compare(sets, settings)
    stored = []
    for held in reversed(sets):
        rows = columns.from_table(Prediction, columns.to_table(Prediction, held.predictions))
        random.Random(4).shuffle(rows)
        stored.append(PredictionSet(held.benchmark, held.version, tuple(rows)))
    stored.append(PredictionSet("other", "version-other", sets[1].predictions))
    for cell in [*cells, *(c.cell for c in comparisons)]:
        assert recompute(cell, stored, settings) == cell


def test_a_cell_whose_prediction_is_gone_does_not_recompute(
    plant: Plant, settings: EvaluationSettings
) -> None:
    sets = plant(8)
    cell = score(sets, settings)[0]
    gone = [replace(s, predictions=s.predictions[1:]) for s in sets]
    with pytest.raises(LookupError, match="1 of 8 predictions are not stored under version-base"):
        recompute(cell, gone, settings)


def test_a_changed_prediction_changes_the_recomputed_cell(plant: Plant, settings: EvaluationSettings) -> None:
    sets = plant(8)
    cell = _by_id(score(sets, settings))["accuracy/sft/capabilities/all"]
    first, *others = sets[0].predictions
    bent = replace(sets[0], predictions=(replace(first, correct=not first.correct), *others))
    assert recompute(cell, [bent, *sets[1:]], settings).value != cell.value


def test_a_question_is_not_counted_twice(plant: Plant, settings: EvaluationSettings) -> None:
    sets = plant(8)
    with pytest.raises(ValueError, match="two predictions of base"):
        score([*sets, replace(sets[1], version="later")], settings)


def test_cells_and_comparisons_are_rows(plant: Plant, settings: EvaluationSettings) -> None:
    sets = plant(8)
    cells, comparisons = score(sets, settings), compare(sets, settings)
    assert columns.from_table(Cell, columns.to_table(Cell, cells)) == list(cells)
    rows = columns.to_table(Comparison, comparisons)
    assert columns.from_table(Comparison, rows) == list(comparisons)
    assert len({c.id for c in cells}) == len(cells)


def test_majority_answers(plant: Plant) -> None:
    asked = [p.question for p in plant(4)[1].predictions]
    training = [("count", "2"), ("count", "1"), ("compare", "B"), ("compare", "B")]

    def judge(question: Any, answer: str) -> bool:
        return bool(question.answer == answer)

    made = {(p.question.task, p.policy): p.answer for p in majority_predictions(asked, training, judge)}
    assert made["count", "majority-task"] == "1", "equal counts: the answer that sorts first"
    assert made["compare", "majority-task"] == "B"
    assert made["read", "majority-task"] == "B", "a task without training answers"
    assert {a for (_, policy), a in made.items() if policy == "majority-overall"} == {"B"}
    with pytest.raises(ValueError, match="at least one training answer"):
        majority_predictions(asked, [], judge)
