"""One training step's worth of lessons, drawn from (seed, step) alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch  # noqa: TID253

from pixelis_pipeline.agent import render
from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.batch import Batch, collate, cut
from pixelis_pipeline.agent.film import Film
from pixelis_pipeline.agent.grammar import plain, write_answer
from pixelis_pipeline.world.scene import Scene
from training.base import reels, skills
from training.base.scenes import Cells, cells, draw
from training.base.skills import Exchange, reading

LOOKS, WATCHES, READS = 6, 4, 6  # exchanges about one picture, about one film, and in one row of text
DENSE = 0.3  # the first share of a run, in which a step is PICTURES times as many pictures and no words
PICTURES = 3


@dataclass(frozen=True, slots=True)
class Row:
    """Exchanges of one conversation and what it shows, in the order of the tokens: a picture, or the frames
    of a `film`, and with `crop` one more picture, which the first exchange hears of. Text shows nothing."""

    exchanges: Sequence[Exchange]
    scenes: tuple[Scene, ...] = ()
    film: Film | None = None
    crop: Scene | None = None

    @property
    def shown(self) -> tuple[Scene, ...]:
        """All that is shown."""
        return self.scenes if self.crop is None else (*self.scenes, self.crop)


@dataclass(frozen=True, slots=True)
class Lessons:
    """A batch with, for each next token, whether it is learned (`learned` bool [batch, length - 1]) and
    whether it is a number read off the picture (`seen`, likewise); `cells` of all pictures, none in text."""

    batch: Batch
    learned: torch.Tensor
    seen: torch.Tensor
    cells: tuple[Cells, ...]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures that nothing is said about: `pixels` and `grid` as in a batch, and their cells."""

    pixels: torch.Tensor
    grid: torch.Tensor
    cells: tuple[Cells, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """All that one update learns from."""

    parts: tuple[Lessons, ...] = ()
    pictures: Pictures | None = None


def prompt(row: Row) -> str:
    """The conversation up to the first answer. What is shown stands there as the render contract says; a row
    of text has no system turn."""
    first = row.exchanges[0]
    heard = [f"<obs>{plain(text)}</obs>" for text in first.heard]
    if row.crop is not None:
        told = render.reply(render.nano(), first.heard[0], row.crop.image.shape[:2])
        heard[0] = "".join(span.text for span in told)
    opening = f"<user>{plain(first.question)}</user>"
    if row.scenes:
        opening = render.render(render.nano(), first.question, (), film=row.film)
    return opening + "".join(heard)


def write(row: Row) -> str:
    """The whole conversation."""
    rest = [
        f"<user>{plain(e.question)}</user>"
        + "".join(f"<obs>{plain(text)}</obs>" for text in e.heard)
        + write_answer(e.answer)
        for e in row.exchanges[1:]
    ]
    return prompt(row) + write_answer(row.exchanges[0].answer) + "".join(rest)


def marks(row: list[int], exchanges: Sequence[Exchange]) -> tuple[np.ndarray, np.ndarray]:
    """For each token of the row: is it part of an answer, and is it a number of a `seen` answer."""
    ids = np.asarray(row)
    opens, closes = (ids == words.token(mark) for mark in ("<answer>", "</answer>"))
    inside = (opens.cumsum() - closes.cumsum() + closes) > 0
    which = np.maximum(opens.cumsum() - 1, 0)
    zero = words.token("0")
    number = (ids >= zero) & (ids < zero + len(words.NUMBERS))
    return inside, inside & number & np.asarray([e.seen for e in exchanges])[which]


def still(rng: np.random.Generator, progress: float) -> Row:
    """A picture with questions, one of them about words."""
    scene = draw(rng, progress)
    exchanges = skills.about(rng, scene, LOOKS)
    exchanges[rng.integers(LOOKS)] = reading(rng, 1)[0]
    return Row(exchanges, (scene,))


def crop(rng: np.random.Generator, progress: float) -> Row:
    """A picture and a crop of it."""
    scene = draw(rng, progress)
    first, found = skills.enlarge(rng, scene)
    return Row([first, *skills.about(rng, scene, LOOKS - 2)], (scene,), crop=found)


def reel(rng: np.random.Generator) -> Row:
    """A film with questions."""
    drawn = reels.draw(rng)
    return Row(skills.watching(rng, drawn, WATCHES), drawn.scenes, drawn.film)


def _lessons(rows: Sequence[Row]) -> Lessons:
    tokenizer = words.shared()
    ids = [tokenizer.encode(write(row)).ids for row in rows]
    shown = [scene for row in rows for scene in row.shown]
    batch = collate(ids, [scene.image for scene in shown], "right")
    learned, seen = torch.zeros((2, *batch.ids.shape), dtype=torch.bool)
    for index, (tokens, row) in enumerate(zip(ids, rows, strict=True)):
        inside, numbers = marks(tokens, row.exchanges)
        learned[index, : len(tokens)] = torch.from_numpy(inside)
        seen[index, : len(tokens)] = torch.from_numpy(numbers)
    return Lessons(batch, learned[:, 1:], seen[:, 1:], tuple(cells(scene) for scene in shown))


def _pictures(rng: np.random.Generator, count: int, progress: float) -> Pictures:
    shown = [draw(rng, progress) for _ in range(count)]
    return Pictures(*cut([scene.image for scene in shown]), tuple(cells(scene) for scene in shown))


def lessons(seed: int, step: int, rows: int, progress: float) -> Step:
    """The same arguments, the same tensors: PICTURES * `rows` pictures alone in the first DENSE of the run;
    then of `rows` conversations half about pictures, an eighth about crops and films each, the rest text."""
    rng = np.random.default_rng([seed, step])
    if progress < DENSE:
        return Step(pictures=_pictures(rng, PICTURES * rows, progress))
    some = max(1, rows // 8)
    parts = (
        [still(rng, progress) for _ in range(max(1, rows // 2))],
        [crop(rng, progress) for _ in range(some)],
        [reel(rng) for _ in range(some)],
        [Row(reading(rng, READS)) for _ in range(max(1, rows // 4))],
    )
    return Step(tuple(_lessons(part) for part in parts))
