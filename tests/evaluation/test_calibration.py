"""Calibration against figures computed from a stored model's answers on STAR, and against planted truth."""

import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from evaluation.calibration import best_temperature, ece, log_probabilities, nll

REALDATA = os.environ.get("PIXELIS_REALDATA")


def test_ece_by_hand() -> None:
    """Two bins: .6 and .8 with one right of two, .2 with none right."""
    assert ece([0.6, 0.8, 0.2], [1, 0, 0], bins=2) == pytest.approx((2 * abs(0.5 - 0.7) + 0.2) / 3)
    assert ece([1.0, 0.0], [1, 0]) == 0.0
    assert ece([0.5], [0], bins=2) == ece([0.5, 0.5], [0, 0], bins=2) == 0.5
    # .5 belongs to (0, .5], where it evens out the one below
    assert ece([0.5, 0.5], [1, 0], bins=2) == 0.0
    assert ece([0.25, 0.5, 0.75], [0, 1, 0], bins=2) == pytest.approx((0.25 + 0.75) / 3)
    for said, right in (([], []), ([0.5], [1, 0]), ([1.5], [1]), ([float("nan")], [1])):
        with pytest.raises(ValueError):
            ece(said, right)


def test_a_planted_temperature() -> None:
    """Answers drawn from softmax(logits), which are then told three times as surely."""
    draw = np.random.default_rng(3)
    logits = draw.normal(0, 1.5, (20_000, 4))
    odds = np.exp(log_probabilities(logits))
    assert odds.sum(axis=1) == pytest.approx(1.0)
    truth = (odds.cumsum(axis=1) > draw.random((len(odds), 1))).argmax(axis=1)
    found = best_temperature(3 * logits, truth)
    assert found == pytest.approx(3.0, rel=0.03)
    for other in (found * 0.99, found * 1.01):
        assert nll(3 * logits, truth, found) < nll(3 * logits, truth, other)
    assert best_temperature(logits, truth) == pytest.approx(found / 3)  # it scales with the logits
    told = np.exp(log_probabilities(3 * logits))
    right = told.argmax(axis=1) == truth
    calmed = np.exp(log_probabilities(3 * logits, found)).max(axis=1)
    assert ece(calmed, right) < 0.02 < 0.1 < ece(told.max(axis=1), right)


def test_the_ends_of_the_range() -> None:
    assert best_temperature([[2.0, 0.0]] * 3, [0, 0, 0]) == 1e-2
    assert best_temperature([[2.0, 0.0]] * 3, [1, 1, 1]) == 1e2
    with pytest.raises(ValueError):
        best_temperature(np.zeros((0, 4)), [])


@pytest.mark.skipif(not REALDATA, reason="PIXELIS_REALDATA names no folder of real files")
def test_a_stored_model_on_star() -> None:
    path = Path(REALDATA or "") / "star_qa" / "fork" / "videotf_4f.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    logits = np.array([row["logits"] for row in rows])
    truth = np.array([row["true_ans_idx"] for row in rows])
    told = np.exp(log_probabilities(logits))
    assert len(rows) == 7098
    assert np.abs(told - [row["confidence"] for row in rows]).max() < 2e-7
    right = told.argmax(axis=1) == truth
    assert [row["pred_ans_idx"] for row in rows] == told.argmax(axis=1).tolist()
    assert right.mean() == pytest.approx(0.447309, abs=5e-7)
    kinds = defaultdict(list)
    for row, hit in zip(rows, right, strict=True):
        kinds[row["question_id"].split("_")[0]].append(hit)
    assert {kind: len(hits) for kind, hits in kinds.items()} == {
        "Interaction": 2398, "Sequence": 3586, "Prediction": 624, "Feasibility": 490,
    }  # fmt: skip
    assert {kind: round(float(np.mean(hits)), 4) for kind, hits in kinds.items()} == {
        "Interaction": 0.4245, "Sequence": 0.4632, "Prediction": 0.4439, "Feasibility": 0.4469,
    }  # fmt: skip
    assert ece(told.max(axis=1), right) == pytest.approx(0.211323, abs=5e-7)
    assert nll(logits, truth) == pytest.approx(1.401182, abs=5e-7)
    temperature = best_temperature(logits, truth)
    assert temperature == pytest.approx(2.554, abs=5e-4)
    assert nll(logits, truth, temperature) == pytest.approx(1.173432, abs=5e-7)
