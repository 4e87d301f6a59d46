"""A video whose frames are asked for by number: each is the right one, whatever was asked before."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pixelis_pipeline.media import MediaError, MediaStore, probe
from pixelis_pipeline.media import clip as clips
from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.settings import MediaLimits
from tests.media.made import film


class Counted:
    """`frames` pictures of 4 x 6, frame k of the grey k; counts how often decoding began."""

    def __init__(self, frames: int) -> None:
        self.frames, self.begun = frames, 0

    def __call__(self) -> Iterator[np.ndarray]:
        self.begun += 1
        for k in range(self.frames):
            yield np.full((4, 6, 3), k, np.uint8)


def levels(clip: Clip, start: int, end: int) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in clip.between(start, end)]


def test_any_frame_in_any_order_is_decoded_once() -> None:
    source = Counted(9)
    clip = Clip(9, 3.0, 6, 4, source)
    assert levels(clip, 2, 5) == [2, 3, 4, 5]
    assert [int(clip.at(k)[0, 0, 0]) for k in (8, 0, 4)] == [8, 0, 4]
    assert levels(clip, 0, 8) == list(range(9))
    assert source.begun == 1 and clip.seconds == 3.0


def test_a_video_too_large_to_hold_is_decoded_for_every_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "HELD_BYTES", 9 * 4 * 6 * 3 - 1)
    source = Counted(9)
    clip = Clip(9, 3.0, 6, 4, source)
    assert levels(clip, 2, 5) == [2, 3, 4, 5] and levels(clip, 7, 7) == [7]
    assert source.begun == 2


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (0, 9), (5, 4), (9, 9), (-3, -1)])
def test_frames_that_are_not_there(start: int, end: int) -> None:
    with pytest.raises(IndexError, match="of 9"):
        list(Clip(9, 3.0, 6, 4, Counted(9)).between(start, end))


@pytest.mark.parametrize("held", [True, False])
def test_a_video_that_ends_before_it_says_is_truncated(monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    if not held:
        monkeypatch.setattr(clips, "HELD_BYTES", 0)
    clip = Clip(9, 3.0, 6, 4, Counted(5))
    assert levels(clip, 0, 4) == [0, 1, 2, 3, 4]
    with pytest.raises(MediaError, match="ends at frame 5 of 9") as caught:
        list(clip.between(3, 7))
    assert caught.value.rule == "truncated"


@pytest.mark.parametrize("held", [True, False])
def test_nobody_can_paint_on_a_shared_frame(monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    if not held:
        monkeypatch.setattr(clips, "HELD_BYTES", 0)
    frame = Clip(9, 3.0, 6, 4, Counted(9)).at(1)
    with pytest.raises(ValueError, match="read-only"):
        frame[0, 0] = 255


def test_a_rate_that_is_unknown_is_no_length() -> None:
    assert Clip(9, 0.0, 6, 4, Counted(9)).seconds == 0.0


def test_the_frames_of_a_file(tmp_path: Path, put: Callable[[str, bytes], Path], limits: MediaLimits) -> None:
    media = probe(put("film.mp4", film(frames=12, rate=8)), limits)
    store = MediaStore(tmp_path, limits)
    clip = store.clip(media)
    assert (clip.frames, clip.width, clip.height, clip.seconds) == (12, 64, 48, 1.5)
    greys = [float(frame.mean()) for frame in clip.between(0, 11)]
    assert np.abs(np.subtract(greys, 10 * np.arange(12))).max() < 3
    assert (store.view(media) == clip.at(0)).all()


def test_a_file_that_breaks_off_is_an_error_when_its_frames_are_asked_for(
    tmp_path: Path, put: Callable[[str, bytes], Path], limits: MediaLimits
) -> None:
    path = put("film.mp4", film(frames=12))
    media, store = probe(path, limits), MediaStore(tmp_path, limits)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(MediaError) as caught:
        store.clip(media)
    assert caught.value.rule == "media changed"
