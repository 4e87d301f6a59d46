"""Short films for pre-training. Only the frames that a policy is shown are drawn."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelis_pipeline.agent.film import Film
from pixelis_pipeline.agent.pixels import FRAMES
from pixelis_pipeline.world.clip import Actor, film
from pixelis_pipeline.world.scene import Scene, Thing, tight_box
from pixelis_pipeline.world.shapes import COLOURS, SHAPES, outline, rasterise

Array = np.ndarray[Any, Any]
Rng = np.random.Generator

WAYS = {"left": (-1, 0), "right": (1, 0), "upwards": (0, -1), "downwards": (0, 1)}
RATES = (1, 2, 4, 5, 8, 10, 12, 15, 24, 25, 30)  # frames a second
WORLD = 0.4  # the share of films that are as long and as fast as the embedded world's
DRIFT = 48  # pixels that a moving camera may go
ROOM = 2  # pixels around an outline that its stamp may take


@dataclass(frozen=True, slots=True)
class Reel:
    """The shown frames as scenes, their numbers in the whole film, and of each thing its `names` entry, the
    way it moves ("" where it stands still) and in which shown frames it is seen, bool [FRAMES]. `steady` is
    a film whose camera stands still."""

    film: Film
    numbers: tuple[int, ...]
    scenes: tuple[Scene, ...]
    names: tuple[str, ...]
    ways: tuple[str, ...]
    seen: tuple[Array, ...]
    steady: bool

    def box(self, thing: int, shot: int) -> tuple[int, int, int, int]:
        """Where a thing stands in a shown frame, px. ValueError where it is not seen there."""
        name = self.names[thing]
        for each in self.scenes[shot].things:
            if f"{each.colour} {each.shape}" == name:
                return each.box
        raise ValueError(f"frame {self.numbers[shot]} shows no {name}")


def _length(rng: Rng) -> Film:
    if rng.random() < WORLD:
        return Film(24, float(rng.choice((2, 8))))
    rate = int(rng.choice(RATES))
    return Film(max(2 * FRAMES, round(rate * float(rng.uniform(2, 20)))), float(rate))


def _path(rng: Rng, middle: Array, way: str, times: Array, reach: float) -> Array:
    """float [FRAMES, 2]: an eased way through the middle, or a still place."""
    eased = -np.cos(np.pi * times)[:, None]
    return np.asarray(middle + eased * np.array(WAYS[way] if way else (0, 0)) * rng.uniform(0.7, 1.0) * reach)


def inside(path: Array, corners: Array, size: tuple[int, int]) -> Array:
    """The way of a thing whose outline has these corners around its centre, kept in a picture of (width,
    height): a large thing that moves towards the rim ends there, with the room that its stamp takes."""
    return np.asarray(np.clip(path, ROOM - corners.min(0), size - corners.max(0) - ROOM))


def _span(rng: Rng, times: Array) -> Array:
    """When a thing that comes and goes is seen: in one of the shown frames at least."""
    while True:
        start, length = rng.uniform(0, 0.8), rng.uniform(0.17, 0.6)
        seen = (times >= start) & (times < start + length)
        if seen.any():
            return np.asarray(seen)


def draw(rng: Rng) -> Reel:
    """A film of one to four things, each in a quarter of its own; in half of them, things come and go."""
    told = _length(rng)
    numbers = told.shown(FRAMES)
    times = np.array(numbers) / told.frames
    wide, high = (2 * int(rng.integers(*bounds)) for bounds in ((128, 177), (96, 145)))
    lanes = rng.permutation([(x, y) for x in (0.27, 0.73) for y in (0.28, 0.72)])
    kinds = rng.permutation(len(SHAPES) * len(COLOURS))
    passing, drift = bool(rng.random() < 0.5), int(rng.integers(DRIFT)) if rng.random() < 0.4 else 0
    actors, ways = [], []
    for n in range(int(rng.integers(1, 5))):
        shape, colour = SHAPES[kinds[n] // len(COLOURS)], COLOURS[kinds[n] % len(COLOURS)]
        way = "" if rng.random() < 0.3 else str(rng.choice(list(WAYS)))
        seen = _span(rng, times) if passing and n else np.ones(FRAMES, bool)
        path = _path(rng, lanes[n] * (wide, high), way, times, 0.11 * min(wide, high))
        area = min(wide, high) ** 2 * float(np.exp(rng.uniform(np.log(0.008), np.log(0.035))))
        angle = float(rng.uniform(0, 360))
        path = inside(path, outline(shape, (0, 0), area, angle), (wide, high))
        actors.append(Actor(shape, colour, area, angle, path, seen))
        ways.append(way)
    frames, tracks = film(rng, wide, high, actors, drift)
    scenes = []
    for shot, image in enumerate(frames):
        things = [_thing(actor, shot, image.shape[:2]) for actor in actors if actor.seen[shot]]
        scenes.append(Scene(image, tuple(things), "film"))
    names = tuple(track["label"] for track in tracks)
    seen_at = tuple(actor.seen for actor in actors)
    return Reel(told, tuple(numbers), tuple(scenes), names, tuple(ways), seen_at, drift == 0)


def _thing(actor: Actor, shot: int, size: tuple[int, ...]) -> Thing:
    """An actor in a shown frame, as `world.clip` paints it."""
    centre = (float(actor.path[shot, 0]), float(actor.path[shot, 1]))
    stamp = rasterise(outline(actor.shape, centre, actor.area, actor.angle))
    mask = np.zeros(size, bool)
    mask[stamp.window] = stamp.inside
    return Thing(
        shape=actor.shape,
        colour=actor.colour,
        size="",
        texture="plain",
        angle=0,
        box=tight_box(mask),
        mask=mask,
        area=int(np.count_nonzero(mask)),
        label="",
        label_box=None,
    )
