"""What de-duplication finds of planted copies, on photographs and on the world apart."""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.recall import FAMILIES, photographs
from pixelis_pipeline.curation.planted import Recall, images
from pixelis_pipeline.settings import CurationSettings
from pixelis_pipeline.world.language import passage
from pixelis_pipeline.world.page import render_page
from pixelis_pipeline.world.scene import draw_scene

Array = np.ndarray[Any, Any]
PICTURES = 30
WHOLE = ("re-encode, JPEG 60", "rescale to .5")
SHIFTED = ("crop to .8 of a side", "colour shift, warmer", "colour shift, hue 16 degrees")
BLIND = ("flip", "rotate 90 degrees")


def world() -> list[Array]:
    scenes = [
        draw_scene(np.random.default_rng(k), width=320, height=320, ground=g).image
        for k, g in enumerate(("plain", "photograph") * 10)
    ]
    pages = [render_page(passage(np.random.default_rng(k), 150), k)[0] for k in range(10)]
    return scenes + [cv2.resize(p, (384, 384), interpolation=cv2.INTER_AREA) for p in pages]


def plain() -> list[Array]:
    return FAMILIES["one or two plain things"]()


@pytest.mark.slow
@pytest.mark.parametrize("family", [photographs, world])
def test_bars_of_recall_and_precision(family: Any, settings: CurationSettings) -> None:
    """Re-encoded and rescaled copies by pHash, cut and recoloured ones by the descriptor, and nearly nothing
    false, also not for flips and turns, which nothing here sees."""
    found: dict[tuple[str, str], Recall] = {
        (r.transform, r.signal): r for r in images("test", family(), settings, (*WHOLE, *SHIFTED, *BLIND))
    }
    for name in WHOLE:
        assert found[name, "phash"].recall >= 0.999
        assert found[name, "verdict"].recall >= 0.999
    for name in SHIFTED:
        assert found[name, "descriptor"].recall >= 0.95
        assert found[name, "verdict"].recall >= 0.95
    assert found["crop to .8 of a side", "phash"].recall <= 0.2
    for name in BLIND:
        assert found[name, "verdict"].recall == 0.0
    verdicts = [r for (_, signal), r in found.items() if signal == "verdict"]
    assert sum(r.found for r in verdicts) >= 0.99 * sum(r.pairs for r in verdicts)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "false"), [(photographs, 3), (plain, 10)])
def test_asking_the_tiles_of_near_hashes_loses_no_copy(
    family: Any, false: int, settings: CurationSettings
) -> None:
    """What only shares a hash, mostly under one banner, goes (docs/LEAKAGE.md)."""
    trusting = settings.model_copy(update={"refuting_agreement": -1.0})
    pictures, asked = family(), ("overlay", "rotate 3 degrees")
    blind, seeing = (
        [row for row in images("test", pictures, each, asked) if row.signal == "verdict"]
        for each in (trusting, settings)
    )
    assert [row.found for row in seeing] == [row.found for row in blind]
    assert sum(row.pairs for row in blind) - sum(row.pairs for row in seeing) >= false


def test_shares_are_counted_not_claimed(settings: CurationSettings) -> None:
    """A picture that is there twice is found too, and that is no planted copy."""
    scene = draw_scene(np.random.default_rng(1), width=256, height=256, ground="photograph").image
    twice = [scene, np.clip(scene.astype(int) + 3, 0, 255).astype(np.uint8)]
    (row,) = [r for r in images("test", twice, settings, ["rescale to .5"]) if r.signal == "verdict"]
    assert (row.planted, row.found, row.recall) == (2, 2, 1.0)
    assert row.pairs > 2 and row.precision is not None and row.precision < 1
    blank = [np.full((64, 64, 3), 90, np.uint8)]
    assert list(images("test", blank, settings, ["blur"])) == []  # nothing was changed, nothing planted


def test_the_authors_sets_hold_no_false_cut(settings: CurationSettings) -> None:
    """data-juicer's pictures: the descriptor finds the byte-identical ones and nothing else."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "realdata" / "dedup_media_dj"
    folder = Path(os.environ.get("PIXELIS_REALDATA", folder.parent)) / "dedup_media_dj"
    if not folder.is_dir():
        pytest.skip("the authors' pictures are not at hand")
    names = ("img1.png", "img2.jpg", "img3.jpg", "img8.jpg", "img9.jpg", "img10.jpg")
    held = [np.asarray(Image.open(folder / name).convert("RGB")) for name in names]
    for row in images("dj", held, settings, ["re-encode, JPEG 60", "crop to .9 of a side"]):
        assert row.signal == "phash final" or row.pairs == row.found
