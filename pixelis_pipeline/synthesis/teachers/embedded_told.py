"""A right trace that the embedded teacher can make a flawed one of, and one way to."""

from dataclasses import dataclass

from pixelis_pipeline.records import Json
from pixelis_pipeline.synthesis.teachers.embedded_surroundings import overlap


@dataclass(frozen=True, slots=True)
class Told:
    """A right trace, and what is known of the picture that it is about."""

    steps: list[Json]
    answer: str
    choices: tuple[str, ...]
    entry: Json

    @property
    def seconds(self) -> float:
        return float(self.entry["frames"] / self.entry["fps"]) if self.entry.get("fps") else 0.0

    @property
    def moments(self) -> list[tuple[float, float]]:
        return [(float(w["start"]), float(w["end"])) for w in self.entry.get("windows", [])]


@dataclass(frozen=True, slots=True)
class Lie:
    """What step `step` claims in place of the truth, with the steps and the answer that then follow; with
    `ends` it is the last step."""

    step: int
    output: Json
    answer: str
    type: str
    what: str
    later: tuple[tuple[int, Json], ...] = ()
    thought: str = ""
    ends: bool = False


def free(told: Told, index: int) -> bool:
    """Whether no later call was made in view of what this one returned."""
    step = told.steps[index]
    boxes = [box for box in (step["output"].get("box"), *step["output"].get("boxes", [])) if box]
    for later in told.steps[index + 1 :]:
        asked = later["arguments"]
        if asked.get("step") == index:
            return False
        if step["action"] == "TEMP" and {"frame", "start"} & asked.keys():
            return False
        if "box" in asked and any(overlap(asked["box"], box) > 0.5 for box in boxes):
            return False
    return True
