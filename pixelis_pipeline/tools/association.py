"""Which of several sights is the thing that is followed: BoT-SORT's association over time.

What looks like the thing and was seen beside it has a track of its own, and is not mistaken for it when the
two pass each other. Motion is in each track's Kalman state; BoT-SORT's own estimate of the camera's motion
stays off, because it takes 10 ms a frame and a drifting camera moves a track like any other motion.
"""

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

WIDER = 2.0  # boxes are compared this much wider, so that fast small things still overlap (as C-BIoU does)
TRACKED = 0.35  # score of a sight from which it begins a track, and is matched in the first round
MATCH, MATCH_WEAK = 0.1, 0.3  # least overlap (first round: times score) in the two rounds
PARAMETERS = (
    f"trackers {version('trackers')} botsort wider={WIDER} tracked={TRACKED} match={MATCH}/{MATCH_WEAK}"
)

Box = tuple[float, float, float, float]


class Association:
    """Follows the thing in `box` among the candidate boxes of each frame."""

    def __init__(self, box: Box) -> None:
        self.restart(box)

    def restart(self, box: Box) -> None:
        """Forget all tracks: the thing is this."""
        from trackers import BoTSORTTracker

        self._tracker = BoTSORTTracker(
            lost_track_buffer=10**6,  # a call has an end; nothing is given up before
            track_activation_threshold=TRACKED,
            high_conf_det_threshold=TRACKED,
            minimum_iou_threshold_first_assoc=MATCH,
            minimum_iou_threshold_second_assoc=MATCH_WEAK,
            minimum_iou_threshold_unconfirmed_assoc=MATCH,
            enable_cmc=False,
        )
        self._others: set[int] = set()
        self._mine = self._tracks_of([box], [1.0])[0]

    def choose(self, boxes: Sequence[Box], scores: Sequence[float]) -> tuple[int | None, list[int]]:
        """Which candidate continues the thing's track, and which may be the thing although they do not:
        those that were never seen beside it."""
        tracks = self._tracks_of(boxes, scores)
        free = [k for k, track in enumerate(tracks) if track != self._mine and track not in self._others]
        if self._mine not in tracks:
            return None, free
        self._others |= {track for track in tracks if track not in (-1, self._mine)}
        return tracks.index(self._mine), free

    def _tracks_of(self, boxes: Sequence[Box], scores: Sequence[float]) -> list[int]:
        """The track of each box, -1 for none yet."""
        import supervision

        corners = np.array(boxes, float).reshape(-1, 4)
        middle, half = (corners[:, :2] + corners[:, 2:]) / 2, (corners[:, 2:] - corners[:, :2]) / 2 * WIDER
        seen = supervision.Detections(
            xyxy=np.concatenate([middle - half, middle + half], 1),
            confidence=np.array(scores, float),
            data={"index": np.arange(len(boxes))},
        )
        matched = self._tracker.update(seen)
        tracks = [-1] * len(boxes)
        if matched.tracker_id is not None:
            for index, track in zip(matched.data.get("index", ()), matched.tracker_id, strict=True):
                tracks[int(index)] = int(track)
        return tracks
