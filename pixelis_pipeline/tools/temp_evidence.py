"""How much each sampled frame of a clip speaks for a TEMP query: from things where it names one, from motion
where it does not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelis_pipeline.tools import temp_camera, temp_things
from pixelis_pipeline.tools.temp_query import Query
from pixelis_pipeline.tools.temp_things import DIFFERS, Thing, fitted, linked, sightings

Array = np.ndarray[Any, Any]

MOMENT = 1.0  # seconds that coming and going last, at most
HIDDEN = 0.8  # of a thing's evidence, while something stands before it
SHRUNK = 0.4  # of its usual area: from here down a thing counts as less and less there
# The fit below which no thing was found to come or go; one that always stands there is sought then, counts
# less, and must fit better: without a ground to stand out from, any patch of the colour is a candidate.
POOR, LASTING, GOOD = 0.15, 0.6, 0.4
SPEED = 0.04  # of the frame's diagonal in a second: so fast, a thing certainly moves
STEADY = 0.5  # seconds over which a speed is measured
STIRRED = 0.005, 0.0008  # shares of the picture: full evidence of motion, and none at all
# The weight of an answer to a query of which words were not understood, with a named thing and without one.
HALF_SURE, UNSURE = 0.7, 0.3

PARAMETERS = (
    f"evidence={MOMENT}/{HIDDEN}/{SHRUNK}/{POOR}/{LASTING}/{GOOD}/{SPEED}/{STEADY}/{STIRRED}"
    f"/{HALF_SURE}/{UNSURE} "
    f"{temp_camera.PARAMETERS} {temp_things.PARAMETERS}"
)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Sampled frames (uint8 RGB, all of one size), the seconds at which each stands, and what lies behind
    them."""

    frames: list[Array]
    seconds: Array
    places: Array
    continues: Array
    base: Array


def view(frames: list[Array], seconds: Array) -> View:
    """The frames (uint8 RGB [height, width, 3]) with the camera's drift and the ground worked out."""
    places, continues = temp_camera.drift(frames)
    return View(frames, seconds, places, continues, temp_camera.ground(frames, places))


def evidence(query: Query, seen: View) -> Array:
    """float [n] in 0-1: how much each frame speaks for the query. All 0 where nothing matches."""
    sure = 1.0 if query.whole else HALF_SURE if query.named else UNSURE
    return sure * _matching(query, seen)


def _matching(query: Query, seen: View) -> Array:
    if query.of_motion:
        motion = _motion(seen)
        return 1.0 - motion if query.event == "rests" else motion
    things = _things(query, seen, stands_out=True)
    if query.named and max((thing.fit for thing in things), default=0.0) < POOR:
        things = [thing for thing in _things(query, seen, stands_out=False) if thing.fit >= GOOD]
        for thing in things:
            thing.fit *= LASTING
    return _told(query, seen, things)


def _things(query: Query, seen: View, *, stands_out: bool) -> list[Thing]:
    height, width = seen.frames[0].shape[:2]
    pieces = [
        sightings(
            frame,
            temp_camera.under(seen.base, place, frame) if stands_out else None,
            query.colour,
            at,
            place,
        )
        for at, (frame, place) in enumerate(zip(seen.frames, seen.places, strict=True))
    ]
    things = linked(pieces)
    fitted(things, query.shape, height * width)
    return things


def _told(query: Query, seen: View, things: Sequence[Thing]) -> Array:
    """The curve of what the query says that its things do."""
    presences = [_presence(thing, len(seen.frames)) for thing in things]
    there = np.max(presences, axis=0, initial=0.0) if presences else np.zeros(len(seen.frames))
    if query.event == "present":
        return np.asarray(there)
    if query.event == "absent":
        return np.asarray(np.maximum(there.max() - there, 0.0))
    curve = np.zeros(len(seen.frames))
    for thing, present in zip(things, presences, strict=True):
        np.maximum(curve, _done(query, seen, thing, present), out=curve)
    return curve


def _presence(thing: Thing, samples: int) -> Array:
    curve = np.zeros(samples)
    first, last = thing.seen[0].at, thing.seen[-1].at
    curve[first : last + 1] = HIDDEN * thing.fit
    usual = float(np.median([sighting.area for sighting in thing.seen]))
    for sighting in thing.seen:
        curve[sighting.at] = thing.fit * min(1.0, sighting.area / (SHRUNK * usual))
    return curve


def _done(query: Query, seen: View, thing: Thing, present: Array) -> Array:
    """The curve of one thing's coming, going, moving or resting."""
    first, last = thing.seen[0].at, thing.seen[-1].at
    if query.event == "enters":
        soon = seen.seconds < seen.seconds[first] + MOMENT
        soon[: first + 1] = False
        soon[first] = True
        return present * soon * (first > 0)
    if query.event == "leaves":
        late = seen.seconds > seen.seconds[last] - MOMENT
        late[last] = True
        return present * late * (last < len(present) - 1)
    moving = np.zeros(len(present))
    moving[first : last + 1] = _moving(query.way, seen, thing)
    return present * (moving if query.event == "moves" else 1.0 - moving)


def _moving(way: tuple[int, int], seen: View, thing: Thing) -> Array:
    """0-1 for each sample from a thing's first sighting to its last: how surely it moves over the ground,
    and that in direction `way` unless it is (0, 0)."""
    at = [sighting.at for sighting in thing.seen]
    samples = np.arange(at[0], at[-1] + 1)
    path = np.stack(
        [np.interp(samples, at, [float(s.grounded[axis]) for s in thing.seen]) for axis in (0, 1)], axis=1
    )
    if len(samples) < 2:
        return np.zeros(len(samples))
    seconds = seen.seconds[samples]
    around = max(1, round(0.5 * STEADY * (len(seconds) - 1) / max(seconds[-1] - seconds[0], 1e-9)))
    before = np.maximum(np.arange(len(samples)) - around, 0)
    after = np.minimum(np.arange(len(samples)) + around, len(samples) - 1)
    velocity = (path[after] - path[before]) / (seconds[after] - seconds[before])[:, None]
    speed = velocity @ np.array(way) if any(way) else np.hypot(velocity[:, 0], velocity[:, 1])
    diagonal = float(np.hypot(*seen.frames[0].shape[:2]))
    return np.asarray(np.clip(speed / (SPEED * diagonal), 0.0, 1.0))


def _motion(seen: View) -> Array:
    """The curve of how much of the picture stirs between each frame and the next, beside the most that
    ever does. A cut is no motion."""
    shares = np.zeros(len(seen.frames))
    for t in range(len(seen.frames) - 1):
        if seen.continues[t + 1]:
            step = seen.places[t + 1] - seen.places[t]
            shares[t] = temp_camera.stirred(seen.frames[t], seen.frames[t + 1], step, DIFFERS)
    if len(shares) > 1:
        shares[-1] = shares[-2]  # nothing is known of what follows the last frame
    full, none = STIRRED
    if len(shares) > 2:  # a flash, a key frame's flicker or a thing's sudden appearance is no motion
        shares[1:-1] = np.median([shares[:-2], shares[1:-1], shares[2:]], axis=0)
    return np.where(shares > none, np.minimum(shares / max(full, float(shares.max())), 1.0), 0.0)
