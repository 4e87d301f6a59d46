"""Which copies of evaluation media the filter catches, and that distinct pictures pass.

`python -m pytest tests/curation/test_recall.py -s` prints the table of docs/LEAKAGE.md.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from pixelis_pipeline.curation.evaluation_twins import LeakageHit, by_pixels, hits, same_by_pixels
from pixelis_pipeline.curation.patches import agreement, thumbnail
from pixelis_pipeline.curation.verdict import Judge
from pixelis_pipeline.records import Origin, Sample
from pixelis_pipeline.settings import CurationSettings
from pixelis_pipeline.sources.whitelist import whitelist
from pixelis_pipeline.world.language import passage
from pixelis_pipeline.world.page import render_page
from pixelis_pipeline.world.scene import draw_scene

Array = np.ndarray[Any, Any]
Family = Callable[[Any, int], Array]
PICTURES = 100


def scene(seed: int, **options: Any) -> Array:
    return draw_scene(np.random.default_rng(seed), width=384, height=384, **options).image


FAMILIES: dict[str, Family] = {
    "plain scene": lambda _, seed: scene(seed, ground="plain"),
    "one or two things": lambda _, seed: scene(seed, ground="plain", things=(1, 2), clutter=0),
    "photograph": lambda _, seed: scene(seed, ground="photograph"),
    "page": lambda _, seed: render_page(passage(np.random.default_rng(seed), 150), seed)[0],
    "bare print": lambda gallery, seed: gallery.print(seed),
}


def lit(picture: Array, gain: float | tuple[float, ...], offset: float = 0.0) -> Array:
    return np.clip(np.rint(picture * np.array(gain) + offset), 0, 255).astype(np.uint8)


def cut(picture: Array, share: float) -> Array:
    y, x = (round(share * side) for side in picture.shape[:2])
    return np.ascontiguousarray(picture[y : picture.shape[0] - y, x : picture.shape[1] - x])


def grey(picture: Array) -> Array:
    return cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


# Name: the copy, and the least share to be caught in every family (0: known not to be caught reliably).
COPIES: dict[str, tuple[Callable[[Any, Array], Array], float]] = {
    "JPEG 60": (lambda gallery, p: gallery.encoded(p, 60), 0.99),
    "JPEG 30": (lambda gallery, p: gallery.encoded(p, 30), 0.99),
    "scale .7": (lambda gallery, p: gallery.rescaled(p, 0.7), 0.99),
    "scale .35": (lambda gallery, p: gallery.rescaled(p, 0.35), 0.99),
    "grey": (lambda _, p: grey(p), 0.99),
    "brightness .8": (lambda _, p: lit(p, 0.8), 0.99),
    "brightness 1.2": (lambda _, p: lit(p, 1.2), 0.95),
    "contrast .8": (lambda _, p: lit(p, 0.8, 0.2 * float(p.mean())), 0.99),
    "warm": (lambda _, p: lit(p, (1.0, 0.92, 0.8)), 0.99),
    "1 % off each side": (lambda _, p: cut(p, 0.01), 0.9),
    "2 % off each side": (lambda _, p: cut(p, 0.02), 0.0),
    "border of 8 px": (lambda _, p: cv2.copyMakeBorder(p, 8, 8, 8, 8, cv2.BORDER_CONSTANT), 0.0),
    "flipped": (lambda _, p: np.ascontiguousarray(p[:, ::-1]), 0.0),
    "turned": (lambda _, p: np.ascontiguousarray(np.rot90(p)), 0.0),
}


def blocked(
    gallery: Any, settings: CurationSettings, held: list[Array], seen: list[Array]
) -> dict[tuple[int, int], LeakageHit]:
    """What blocks, by (picture seen in training, evaluation picture)."""
    media = [gallery.image(picture) for picture in held]
    samples = [
        Sample(str(k), Origin("vstar", str(k), "test", "evaluation"), (m,), question="Which?", answer="7")
        for k, m in enumerate(media)
    ]
    entries = list(whitelist(samples, gallery.pixels, gallery.frames))
    look = by_pixels(
        {m.sha256: m for m in media}, same_by_pixels(Judge(settings, gallery.pixels, gallery.frames))
    )
    found = [
        gallery.fingerprint(gallery.trajectory(gallery.image(picture), name=str(k))).trajectory
        for k, picture in enumerate(seen)
    ]
    place = {trajectory.id: k for k, trajectory in enumerate(found)}
    met = hits(found, entries, settings, look)
    return {(place[hit.of], int(hit.record)): hit for hit in met if hit.blocks}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_copies_are_caught_and_distinct_pictures_pass(
    gallery: Any, settings: CurationSettings, family: str
) -> None:
    """One alarm may come from pHash where its word is final; none from the pixels."""
    held = [FAMILIES[family](gallery, seed) for seed in range(PICTURES)]
    shares = {}
    for name, (copy, _) in COPIES.items():
        found = blocked(gallery, settings, held, [copy(gallery, picture) for picture in held])
        shares[name] = sum((k, k) in found for k in range(PICTURES)) / PICTURES
        print(f"{family} | {name} | {shares[name]:.2f}")
    others = [FAMILIES[family](gallery, seed) for seed in range(10_000, 10_000 + PICTURES)]
    alarms = blocked(gallery, settings, held, others)
    print(f"{family} | distinct, {PICTURES} x {PICTURES} pairs | {len(alarms)}")
    assert not {name: share for name, share in shares.items() if share < COPIES[name][1]}
    assert len(alarms) <= 1
    for k, e in alarms:
        assert agreement(thumbnail(others[k]), thumbnail(held[e])) < settings.leak_agreement


def test_pages_of_one_layout_are_no_duplicates(gallery: Any, settings: CurationSettings) -> None:
    """The same picture, margins and face around another text: alike, but under the duplicates' bound."""
    for seed in range(12):
        ours, theirs = (passage(np.random.default_rng(s), 150) for s in (seed, seed + 5000))
        a, b = (thumbnail(render_page(text, seed)[0]) for text in (ours, theirs))
        assert agreement(a, b) < settings.patch_agreement


def test_recoloured_things_are_no_copy_but_a_grey_copy_is(gallery: Any, settings: CurationSettings) -> None:
    one = scene(3, ground="plain", kinds=[("circle", "red"), ("square", "blue"), ("triangle", "green")])
    two = scene(3, ground="plain", kinds=[("circle", "green"), ("square", "red"), ("triangle", "blue")])
    assert agreement(thumbnail(one), thumbnail(two)) < settings.leak_agreement
    assert agreement(thumbnail(one), thumbnail(grey(one))) > settings.patch_agreement
    flat = np.full((64, 64, 3), 200, np.uint8)
    assert agreement(thumbnail(flat), thumbnail(flat)) == 0.0
