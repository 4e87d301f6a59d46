"""Tracking figures against TrackEval's and py-motmetrics' own, and the closed form against the long way."""

import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.verify.metrics import mask_iou
from pixelis_pipeline.verify.tracking import ALPHAS, hota, measure

REALDATA = os.environ.get("PIXELIS_REALDATA")
real = pytest.mark.skipif(not REALDATA, reason="PIXELIS_REALDATA names no folder of real files")

Box = tuple[float, float, float, float]
boxes = st.tuples(*[st.integers(0, 8)] * 2, *[st.integers(1, 8)] * 2).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)
one_track = st.lists(st.tuples(st.none() | boxes, st.none() | boxes), min_size=1, max_size=12)
frames = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 3), boxes, max_size=3),
        st.dictionaries(st.integers(0, 3), boxes, max_size=3),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(one_track)
def test_the_closed_form_is_trackevals_hota(pairs: list[tuple[Box | None, Box | None]]) -> None:
    truth, said = [a for a, _ in pairs], [b for _, b in pairs]
    value = hota(truth, said)
    assert 0.0 <= value <= 1.0
    assert value == hota(said, truth)
    if all(box is None for box in truth + said):
        assert value == 1.0
        return
    long_way = measure(
        [{"it": box} if box else {} for box in truth], [{7: box} if box else {} for box in said]
    )
    assert value == pytest.approx(long_way.hota, abs=1e-12)


def test_similarities_that_lie_on_a_threshold_fall_as_trackevals_do() -> None:
    """Boxes with an IoU of exactly k/20 in decimals, which floats miss on either side."""
    for k in range(1, 20):
        truth, said = [(0.0, 0.0, 20.0, 1.0)], [(0.0, 0.0, float(k), 1.0)]
        long_way = measure([{1: truth[0]}], [{1: said[0]}])
        assert hota(truth, said) == pytest.approx(long_way.hota, abs=1e-12)
        assert long_way.hota == pytest.approx(k / 19)


def test_hota_of_known_tracks() -> None:
    box, other = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 60.0, 60.0)
    assert hota([box] * 4, [box] * 4) == 1.0
    assert hota([box] * 4, [other] * 4) == 0.0
    assert hota([box] * 4, [None] * 4) == 0.0
    assert hota([None] * 4, [None] * 4) == 1.0
    assert hota([box] * 4, [box, box, None, None]) == pytest.approx(2 / 4)
    assert hota([box, box, None, None], [None, box, box, None]) == pytest.approx(1 / 3)
    half = (0.0, 0.0, 5.0, 10.0)  # IoU .5: a match at 10 of the 19 thresholds
    assert hota([box], [half]) == pytest.approx(10 / 19)
    with pytest.raises(ValueError, match="length"):
        hota([box], [box, box])


def test_hota_of_masks() -> None:
    left, all_of_it = np.zeros((4, 8), bool), np.ones((4, 8), bool)
    left[:, :4] = True
    assert hota([left, None], [all_of_it, None], mask_iou) == pytest.approx(10 / 19)


@settings(max_examples=100, deadline=None)
@given(frames, st.permutations(range(4)), st.permutations(range(4)))
def test_the_names_of_tracks_do_not_matter(
    pairs: list[tuple[dict[int, Box], dict[int, Box]]], first: list[int], second: list[int]
) -> None:
    """New names on either side leave every figure as it is."""
    truth, said = [a for a, _ in pairs], [b for _, b in pairs]
    plain = measure(truth, said)
    renamed = measure(
        [{first[name]: box for name, box in frame.items()} for frame in truth],
        [{f"t{second[name]}": box for name, box in frame.items()} for frame in said],
    )
    assert renamed == plain
    for value in (
        plain.hota,
        plain.det_a,
        plain.ass_a,
        plain.loc_a,
        plain.motp,
        plain.idf1,
        *plain.hota_alpha,
    ):
        assert 0.0 <= value <= 1.0
    assert plain.mota <= 1.0


def test_a_planted_switch() -> None:
    """Two things side by side; from frame 3 on the tracker has their ids the wrong way round."""
    a, b = (0.0, 0.0, 4.0, 4.0), (10.0, 0.0, 14.0, 4.0)
    truth = [{1: a, 2: b}] * 6
    said = [{1: a, 2: b}] * 3 + [{2: a, 1: b}] * 3
    figures = measure(truth, said)
    assert (figures.switches, figures.false_positives, figures.false_negatives) == (2, 0, 0)
    assert figures.mota == pytest.approx(1 - 2 / 12)
    assert figures.motp == 1.0 and figures.motp_distance == 0.0
    assert figures.det_a == 1.0
    assert figures.ass_a == pytest.approx(3 / 9)  # each pair meets in 3 frames of 6 + 6 - 3
    assert figures.idf1 == pytest.approx(6 / 12)
    assert measure(truth, truth).hota == 1.0
    with pytest.raises(ValueError, match="length"):
        measure(truth, said[:-1])


def _motchallenge(path: Path) -> list[dict[int, Box]]:
    """Frame, id, left, top, width, height, confidence: 1-based frames and corners."""
    by_frame: dict[int, dict[int, Box]] = defaultdict(dict)
    for line in path.read_text().splitlines():
        frame, name, left, top, width, height, *_ = (float(value) for value in line.split(","))
        by_frame[int(frame)][int(name)] = (left - 1, top - 1, left - 1 + width, top - 1 + height)
    return [by_frame[frame] for frame in range(1, max(by_frame) + 1)]


@real
def test_tud_campus_by_trackeval_and_motmetrics() -> None:
    folder = Path(REALDATA or "") / "tracking_mot"
    authors, computed, *_ = json.loads((folder / "CHECKS.json").read_text())["checks"]
    truth = _motchallenge(folder / "TUD-Campus" / "gt.txt")
    said = _motchallenge(folder / "TUD-Campus" / "test.txt")
    assert truth[0][1] == (398.0, 181.0, 519.0, 410.0)  # corners counted from 0
    figures = measure(truth, said)

    theirs = computed["values"]["TUD-Campus"]
    names = {
        "hota": "HOTA", "det_a": "DetA", "ass_a": "AssA", "loc_a": "LocA",
        "det_re": "DetRe", "det_pr": "DetPr", "ass_re": "AssRe", "ass_pr": "AssPr",
        "mota": "MOTA", "motp": "MOTP", "idf1": "IDF1",
        "true_positives": "CLR_TP", "false_positives": "CLR_FP", "false_negatives": "CLR_FN",
        "switches": "IDSW", "fragmentations": "Frag",
        "mostly_tracked": "MT", "partially_tracked": "PT", "mostly_lost": "ML",
        "id_true_positives": "IDTP", "id_false_positives": "IDFP", "id_false_negatives": "IDFN",
    }  # fmt: skip
    for ours, name in names.items():
        assert getattr(figures, ours) == pytest.approx(theirs[name], abs=1e-6), name
    assert figures.hota_alpha == pytest.approx(theirs["HOTA_alpha"], abs=1e-6)
    assert figures.hota_alpha[ALPHAS.index(0.5)] == pytest.approx(theirs["HOTA_at_0_50"], abs=1e-6)

    motmetrics = authors["values"]
    assert figures.motp_distance == pytest.approx(motmetrics["motp"], abs=1e-3)
    assert figures.mota == pytest.approx(motmetrics["mota"], abs=1e-3)
    assert figures.idf1 == pytest.approx(motmetrics["idf1"], abs=1e-3)
    assert figures.switches == motmetrics["num_switches"]
    assert figures.fragmentations == motmetrics["num_fragmentations"]
    assert figures.mostly_lost == motmetrics["mostly_lost"]
    said_in_all = figures.true_positives + figures.false_positives
    assert figures.true_positives / said_in_all == pytest.approx(motmetrics["precision"], abs=1e-3)
