"""What de-duplication finds of planted copies, and what it finds that is none, by kind of picture.

The copies are those that every run plants (`curation/planted.py`), here of more pictures and of photographs
too. The suite writes docs/RECALL.md.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import skimage
import sklearn
from PIL import Image

from benchmarks.measurement import Measurement, measured
from pixelis_pipeline.curation.planted import COPIES, Recall, images
from pixelis_pipeline.ledger.files import replace
from pixelis_pipeline.settings import CurationSettings
from pixelis_pipeline.world.language import passage
from pixelis_pipeline.world.page import render_page
from pixelis_pipeline.world.scene import draw_scene

Array = np.ndarray[Any, Any]
PAGE = Path(__file__).resolve().parent.parent / "docs" / "RECALL.md"
SCENES, PAGES = 40, 30
SIGNALS = ("phash", "descriptor", "verdict")
BARS = {  # transform -> (the step that must see it, the least share)
    "re-encode, JPEG 60": ("phash", 0.999),
    "rescale to .5": ("phash", 0.999),
    "crop to .8 of a side": ("descriptor", 0.95),
    "colour shift, warmer": ("descriptor", 0.95),
    "colour shift, hue 16 degrees": ("descriptor", 0.95),
}
BARRED = ("photographs", "world scenes", "world pages")
PRECISION = 0.99
PHOTOGRAPHS = (
    *("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "ihc.png"),
    *("rocket.jpg", "hubble_deep_field.jpg"),
)


def photographs() -> list[Array]:
    """Quarters of what two packages ship: no two show the same thing, none is nearly empty."""
    there = [Path(skimage.__file__).parent / "data" / name for name in PHOTOGRAPHS]
    there += [Path(sklearn.__file__).parent / "datasets" / "images" / n for n in ("china.jpg", "flower.jpg")]
    found = []
    for path in there:
        whole = np.asarray(Image.open(path).convert("RGB"))
        height, width = whole.shape[0] // 2, whole.shape[1] // 2
        found += [whole[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]
    return [np.ascontiguousarray(picture) for picture in found if picture.std() > 20]


Ground = Literal["plain", "photograph"]


def _scenes(count: int, grounds: tuple[Ground, ...], **options: Any) -> list[Array]:
    return [
        draw_scene(
            np.random.default_rng(k), width=320, height=320, ground=grounds[k % len(grounds)], **options
        ).image
        for k in range(count)
    ]


def _pages(count: int) -> list[Array]:
    made = [render_page(passage(np.random.default_rng(k), 150), k)[0] for k in range(count)]
    return [cv2.resize(page, (384, 384), interpolation=cv2.INTER_AREA) for page in made]


FAMILIES: dict[str, Callable[[], list[Array]]] = {
    "photographs": photographs,
    "world scenes": lambda: _scenes(SCENES, ("plain", "photograph")),
    "world pages": lambda: _pages(PAGES),
    "one or two plain things": lambda: _scenes(SCENES, ("plain",), things=(1, 2), clutter=0),
}


def suite(
    families: Iterable[str] = tuple(FAMILIES), copies: Sequence[str] = tuple(COPIES)
) -> list[Measurement]:
    """Recall where there is a bar for it, precision of every family; docs/RECALL.md has all of it."""
    settings, found = CurationSettings(), list[Measurement]()
    told: dict[str, tuple[int, list[Recall]]] = {}
    for name in families:
        pictures = FAMILIES[name]()
        told[name] = len(pictures), list(images(name, pictures, settings, copies))
        by = {(r.transform, r.signal): r for r in told[name][1]}
        for transform in copies:
            signal, least = BARS.get(transform, ("verdict", None))
            for each in dict.fromkeys((signal, "verdict")):
                bar = least if name in BARRED and each == signal else None
                share = by[transform, each].recall
                found.append(measured(f"{name}, {transform}: {each}", share, "share", at_least=bar))
        found.append(precision(name, told[name][1], PRECISION if name == "photographs" else None))
    world = [row for name, (_, rows) in told.items() if name.startswith("world") for row in rows]
    found += [precision("the world, scenes and pages", world, PRECISION)] if world else []
    replace(PAGE, page(told).encode())
    return found


def precision(name: str, rows: Iterable[Recall], bar: float | None = None) -> Measurement:
    """The share of pairs found that are planted."""
    true, pairs = totals(rows)
    return measured(f"{name}: precision over {pairs} pairs", true / pairs, "share", at_least=bar)


def totals(rows: Iterable[Recall]) -> tuple[int, int]:
    """(true, all) pairs of the verdicts."""
    verdicts = [row for row in rows if row.signal == "verdict"]
    return sum(row.found for row in verdicts), sum(row.pairs for row in verdicts)


def _false(rows: Sequence[Recall]) -> str:
    """How many pairs were found that are none, and among which copies."""
    true, pairs = totals(rows)
    by = [(r.pairs - r.found, r.transform) for r in rows if r.signal == "verdict" and r.pairs > r.found]
    told = ", ".join(f"{count} {transform}" for count, transform in by)
    return f"{pairs - true} of {pairs}{f' ({told})' if told else ''}"


def page(told: dict[str, tuple[int, list[Recall]]]) -> str:
    """docs/RECALL.md, whole."""
    heads = " | ".join(f"{name} ({count})" for name, (count, _) in told.items())
    lines = [
        "# Recall: what de-duplication and the leakage audit find of planted copies",
        "",
        "Written by `python -m benchmarks recall`. The share of copies found by pHash within 8 bits / by the "
        "descriptor / as the verdict, of as many pictures as stand in brackets. Every run of "
        "`deduplicated_trajectories` measures the same on its own pictures, source by source, and shows it "
        "on its page.",
        "",
        f"| Copy | {heads} |",
        f"|---|{'---|' * len(told)}",
    ]
    by = {(name, r.transform, r.signal): r for name, (_, rows) in told.items() for r in rows}
    for transform in dict.fromkeys(row.transform for _, rows in told.values() for row in rows):
        cells = (
            " / ".join(f"{by[name, transform, signal].recall:.2f}" for signal in SIGNALS) for name in told
        )
        lines.append(f"| {transform} | {' | '.join(cells)} |")
    false = " | ".join(_false(rows) for _, rows in told.values())
    lines += [
        f"| **false among all pairs found** | {false} |",
        "",
        "pHash sees a picture as a whole; the descriptor sees cuts and borders; flips and quarter turns need "
        "a [learned encoder](HOWTO.md). What else gets through, and what is wrongly taken for a copy: "
        "[LEAKAGE.md](LEAKAGE.md).",
        "",
    ]
    return "\n".join(lines)
