"""What tricks earn, through the real tools, the shipped policy, the heads and the rewards.

Questions of two kinds about drawn pictures whose lower part is noise: `attribute`, where a thing is cut out
and measured, and `compare`, where two are measured. The heads learn from honest rollouts. A trick then
stands among honest rollouts in a batch, one at a time; it answers as rightly as they do and all its calls are
valid, so only curiosity and coherence tell it from the honest rollout about the same picture.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import training.base
from pixelis_pipeline.agent import policy, render
from pixelis_pipeline.records import Action, Media, Origin, Prediction, Question, Step
from pixelis_pipeline.settings import HeadSettings, RewardSettings
from pixelis_pipeline.tools.contract import Workspace, to_wire
from pixelis_pipeline.tools.registry import default_registry
from pixelis_pipeline.world.scene import Box, draw_scene
from training.rft.rewards import Rollout, rewards
from training.rft.scales import Scales, scales

Array = np.ndarray[Any, Any]
SETTINGS, REWARDS = HeadSettings(), RewardSettings()
TOOLS = default_registry()
SIDE, NOISE = 160, 112  # pixels: the picture's side, and the height at which the noise begins
THOUGHTS = {"SEG": "Segment it.", "PROP": "Measure its colour.", "ZOOM": "Zoom in."}
NAMES = {"attribute": ("SEG", "PROP"), "compare": ("PROP", "PROP")}


@dataclass(frozen=True, slots=True)
class Case:
    """A picture, its things' wire boxes, and the rollout that asks about them honestly."""

    seed: int
    family: str
    image: Array
    honest: Prediction


def case(seed: int) -> Case:
    random = np.random.default_rng(seed)
    scene = draw_scene(random, width=SIDE, height=NOISE, things=(2, 3), ground="plain", clutter=0)
    noise = random.integers(0, 256, (SIDE - NOISE, SIDE, 3), dtype=np.uint8)
    image = np.concatenate([scene.image, noise])
    boxes = [wire(thing.box) for thing in scene.things]
    family = ("attribute", "compare")[seed % 2]
    chain = {
        "attribute": [Action("SEG", {"box": boxes[0]}), Action("PROP", {"step": 0})],
        "compare": [Action("PROP", {"box": box}) for box in boxes[:2]],
    }[family]
    return Case(seed, family, image, rollout(seed, family, image, chain))


def wire(box: Box) -> list[int]:
    return list(to_wire(box, SIDE, SIDE))


def rollout(seed: int, family: str, image: Array, actions: list[Action]) -> Prediction:
    workspace = Workspace([image])
    return told(seed, family, [step(workspace, action) for action in actions])


def told(seed: int, family: str, steps: list[Step]) -> Prediction:
    media = (Media(f"{seed:064x}", "image", f"{seed}.png", SIDE, SIDE),)
    origin = Origin("world", str(seed), "CC0", "training")
    question = Question(f"q{seed}", (), origin, media, "What colour is it?", "red", family)
    return Prediction(f"p{seed}", (), question, "nano", True, 0, tuple(steps), "red", True)


def step(workspace: Workspace, action: Action) -> Step:
    seen = TOOLS.call(workspace, action)
    return Step(
        THOUGHTS[action.name], action, seen.output, seen.confidence, seen.valid, artifact=seen.artifact
    )


def wander(of: Case, names: tuple[str, ...], rows: tuple[int, int]) -> Prediction:
    """Calls of these tools on places drawn anew between two rows of the picture (pixels), those that are
    valid; ZOOM is called where SEG finds nothing."""
    random, workspace, steps = np.random.default_rng([of.seed, 9]), Workspace([of.image]), []
    while len(steps) < len(names):
        wide, high = random.integers(16, 40, 2)
        left, top = random.integers(0, SIDE - wide), random.integers(rows[0], rows[1] - high + 1)
        box = wire((int(left), int(top), int(left + wide), int(top + high)))
        calls = dict.fromkeys(
            (names[len(steps)], "ZOOM" if names[len(steps)] == "SEG" else names[len(steps)])
        )
        tried = (step(workspace, Action(name, {"box": box})) for name in calls)
        steps.extend([one for one in tried if one.valid][:1])
    return told(of.seed, of.family, steps)


def hop(of: Case) -> Prediction:
    return wander(of, ("SEG", "PROP", "ZOOM"), (0, NOISE))


def seek_noise(of: Case) -> Prediction:
    return wander(of, NAMES[of.family], (NOISE, SIDE))


def repeat(of: Case) -> Prediction:
    """Each step twice at once, and all of them once more at the end."""
    first, second = of.honest.steps
    return replace(of.honest, steps=(first, first, first, second, second, first, second)[:6])


def jitter(of: Case) -> Prediction:
    """The first call four times more, its box moved by a hair."""
    first = of.honest.steps[0]
    box = first.action.arguments["box"]
    moved = [[min(999, max(0, s + d)) for s in box] for d in (3, -3, 5, -5)]
    calls = [replace(first, action=Action(first.action.name, {"box": near})) for near in moved]
    return replace(of.honest, steps=(*of.honest.steps, *calls))


@dataclass(frozen=True, slots=True)
class Bench:
    """The heads after honest rollouts, the frozen statistics, and honest rollouts to stand among."""

    model: Any
    contract: render.Contract
    heads: Any
    scales: Scales
    cases: list[Case]
    honest: list[Rollout]

    def of(self, family: str) -> Array:
        return np.array([each.family == family for each in self.cases])

    def judge(self, made: list[Prediction]) -> list[Rollout]:
        from training.rft.states import states

        shown = [[each.image] for each in self.cases]
        found = states(self.model, self.contract, made, shown, SETTINGS)
        return self.heads.judge(found, [one.correct for one in made])

    def gain(self, trick: Any) -> Array:
        """float64 [cases]: what a trick earns above the honest rollout about the same picture."""
        tricks = self.judge([trick(each) for each in self.cases])
        found = [rewards([*self.honest, one], self.scales.families, REWARDS).total for one in tricks]
        return np.array([totals[-1] - totals[k] for k, totals in enumerate(found)])


@pytest.fixture(scope="module")
def bench() -> Bench:
    from training.rft.heads import Heads
    from training.rft.states import states

    base = policy.load(Path(training.base.__file__).parent / "nano")
    model = base.model
    before = [weight.detach().clone() for weight in model.parameters()]
    known = [case(seed) for seed in range(60)]
    shown = [[each.image] for each in known]
    seen = states(model, base.contract, [each.honest for each in known], shown, SETTINGS)
    heads = Heads(model.config.text_config.hidden_size, SETTINGS)
    losses = [heads.update(seen) for _ in range(300)]
    assert losses[-1].error < 0.7 * losses[0].error
    assert all((weight == old).all() for weight, old in zip(model.parameters(), before, strict=True))
    assert all(weight.grad is None for weight in model.parameters())
    dev = heads.judge(seen, [True] * len(seen))
    cases = [case(seed) for seed in range(1000, 1030)]
    bench = Bench(model, base.contract, heads, scales(dev, heads.digest), cases, [])
    return replace(bench, honest=bench.judge([each.honest for each in cases]))


def test_calls_made_again_earn_nothing(bench: Bench) -> None:
    """Not at the end, not in between, not moved by a hair: what the honest steps earn stays the same."""
    for trick in (repeat, jitter):
        assert bench.gain(trick) == pytest.approx(np.zeros(len(bench.cases)), abs=1e-5)


def test_hopping_between_places_earns_less(bench: Bench) -> None:
    """Far less where honest steps belong together, and no more where they too go from place to place."""
    gain = bench.gain(hop)
    assert gain.mean() + 2 * gain.std() / len(gain) ** 0.5 < 0
    assert gain[bench.of("attribute")].mean() < -0.1
    assert gain[bench.of("compare")].mean() < 0.02


def test_looking_at_noise_earns_less_where_steps_belong_together(bench: Bench) -> None:
    assert bench.gain(seek_noise)[bench.of("attribute")].mean() < -0.05


def test_looking_at_noise_earns_no_more_where_two_things_are_compared(bench: Bench) -> None:
    """Two places of noise are alike beyond what honest looks are, and known to be hard to foretell."""
    assert bench.gain(seek_noise)[bench.of("compare")].mean() < 0.02
