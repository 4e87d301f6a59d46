"""Moment retrieval and highlight scores against the authors' printed ones."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.verify.metrics import span_iou
from pixelis_pipeline.verify.temporal import (
    RATINGS,
    Query,
    boundary_offset,
    by_length,
    highlights,
    ranking_ap,
    retrieval,
)

REALDATA = os.environ.get("PIXELIS_REALDATA")
FOLDER = Path(REALDATA or "") / "temporal_qvhighlights"
real = pytest.mark.skipif(not REALDATA, reason="PIXELIS_REALDATA names no folder of real files")

spans = st.tuples(st.integers(0, 40), st.integers(1, 40)).map(lambda s: (float(s[0]), float(s[0] + s[1])))
queries = st.builds(
    lambda truth, found: Query(truth, [f for f, _ in found], [s for _, s in found]),
    st.lists(spans, min_size=1, max_size=3),
    st.lists(st.tuples(spans, st.sampled_from([0.1, 0.5, 0.9])), max_size=5),
)


@settings(max_examples=100, deadline=None)
@given(spans, spans, st.integers(-30, 30))
def test_span_iou_and_offsets(a: tuple[float, float], b: tuple[float, float], shift: int) -> None:
    assert span_iou(a, a) == 1.0 and boundary_offset(a, a) == (0.0, 0.0)
    assert 0.0 <= span_iou(a, b) == span_iou(b, a) <= 1.0
    moved = (a[0] + shift, a[1] + shift)
    assert boundary_offset(a, moved) == boundary_offset(moved, a) == (abs(shift), abs(shift))


@settings(max_examples=100, deadline=None)
@given(st.lists(queries, min_size=1, max_size=4))
def test_bounds_and_order(asked: list[Query]) -> None:
    scores = retrieval(asked)
    for values in (list(scores.r1.values()), list(scores.ap.values())):
        assert all(0.0 <= value <= 1.0 + 1e-12 for value in values)
    assert list(scores.r1.values()) == sorted(scores.r1.values(), reverse=True)
    perfect = retrieval([Query(q.truth, q.truth, [1.0] * len(q.truth)) for q in asked])
    assert perfect.mean_ap == pytest.approx(1.0) and perfect.r1[0.95] == 1.0


def test_a_planted_ranking() -> None:
    """Two true windows; hits stand at ranks 1 and 3, the second true window is claimed twice."""
    truth = [(0.0, 10.0), (20.0, 30.0)]
    found = [(20.0, 30.0), (20.0, 29.0), (0.0, 10.0)]
    scores = retrieval([Query(truth, found, [0.9, 0.8, 0.7])])
    assert scores.ap[0.5] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert retrieval([Query(truth, found, [0.7, 0.8, 0.9])]).ap[0.9] == pytest.approx(1.0)
    assert scores.r1[0.95] == 1.0  # R1 looks at the first one listed
    late = [(50.0, 60.0), *truth]  # precisions of 1/2 and 2/3, the first raised to the second
    assert retrieval([Query(truth, late, [0.9, 0.8, 0.7])]).ap[0.5] == pytest.approx(2 / 3)
    nothing = retrieval([Query(truth, [], [])])
    assert nothing.mean_ap == nothing.r1[0.5] == 0.0
    with pytest.raises(ValueError, match="true window"):
        retrieval([Query([], found, [1.0] * 3)])
    with pytest.raises(ValueError, match="scores"):
        retrieval([Query(truth, found, [1.0])])


def test_bands_by_the_length_of_true_windows() -> None:
    asked = [
        Query([(0.0, 10.0), (20.0, 51.0)], [(0.0, 10.0)], [1.0]),
        Query([(0.0, 10.5)], [(0.0, 10.5)], [1.0]),
    ]
    parts = by_length(asked)
    assert {name: part.queries for name, part in parts.items()} == {"short": 1, "middle": 1, "long": 1}
    assert parts["short"].mean_ap == parts["middle"].mean_ap == 1.0
    assert parts["long"].mean_ap == 0.0
    assert set(by_length(asked[1:])) == {"middle"}


def _slow_ap(positive: list[bool], scores: list[float]) -> float:
    """The definition, threshold by threshold."""
    points = []
    for level in sorted(set(scores), reverse=True):
        chosen = [p for p, s in zip(positive, scores, strict=True) if s >= level]
        points.append((sum(chosen) / sum(positive), sum(chosen) / len(chosen)))
    recalls = [0.0, *(recall for recall, _ in points)]
    best = [max(p for r, p in points if r >= recall) for recall in recalls[1:]]
    return float(np.mean([b for b, (r, q) in zip(best, zip(recalls[1:], recalls, strict=False), strict=True)
                          if r != q]))  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([-1.0, 0.0, 0.5, 1.0])), min_size=2, max_size=9))
def test_ranking_ap_by_its_definition(pairs: list[tuple[bool, float]]) -> None:
    positive, scores = [p for p, _ in pairs], [s for _, s in pairs]
    if all(positive) or not any(positive):
        assert ranking_ap(np.array(positive), np.array(scores)) == float(any(positive))
    else:
        value = ranking_ap(np.array(positive), np.array(scores))
        assert value == pytest.approx(_slow_ap(positive, scores))


def test_highlights_of_uneven_lengths() -> None:
    ratings = [[4, 0], [0, 0], [0, 3]]
    assert highlights([ratings], [[1.0, 0.0, 0.5]], 3) == (pytest.approx((1 + 0.5) / 2), 1.0)
    mean, hit = highlights([ratings], [[0.1, 0.0, 0.2, 9.0]], 4)  # the most salient clip is past the end
    assert (mean, hit) == (pytest.approx((0.5 + 0.0) / 2), 0.0)
    assert highlights([ratings], [[1.0]], 3)[1] == 1.0
    with pytest.raises(ValueError, match="videos"):
        highlights([ratings], [], 3)


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text().splitlines()]


@cache
def _both() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    truth, said = _lines("highlight_val_release.jsonl"), _lines("sample_val_preds.jsonl")
    by_query = {record["qid"]: record for record in said}
    assert len(truth) == len(by_query) == 1550
    return truth, [by_query[record["qid"]] for record in truth]


def _printed(value: float) -> float:
    return float(f"{100 * value:.2f}")


@real
def test_moments_by_the_authors_evaluation() -> None:
    truth, said = _both()
    assert sum(len(record["relevant_windows"]) > 1 for record in truth) == 530
    asked = [
        Query(t["relevant_windows"], [w[:2] for w in s["pred_relevant_windows"]],
              [w[2] for w in s["pred_relevant_windows"]])
        for t, s in zip(truth, said, strict=True)
    ]  # fmt: skip
    printed = json.loads((FOLDER / "sample_val_preds_metrics_raw.json").read_text())
    parts = {"full": retrieval(asked), **by_length(asked)}
    for name, part in parts.items():
        assert {str(t): _printed(v) for t, v in part.r1.items()} == printed[name]["MR-R1"]
        mine = {str(t): _printed(v) for t, v in part.ap.items()}
        assert {**mine, "average": _printed(part.mean_ap)} == printed[name]["MR-mAP"]
    checks = json.loads((FOLDER / "CHECKS.json").read_text())["checks"][0]["values"]
    assert _printed(parts["full"].r1[0.7]) == checks["MR-full-R1@0.7"] == 34.84
    assert _printed(parts["full"].ap[0.75]) == checks["MR-full-mAP@0.75"] == 31.01
    assert {name: _printed(parts[name].mean_ap) for name in parts} == {
        name: checks[f"MR-{name}-mAP"] for name in ("full", "short", "middle", "long")
    }


@real
def test_highlights_by_the_authors_evaluation() -> None:
    truth, said = _both()
    ratings = []
    for record in truth:
        table = np.zeros((int(record["duration"] / 2), 3), int)  # a clip lasts 2 seconds
        table[record["relevant_clip_ids"]] = record["saliency_scores"]
        ratings.append(table)
    checks = json.loads((FOLDER / "CHECKS.json").read_text())["checks"][0]["values"]
    for name, least in RATINGS.items():
        mean, hit = highlights(ratings, [record["pred_saliency_scores"] for record in said], least)
        assert _printed(mean) == checks[f"HL-min-{name}-mAP"], name
        assert _printed(hit) == checks[f"HL-min-{name}-Hit1"], name
