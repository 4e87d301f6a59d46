"""What the study consists of: which trainings, and whose answers to the held-out questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evaluation.learning.numbers import (
    ABLATIONS,
    BASE,
    CONTROLLED,
    FAST,
    FAST_HELD,
    HELD,
    RFT_BASE,
    RFT_FULL,
    SFT,
    SHUFFLED,
    TEACHER,
)
from evaluation.scores import TOOLS_OFF
from pixelis_pipeline.settings import Settings, StudySettings

# What each reinforcement changes of `rft`; but for the fast ones nothing else differs between them.
METHODS: dict[str, dict[str, Any]] = {
    RFT_BASE: {"intrinsic": "none"},
    RFT_FULL: {"intrinsic": "full"},
    "rft-curiosity": {"intrinsic": "curiosity"},
    "rft-coherence": {"intrinsic": "coherence"},
    "rft-smoothness": {"intrinsic": "smoothness"},
    HELD: {"intrinsic": "full", "controlled": False},
    FAST: {"intrinsic": "full"},
    FAST_HELD: {"intrinsic": "full", "controlled": False},
}
ONE_SEED = tuple(name for name in ABLATIONS if name != RFT_BASE)
How = Literal["answered", "with tools off", "with outputs shuffled", "by the teacher"]
ENDINGS: dict[How, str] = {"with tools off": TOOLS_OFF, "with outputs shuffled": SHUFFLED}


@dataclass(frozen=True, slots=True)
class Training:
    """A policy that is taught: by SFT from the base, or by reinforcement from the SFT of its seed."""

    method: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder and in what is told of it."""
        return f"{self.method}-{self.seed}"

    @property
    def start(self) -> "Training":
        """The SFT that a reinforcement starts from."""
        return Training(SFT, self.seed)

    def settings(self, project: Settings) -> Settings:
        """The project's settings, with what makes this training its own."""
        if self.method == SFT:  # on one thread, since trainings go side by side
            of = {"seed": self.seed, "threads": 1}
            return project.model_copy(update={"sft": project.sft.model_copy(update=of)})
        study, pid = project.study, project.pid
        how = {"seed": self.seed, "steps": study.steps, **METHODS[self.method]}
        if self.method in (FAST, FAST_HELD):
            how["learning_rate"] = study.fast
            gains = {"proportional": study.fast_proportional, "integral": study.fast_integral}
            pid = pid.model_copy(update=gains)
        return project.model_copy(update={"rft": project.rft.model_copy(update=how), "pid": pid})


@dataclass(frozen=True, slots=True)
class Answers:
    """The held-out questions, answered by the policy of a training or by what was there before."""

    method: str
    seed: int
    how: How = "answered"

    @property
    def training(self) -> Training:
        """The training whose policy answers."""
        return Training(self.method, self.seed)

    @property
    def label(self) -> str:
        """What it is called where it is told of."""
        return f"{self.method}-{self.seed} {self.how}"

    @property
    def arm(self) -> str:
        """The name that its predictions are filed under; where tools are off, they say so themselves."""
        return self.method + (SHUFFLED if self.how == "with outputs shuffled" else "")

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.method}-{self.seed}{ENDINGS.get(self.how, '')}"


def trainings(study: StudySettings) -> list[Training]:
    """Every training, in an order that has each after the one it starts from, and what matters most first."""
    main = [Training(method, seed) for seed in study.seeds for method in (RFT_BASE, RFT_FULL)]
    control = (HELD, FAST, FAST_HELD)
    alone = [
        Training(name, study.seeds[0]) for name in (*control, *(m for m in ONE_SEED if m not in control))
    ]
    return [*(Training(SFT, seed) for seed in study.seeds), *main, *alone]


def answers(study: StudySettings, made: Sequence[Training]) -> list[Answers]:
    """Every set of answers: the base, the teacher, each of the trainings `made`, and the controls."""
    first = study.seeds[0]
    reference = [Answers(BASE, first), Answers(TEACHER, first, "by the teacher")]
    controls = [
        Answers(each.method, each.seed, how) for each in made if each.method in CONTROLLED for how in ENDINGS
    ]
    return [*reference, *(Answers(each.method, each.seed) for each in made), *controls]
