"""The records that flow through the pipeline, and the three ways a record can leave a stage.

Every value here is immutable. A stage never edits a record: it makes a new one whose `parents` name
the old one, so any record can be walked back to the media it came from.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

Json = dict[str, Any]
Role = Literal["training", "evaluation"]
ActionName = Literal["SEG", "TRK", "OCR", "ZOOM", "TEMP", "PROP"]
TraceKind = Literal["positive", "outcome-negative", "process-negative", "self-correction"]
AnswerKind = Literal["choice", "text", "integer", "float", "list", "span"]


def canonical(value: Any) -> bytes:
    """JSON bytes that are equal exactly when the values are: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def record_id(
    step: str, version: int, parameters: Mapping[str, Any], parents: Sequence[str], payload: Any
) -> str:
    """sha256 hex over (step, declared step version, parameters, parent ids, payload)."""
    return hashlib.sha256(canonical([step, version, dict(parameters), list(parents), payload])).hexdigest()


@dataclass(frozen=True, slots=True)
class Media:
    """One image or video, by reference. `path` is absolute, or relative to the project root, or
    `pack.zip!/member` for media that the pipeline rendered itself (see `media.store`)."""

    sha256: str
    kind: Literal["image", "video"]
    path: str
    width: int
    height: int
    frames: int = 1
    fps: float = 0.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record was published. Licence and role belong to the origin, not to a source's name."""

    source: str
    record: str
    licence: str
    role: Role


@dataclass(frozen=True, slots=True)
class Sample:
    """What a reader yields: media with its annotations and, where the authors ask one, a question.

    `annotations` is the reader's normalised JSON (see `sources.contract`); `category` the authors' own
    task name.
    """

    id: str
    origin: Origin
    media: tuple[Media, ...]
    annotations: Json = field(default_factory=dict)
    question: str = ""
    choices: tuple[str, ...] = ()
    answer: str = ""
    answer_kind: AnswerKind = "text"
    category: str = ""
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to be answered from media. `tools` are the actions its task needs; `task` names the
    family that z-statistics and strata are kept for. `span` is in seconds on video, else empty."""

    id: str
    parents: tuple[str, ...]
    origin: Origin
    media: tuple[Media, ...]
    text: str
    answer: str
    task: str
    tools: tuple[ActionName, ...] = ()
    choices: tuple[str, ...] = ()
    answer_kind: AnswerKind = "text"
    span: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Assignment:
    """One thing that a teacher is asked for: a trace of this kind about this question.

    `style` names the wording of the prompt, `sample` tells repeated askings of one question apart.
    `stratum` is the cell of the plan that it was drawn for; a plan's goals are counted in these.
    """

    id: str
    parents: tuple[str, ...]
    question: Question
    kind: TraceKind = "positive"
    style: str = "plain"
    temperature: float = 0.7
    sample: int = 0
    stratum: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """A call as it stands on the wire: coordinates are integers 0-999 normalised to the image."""

    name: str
    arguments: Json


@dataclass(frozen=True, slots=True)
class Step:
    """A thought and one action with what came back.

    `valid`: the call parsed and ran. `decisive`: computed, never claimed (output referenced by a later
    argument or by the answer). The replay fields are empty until the step has been run again. `artifact` is
    the digest of what the call returned when a tool of `tool_version` ran it; a teacher's claim has none.
    `flawed` steps were written wrong on purpose; `flaw` says what is wrong with them, as their writer does:
    "perceptual: ..." or "logical: ...".
    """

    thought: str
    action: Action
    output: Json
    confidence: float = 1.0
    valid: bool = True
    decisive: bool = False
    flawed: bool = False
    flaw: str = ""
    tool_version: str = ""
    replayed: Json = field(default_factory=dict)
    metric: str = ""
    measured: float = 0.0
    threshold: float = 0.0
    verdict: str = ""
    artifact: str = ""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A chain of thought and action (CoTA): a question, the steps taken on its media, an answer.

    `phash` has 16 hex digits a view (an image is one, a video one per second), `information` says for
    each how far it can be trusted (see `curation.fingerprints`). `batch` leads the total order; `group`
    names the duplicate group by its earliest medium's sha256.
    """

    id: str
    parents: tuple[str, ...]
    question: Question
    steps: tuple[Step, ...]
    answer: str
    kind: TraceKind
    request: str = ""
    teacher: str = ""
    sampling_weight: float = 1.0
    phash: tuple[str, ...] = ()
    information: tuple[float, ...] = ()
    scores: Json = field(default_factory=dict)
    difficulty: str = ""
    difficulty_by: str = ""
    split: str = ""
    batch: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a policy did with one held-out question, whole, so that every reported number can be
    recomputed from these. `tools` is False where every call was answered `error: tools are off`."""

    id: str
    parents: tuple[str, ...]
    question: Question
    policy: str
    tools: bool
    seed: int
    steps: tuple[Step, ...]
    answer: str
    correct: bool

    @property
    def error(self) -> float:
        """1 for a wrong answer, else 0."""
        return float(not self.correct)


@dataclass(frozen=True, slots=True)
class Hardness:
    """How far a policy is from a trace that it was taught: `error`, 0 to 1, is 1 - the probability that it
    gives to a token that is learned of the trace, in the geometric mean. `parents` are trace and policy."""

    id: str
    parents: tuple[str, ...]
    question: Question
    error: float


R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Accepted(Generic[R]):
    """The input `of` was kept. One record as a rule; a stage that makes several reports `emitted`."""

    of: str
    records: tuple[R, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """The input `of` was refused for good, by `rule` of `stage`, with the value that decided it."""

    of: str
    stage: str
    rule: str
    measured: float | None = None
    threshold: float | None = None
    twin: str = ""
    detail: str = ""
    record: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """The input `of` met an error that may pass; the next run tries exactly these again."""

    of: str
    stage: str
    error: str
    record: Json = field(default_factory=dict)


Outcome = Accepted[R] | Rejected | Failed
