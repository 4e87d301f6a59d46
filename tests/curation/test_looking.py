"""Media looked at, and laid over each other, wherever the engine runs: the same result, and nothing lost."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelis_pipeline.curation import verdict
from pixelis_pipeline.curation.evaluation_twins import decide
from pixelis_pipeline.curation.looking import Look, decoders, looks
from pixelis_pipeline.curation.twins import Candidate
from pixelis_pipeline.curation.verdict import Judge, answers, judged
from pixelis_pipeline.engine.run import run
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.media.files import probe
from pixelis_pipeline.media.store import MediaStore
from pixelis_pipeline.records import Media
from pixelis_pipeline.settings import CurationSettings, EngineSettings, MediaLimits
from pixelis_pipeline.world.clip import encode
from pixelis_pipeline.world.scene import draw_scene

pytestmark = pytest.mark.slow


@pytest.fixture
def media(tmp_path: Path) -> list[Media]:
    limits, found = MediaLimits(), []
    for k in range(6):
        picture = draw_scene(np.random.default_rng(k), width=320, height=320).image
        Image.fromarray(picture).save(tmp_path / f"{k}.png")
        found.append(probe(tmp_path / f"{k}.png", limits))
    (tmp_path / "film.mp4").write_bytes(encode([np.roll(picture, 8 * k, 1) for k in range(16)], 8))
    found.append(probe(tmp_path / "film.mp4", limits))
    (tmp_path / "3.png").unlink()
    (tmp_path / "4.png").write_bytes(b"something else")
    return found


def told(look: Look) -> object:
    return look.media, look.fingerprint, [rows.tobytes() for rows in look.rows], look.rule, look.why


def test_where_it_runs_never_shows(media: list[Media], tmp_path: Path) -> None:
    store = MediaStore(tmp_path, MediaLimits())
    here = [told(each) for each in looks(media, store, EngineSettings(kind="process"))]
    pool = [told(each) for each in looks(media, store, EngineSettings(kind="pool", workers=2))]
    assert here == pool
    assert [look.rule for look in looks(media, store, EngineSettings(kind="process"))] == [
        *[""] * 3,
        "missing media",
        "media changed",
        "",
        "",
    ]


def test_an_image_has_its_windows_and_a_film_a_row_a_second(media: list[Media], tmp_path: Path) -> None:
    found = list(looks(media, MediaStore(tmp_path, MediaLimits()), EngineSettings(kind="process")))
    assert [len(rows) for rows in found[0].rows] == [35]
    assert [len(rows) for rows in found[-1].rows] == [1, 1]
    assert found[-1].fingerprint is not None and found[-1].fingerprint.seconds == (0.0, 1.0)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> EngineSettings:
    """Two processes, from the first item on."""
    monkeypatch.setattr(verdict, "run", partial(run, patience=0.0))
    return EngineSettings(kind="pool", workers=2)


def test_pairs_are_judged_alike_wherever(media: list[Media], tmp_path: Path, pool: EngineSettings) -> None:
    """A copy is found and other scenes are not, in this process and in others."""
    Image.open(tmp_path / "0.png").resize((200, 200)).save(tmp_path / "copy.png")
    media = [*media[:3], probe(tmp_path / "copy.png", MediaLimits())]
    store = MediaStore(tmp_path, MediaLimits())
    told = {
        each.sha256: look.fingerprint for each, look in zip(media, looks(media, store, pool), strict=True)
    }
    shas = list(told)
    near = {sha: dict.fromkeys(shas[:k], Candidate()) for k, sha in enumerate(shas) if k}
    make = partial(Judge, CurationSettings(), *decoders(store))
    found = [judged(told, near, make, engine) for engine in (verdict.HERE, pool)]  # type: ignore[arg-type]
    assert found[0] == found[1]
    assert {later: list(earlier) for later, earlier in found[0].items()} == {shas[3]: [shas[0]]}
    pairs = {(ours.sha256, theirs.sha256): Candidate() for ours in media[:3] for theirs in media[3:]}
    by_sha = {each.sha256: each for each in media}
    same = [decide(pairs, by_sha, by_sha, make, engine) for engine in (verdict.HERE, pool)]
    assert same[0] == same[1] == {pair: pair[0] == shas[0] for pair in pairs}
    assert decide(pairs, {}, by_sha, make, pool) == {}


def test_a_pair_that_kills_its_worker_is_not_passed_over(pool: EngineSettings) -> None:
    with pytest.raises(RuntimeError, match="2 pairs of media could not be laid over each other"):
        list(answers([1, 2], _deadly, pool))


def _deadly() -> object:
    return lambda pair: os._exit(9)


def test_what_cannot_be_decoded_is_said_alike_wherever(
    media: list[Media], tmp_path: Path, pool: EngineSettings
) -> None:
    """The fourth picture is gone."""
    make = partial(Judge, CurationSettings(), *decoders(MediaStore(tmp_path, MediaLimits())))
    pair = {(media[0].sha256, media[3].sha256): Candidate()}
    by_sha = {each.sha256: each for each in media}
    for engine in (verdict.HERE, pool):
        with pytest.raises(MediaError, match=r"^missing media: ") as raised:
            decide(pair, by_sha, by_sha, make, engine)
        assert raised.value.rule == "missing media"
