"""Cases on pictures: SEG, ZOOM, OCR and PROP, each with its truth.

One item of the world gives one case, so that cases are independent and an interval over them is honest.
"""

import math
from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
from PIL import Image

from evaluation.tools.case import Array, Case, PixelBox, jittered
from pixelis_pipeline.records import Action
from pixelis_pipeline.tools.contract import Workspace, to_pixels, to_wire
from pixelis_pipeline.tools.zoom import LONGEST, crop_digest
from pixelis_pipeline.world.language import passage
from pixelis_pipeline.world.page import render_page
from pixelis_pipeline.world.sa1b import SIZES
from pixelis_pipeline.world.scene import Scene, Thing, draw_scene
from pixelis_pipeline.world.shapes import SYMMETRY

READABLE = 28  # pixels: how high a policy enlarges a line of text
APART = 0.02  # of the picture's side, between things that are to be counted


def _over(image: Array) -> Callable[[], Workspace]:
    return lambda: Workspace([image])


def _wire(box: PixelBox, image: Array) -> list[int]:
    return list(to_wire(box, image.shape[1], image.shape[0]))


def _scene(rng: np.random.Generator, labels: float = 0.3, apart: bool = False) -> Scene:
    """A scene over a photograph, in one of SA-1B's sizes, with something in it."""
    width, height = SIZES[rng.integers(len(SIZES))]
    while True:
        scene = draw_scene(rng, width=width, height=height, ground="photograph", labels=labels, apart=apart)
        if scene.things and (labels < 1 or any(thing.label for thing in scene.things)):
            return scene


def _one_of(rng: np.random.Generator, scene: Scene) -> Thing:
    return scene.things[rng.integers(len(scene.things))]


def _about(thing: Thing) -> dict[str, str]:
    return {"shape": thing.shape, "size": thing.size, "texture": thing.texture}


def seg(seed: int, count: int) -> Iterator[Case]:
    """A box around one thing; its visible mask."""
    for k in range(count):
        rng = np.random.default_rng([seed, 1, k])
        scene = _scene(rng)
        thing = _one_of(rng, scene)
        call = Action("SEG", {"box": _wire(jittered(rng, thing.box), scene.image)})
        yield Case("SEG", (call,), {"mask": thing.mask}, _about(thing), _over(scene.image))


def zoom(seed: int, count: int) -> Iterator[Case]:
    """Any box at any scale; the crop's size and digest, by Pillow on the same pixels."""
    for k in range(count):
        rng = np.random.default_rng([seed, 2, k])
        image = _scene(rng).image
        x0, y0 = rng.integers(0, 900, 2)
        x1, y1 = rng.integers(x0 + 1, 1000), rng.integers(y0 + 1, 1000)
        box, scale = (int(x0), int(y0), int(x1), int(y1)), int(rng.integers(1, 9))
        left, top, right, bottom = to_pixels(box, image.shape[1], image.shape[0])
        most = min(scale, LONGEST / max(right - left, bottom - top))
        size = max(1, round((right - left) * most)), max(1, round((bottom - top) * most))
        part = Image.fromarray(image).crop((left, top, right, bottom)).resize(size, Image.Resampling.LANCZOS)
        truth = {"image": 1, "width": size[0], "height": size[1], "sha256": crop_digest(np.asarray(part))}
        call = Action("ZOOM", {"box": list(box), "scale": scale})
        bounded = "as asked" if most == scale else f"no longer than {LONGEST} px"
        yield Case("ZOOM", (call,), truth, {"scale": bounded}, _over(image))


def ocr(seed: int, count: int) -> Iterator[Case]:
    """In turn: a thing's label; a word of a page, enlarged first; a line of a page, likewise; a word of a
    page as it stands, capitals of 7 to 9 pixels."""
    for k in range(count):
        rng = np.random.default_rng([seed, 3, k])
        yield _label(rng) if k % 4 == 0 else _printed(rng, ("word", "line", "small word")[k % 4 - 1])


def _label(rng: np.random.Generator) -> Case:
    scene = _scene(rng, labels=1.0)
    thing = next(thing for thing in scene.things if thing.label_box is not None)
    assert thing.label_box is not None
    box = jittered(rng, thing.label_box)
    high = thing.label_box[3] - thing.label_box[1]
    kind = {"text": "label", "plate": "below 30 px" if high < 30 else "30 px and more"}
    call = Action("OCR", {"box": _wire(box, scene.image)})
    return Case("OCR", (call,), {"text": thing.label}, kind, _over(scene.image))


def _printed(rng: np.random.Generator, what: str) -> Case:
    page, words = render_page(passage(rng, 300), int(rng.integers(2**62)))
    askable = [word for word in words if len(word["text"]) >= 4 and word["text"].isalpha()]
    picked = askable[rng.integers(len(askable))]
    chosen = [word for word in words if word["line"] == picked["line"]] if what == "line" else [picked]
    edges = np.array([word["box"] for word in chosen])
    (x0, y0), (x1, y1) = edges[:, :2].min(axis=0), edges[:, 2:].max(axis=0)
    scale = min(max(math.ceil(READABLE / (y1 - y0)), 2), 8)
    around = (float(x0) - 3, float(y0) - 3, float(x1) + 3, float(y1) + 3)
    box = _wire(around, page)
    calls: tuple[Action, ...] = Action("ZOOM", {"box": box, "scale": scale}), Action("OCR", {"image": 1})
    kind = {"text": f"{what} of a page, enlarged"}
    if what == "small word":
        calls, kind = (Action("OCR", {"box": box}),), {"text": "word of a page, as it stands"}
    text = " ".join(word["text"] for word in chosen)
    return Case("OCR", calls, {"text": text}, kind, _over(page))


def prop(seed: int, count: int) -> Iterator[Case]:
    """Three in four: one thing, by its box or by SEG's mask of it. One in four: how many a region holds."""
    for k in range(count):
        rng = np.random.default_rng([seed, 4, k])
        yield _counted(rng) if k % 4 == 3 else _described(rng, by_step=k % 4 == 2)


def _described(rng: np.random.Generator, by_step: bool) -> Case:
    scene = _scene(rng)
    thing = _one_of(rng, scene)
    box = _wire(jittered(rng, thing.box), scene.image)
    truth = {
        "colour": thing.colour,
        "shape": thing.shape,
        "size": thing.size,
        "count": 1,
        # the world turns clockwise on the screen, PROP measures counter-clockwise
        "orientation": -thing.angle % SYMMETRY[thing.shape],
        "period": SYMMETRY[thing.shape],
        "area": 1000 * thing.area / thing.mask.size,
    }
    alone = (Action("PROP", {"box": box}),)
    calls = (Action("SEG", {"box": box}), Action("PROP", {"step": 0})) if by_step else alone
    asked = {"asked": "one thing, by SEG's mask" if by_step else "one thing, by its box"}
    return Case("PROP", calls, truth, asked | _about(thing), _over(scene.image))


def _counted(rng: np.random.Generator) -> Case:
    while True:
        scene = _scene(rng, labels=0.0, apart=True)
        regions = _regions(scene)
        if regions:
            break
    number = list(regions)[rng.integers(len(regions))]
    region = regions[number][rng.integers(len(regions[number]))]
    calls = (Action("SEG", {"box": _wire(region, scene.image)}), Action("PROP", {"step": 0}))
    kind = {"asked": "how many a region holds", "things": str(number)}
    return Case("PROP", calls, {"count": number}, kind, _over(scene.image))


def _regions(scene: Scene) -> dict[int, list[PixelBox]]:
    """Boxes that hold two to four things whole and touch no other, by how many they hold."""
    height, width = scene.image.shape[:2]
    room = APART * math.sqrt(height * width)
    found: dict[int, list[PixelBox]] = {}
    for number in (2, 3, 4):
        for chosen in combinations(scene.things, number):
            edges = np.array([thing.box for thing in chosen], float)
            x0, y0 = np.maximum(edges[:, :2].min(axis=0) - room, 0).tolist()
            x1, y1 = np.minimum(edges[:, 2:].max(axis=0) + room, (width, height)).tolist()
            others = [thing.box for thing in scene.things if thing not in chosen]
            if all(b[2] <= x0 or b[0] >= x1 or b[3] <= y0 or b[1] >= y1 for b in others):
                found.setdefault(number, []).append((x0, y0, x1, y1))
    return found
