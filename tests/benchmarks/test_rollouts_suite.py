"""The suite of rollouts, small: both loops answer the same questions by the same tools, and the ratio has its
bar."""

import pytest

from benchmarks import rollout_ground, rollouts
from pixelis_pipeline.agent.policy import load

pytestmark = pytest.mark.slow


def test_both_loops_call_the_tools_and_the_ratio_has_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "ROUNDS", 1)
    monkeypatch.setattr(rollout_ground, "KNOWN", 4)
    policy, given = load(rollouts.BASE), rollout_ground.ground(("PROP",), prompts=1)
    rollout_ground.teach(policy, given, lessons=30)
    told = {each.name: each for each in rollouts.rollouts(policy, given, copies=2)}
    for side in ("ours", "TRL's"):
        assert told[f"{side}: tokens chosen"].value > 10
        assert told[f"{side}: calls of tools"].value >= 1, "neither is timed on talk alone"
        assert told[f"{side}: in tools"].value > 0
    ratio = told["ours / TRL's, median of rounds"]
    assert ratio.target == rollouts.RATIO and ratio.met == (ratio.value >= ratio.target)
