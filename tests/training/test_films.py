"""Traces and rollouts about clips, and with crops: what a policy is shown is what it learns from."""

from dataclasses import replace

import numpy as np
import pytest

from pixelis_pipeline.agent import nano, policy, render
from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.sampled import sample
from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.records import Action, Media, Step, Trajectory
from pixelis_pipeline.settings import HeadSettings, PolicySettings
from pixelis_pipeline.tools.contract import Workspace
from pixelis_pipeline.tools.registry import Registry
from pixelis_pipeline.tools.zoom import LanczosZoom
from tests.training.conftest import opens, trace
from training.pictures import pictures
from training.rft.states import states
from training.sft.objective import inputs
from training.sft.pool import pool

FRAMES = [np.full((40, 60, 3), 10 * k, np.uint8) for k in range(24)]
FILM = Media("f" * 64, "video", "f.mp4", 60, 40, 24, 8.0)
ZOOM = Action("ZOOM", {"box": [100, 100, 600, 600], "frame": 12, "scale": 2})


def watching(media: object) -> Workspace:
    return Workspace.watching(Clip(24, 8.0, 60, 40, lambda: iter([frame.copy() for frame in FRAMES])))


def film_trace() -> Trajectory:
    """A crop of frame 12, an invalid crop, and a track."""
    made = Registry({"ZOOM": LanczosZoom()}).call_all([(watching(()), ZOOM)])[0]
    seen, track = made.output, {"start": 0, "end": 12, "boxes": [[1, 2, 3, 4]] * 13}
    steps = (
        Step("Closer.", ZOOM, seen, replayed=seen),
        Step("Closer.", Action("ZOOM", {"box": [0, 0, 1, 1], "image": 9}), {}, replayed={"error": "no"}),
        Step("Follow.", Action("TRK", {"box": [1, 2, 3, 4], "end": 12}), track, replayed=track),
    )
    whole = trace(1)
    return replace(whole, question=replace(whole.question, media=(FILM,), task="way"), steps=steps)


def test_a_trace_about_a_clip_is_learned_with_its_frames_and_its_crop() -> None:
    (told,) = (pool([film_trace()], watching, 2.0)).examples
    (shown,) = pool([film_trace()], watching, 2.0).images
    assert [int(image[0, 0, 0]) for image in shown] == [0, 120, 120]
    row = words.shared().decode(list(told.ids), skip_special_tokens=False).replace(words.IMAGE, "")
    assert "1.5 s frame 12 <vision></vision>" in row and "<obs><vision></vision>image 1</obs>" in row
    assert row.count("<vision>") == 3
    given = inputs([told], [shown])
    assert given["pixel_values"].shape[0] == 3 * 256
    image = words.token(words.IMAGE)
    assert not told.weights[np.asarray(told.ids) == image].any()


def test_rows_of_pictures_and_of_clips_share_a_batch() -> None:
    pools = [pool([film_trace()], watching, 2.0), pool([trace(2)], opens, 2.0)]
    given = inputs([each.examples[0] for each in pools], [each.images[0] for each in pools])
    assert given["pixel_values"].shape[0] == 4 * 256


def test_a_policy_of_the_first_edition_sees_pictures_alone() -> None:
    first = render.nano(edition=1)
    assert len(pictures(first, film_trace(), watching)) == 1
    assert not first.shows([FILM]) and first.shows(trace(1).question.media) and render.nano().shows([FILM])
    assert not first.crops and render.nano().crops


def test_rollouts_about_clips_show_what_traces_about_them_show(base) -> None:
    """A policy's row begins as the row that it learned from, and states are read off the same pictures."""
    learned = policy.load(base)
    asked = film_trace().question
    given = PolicySettings(turns=2, tokens_per_turn=8)
    registry = Registry({"ZOOM": LanczosZoom()})
    (one, other) = sample(
        learned,
        [asked],
        2,
        registry,
        watching,
        given,
        name="x",
        seed=1,
        right=lambda q, a: False,
        temperature=1.0,
    )
    (taught,) = pool([film_trace()], watching, 2.0).examples
    assert one.ids[: one.prompt] == taught.ids[: one.prompt] and len(one.images) == 2
    both = [one.prediction, other.prediction]
    found = states(learned.model, learned.contract, both, [one.images, other.images], HeadSettings())
    assert [len(each.v) for each in found] == [1 + len(each.kept) for each in found]


def test_states_take_a_crop_only_where_it_was_shown(base) -> None:
    """The last crop of a rollout that was stopped was never shown, and repeated calls are left out."""
    made = policy.load(base)
    whole = film_trace()
    shown = pictures(made.contract, whole, watching)
    again = replace(whole, steps=(whole.steps[0], whole.steps[0], whole.steps[2]))
    twice = [*shown, shown[-1]]
    for each, images in ((whole, shown), (again, twice), (whole, shown[:2])):
        (found,) = states(made.model, made.contract, [each], [images], HeadSettings())
        assert np.isfinite(found.x).all()
    seen, unseen = (
        states(made.model, made.contract, [whole], [images], HeadSettings())[0]
        for images in (shown, shown[:2])
    )
    assert seen.x[0] == pytest.approx(unseen.x[0], abs=1e-4)
    assert not np.allclose(seen.x[-1], unseen.x[-1])
    assert nano.sees(made.model)


def test_a_checkpoint_keeps_its_edition(base, tmp_path) -> None:
    policy.save(policy.load(base).model, tmp_path / "first", render.nano(edition=1))
    assert policy.load(tmp_path / "first").contract == render.nano(edition=1)
    assert policy.contract_of(tmp_path / "first") != policy.contract_of(base) == render.nano()
    (tmp_path / "first" / "render.json").unlink()
    with pytest.raises(policy.PolicyError, match=r"render\.json is missing"):
        policy.contract_of(tmp_path / "first")
