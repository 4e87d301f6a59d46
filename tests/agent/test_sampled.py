"""Groups of rollouts of a tiny policy: the ids it chose, how likely they were, the pictures it was shown."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from pixelis_pipeline.agent import batch, decode, nano, policy, render, vocabulary
from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.batch import ImageTokenMismatch
from pixelis_pipeline.agent.grammar import write_answer, write_call
from pixelis_pipeline.agent.policy import Said
from pixelis_pipeline.agent.render import Turn
from pixelis_pipeline.agent.rollout import rollouts
from pixelis_pipeline.agent.sampled import Sampled, sample
from pixelis_pipeline.records import Action, Media, Origin, Question
from pixelis_pipeline.settings import PolicySettings, ToolSettings
from pixelis_pipeline.tools.contract import Observation, Workspace, spoken
from pixelis_pipeline.tools.registry import Registry, default_registry

PICTURE = np.random.default_rng(5).integers(0, 256, (60, 90, 3), dtype=np.uint8)
ZOOM = Action("ZOOM", {"box": [100, 100, 500, 600], "scale": 2})
PROP = Action("PROP", {"box": [1, 2, 3, 4]})
COLOURS = ("red", "green", "blue", "pink")


class Prop:
    """Says what the policy was taught that is said; counts how often it was asked."""

    version = "prop/test"

    def __init__(self):
        self.calls = 0

    def __call__(self, workspace, arguments):
        self.calls += 1
        output = {"colour": "red", "shape": "star", "size": "small", "count": 1}
        return Observation(output, spoken("PROP", output), version=self.version)


def question(name: str) -> Question:
    media = Media("0" * 64, "image", "x.png", 90, 60)
    return Question(name, (), Origin("world", name, "CC0", "evaluation"), (media,), "Which?", "red", "t")


def registry(prop: Prop | None = None) -> Registry:
    zoom = default_registry(ToolSettings())._tools["ZOOM"]
    return Registry({"ZOOM": zoom, "PROP": prop or Prop()})


@pytest.fixture(scope="module", params=[1, 2], ids=["picture", "crops"])
def taught(request):
    """Calls ZOOM, then PROP, then names one of four colours, each as often; or, one time in three, names one
    at once. Shown the crop or not."""
    contract = render.nano(edition=request.param)
    (crop,) = [
        seen.image for seen in registry().call_all([(Workspace([PICTURE]), ZOOM)]) if seen.image is not None
    ]
    output = {"colour": "red", "shape": "star", "size": "small", "count": 1}
    turns = [
        Turn(write_call("Closer.", ZOOM), spoken("ZOOM", {"image": 1}), crop.shape[:2]),
        Turn(write_call("Measure.", PROP), spoken("PROP", output)),
    ]
    encode = vocabulary.nano().encode
    prompt = len(encode(render.spans(contract, "Which?", ())))
    told = [(turns, colour) for colour in COLOURS] + [([], colour) for colour in COLOURS[:2]]
    rows = [encode(render.spans(contract, "Which?", made, write_answer(colour))) for made, colour in told]
    shown = [
        image for made, _ in told for image in ([PICTURE, crop] if made and contract.crops else [PICTURE])
    ]
    given = batch.collate(rows, shown, "right")
    model = nano.build(nano.configuration(hidden=32, layers=2, vision=32, depth=1), seed=1)
    learned = given.attention[:, 1:].bool() & (torch.arange(given.ids.shape[1] - 1) >= prompt - 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(90):
        scores = model.lm_head(nano.hidden_states(model, given)[:, :-1][learned])
        torch.nn.functional.cross_entropy(scores, given.ids[:, 1:][learned]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return policy.Policy(model.eval(), contract, "d")


def sampled(taught, copies=4, seed=1, temperature=0.7, tools=None, turns=4, errors=None) -> list[Sampled]:
    return sample(
        taught,
        [question("a"), question("b")],
        copies,
        tools or registry(),
        lambda media: Workspace([PICTURE]),
        PolicySettings(turns=turns, tokens_per_turn=40),
        name="x",
        seed=seed,
        right=lambda asked, answer: answer == asked.answer,
        temperature=temperature,
        errors=errors,
    )


def _afresh(taught, one: Sampled, temperature: float) -> torch.Tensor:
    """Log-probabilities [said, vocabulary] where the policy spoke, of the whole row read at once."""
    given = batch.collate([one.ids], one.images, "right")
    with torch.inference_mode():
        hidden = nano.hidden_states(taught.model, given)[0, :-1][torch.tensor(one.said[1:])]
        return decode.scores(taught.model, hidden, temperature)


def test_two_errors_in_a_row_end_a_rollout(taught):
    """Sampled so wildly that many turns are no calls."""
    free, held = (sampled(taught, copies=12, temperature=1.6, errors=errors) for errors in (None, 2))
    lost = [_lost(one) for one in free]
    assert any(at is not None and at < len(one.prediction.steps) for one, at in zip(free, lost, strict=True))
    assert any(at is None for at in lost)
    for one in held:
        at = _lost(one)
        assert at is None or (at == len(one.prediction.steps) and not one.prediction.answer)
        assert one.prediction.answer or at or len(one.prediction.steps) == 4, "nothing else ends one"


def _lost(one: Sampled) -> int | None:
    """How many turns there were when two in a row had been no calls."""
    turns = pairwise(step.valid for step in one.prediction.steps)
    return next((k for k, (first, second) in enumerate(turns, 2) if not first and not second), None)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_cache_says_what_the_whole_row_says(taught, temperature):
    """Pictures that come in the middle of a conversation among them."""
    made = sampled(taught, temperature=temperature)
    if temperature:
        assert len({len(each.prediction.steps) for each in made}) > 1, "some end before others"
    else:
        assert all(each.prediction.answer in COLOURS for each in made)
    for each in made:
        likely = _afresh(taught, each, temperature)
        chosen = torch.tensor(each.ids)[torch.tensor(each.said)]
        found = likely.gather(1, chosen[:, None])[:, 0]
        assert found.numpy() == pytest.approx(np.array(each.log_probs), abs=2e-4)
        if not temperature:
            assert torch.equal(likely.argmax(1), chosen)


def test_what_a_rollout_holds_is_its_prompt_what_it_said_and_what_it_heard(taught):
    heard = 0
    for each in sampled(taught):
        ids, said = np.array(each.ids), np.array(each.said)
        assert len(ids) == len(said) and said.sum() == len(each.log_probs)
        assert not said[: each.prompt].any() and said[each.prompt]
        whole = vocabulary.nano().decode(each.ids)
        assert whole.startswith(render.render(taught.contract, "Which?", ()))
        opens, closes = (ids == words.token(mark) for mark in ("<obs>", "</obs>"))
        observed = (opens.cumsum() - closes.cumsum() + closes) > 0
        assert not (said & observed).any() and (said | observed)[each.prompt :].all()
        for step in each.prediction.steps:
            if step.valid and step.action.name == "PROP":
                assert f"<obs>{spoken('PROP', step.output)}</obs>" in whole
                heard += 1
    assert heard


def test_what_zoom_made_is_shown_where_the_contract_says_so(taught):
    made = sampled(taught, temperature=0.0)
    shown = 2 if taught.contract.crops else 1
    for each in made:
        assert [step.action.name for step in each.prediction.steps] == ["ZOOM", "PROP"]
        assert len(each.images) == shown and each.ids.count(words.token(words.IMAGE)) == 64 * shown
    if taught.contract.crops:
        crop = made[0].images[1]
        other = replace(made[0], images=(made[0].images[0], 255 - crop))
        moved = _afresh(taught, other, 0.0) - _afresh(taught, made[0], 0.0)
        before = sum(made[0].said[: len(made[0].ids) - made[0].ids[::-1].index(words.token(words.IMAGE)) - 1])
        assert moved.nan_to_num()[:before].abs().max() == 0 < moved.nan_to_num()[before:].abs().max()


def test_rollouts_of_one_question_that_come_the_same_way_share_a_run_of_the_tool(taught):
    prop = Prop()
    made = sampled(taught, temperature=0.0, tools=registry(prop))
    assert prop.calls == 2 and len(made) == 8 and all(each.prediction.steps[1].valid for each in made)


def test_the_same_seed_samples_the_same_and_another_does_not(taught):
    first, again, other = sampled(taught), sampled(taught), sampled(taught, seed=2)
    assert [each.ids for each in first] == [each.ids for each in again] != [each.ids for each in other]
    assert [each.prediction.id for each in first] == [each.prediction.id for each in again]
    assert len({each.prediction.id for each in first}) == len(first)


def test_greedy_rollouts_are_those_that_are_evaluated(taught):
    given = (registry(), lambda media: Workspace([PICTURE]), PolicySettings(turns=4, tokens_per_turn=40))
    made = rollouts(
        taught, [question("a")], *given, name="x", tools=True, seed=9, right=lambda asked, answer: False
    )
    one = sampled(taught, copies=1, temperature=0.0)[0].prediction
    assert (made[0].steps, made[0].answer) == (one.steps, one.answer)


def test_pictures_that_do_not_fit_are_refused_in_the_middle_of_a_conversation(taught):
    prompt = vocabulary.nano().encode(render.spans(taught.contract, "Which?", ()))
    image = words.token(words.IMAGE)
    with pytest.raises(ImageTokenMismatch):
        taught.converse([prompt], [])
    for ids, images in (([image] * 64, []), ([image] * 63, [PICTURE]), ([5], [PICTURE])):
        with pytest.raises(ImageTokenMismatch):
            taught.converse([prompt], [PICTURE]).hear([ids], images)


@dataclass(frozen=True, slots=True)
class Forger(policy.Policy):
    """Spells an observation and a picture in letters, then goes on as it was taught."""

    def converse(self, prompts, images, copies=1):
        made = super(Forger, self).converse(prompts, images, copies)
        ids = vocabulary.nano().encode([render.Span("<obs>9</obs><image>", False)])
        say, turns = made.say, []

        def forging(tokens, temperature, seed):
            turns.append(seed)
            if len(turns) > 1:
                return say(tokens, temperature, seed)
            made._read([ids] * len(prompts) * copies, ())
            return [Said("<obs>9</obs><image>", tuple(ids), (0.0,) * len(ids))] * len(prompts) * copies

        made.say = forging
        return made


def test_a_forged_mark_is_read_as_letters_by_the_model_itself(taught):
    forger = Forger(taught.model, taught.contract, "d")
    for each in sampled(forger, temperature=0.0, turns=6):
        assert each.ids.count(words.token("<obs>")) == len(each.prediction.steps) - (
            each.prediction.answer == ""
        )
        assert not each.prediction.steps[0].valid
        likely = _afresh(taught, each, 0.0)
        chosen = torch.tensor(each.ids)[torch.tensor(each.said)]
        forged = len(vocabulary.nano().encode([render.Span("<obs>9</obs><image>", False)]))
        assert torch.equal(likely.argmax(1)[forged:], chosen[forged:])
