"""What the base policy is taught: to find things in pictures, crops and films, and to copy and compare what
it reads: what each of the six tools is asked for and answers.

An exchange is a question, perhaps with observations, and its answer, in the chat format of the render
contract. No exchange holds a call: the grammar of tools is left for fine-tuning to teach.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelis_pipeline.agent.tokenizer import WORDS
from pixelis_pipeline.tools.contract import to_wire
from pixelis_pipeline.world.lettering import draw_label
from pixelis_pipeline.world.scene import Scene, Thing, tight_box
from pixelis_pipeline.world.shapes import COLOURS, SHAPES
from pixelis_pipeline.world.starqa import PHRASES
from training.base.reels import RATES, WAYS, Reel
from training.base.scenes import enlarged

Rng = np.random.Generator
_BOX = re.compile(r"\{[^}]*\}")
TRIES = 8  # draws until a scene counts as asked out
CLEARLY = 1.25  # the least ratio of areas by which one thing is called the largest


@dataclass(frozen=True, slots=True)
class Exchange:
    """`seen` marks an answer whose numbers come from the picture: near misses are nearly right there."""

    question: str
    answer: str
    heard: tuple[str, ...] = ()
    seen: bool = False


def _pick(rng: Rng, *options: str) -> str:
    return options[rng.integers(len(options))]


def _boxed(box: tuple[int, int, int, int]) -> str:
    return f' {{"box":[{",".join(map(str, box))}]}}'


def _wire(scene: Scene, box: tuple[int, int, int, int]) -> str:
    return _boxed(to_wire(box, scene.image.shape[1], scene.image.shape[0]))


def _phrase(rng: Rng, scene: Scene, thing: Thing) -> str:
    """Words that name this thing and no other of the scene."""
    phrases = [f"{thing.colour} {thing.shape}"]
    if sum(other.colour == thing.colour for other in scene.things) == 1:
        phrases += [f"{thing.colour} thing", f"{thing.colour} one"]
    if sum(other.shape == thing.shape for other in scene.things) == 1:
        phrases.append(thing.shape)
    return _pick(rng, *phrases)


def _nameable(scene: Scene) -> list[Thing]:
    """The things that colour and shape tell apart from all others."""
    names = [(thing.colour, thing.shape) for thing in scene.things]
    return [thing for thing, name in zip(scene.things, names, strict=True) if names.count(name) == 1]


def find(rng: Rng, scene: Scene) -> Exchange | None:
    """The box of a named thing."""
    named = _nameable(scene)
    if not named:
        return None
    thing = named[rng.integers(len(named))]
    text = _pick(rng, "Where is the {}?", "Find the {}.", "Look at the {}.").format(
        _phrase(rng, scene, thing)
    )
    return Exchange(text, _wire(scene, thing.box), seen=True)


def find_label(rng: Rng, scene: Scene) -> Exchange | None:
    """The box of the label on a named thing."""
    labelled = [thing for thing in _nameable(scene) if thing.label_box is not None]
    if not labelled:
        return None
    thing = labelled[rng.integers(len(labelled))]
    assert thing.label_box is not None
    text = _pick(rng, "Where is the label on the {}?", "Find the label on the {}.", "The label of the {}.")
    return Exchange(text.format(_phrase(rng, scene, thing)), _wire(scene, thing.label_box), seen=True)


def find_extreme(rng: Rng, scene: Scene) -> Exchange | None:
    """The largest or the smallest thing: what it is and where."""
    order = sorted(scene.things, key=lambda thing: -thing.area)
    largest = bool(rng.random() < 0.7)
    order = order if largest else order[::-1]
    if len(order) > 1:
        one, two = order[0].area, order[1].area
        if max(one, two) < CLEARLY * min(one, two):
            return None
    word = "largest" if largest else "smallest"
    thing = order[0]
    if rng.random() < 0.5:
        return Exchange(f"Where is the {word} shape?", _wire(scene, thing.box), seen=True)
    text = _pick(rng, f"Which shape is the {word}?", f"Find the {word} shape.")
    return Exchange(text, f"{thing.colour} {thing.shape}{_wire(scene, thing.box)}", seen=True)


def find_all(rng: Rng, scene: Scene) -> Exchange:
    """The boxes of all things of a shape, from the top down."""
    thing = scene.things[rng.integers(len(scene.things))]
    boxes = sorted((o.box for o in scene.things if o.shape == thing.shape), key=lambda box: (box[1], box[0]))
    name = thing.shape + ("es" if thing.shape == "cross" else "s")
    text = _pick(rng, "Find all {}.", "Where are the {}?", "How many {} are there? Find them all.").format(
        name
    )
    return Exchange(text, "".join(_wire(scene, box) for box in boxes), seen=True)


def caption(rng: Rng, scene: Scene) -> Exchange:
    """Every thing with its box, the largest first."""
    order = sorted(scene.things, key=lambda thing: -thing.area)
    named = [f"{thing.colour} {thing.shape}{_wire(scene, thing.box)}" for thing in order]
    return Exchange("List the shapes.", " ".join(named), seen=True)


def _random_box(rng: Rng) -> tuple[int, int, int, int]:
    wide, high = (int(side) for side in np.exp(rng.uniform(np.log(12), np.log(500), 2)))
    x, y = int(rng.integers(999 - wide)), int(rng.integers(999 - high))
    return x, y, x + wide, y + high


def _place(box: tuple[int, int, int, int]) -> str:
    return f"[{' '.join(map(str, box))}]"


def repeat_box(rng: Rng) -> Exchange:
    """One of the boxes of a question, written as a reply writes it."""
    boxes = [_random_box(rng) for _ in range(rng.integers(1, 3))]
    chosen = int(rng.integers(len(boxes)))
    names = "AB"[: len(boxes)]
    if len(boxes) == 1:
        word = _pick(rng, *COLOURS, *SHAPES, "thing", "word", "part", "label")
        text = _pick(
            rng, "Repeat the box of the {} at {}.", "Where is the {} at {}?", "The {} at {}: repeat."
        )
        return Exchange(text.format(word, _place(boxes[0])), _boxed(boxes[0]))
    both = _pick(rng, "A at {} or B at {}", "A at {}, B at {}", "Which is larger, A at {} or B at {}")
    text = f"{both.format(*map(_place, boxes))}? Repeat {names[chosen]}."
    return Exchange(text, _boxed(boxes[chosen]))


def repeat_all(rng: Rng) -> Exchange:
    """A run of numbers, words and letters, said again: what copying is learned from first."""
    draws = rng.random(int(rng.integers(4, 17)))
    items = [
        str(rng.integers(1000)) if draw < 0.6 else _some_word(rng) if draw < 0.75 else _pick(rng, *WORDS)
        for draw in draws
    ]
    text = _pick(rng, " ", ",").join(items)
    return Exchange(f"Repeat: {text}", text)


def _area(rng: Rng) -> int:
    return int(np.exp(rng.uniform(np.log(3), np.log(400))))


def _seg_words(rng: Rng, area: int) -> str:
    return "box {} {} {} {} area {}".format(*_random_box(rng), area)


def compare(rng: Rng) -> Exchange:
    """Which of two observed areas is larger."""
    small = _area(rng)
    large = min(int(np.ceil(small * rng.uniform(1.35, 6.0))) + 1, 999)
    answer = "AB"[rng.integers(2)]
    first, second = (large, small) if answer == "A" else (small, large)
    boxes = [_place(_random_box(rng)) for _ in range(2)]
    text = _pick(rng, "Which is larger, A or B?", "Which is larger, A at {} or B at {}?".format(*boxes))
    if rng.random() < 0.3:
        return Exchange(text, answer, (f"area {first}", f"area {second}"))
    return Exchange(text, answer, (_seg_words(rng, first), _seg_words(rng, second)))


def copy_field(rng: Rng) -> Exchange:
    """One field of an observation of properties."""
    fields = {
        "colour": _pick(rng, *COLOURS),
        "shape": _pick(rng, *SHAPES, "other"),
        "size": _pick(rng, "small", "medium", "large"),
        "count": str(rng.integers(1, 12)),
    }
    name = _pick(rng, *fields)
    text = {
        "colour": _pick(
            rng, "What colour is it?", f"What colour is the thing at {_place(_random_box(rng))}?"
        ),
        "shape": _pick(rng, "What shape is it?", f"What shape is the thing at {_place(_random_box(rng))}?"),
        "size": "What size is it?",
        "count": _pick(rng, "How many are there?", f"How many {_pick(rng, *SHAPES)}s are there?"),
    }[name]
    heard = " ".join(f"{key} {value}" for key, value in fields.items())
    return Exchange(text, fields[name], (heard,))


def _some_word(rng: Rng) -> str:
    """A label, a known word, or letters in a pronounceable or in no order; in small, capital or both."""
    draw = rng.random()
    if draw < 0.3:
        return draw_label(rng)
    if draw < 0.4:
        word = WORDS[rng.integers(len(WORDS))]
    elif draw < 0.8:
        pairs = [_pick(rng, *"bcdfghjklmnprstvw") + _pick(rng, *"aeiou") for _ in range(rng.integers(1, 5))]
        word = "".join(pair + (_pick(rng, *"nrstlm") if rng.random() < 0.3 else "") for pair in pairs)
    else:
        word = "".join(_pick(rng, *"abcdefghijklmnopqrstuvwxyz") for _ in range(rng.integers(2, 9)))
    case = rng.random()
    return word.upper() if case < 0.1 else word.capitalize() if case < 0.25 else word


def copy_word(rng: Rng) -> Exchange:
    """The text of an observation, letter by letter."""
    word = _some_word(rng)
    place = _place(_random_box(rng))
    text = _pick(rng, "What does it say?", f"Which word is printed at {place}?", "What does the label say?")
    heard = (f"image {rng.integers(1, 4)}", word) if rng.random() < 0.5 else (word,)
    return Exchange(text, word, heard)


def _moved(rng: Rng, way: str) -> str:
    """What TRK says of a thing that went a way, or stood still."""
    dx, dy = (int(sign * rng.integers(20, 400)) for sign in WAYS[way]) if way else (0, 0)
    shake = [int(v) for v in rng.integers(-3, 4, 2)]
    dx, dy = (along or aside for along, aside in zip((dx, dy), shake, strict=True))
    return "frame {} box {} {} {} {} moved {} {}".format(rng.integers(1, 600), *_random_box(rng), dx, dy)


def _until(rng: Rng) -> str:
    return f"{rng.integers(1, 40) / float(_pick(rng, *map(str, RATES))):.4g}"


def read_way(rng: Rng) -> Exchange:
    """Which way a thing went, off a track's words."""
    way = _pick(rng, *WAYS)
    text = f"Which way does the thing at {_place(_random_box(rng))} move in the first {_until(rng)} s?"
    return Exchange(f"{text}\nChoices: {' | '.join(WAYS)}", way, (_moved(rng, way),))


def read_moving(rng: Rng) -> Exchange:
    """Which of two things moves further, or how many of three move, off their tracks' words."""
    if rng.random() < 0.5:
        ways = [_pick(rng, "", *WAYS) for _ in range(3)]
        places = [_place(_random_box(rng)) for _ in ways]
        text = "How many of the things at {}, {} and {} move in the first {} s?".format(*places, _until(rng))
        return Exchange(text, str(sum(map(bool, ways))), tuple(_moved(rng, way) for way in ways))
    ways = ["", _pick(rng, *WAYS)]
    answer = "AB"[rng.integers(2)]
    heard = [_moved(rng, way) for way in (ways if answer == "B" else ways[::-1])]
    places = [_place(_random_box(rng)) for _ in heard]
    text = "Which moves further in the first {} s, A at {} or B at {}?".format(_until(rng), *places)
    return Exchange(f"{text}\nChoices: A | B", answer, tuple(heard))


def _named(rng: Rng) -> str:
    return f"{_pick(rng, *COLOURS)} {_pick(rng, *SHAPES)}"


def _spanned(start: float, length: float) -> str:
    return f"{start:.1f}-{start + length:.1f}"


def read_when(rng: Rng) -> Exchange:
    """The span of time that an event takes, or which of two is first, off what TEMP says."""
    starts = rng.permutation(60)[:2] / 2
    spans = [_spanned(float(start), float(rng.integers(1, 20)) / 2) for start in starts]
    if rng.random() < 0.5:
        return Exchange(f"When in the video: When does the {_named(rng)} appear?", spans[0], (spans[0],))
    text = f"Which is first, A: {_named(rng)} appears or B: {_named(rng)} appears?\nChoices: A | B"
    return Exchange(text, "AB"[int(starts[1] < starts[0])], tuple(spans))


def enlarge(rng: Rng, scene: Scene) -> tuple[Exchange, Scene]:
    """What stands in a box of the picture, looked at in the crop that ZOOM makes of it; and the crop."""
    thing = scene.things[rng.integers(len(scene.things))]
    height, width = scene.image.shape[:2]
    x0, y0, x1, y1 = thing.box
    left, right = (rng.uniform(0.05, 0.8) * (x1 - x0) + 4 for _ in range(2))
    above, below = (rng.uniform(0.05, 0.8) * (y1 - y0) + 4 for _ in range(2))
    box = (
        max(0, int(x0 - left)),
        max(0, int(y0 - above)),
        min(width, int(x1 + right)),
        min(height, int(y1 + below)),
    )
    crop = enlarged(scene, box)
    whole = tight_box(thing.mask[box[1] : box[3], box[0] : box[2]])
    text = _pick(rng, "What is at {}?", "What stands at {}? Look closer.").format(
        _place(to_wire(box, width, height))
    )
    answer = f"{thing.colour} {thing.shape}{_wire(crop, whole)}"
    return Exchange(text, answer, (f"image {rng.integers(1, 4)}",), seen=True), crop


def place(rng: Rng, reel: Reel) -> Exchange:
    """Where a thing is in one of the frames."""
    thing = int(rng.integers(len(reel.names)))
    shot = int(_pick(rng, *map(str, np.flatnonzero(reel.seen[thing]))))
    number = reel.numbers[shot]
    when = _pick(rng, f"in frame {number}", f"at {number / reel.film.fps:.4g} s")
    text = _pick(rng, "Where is the {} {}?", "Find the {} {}.").format(reel.names[thing], when)
    return Exchange(text, _wire(reel.scenes[shot], reel.box(thing, shot)), seen=True)


def which_frames(rng: Rng, reel: Reel) -> Exchange:
    """The shown frames that hold a thing."""
    thing = int(rng.integers(len(reel.names)))
    held = [str(number) for number, seen in zip(reel.numbers, reel.seen[thing], strict=True) if seen]
    return Exchange(f"Which frames show the {reel.names[thing]}?", " ".join(held))


def which_way(rng: Rng, reel: Reel) -> Exchange | None:
    """Which way a thing moves, or which thing moves a way; under a camera that stands still."""
    moving = [k for k, seen in enumerate(reel.seen) if reel.steady and seen.all() and reel.ways[k]]
    if not moving:
        return None
    thing = moving[rng.integers(len(moving))]
    way, name = reel.ways[thing], reel.names[thing]
    if reel.ways.count(way) == 1 and rng.random() < 0.5:
        phrase = PHRASES.get(way) or way
        shown = [f"The {each}." for each in reel.names]
        return Exchange(f"Which shape moved {phrase}?\nChoices: {' | '.join(shown)}", f"The {name}.")
    which = f"thing at {_place(to_wire(reel.box(thing, 0), *reel.scenes[0].image.shape[1::-1]))}"
    text = f"Which way does the {_pick(rng, name, which)} move?\nChoices: {' | '.join(WAYS)}"
    return Exchange(text, way)


def clock(rng: Rng, reel: Reel) -> Exchange:
    """What the words about a film say: its length, its last frame, which frame is when."""
    number = reel.numbers[rng.integers(len(reel.numbers))]
    time = f"{number / reel.film.fps:.4g}"
    asked = (
        (f"Which frame is at {time} s?", str(number)),
        (f"When is frame {number}?", f"{time} s"),
        ("How long is the video?", f"{round(reel.film.frames / reel.film.fps, 2)} s"),
        ("Which is the last frame?", str(reel.film.frames - 1)),
    )
    return Exchange(*asked[rng.integers(len(asked))])


SIGHT: tuple[tuple[Callable[[Rng, Scene], Exchange | None], float], ...] = (
    (find, 0.42),
    (find_label, 0.2),
    (find_extreme, 0.14),
    (find_all, 0.12),
    (caption, 0.12),
)
FILM: tuple[tuple[Callable[[Rng, Reel], Exchange | None], float], ...] = (
    (place, 0.4),
    (which_frames, 0.2),
    (which_way, 0.2),
    (clock, 0.2),
)
TEXT: tuple[tuple[Callable[[Rng], Exchange], float], ...] = (
    (repeat_all, 0.15),
    (repeat_box, 0.2),
    (compare, 0.15),
    (copy_field, 0.1),
    (copy_word, 0.18),
    (read_way, 0.07),
    (read_moving, 0.09),
    (read_when, 0.06),
)


def _different(rng: Rng, skills: Sequence[tuple[Any, float]], seen: Any, count: int) -> list[Exchange]:
    """`count` exchanges about what is seen, no box in two of them: one that an earlier answer holds would be
    copied from there instead of being found in the picture. Where there is no more to ask, words."""
    shares = [share for _, share in skills]
    exchanges: list[Exchange] = []
    told: set[str] = set()
    for _ in range(count):
        for k in rng.choice(len(skills), TRIES, p=shares).tolist():
            exchange = skills[k][0](rng, seen)
            if exchange is not None and told.isdisjoint(_said(exchange)):
                break
        else:
            exchange = reading(rng, 1)[0]
        told.update(_said(exchange))
        exchanges.append(exchange)
    return exchanges


def _said(exchange: Exchange) -> list[str]:
    """What would give another answer away: its boxes, or all of it."""
    return _BOX.findall(exchange.answer) or [exchange.question]


def about(rng: Rng, scene: Scene, count: int) -> list[Exchange]:
    """`count` exchanges about a scene."""
    return _different(rng, SIGHT, scene, count)


def watching(rng: Rng, reel: Reel, count: int) -> list[Exchange]:
    """`count` exchanges about a film."""
    return _different(rng, FILM, reel, count)


def reading(rng: Rng, count: int) -> list[Exchange]:
    """`count` exchanges about words alone."""
    reads = rng.choice(len(TEXT), count, p=[share for _, share in TEXT]).tolist()
    return [TEXT[k][0](rng) for k in reads]
