from pathlib import Path

import pytest

from benchmarks import rollouts
from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent import vocabulary


@pytest.fixture(scope="module")
def taught():
    """A tiny policy that was taught to call PROP and ZOOM, and what it is asked."""
    import torch

    from pixelis_pipeline.agent import nano, render
    from pixelis_pipeline.agent.policy import Policy

    torch.set_num_threads(1)
    model = nano.build(nano.configuration(hidden=32, layers=2, vision=32, depth=1), seed=1)
    policy, given = Policy(model.eval(), render.nano(), "d"), rollouts.ground(("PROP", "ZOOM"), prompts=2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rollouts, "RATE", 1e-2)
        patched.setattr(rollouts, "KNOWN", 4)
        rollouts.teach(policy, given, lessons=100)
    return policy, given


def test_both_loops_hold_the_same_conversations_where_nothing_is_left_to_chance(taught, tmp_path: Path):
    """Token for token, with the crop that a call made, and with what was chosen of it."""
    policy, given = taught
    ours = rollouts.ours(policy, given, 2, 1e-4, 1)
    theirs = rollouts.Theirs(policy, given, 2, 1e-4, tmp_path).roll(1)
    assert (ours.ids, ours.said) == (theirs.ids, theirs.said)
    for ids in ours.ids:
        text = vocabulary.nano().decode(ids)
        assert text.count("<call>PROP") == text.count("<call>ZOOM") == 1 and text.endswith("</answer>")
        assert ids.count(words.token(words.IMAGE)) == 128 and "<obs>error" not in text
    assert (ours.calls, theirs.calls) == (4, 8), "our copies that came the same way share a call"


def test_both_choose_as_many_tokens_by_chance_and_the_ratio_has_its_bar(
    taught, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollouts, "ROUNDS", 1)
    found = {each.name: each for each in rollouts.rollouts(*taught, copies=2)}
    ours, theirs = (value for name, value in found.items() if name.endswith((": ours", ": TRL's")))
    assert found["ours: tokens chosen"].value == pytest.approx(found["TRL's: tokens chosen"].value, rel=0.1)
    ratio = found["ours / TRL's, median of rounds"]
    assert ratio.value == pytest.approx(ours.value / theirs.value, rel=0.01)
    assert ratio.target == 3.0 and ratio.met == (ratio.value >= 3.0)
    assert all(found[f"{side}: in tools"].value > 0 for side in ("ours", "TRL's"))
