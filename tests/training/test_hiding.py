from dataclasses import replace

import numpy as np
import pytest

from pixelis_pipeline.agent import tokenizer
from pixelis_pipeline.settings import SftSettings
from tests.training.conftest import trace
from training.sft.examples import example
from training.sft.hiding import hidden


def chain(steps: int):
    """An example of so many calls, each decisive."""
    whole = trace(1)
    return example(
        replace(whole, steps=tuple(replace(whole.steps[0], thought=f"Step {n}.") for n in range(steps))), 2.0
    )


def shown(made, settings: SftSettings, seed: int = 0):
    return hidden(made, settings, np.random.default_rng(seed))


def said(made) -> str:
    return tokenizer.shared().decode(list(made.ids), skip_special_tokens=False)


ALL_OUTPUTS = SftSettings(hide_outputs=1.0, hide_actions=0.0)
ALL_ACTIONS = SftSettings(hide_outputs=0.0, hide_actions=1.0)
HALF = SftSettings(hide_outputs=0.5, hide_actions=0.5)


def test_every_output_but_the_last_can_be_hidden_and_what_is_learned_stays():
    made = chain(3)
    less = shown(made, ALL_OUTPUTS)
    assert said(less).count("<obs></obs>") == 2
    assert said(less).count("<obs>colour green shape star size small count 1</obs>") == 1
    assert less.weights.sum() == made.weights.sum()
    assert said(less).replace("<obs></obs>", "") == said(made).replace(
        "<obs>colour green shape star size small count 1</obs>", "", 2
    )


def test_the_first_two_calls_can_be_hidden_and_are_not_learned_then():
    made = chain(3)
    less = shown(made, ALL_ACTIONS)
    assert said(less).count("<call></call>") == 2 and said(less).count("<call>PROP") == 1
    learned = tokenizer.shared().decode(
        [t for t, w in zip(less.ids, less.weights, strict=True) if w == 2.0], skip_special_tokens=False
    )
    assert learned == '<call><call><call>PROP {"box":[11,21,301,401]}</call>'
    assert [bool(turn.aims) for turn in less.turns] == [False, False, True]


@pytest.mark.parametrize("settings", [ALL_OUTPUTS, ALL_ACTIONS, HALF])
def test_turns_are_still_found_where_they_stand(settings):
    closes = {name: tokenizer.token(name) for name in ("</call>", "</obs>")}
    for seed in range(20):
        less = shown(chain(4), settings, seed)
        for turn in less.turns:
            assert less.ids[turn.call.stop] == closes["</call>"]
            assert less.ids[turn.heard.stop] == closes["</obs>"]


def test_what_is_hidden_follows_from_the_seed_and_comes_as_often_as_set():
    made, settings = chain(3), SftSettings(hide_outputs=0.1, hide_actions=0.02)
    random = np.random.default_rng(3)
    rows = [hidden(made, settings, random) for _ in range(3000)]
    outputs = sum(said(row).count("<obs></obs>") for row in rows) / (2 * len(rows))
    actions = sum(said(row).count("<call></call>") for row in rows) / (2 * len(rows))
    assert outputs == pytest.approx(0.1, abs=0.02) and actions == pytest.approx(0.02, abs=0.01)
    again = np.random.default_rng(3)
    assert [row.ids for row in rows[:200]] == [hidden(made, settings, again).ids for _ in range(200)]


def test_nothing_is_hidden_where_nothing_would_be_left_to_learn():
    whole = trace(1, kind="outcome-negative")
    only = example(whole, 2.0)
    call = replace(only, weights=np.where(only.weights == 2.0, only.weights, 0).astype(np.float32))
    inner = call.weights.copy()
    inner[: call.turns[0].call.start] = 0
    call = replace(call, weights=inner)
    assert shown(call, ALL_ACTIONS) == call
