"""How well tracks agree: HOTA, CLEAR-MOT and IDF1.

The numbers of many tracks are TrackEval's: its metric classes are fed with our similarities, never with
files. One track against one needs no matching, so `hota` has a closed form there, held equal to
TrackEval's by a test.
"""

from bisect import bisect_right
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelis_pipeline.verify.metrics import box_iou

Box = Sequence[float]  # left, top, right, bottom; exclusive ends
Frame = Mapping[Hashable, Any]  # what is seen in one frame, by track
Similarity = Callable[[Any, Any], float]  # 0 to 1

# TrackEval's 19 thresholds as it makes and compares them, so that ties fall as they do there.
ALPHAS = tuple(float(alpha) for alpha in np.arange(0.05, 0.99, 0.05))
_LEVELS = [alpha - float(np.finfo(float).eps) for alpha in ALPHAS]
MATCH = 0.5  # the least similarity of a match, for CLEAR-MOT and IDF1


def hota(truth: Sequence[Any], said: Sequence[Any], similarity: Similarity = box_iou) -> float:
    """Mean HOTA over the 19 thresholds (Luiten et al., IJCV 2021) of one thing followed by one track.

    Both hold one entry per frame: a box, or None where it is not seen; with another `similarity` (such as
    `mask_iou`) whatever that compares. With a single pair every match counts for the same association, so
    at each threshold DetA = AssA = HOTA = TP / (frames in truth + frames said - TP). Two tracks that are
    never seen agree (1), where TrackEval says 0. ValueError for different numbers of frames.
    """
    if len(truth) != len(said):
        raise ValueError(f"tracks of different length: {len(truth)} and {len(said)} frames")
    passed = [0] * (len(_LEVELS) + 1)  # frames by how many thresholds their similarity reaches
    seen = 0
    for a, b in zip(truth, said, strict=True):
        seen += (a is not None) + (b is not None)
        if a is not None and b is not None:
            passed[bisect_right(_LEVELS, similarity(a, b))] += 1
    if not seen:
        return 1.0
    total, matches = 0.0, 0
    for count in reversed(passed[1:]):
        matches += count
        total += matches / (seen - matches)
    return total / len(_LEVELS)


@dataclass(frozen=True, slots=True)
class Tracking:
    """TrackEval's figures for one sequence. HOTA's are means over the thresholds; CLEAR-MOT and IDF1 hold at
    a similarity of `MATCH`.

    `motp` is the mean similarity of the matches (TrackEval, KITTI). py-motmetrics and the first MOT papers
    print the mean distance, `motp_distance`. A sequence without a match has `motp` 0.
    """

    hota: float
    hota_alpha: tuple[float, ...]
    det_a: float
    ass_a: float
    loc_a: float
    det_re: float
    det_pr: float
    ass_re: float
    ass_pr: float
    mota: float
    motp: float
    true_positives: int
    false_positives: int
    false_negatives: int
    switches: int
    fragmentations: int
    mostly_tracked: int
    partially_tracked: int
    mostly_lost: int
    idf1: float
    id_true_positives: int
    id_false_positives: int
    id_false_negatives: int

    @property
    def motp_distance(self) -> float:
        return 1.0 - self.motp


def measure(
    truth: Sequence[Frame], said: Sequence[Frame], similarity: Similarity = box_iou, match: float = MATCH
) -> Tracking:
    """All figures of one sequence: per frame, what is there and what is said to be there, each under the id
    of its track. The ids of the two sides are unrelated. ValueError for different numbers of frames."""
    from trackeval.metrics import CLEAR, HOTA, Identity

    data = _data(truth, said, similarity)
    at = {"THRESHOLD": match, "PRINT_CONFIG": False}
    h = HOTA().eval_sequence(data)
    c = CLEAR(at).eval_sequence(data)
    # TrackEval leaves MOTA and IDF1 at 0 when one side is empty, and HOTA's DetRe and DetPr with them.
    i = Identity(at).eval_sequence(data)
    return Tracking(
        hota=_mean(h["HOTA"]),
        hota_alpha=tuple(float(value) for value in h["HOTA"]),
        det_a=_mean(h["DetA"]),
        ass_a=_mean(h["AssA"]),
        loc_a=_mean(h["LocA"]),
        det_re=_mean(h["DetRe"]),
        det_pr=_mean(h["DetPr"]),
        ass_re=_mean(h["AssRe"]),
        ass_pr=_mean(h["AssPr"]),
        mota=float(c["MOTA"]),
        motp=float(c["MOTP"]),
        true_positives=int(c["CLR_TP"]),
        false_positives=int(c["CLR_FP"]),
        false_negatives=int(c["CLR_FN"]),
        switches=int(c["IDSW"]),
        fragmentations=int(c["Frag"]),
        mostly_tracked=int(c["MT"]),
        partially_tracked=int(c["PT"]),
        mostly_lost=int(c["ML"]),
        idf1=float(i["IDF1"]),
        id_true_positives=int(i["IDTP"]),
        id_false_positives=int(i["IDFP"]),
        id_false_negatives=int(i["IDFN"]),
    )


def _mean(values: Any) -> float:
    return float(np.mean(values))


def _data(truth: Sequence[Frame], said: Sequence[Frame], similarity: Similarity) -> dict[str, Any]:
    """TrackEval's own form of a sequence: ids counted from 0, and a similarity matrix per frame."""
    if len(truth) != len(said):
        raise ValueError(f"sequences of different length: {len(truth)} and {len(said)} frames")
    truth_ids = {name: n for n, name in enumerate(dict.fromkeys(name for frame in truth for name in frame))}
    said_ids = {name: n for n, name in enumerate(dict.fromkeys(name for frame in said for name in frame))}
    return {
        "num_timesteps": len(truth),
        "num_gt_ids": len(truth_ids),
        "num_tracker_ids": len(said_ids),
        "num_gt_dets": sum(map(len, truth)),
        "num_tracker_dets": sum(map(len, said)),
        "gt_ids": [np.array([truth_ids[name] for name in frame], int) for frame in truth],
        "tracker_ids": [np.array([said_ids[name] for name in frame], int) for frame in said],
        "similarity_scores": [
            np.array([[similarity(x, y) for y in b.values()] for x in a.values()], float).reshape(
                len(a), len(b)
            )
            for a, b in zip(truth, said, strict=True)
        ],
    }
