"""A nano policy of a few thousand weights and traces about small scenes, replayed with planted outputs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from pixelis_pipeline.records import Action, Media, Origin, Question, Step, Trajectory
from pixelis_pipeline.settings import SftSettings
from pixelis_pipeline.tools.contract import Workspace

SIZES = {"hidden": 64, "layers": 2, "vision": 32, "depth": 1}
COLOURS = ("red", "green", "blue", "pink")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    import torch

    torch.set_num_threads(1)
    yield


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    from pixelis_pipeline.agent import nano, policy

    path = tmp_path_factory.mktemp("base") / "nano"
    policy.save(nano.build(nano.configuration(**SIZES), seed=3), path)
    return path


@pytest.fixture
def quick() -> SftSettings:
    return SftSettings(
        epochs=3,
        batch=4,
        learning_rate=3e-3,
        threads=1,
        warm_up=1,
        auxiliary=0.2,
        hide_outputs=0.1,
        hide_actions=0.02,
    )


def pixels(media: Media) -> np.ndarray:
    return np.random.default_rng(int(media.sha256, 16)).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def opens(media: Sequence[Media]) -> Workspace:
    return Workspace([pixels(media[0])])


def trace(index: int, **changes) -> Trajectory:
    """A question about a box, PROP called on it, its colour answered; of medium difficulty. What the teacher
    claimed differs from what replay got."""
    media = Media(f"{index:064x}", "image", f"{index}.png", 32, 32)
    colour = COLOURS[index % 4]
    box = [10 + index, 20 + index, 300 + index, 400 + index]
    question = Question(
        f"q{index}",
        (),
        Origin("world", str(index), "CC0", "training"),
        (media,),
        f"What colour is the thing at {box}?",
        colour,
        "attribute",
    )
    step = Step(
        "Measure its colour.",
        Action("PROP", {"box": box}),
        {"colour": "claimed"},
        decisive=True,
        replayed={"colour": colour, "shape": "star", "size": "small", "count": 1},
    )
    said = {"kind": "positive", "difficulty": "medium", "scores": {"weight": 1.0}, **changes}
    return Trajectory(f"t{index}", (), question, (step,), colour, **said)
