"""What follows from what the calls of a trace returned: which mask is largest, which track went furthest,
which moment was first. The flawed traces use it to find the answer of one who believes a wrong output."""

from collections.abc import Callable, Sequence

import numpy as np

from pixelis_pipeline.records import Json
from pixelis_pipeline.synthesis.moves import MOVED, WAYS
from pixelis_pipeline.synthesis.questions import span_text
from pixelis_pipeline.tools.contract import WIRE

Outputs = Sequence[Json]


def letter(values: Sequence[float]) -> str:
    """The letter of the largest."""
    return chr(ord("A") + int(np.argmax(values)))


def _largest(outputs: Outputs) -> str:
    return letter([output.get("area", 0) for output in outputs]) if len(outputs) > 1 else ""


def _moment(outputs: Outputs) -> str:
    if len(outputs) == 1:
        return span_text(outputs[0]["start"], outputs[0]["end"])
    return letter([-output["start"] for output in outputs])


def _way(output: Json) -> tuple[float, float]:
    """How far the centre of a track came, in shares of the width and the height."""
    seen = [box for box in output["boxes"] if box]
    x, y = ((seen[-1][i] + seen[-1][i + 2] - seen[0][i] - seen[0][i + 2]) / 2 / WIRE for i in (0, 1))
    return x, y


def _moved(outputs: Outputs) -> str:
    """Which way the one moved, or which of several moved furthest."""
    ways = [_way(output) for output in outputs]
    if len(ways) > 1:
        return letter([x * x + y * y for x, y in ways])
    x, y = ways[0]
    index = 0 if abs(x) > abs(y) else 1
    return WAYS[2 * index + ((x, y)[index] > 0)] if max(abs(x), abs(y)) > MOVED else ""


def _moving(outputs: Outputs) -> str:
    """How many moved at all."""
    return str(sum(max(map(abs, _way(output))) > MOVED for output in outputs))


RULES: dict[str, tuple[Callable[[Outputs], str], ...]] = {
    "SEG": (_largest,),
    "TEMP": (_moment,),
    "TRK": (_moved, _moving),
}


def concluded(steps: Sequence[Json], answer: str, index: int, output: Json) -> str:
    """The answer, had step `index` returned `output`: by the rule that leads from the outputs of its action
    to `answer`; where none does, the answer rests on something else and stays. "" where the rule gives none.
    """
    action = steps[index]["action"]
    mine = [n for n, step in enumerate(steps) if step["action"] == action]
    before = [steps[n]["output"] for n in mine]
    after = [output if n == index else steps[n]["output"] for n in mine]
    for rule in RULES[action]:
        if rule(before) == answer:
            return rule(after)
    return answer
