"""A trajectory as token ids with one loss weight a token.

What a policy reads between its turns is what replay got back, in the tools' own words, because that is
what it will read at test time; what a teacher claimed is not shown. So what a flawed trace says in the
belief of its own flaw is not learned either: it does not follow from what the policy reads.

Where a part stands is marked in the text and not looked for among the tokens, so the same code serves the
nano vocabulary, in which every mark of the grammar is one token, and one that spells them in letters.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelis_pipeline.agent import film, render
from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.grammar import write_answer, write_call
from pixelis_pipeline.records import Trajectory
from pixelis_pipeline.tools.contract import spoken
from pixelis_pipeline.verify.answers import right
from training.sft.aims import Aims, aims

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]

EDGE = "\ufdd0"  # at both ends of a part; Unicode keeps it for uses like this one and never for text
CALL, ENDS = "<call>", "</call>"


@dataclass(frozen=True, slots=True)
class Turn:
    """One step within an example: its action and where its tokens stand, `call` between the marks of the
    call, `heard` between those of the observation, ends exclusive; `last` is the token that closes the call.
    `aims` is empty unless the step is decisive and learned."""

    action: str
    call: slice
    last: int
    heard: slice
    aims: Aims


@dataclass(frozen=True, slots=True)
class Example:
    """`weights` float32, as long as `ids`: what the imitation of each token counts."""

    ids: tuple[int, ...]
    weights: Array
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """A trajectory as text. `said` and `heard` are [start, stop) of what the policy says and hears in it, in
    letters; what is said last is the answer."""

    text: str
    said: tuple[tuple[int, int], ...]
    heard: tuple[tuple[int, int], ...]


def written(trajectory: Trajectory, contract: render.Contract) -> Written:
    """The trajectory as the policy sees and says it. ValueError where a step has not been replayed."""
    turns = []
    for index, step in enumerate(trajectory.steps):
        if not step.replayed:
            raise ValueError(f"step {index} of trajectory {trajectory.id} has not been replayed")
        heard = spoken(step.action.name, step.replayed)
        said = _edged(write_call(step.thought, step.action))
        turns.append(render.Turn(said, _edged(heard), render.made(step.action.name, step.replayed)))
    question, media = render.asked(trajectory.question).replace(EDGE, ""), trajectory.question.media
    ending, size = _edged(write_answer(trajectory.answer)), (media[0].height, media[0].width)
    pieces = render.render(contract, question, turns, ending, size, film.of(media)).split(EDGE)
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    parts = list(pairwise(ends))[::2]  # every other piece is a part
    return Written("".join(pieces), tuple(parts[::2]), tuple(parts[1::2]))


def _edged(part: str) -> str:
    return EDGE + part.replace(EDGE, "") + EDGE


def text_of(trajectory: Trajectory, contract: render.Contract | None = None) -> str:
    """The trajectory in the words of a policy, by default the nano policy's."""
    return written(trajectory, contract or render.nano()).text


def learned(trajectory: Trajectory) -> tuple[Array, bool]:
    """Which steps (bool [steps]) are learned, and whether the answer is: no flawed step, no wrong answer,
    and of a trap that ends wrong nothing after its flaw."""
    flawed = np.array([step.flawed for step in trajectory.steps], dtype=bool)
    trap = trajectory.kind == "process-negative"
    ends_wrong = trap and not right(trajectory.question, trajectory.answer)
    misled = np.logical_or.accumulate(flawed) if ends_wrong and len(flawed) else flawed
    return ~misled, not ends_wrong and trajectory.kind != "outcome-negative"


def example(
    trajectory: Trajectory,
    action_weight: float,
    contract: render.Contract | None = None,
    tokenizer: "Tokenizer | None" = None,
) -> Example | None:
    """The trajectory, ready to be learned under a render contract and its tokenizer (nano's by default).

    A token weighs `action_weight` inside a learned call, 1 in its thought and in a learned answer, else
    nothing. None where nothing in it is learned: a batch of such would have no loss. ValueError where a step
    has not been replayed.
    """
    whole = written(trajectory, contract or render.nano())
    encoded = (tokenizer or words.shared()).encode(whole.text, add_special_tokens=False)
    starts, stops = np.array(encoded.offsets).reshape(-1, 2).T

    def within(start: int, stop: int) -> slice:
        """The tokens that lie wholly within these letters."""
        return slice(int(np.searchsorted(starts, start)), int(np.searchsorted(stops, stop, side="right")))

    steps, answer = learned(trajectory)
    weights = np.zeros(len(encoded.ids), np.float32)
    turns = []
    medium = trajectory.question.media[0]
    *calls, last = whole.said
    for step, (start, stop), heard, known in zip(trajectory.steps, calls, whole.heard, steps, strict=True):
        opens = whole.text.index(CALL, start)
        told = within(start, stop)
        if known:
            weights[told] = action_weight
            weights[told.start : int(np.searchsorted(starts, opens))] = 1.0
        shown = aims(step, medium) if step.decisive and step.valid and known else {}
        call = within(opens + len(CALL), stop - len(ENDS))
        turns.append(Turn(step.action.name, call, told.stop - 1, within(*heard), shown))
    if answer:
        weights[within(*last)] = 1.0
    return Example(tuple(encoded.ids), weights, tuple(turns)) if weights.any() else None
