"""What a run of reinforcement is made on, and the settings that decide it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pixelis_pipeline.records import Question
from pixelis_pipeline.settings import HeadSettings, PidSettings, PolicySettings, RewardSettings, RftSettings
from pixelis_pipeline.tools.opening import Open
from pixelis_pipeline.tools.registry import Registry


@dataclass(frozen=True, slots=True)
class Ground:
    """What rollouts are made on: questions, the tools, the media's opener, and the judge of answers."""

    questions: Sequence[Question]
    registry: Registry
    open_media: Open
    right: Callable[[Question, str], bool]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings that decide a run, and what SFT found each tool to count (`training.sft.scalers`)."""

    rft: RftSettings
    reward: RewardSettings
    heads: HeadSettings
    pid: PidSettings
    policy: PolicySettings
    scalers: Mapping[str, float] = field(default_factory=dict)
