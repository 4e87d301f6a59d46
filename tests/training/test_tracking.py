"""Files for TensorBoard and W&B. What is not installed is skipped: the extra `tracking` brings both."""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixelis_pipeline.settings import TrackingSettings
from training.tracking import opened


@pytest.mark.parametrize(("setting", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_what_is_not_installed_is_named_with_its_extra(setting, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with (
        pytest.raises(ModuleNotFoundError, match=rf"tracking.{setting} is on and {package}.*\[tracking\]"),
        opened(tmp_path, TrackingSettings(**{setting: True})),
    ):
        raise AssertionError("it must not be opened")


def test_by_default_nothing_is_imported_and_nothing_written(tmp_path, monkeypatch):
    for package in ("tensorboardX", "wandb"):
        monkeypatch.setitem(sys.modules, package, None)
    with opened(tmp_path, TrackingSettings()) as track:
        track(1, {"loss": 1.0})
    assert not list(tmp_path.iterdir())


def events(folder: Path) -> Iterator:
    """Every event of the folder's files, in the order they were written (TFRecord framing: length, its
    checksum, data, its checksum)."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda p: p.stat().st_mtime_ns):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            yield event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
            at += length + 16


def test_scalars_become_event_files_and_a_resumed_training_strikes_out_what_it_tells_again(tmp_path):
    pytest.importorskip("tensorboardX")
    for start in (1, 4):
        with opened(tmp_path / str(start), TrackingSettings(tensorboard=True)) as track:
            for step in range(start, start + 4):
                track(step, {"loss": 1 / step, "rate": 0.5})
    told = [
        (each.step, value.tag, value.simple_value)
        for each in events(tmp_path / "1")
        for value in each.summary.value
    ]
    assert [(step, tag) for step, tag, _ in told] == [(s, t) for s in range(1, 5) for t in ("loss", "rate")]
    assert told[2][2] == pytest.approx(0.5)
    restarts = [each.step for each in events(tmp_path / "4") if each.HasField("session_log")]
    assert restarts == [4], "TensorBoard forgets steps from here on that were told before"


def test_runs_of_wandb_are_written_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with opened(tmp_path / "tracked", TrackingSettings(wandb=True)) as track:
        track(1, {"loss": 0.5})
        track(2, {"loss": 0.25})
    (run,) = (tmp_path / "tracked" / "wandb").glob("offline-run-*")
    assert list(run.glob("run-*.wandb"))
