"""What a TEMP query says that can be known without a language model: colour, shape, event, direction."""

import re
from dataclasses import dataclass
from typing import Literal

from pixelis_pipeline.media.colour import COLOURS

Event = Literal["present", "absent", "enters", "leaves", "moves", "rests", "unknown"]

_COLOURS = {name: name for name in (*COLOURS, "grey", "white", "black")} | {
    "violet": "purple",
    "magenta": "pink",
    "turquoise": "cyan",
    "gray": "grey",
}
_SHAPES = {
    "circle": r"\b(circles?|circular|dis[ck]s?|balls?)\b",
    "square": r"\bsquares?\b",
    "triangle": r"\b(triangles?|triangular)\b",
    "star": r"\bstars?\b",
    "cross": rf"\b(the|an?|some|{'|'.join(_COLOURS)}) cross(es)?\b",  # and not "they cross the road"
    "hexagon": r"\b(hexagons?|hexagonal)\b",
}
# The first pattern that is found decides. "appear" asks when a thing is there, as the labelled moments of
# the annotated sources do, and not for the instant at which it comes.
_EVENTS: dict[Event, str] = {
    "absent": r"\b(absent|missing|hidden|gone|out of (view|sight)|invisible"
    r"|(not|no longer|never) (be |being )?(there|visible|seen|shown|present|in))\b",
    "leaves": r"\b(leav(e|es|ing)|disappear\w*|vanish\w*|exit(s|ed|ing)?|go(es)? (out|away|off)|departs?)\b",
    "enters": r"\b(enter(s|ed|ing)?|arriv(e|es|ing)|emerg\w+|comes? (in|into)|shows? up"
    r"|first (appears?|seen))\b",
    "rests": r"\b(still|stand(s|ing)?(?! up)|rest(s|ing)?|stop(s|ped)?|stationary|motionless|not mov\w+)\b",
    "moves": r"\b(mov(e|es|ed|ing)|movement|motion|slid(e|es|ing)|drift(s|ing)?|roll(s|ing)?|fl(y|ies|ying)"
    r"|fall(s|ing)?|ris(e|es|ing)|travel(s|ling)?|pass(es|ing)?|go(es|ing)?)\b",
    "present": r"\b(appear(s|ed|ing)?|visible|seen|see|shown|present|there"
    r"|in (the )?(view|picture|frame|sight)|on screen)\b",
}
_WAYS: dict[tuple[int, int], str] = {
    (-1, 0): r"\bleft(wards?)?\b",
    (1, 0): r"\bright(wards?)?\b",
    (0, -1): r"\b(up(wards?)?|ris(e|es|ing))\b",
    (0, 1): r"\b(down(wards?)?|fall(s|ing)?)\b",
}
# Words that change nothing about what is asked for.
_EMPTY = frozenset(
    """
    when at what in on into from out of off away over across through during time moment do does did is are was
    be being been it the a an and any some to by while window something anything thing object shape picture
    image video frame clip film scene view sight camera screen happen start begin first again not no longer
    small large big little bright dark light vivid one i you we can could find which where that this
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Query:
    """Colour and shape of the thing that is asked for ("" for any), what it does, and in which direction
    (x to the right, y downwards; (0, 0) for any). `whole` is set where no word was left over."""

    colour: str = ""
    shape: str = ""
    event: Event = "unknown"
    way: tuple[int, int] = (0, 0)
    whole: bool = False

    @property
    def named(self) -> bool:
        """Whether colour or shape says which thing is meant."""
        return bool(self.colour or self.shape)

    @property
    def of_motion(self) -> bool:
        """Whether nothing but motion can answer."""
        if self.named:
            return False
        return self.event in ("unknown", "rests") or (self.event == "moves" and self.way == (0, 0))


def understood(text: str) -> Query:
    """A query's first colour, its shape, event and direction.

    A named thing of which no known event is told ("the red circle") is asked for while it is there.
    """
    words = re.sub(r"n['\u2019]t\b", " not", text.lower().replace("_", " "))
    of_colour = rf"\b({'|'.join(_COLOURS)})\b"
    colour = re.search(of_colour, words)
    shapes = [(found.start(), name) for name, p in _SHAPES.items() if (found := re.search(p, words))]
    event: Event = next((name for name, p in _EVENTS.items() if re.search(p, words)), "unknown")
    way = next((way for way, p in _WAYS.items() if re.search(p, words)), (0, 0))
    if event == "unknown" and (colour or shapes):
        event = "present"
    left = words
    for pattern in (*_SHAPES.values(), of_colour, *_EVENTS.values(), *_WAYS.values()):
        left = re.sub(pattern, " ", left)
    return Query(
        _COLOURS[colour[0]] if colour else "",
        min(shapes)[1] if shapes else "",
        event,
        way if event == "moves" else (0, 0),
        not set(re.findall(r"\w+", left)) - _EMPTY,
    )
