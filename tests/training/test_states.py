"""Where turns lie in a row, and that states are what the backbone says of exactly these tokens."""

from dataclasses import replace

import numpy as np
import pytest

from pixelis_pipeline.agent import nano, policy, render
from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.batch import collate
from pixelis_pipeline.records import Action, Step
from pixelis_pipeline.settings import HeadSettings
from tests.training.conftest import pixels, trace
from training.rft.states import attention, spans, states, text_of
from training.sft.examples import text_of as learned_text

SETTINGS = HeadSettings()
CONTRACT, ASKED = render.nano(), replace(trace(0).question, text="What colour is it?")
BOXES = ([0, 0, 300, 300], [500, 0, 900, 300], [0, 600, 400, 999])
GARBLED = Step("no <obs>1</obs> call <image>", Action("", {}), {"error": "the turn did not end"}, 0.0, False)


def ids(*steps: Step) -> list[int]:
    return words.shared().encode(text_of(CONTRACT, ASKED, steps)).ids


def said(row: list[int], where: slice) -> str:
    return words.shared().decode(row[where], skip_special_tokens=False)


def test_spans_hold_what_was_asked_thought_and_heard() -> None:
    row = ids(trace(1).steps[0], GARBLED, trace(2).steps[0])
    asked, first, garbled, last = spans(row)
    assert said(row, asked.thought) == "What colour is it?" and said(row, asked.heard) == ""
    assert said(row, first.thought) == said(row, last.thought) == "Measure its colour."
    assert said(row, first.heard) == "colour green shape star size small count 1"
    assert said(row, garbled.thought).endswith(" call <unk>image<unk>")
    assert said(row, garbled.heard) == "error: the turn did not end"


def test_no_policy_forges_an_observation_or_a_picture() -> None:
    row = ids(GARBLED)
    assert row.count(words.token("<obs>")) == 1 and len(spans(row)) == 2
    assert row.count(words.token("<image>")) == 64


def test_rows_that_no_environment_wrote_are_refused() -> None:
    row = ids(trace(1).steps[0])
    begin, end = words.token("<obs>"), words.token("</obs>")
    nested = [*row[:-1], begin, end, end]
    for broken in (row[: row.index(end)], [end, *row], nested):
        with pytest.raises(ValueError, match="not turn about"):
            spans(broken)


def test_x_is_a_mean_of_the_last_thoughts_and_of_what_was_heard_as_far_as_it_is_sure() -> None:
    long = replace(trace(1).steps[0], thought="Look at A. " * 20)
    row = ids(long, GARBLED)
    weights = attention(row, [0.5, 0.0], thought=32)
    _, first, garbled = spans(row)
    assert weights.sum(1) == pytest.approx(np.ones(3))
    assert (weights[1, first.thought] > 0).sum() == 32 and weights[1, first.thought][-32:].all()
    assert weights[1, first.heard] == pytest.approx(weights[1, first.thought.stop - 1] / 2)
    assert weights[2, garbled.heard].sum() == 0
    silent = replace(trace(1).steps[0], thought="")
    assert not attention(ids(silent), [0.0], 32)[1].any()


def test_states_are_the_backbones_own_numbers(base) -> None:
    """Many rollouts of different lengths in one pass, against each one alone and by hand."""
    import torch

    model = policy.load(base).model
    # Boxes apart, and one that is looked at again: it is not in the row.
    steps = [replace(trace(0).steps[0], action=Action("PROP", {"box": box})) for box in BOXES]
    traces = [replace(trace(k), steps=(*steps[: k + 1], steps[0])) for k in range(3)]
    images = [pixels(t.question.media[0]) for t in traces]
    found = states(model, CONTRACT, traces, [[image] for image in images], SETTINGS)
    assert [len(each.v) for each in found] == [2, 3, 4]
    for each, one, image in zip(found, traces, images, strict=True):
        one = replace(one, steps=one.steps[:-1])
        text = text_of(CONTRACT, one.question, one.steps)
        assert learned_text(one).startswith(text)  # the rows that training sees
        row = words.shared().encode(text).ids
        batch = collate([row], [image], "right")
        with torch.inference_mode():
            hidden = nano.hidden_states(model, batch)[0].numpy()
            shown = model.model.get_image_features(batch.pixels, batch.grid, return_dict=True).pooler_output[
                0
            ]
        last = spans(row)[-1]
        x = np.concatenate([hidden[last.thought], hidden[last.heard]]).mean(0)
        assert each.x[-1] == pytest.approx((x - x.mean()) / x.std(), abs=1e-3)
        whole = shown.numpy().mean(0)
        assert each.v[0] == pytest.approx((whole - whole.mean()) / whole.std(), abs=1e-3)
        assert not np.allclose(each.v[1], each.v[0])
        assert each.box[0] == pytest.approx(np.array(one.steps[0].action.arguments["box"]) / 999)
        assert each.calls[-1] == each.calls[0] and each.family == "attribute"
        assert each.kept.tolist() == list(range(len(one.steps)))


def test_neighbours_that_ask_the_same_have_the_states_that_each_has_alone(base) -> None:
    """Of two that ask the same in the same words, but of another picture, nothing is shared."""
    model, asked = policy.load(base).model, trace(0)
    second = replace(asked.steps[0], action=Action("PROP", {"box": BOXES[1]}))
    longer = replace(asked, steps=(*asked.steps, second))
    this = pixels(asked.question.media[0])
    traces, images = [asked, longer, asked, longer], [[this], [this.copy()], [this[::-1]], [this[::-1]]]
    found = states(model, CONTRACT, traces, images, SETTINGS)
    for each, one, shown in zip(found, traces, images, strict=True):
        (alone,) = states(model, CONTRACT, [one], [shown], SETTINGS)
        assert each.v == pytest.approx(alone.v, abs=1e-3) and each.x == pytest.approx(alone.x, abs=1e-3)
        assert each.shown == pytest.approx(alone.shown, abs=1e-3)
    assert np.abs(found[0].x - found[2].x).max() > 0.01


def test_the_policy_is_left_as_it_was(base) -> None:
    model = policy.load(base).model.train()
    before = [weight.detach().clone() for weight in model.parameters()]
    states(model, CONTRACT, [trace(0)], [[pixels(trace(0).question.media[0])]], SETTINGS)
    assert model.training and all(weight.grad is None for weight in model.parameters())
    assert all((weight == old).all() for weight, old in zip(model.parameters(), before, strict=True))
    assert states(model, CONTRACT, [], [], SETTINGS) == []
