"""What a study has kept of itself in docs/results/learning: a study on another machine goes on from it.

An entry counts only where its key is the one that the same work has here, that is, with the same inputs, code
and settings (`assets.child`). Weights are not kept. A policy that more is to come from is trained again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.learning import evidence
from pixelis_pipeline.records import Json, Prediction


@dataclass(frozen=True)
class Kept:
    """By key: what was said of each training, with the numbers of its steps as `lines`, and the predictions
    of each set of answers."""

    trainings: Mapping[str, Json] = field(default_factory=dict)
    answers: Mapping[str, Sequence[Prediction]] = field(default_factory=dict)


def read(folder: Path, root: Path) -> Kept:
    """What `folder` holds; nothing where there is none. EvidenceError where it is not whole. What an older
    edition kept has no keys and does not count."""
    if not folder.exists():
        return Kept()
    held = evidence.read(folder, root)
    steps: dict[tuple[str, int], list[Json]] = {}
    for row in held.steps.to_pylist():
        steps.setdefault((row.pop("method"), row.pop("seed")), []).append(row)
    trainings = {
        each["key"]: each | {"lines": steps.get((each["method"], each["seed"]), [])}
        for each in held.about["trainings"]
        if "key" in each
    }
    asked: dict[tuple[str, bool, int], list[Prediction]] = {}
    for each in held.predictions:
        asked.setdefault((each.policy, each.tools, each.seed), []).append(each)
    told = held.about.get("answers", ())
    return Kept(trainings, {each["key"]: asked[each["arm"], each["tools"], each["seed"]] for each in told})
