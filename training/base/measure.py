"""How well a base policy does on held-out lessons: scenes and texts from a seed that training never draws."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pixelis_pipeline.agent import nano
from pixelis_pipeline.agent.decode import generate
from pixelis_pipeline.agent.grammar import Answer, plain, read
from pixelis_pipeline.records import Json
from training.base import reels
from training.base.data import Row, prompt
from training.base.scenes import draw
from training.base.skills import FILM, SIGHT, TEXT, Exchange, enlarge

HELD_OUT = 999_983  # first part of the seed; training's is the run's own
NEAR = 40  # wire units: 4 % of the picture's side


def _numbers(text: str) -> list[int]:
    spaced = "".join(c if c.isdigit() else " " for c in text)
    return [int(part) for part in spaced.split()]


def _iou(one: list[int], other: list[int]) -> float:
    wide = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    high = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = sum(max(0, b[2] - b[0]) * max(0, b[3] - b[1]) for b in (one, other))
    return wide * high / max(areas - wide * high, 1)


def _marks(exchange: Exchange, said: str) -> dict[str, float]:
    """What one generated turn is worth: `exact`, and for boxes read off the picture `iou` and `near`."""
    answer = read(said)
    text = answer.text if isinstance(answer, Answer) else ""
    marks = {"exact": float(text == plain(exchange.answer).strip())}
    if exchange.seen:
        told, true = _numbers(text)[:4], _numbers(exchange.answer)[:4]
        whole = len(told) == 4
        marks["iou"] = _iou(told, true) if whole else 0.0
        away = np.abs(np.subtract(told, true)).max() if whole else 999
        marks["near"] = float(away <= NEAR)
    return marks


def _rows(skill: Callable[..., Any], count: int) -> list[Row]:
    """A skill's held-out questions, a conversation each; fewer where it has none to ask."""
    rows: list[Row] = []
    for index in range(count):
        rng = np.random.default_rng([HELD_OUT, index])
        if skill in _of(FILM):
            seen = reels.draw(rng)
            exchange = skill(rng, seen)
            rows += [Row([exchange], seen.scenes, seen.film)] if exchange else []
            continue
        scene = draw(rng, 1.0)
        if skill is enlarge:
            exchange, crop = enlarge(rng, scene)
            rows.append(Row([exchange], (scene,), crop=crop))
        else:
            exchange = skill(rng, scene) if skill in _of(SIGHT) else skill(rng)
            rows += [Row([exchange], (scene,))] if exchange else []
    return rows


def _of(skills: Sequence[tuple[Callable[..., Any], float]]) -> list[Callable[..., Any]]:
    return [function for function, _ in skills]


def skills(model: nano.Model, scenes: int, tokens: int = 96) -> Json:
    """Mean marks of each skill over `scenes` held-out pictures or films (generated greedily, one exchange
    each): share exactly right; for what is read off a picture also the mean IoU of the first box and the
    share of first boxes with every edge within 4 % of the picture's side. `find` is grounding in a picture,
    `place` in a film, `enlarge` in a crop."""
    marked: Json = {}
    for skill in [*_of(SIGHT), enlarge, *_of(FILM), *_of(TEXT)]:
        rows = _rows(skill, scenes)
        images = [scene.image for row in rows for scene in row.shown]
        said = generate(model, [prompt(row) for row in rows], images, tokens=tokens, temperature=0.0, seed=0)
        found = [_marks(row.exchanges[0], text) for row, text in zip(rows, said, strict=True)]
        marked[skill.__name__] = {"n": len(found)} | {
            name: round(float(np.mean([each[name] for each in found])), 4) for name in found[0]
        }
    return marked
