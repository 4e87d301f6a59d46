"""The states that rollouts pass through, as the policy's backbone sees them (specification section 4).

State 0 is the question: the whole picture, and the question's last tokens. State t + 1 is what step t left
behind: v, the visual features where it looked, and x, the hidden states of its thought and of what it heard.
Between two states lies a call. So every call has a state before it and one after it, the first and the last
ones too, and a chain gains nothing by its mere length. A call made again is left out before anything is
looked at, and what the other steps are worth does not change by a bit.

Only numbers leave this module: no gradient can reach the backbone. Statistics over states are comparable
while the backbone stands still, so the policy to give here is the reference that the divergence is
measured from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np
import torch  # noqa: TID253
from torch.nn.functional import layer_norm  # noqa: TID253

from pixelis_pipeline.agent import film, nano, render
from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.batch import collate, cut, runs
from pixelis_pipeline.agent.decode import NEVER
from pixelis_pipeline.agent.grammar import plain, write_call
from pixelis_pipeline.agent.pixels import TOKENS, Image
from pixelis_pipeline.agent.reader import Reader
from pixelis_pipeline.records import Prediction, Question, Step, Trajectory
from pixelis_pipeline.settings import HeadSettings
from pixelis_pipeline.tools.contract import ARGUMENTS, WIRE, spoken
from training.rft.looks import boxes, calls, footprints, looks

Array = np.ndarray[Any, Any]
TOOLS = tuple(ARGUMENTS)


@dataclass(frozen=True, slots=True)
class States:
    """One rollout. Of all its steps `calls`, the canonical texts, `tools`, the names that they call ("" where
    a turn could not be read), and `valid` bool [steps]; `kept` int64 are
    those that make no call again. Of these `v` and `x` float32 [kept + 1, hidden], each row of mean 0 and
    deviation 1; `tool` int64 [kept] (place in TOOLS; beyond them: no action); `box` float32 [kept, 4] as
    shares of the image it names (0 where it names none), `place` float32 [kept, 4] the box of where it
    looked. `shown` float32 [TOKENS, hidden] are the picture's visual features, as they are."""

    family: str
    calls: tuple[str, ...]
    tools: tuple[str, ...]
    valid: Array
    kept: Array
    v: Array
    x: Array
    tool: Array
    box: Array
    place: Array
    shown: Array


@dataclass(frozen=True, slots=True)
class Span:
    """Where a state lies in its row of tokens: what was thought (or asked), and what was heard."""

    thought: slice
    heard: slice


def text_of(
    contract: render.Contract, question: Question, steps: Sequence[Step], crops: Sequence[Image | None] = ()
) -> str:
    """The rollout up to its answer, as the policy said and heard it; what replay got, where it was replayed.
    `crops` are what each step made and the policy was shown.

    In a turn that could not be read, marks that only the environment may write are written as plain text.
    """
    turns = []
    for step, crop in zip_longest(steps, crops):
        said = write_call(step.thought, step.action) if step.action.name else step.thought
        for mark in NEVER:
            said = said.replace(mark, plain(mark))
        heard = spoken(step.action.name, step.replayed or step.output)
        turns.append(render.Turn(said, heard, None if crop is None else crop.shape[:2]))
    size = (question.media[0].height, question.media[0].width)
    return render.render(contract, render.asked(question), turns, "", size, film.of(question.media))


def _crops(steps: Sequence[Step], made: Sequence[Image]) -> list[Image | None]:
    """For each step the crop of its own among those that a rollout was shown, in their order. A rollout that
    was stopped was not shown its last one."""
    left = iter(made)
    return [
        next(left, None) if render.made(step.action.name, step.replayed or step.output) else None
        for step in steps
    ]


def spans(ids: Sequence[int]) -> list[Span]:
    """The question's and each turn's tokens in a rendered row. A thought ends where its call begins; a turn
    without a call is all thought. ValueError where observations do not open and close in turn."""
    row = np.asarray(ids)
    opens, closes, call_marks = (
        np.flatnonzero(row == words.token(mark)) for mark in ("<obs>", "</obs>", "<call>")
    )
    told = _first(row, "</user>")
    asked = slice(_first(row[:told], "</vision>", last=True) + 1, told)
    begins = [asked.stop + 1, *(closes + 1).tolist()][: len(opens)]
    if len(opens) != len(closes) or (opens > closes).any() or (np.asarray(begins) > opens).any():
        raise ValueError(f"{len(opens)} observations begin in a row and {len(closes)} end, not turn about")
    found = [Span(asked, slice(0, 0))]
    for begin, opened, closed in zip(begins, opens.tolist(), closes.tolist(), strict=True):
        called = call_marks[(call_marks >= begin) & (call_marks < opened)]
        end = int(called[0]) if len(called) else opened
        begin += int(row[begin] == words.token("<think>"))
        end -= int(end > begin and row[end - 1] == words.token("</think>"))
        found.append(Span(slice(begin, end), slice(opened + 1, closed)))
    return found


def _first(row: Array, mark: str, last: bool = False) -> int:
    """Where a mark stands first, or last; ValueError where it does not."""
    found = np.flatnonzero(row == words.token(mark))
    if not len(found):
        raise ValueError(f"a row holds no {mark}")
    return int(found[-1 if last else 0])


def attention(ids: Sequence[int], confidence: Sequence[float], thought: int) -> Array:
    """float32 [states, tokens]: how much each token counts in x, a row's sum being 1 (0 where it has none).

    The last `thought` tokens of a thought count alike, a heard token by its tool's `confidence` [steps]; the
    tokens of a picture that is heard of are not words and count nothing.
    """
    found = spans(ids)
    marked = [words.token(mark) for mark in (words.IMAGE, "<vision>", "</vision>")]
    words_only = ~np.isin(np.asarray(ids), marked)
    weights = np.zeros((len(found), len(ids)), np.float32)
    for weight, span, sure in zip(weights, found, [0.0, *confidence], strict=True):
        weight[max(span.thought.start, span.thought.stop - thought) : span.thought.stop] = 1.0
        weight[span.heard] = min(max(sure, 0.0), 1.0) * words_only[span.heard]
    return weights / np.maximum(weights.sum(1, keepdims=True), np.finfo(np.float32).tiny)


def states(
    model: nano.Model,
    contract: render.Contract,
    traces: Sequence[Prediction | Trajectory],
    images: Sequence[Sequence[Image]],
    settings: HeadSettings,
) -> list[States]:
    """The states of many rollouts by one pass of the policy, each with the pictures (uint8 RGB) that it was
    shown under `contract`: those of its question, then its crops. Places are looked up in the first.

    The policy is left in the mode it was in. Raises ImageTokenMismatch where rows and pictures do not fit.
    """
    if not traces:
        return []
    places = [looks(trace.steps) for trace in traces]
    told = [calls(t.steps, at, settings.same) for t, at in zip(traces, places, strict=True)]
    kept = [[k for k, text in enumerate(each) if each.index(text) == k] for each in told]
    steps = [[trace.steps[k] for k in new] for trace, new in zip(traces, kept, strict=True)]
    rows, pictures = [], []
    for trace, new, seen in zip(traces, kept, images, strict=True):
        begun = len(contract.frames(film.of(trace.question.media))) or 1
        crops = _crops(trace.steps, seen[begun:])
        held = [crops[k] for k in new]
        text = text_of(contract, trace.question, [trace.steps[k] for k in new], held)
        rows.append(words.shared().encode(text).ids)
        pictures.append([*seen[:begun], *(crop for crop in held if crop is not None)])
    shown, hidden = _pass(model, rows, pictures)
    found = []
    for r, trace in enumerate(traces):
        at = footprints([None, *(places[r][k] for k in kept[r])], settings.tiny)
        weights = attention(rows[r], [step.confidence for step in steps[r]], settings.thought)
        found.append(
            States(
                family=trace.question.task,
                calls=tuple(told[r]),
                tools=tuple(step.action.name for step in trace.steps),
                valid=np.array([step.valid for step in trace.steps], dtype=bool),
                kept=np.array(kept[r], dtype=np.int64),
                v=standard(at @ shown[r]),
                x=standard(weights @ hidden[r, : len(rows[r])]),
                tool=np.array([_tool(step.action.name) for step in steps[r]], dtype=np.int64),
                box=np.array([_box(step) for step in steps[r]], dtype=np.float32).reshape(-1, 4),
                place=boxes([places[r][k] for k in kept[r]]),
                shown=shown[r],
            )
        )
    return found


def _pass(
    model: nano.Model, rows: Sequence[Sequence[int]], images: Sequence[Sequence[Image]]
) -> tuple[Array, Array]:
    """Visual features of each row's first picture [rows, TOKENS, hidden], and last hidden states [rows,
    length, hidden]. Neighbours that ask the same share one reading of it."""
    asked = [_first(np.asarray(row), "</user>") + 1 for row in rows]
    prompts = [tuple(row[:end]) for row, end in zip(rows, asked, strict=True)]
    begins = [k for k in range(len(rows)) if not k or not _alike(prompts, images, k)]
    copies = np.diff([*begins, len(rows)]).tolist()
    held = [len(runs(prompt, words.token(words.IMAGE))) for prompt in prompts]
    before = collate([prompts[k] for k in begins], [i for k in begins for i in images[k][: held[k]]], "left")
    crops = [image for shown, n in zip(images, held, strict=True) for image in shown[n:]]
    after = collate([row[end:] for row, end in zip(rows, asked, strict=True)], crops, "right")
    learning = model.training
    model.eval()
    try:
        with torch.inference_mode():
            first = cut([images[k][0] for k in begins])
            sight = model.model.get_image_features(*first, return_dict=True).pooler_output
            shown = torch.cat(list(sight)).unflatten(0, (-1, TOKENS)).float().numpy()
            reader = Reader(model, before, copies)
            places = (before.positions[0].amax(1) + 1).repeat_interleave(torch.tensor(copies))
            hidden = reader.read(replace(after, positions=after.positions + places[:, None])).float().numpy()
    finally:
        model.train(learning)
    whole = np.zeros((len(rows), max(map(len, rows)), hidden.shape[-1]), np.float32)
    question = np.repeat(reader.prompts.float().numpy(), copies, 0)
    for k, (row, end) in enumerate(zip(rows, asked, strict=True)):
        whole[k, :end] = question[k, -end:]
        whole[k, end : len(row)] = hidden[k, : len(row) - end]
    return np.repeat(shown, copies, 0), whole


def _alike(prompts: Sequence[tuple[int, ...]], images: Sequence[Sequence[Image]], row: int) -> bool:
    """Whether a row asks the same as the one before it, of the same pictures."""
    count = len(runs(prompts[row], words.token(words.IMAGE)))
    pairs = zip(images[row][:count], images[row - 1][:count], strict=True)
    return prompts[row] == prompts[row - 1] and all(a is b or np.array_equal(a, b) for a, b in pairs)


def standard(rows: Array) -> Array:
    """Every policy's features in one unit, so that one error means the same of each."""
    return layer_norm(torch.from_numpy(rows), rows.shape[1:], eps=1e-12).numpy()


def _tool(name: str) -> int:
    return TOOLS.index(name) if name in TOOLS else len(TOOLS)


def _box(step: Step) -> Sequence[float]:
    box = step.action.arguments.get("box") if isinstance(step.action.arguments, dict) else None
    if isinstance(box, list | tuple) and len(box) == 4 and all(type(s) is int for s in box):
        return [min(max(s, 0), WIRE) / WIRE for s in box]
    return [0.0] * 4
