"""Media looked at wherever the engine runs: the same bytes, and nothing lost."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelis_pipeline.curation.looking import Look, looks
from pixelis_pipeline.media.files import probe
from pixelis_pipeline.media.store import MediaStore
from pixelis_pipeline.records import Media
from pixelis_pipeline.settings import EngineSettings, MediaLimits
from pixelis_pipeline.world.clip import encode
from pixelis_pipeline.world.scene import draw_scene


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
