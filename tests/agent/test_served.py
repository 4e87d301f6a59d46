"""Full-size policies whose turns a server says, which is a stand-in (`stand_in_vllm`): vLLM was not run."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import settings as tries
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from pixelis_pipeline.agent import large, render, served, vocabulary
from pixelis_pipeline.agent.batch import ImageTokenMismatch
from pixelis_pipeline.agent.grammar import write_answer, write_call
from pixelis_pipeline.agent.policy import PolicyError
from pixelis_pipeline.agent.published import POLICIES
from pixelis_pipeline.agent.rollout import rollouts
from pixelis_pipeline.records import Action, Media, Origin, Question
from pixelis_pipeline.settings import PolicySettings, ToolSettings
from pixelis_pipeline.tools.contract import Workspace
from pixelis_pipeline.tools.registry import default_registry
from tests.agent import stand_in_vllm, tiny_large

OWN = PolicySettings(
    name="qwen3-vl-8b", device="cpu", dtype="float32", picture_tokens_least=4, picture_tokens_most=30, batch=4
)
HERE = OWN.model_copy(update={"rollouts": "vllm"})
NAMES = ("qwen3-vl-8b", "qwen2.5-vl-7b", "qwen3-8b")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """(folder, the shrunk numbers) of a policy, by name."""
    made: dict[str, Any] = {}

    def of(name: str):
        if name not in made:
            folder = tmp_path_factory.mktemp("served") / name
            made[name] = folder, tiny_large.write(name, folder)
        return made[name]

    return of


@pytest.fixture
def engines(monkeypatch):
    return stand_in_vllm.install(monkeypatch)


@pytest.fixture
def pair(checkpoints, engines, request):
    """A policy that says its turns itself, and the same one served."""
    folder, named = checkpoints(getattr(request, "param", NAMES[0]))
    own, other = (large.load(folder, settings, named) for settings in (OWN, HERE))
    return tuple(replace(each, contract=replace(each.contract, system="Look.")) for each in (own, other))


each_policy = pytest.mark.parametrize("pair", NAMES, indirect=True)


def _picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _prompt(policy, image, question="Which?") -> list[int]:
    return policy.vocabulary.encode(render.spans(policy.contract, question, (), picture=image.shape[:2]))


def _first(policy, temperature=0.0, seed=0, tokens=8, copies=1):
    image = _picture(60, 90)
    seen = [image] if policy.contract.pixels else []
    return policy.converse([_prompt(policy, image)], seen, copies).say(tokens, temperature, seed)


@each_policy
def test_a_conversation_goes_the_same_way_by_either(pair):
    """Two rows of each of two prompts; one of each goes on, the second with a crop."""
    images, crop = [_picture(60, 90), _picture(200, 100, 1)], _picture(40, 44, 2)

    def talk(policy):
        seen = bool(policy.contract.pixels)
        prompts = [
            _prompt(policy, image, asked) for image, asked in zip(images, ("Which?", "Why?"), strict=True)
        ]
        conversation = policy.converse(prompts, images if seen else [], 2)
        said = conversation.say(6, 0.0, 0)
        conversation.keep([1, 3])
        heard = [
            policy.vocabulary.encode(render.reply(policy.contract, "so", size))
            for size in (None, crop.shape[:2])
        ]
        conversation.hear(heard, [crop] if seen else [])
        return said, conversation.say(6, 0.0, 0)

    alone, together = talk(pair[0]), talk(pair[1])
    for own, other in zip(alone, together, strict=True):
        assert [(said.text, said.ids) for said in other] == [(said.text, said.ids) for said in own]
        assert all(len(said.log_probs) == len(said.ids) > 0 for said in other)
    assert len({said.ids for turn in alone for said in turn}) > 2, "what is said depends on what is shown"


@each_policy
def test_log_probabilities_are_those_of_what_was_sampled_from(pair):
    own, other = pair
    (said,) = _first(other, 1.5, 3)
    image = _picture(60, 90)
    row = [*_prompt(own, image), *said.ids]
    given = own.collate([row], [image] if own.contract.pixels else [])
    scores = own.model(**given.arguments()).logits[0, -len(said.ids) - 1 : -1].detach() / 1.5
    scores[:, list(own.never)] = -torch.inf
    expected = scores.log_softmax(-1).gather(1, torch.tensor(said.ids)[:, None])[:, 0]
    assert torch.allclose(torch.tensor(said.log_probs), expected, atol=1e-4)


def test_sampling_follows_its_seed_differs_by_row_and_leaves_the_process_its_own_chances(pair):
    _, policy = pair
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, other = _first(policy, 2.0, 1, copies=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert [said.ids for said in _first(policy, 2.0, 1, copies=2)] == [one.ids, other.ids]
    assert one.ids != other.ids and _first(policy, 2.0, 2)[0].ids != one.ids
    texts = [said.text for seed in range(4) for said in _first(policy, 2.0, seed, tokens=16)]
    assert not any(mark in text for text in texts for mark in policy.never.values())


@pytest.mark.parametrize("name", [name for name in NAMES if POLICIES[name].vision])
def test_a_picture_comes_with_the_pixels_that_the_contract_shows(name):
    shown = large.contract(POLICIES[name], "0" * 64, PolicySettings(picture_tokens_most=128))
    policy = large.LargePolicy(None, vocabulary.both(tiny_large.tokenizer()), shown, "")

    @given(height=st.integers(1, 900), width=st.integers(1, 900))
    @example(height=1, width=1)
    @example(height=3, width=500)
    @tries(max_examples=25, deadline=None, database=None)
    def same(height, width):
        if not (tokens := shown.tokens(height, width)):
            return
        image = _picture(height, width)
        made = served.resized(image, shown)
        assert made.width * made.height == tokens * shown.pixels["unit"] ** 2
        row = [policy.image] * tokens
        ours, theirs = (policy.collate([row], [each]) for each in (image, np.asarray(made)))
        assert torch.equal(ours.grid, theirs.grid) and torch.equal(ours.pixels, theirs.pixels)

    same()


def test_pictures_and_places_that_do_not_fit_are_refused(pair, engines):
    _, policy = pair
    image = _picture(60, 90)
    prompt = _prompt(policy, image)
    for images, told in (([], "there are 0"), ([image] * 2, "there are 2"), ([_picture(200, 90)], "needs")):
        with pytest.raises(ImageTokenMismatch, match=told):
            policy.converse([prompt], images).say(2, 0.0, 0)
    assert not engines, "nothing was asked"
    _first(policy)
    engines[0].pictures.size = {"shortest_edge": 8 * 32**2, "longest_edge": 30 * 32**2}
    with pytest.raises(ImageTokenMismatch, match=f"row 0 is {len(prompt)} tokens, 6 of them .* and 12"):
        _first(policy)


def test_an_adapter_is_served_as_it_is_and_never_as_it_was(pair, engines):
    def learns(policy):
        torch.manual_seed(0)
        layers = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj"], task_type="CAUSAL_LM")
        return replace(policy, model=get_peft_model(policy.model, layers).eval())

    def move(policy, seed):
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, weight in policy.model.named_parameters():
                if "lora_B" in name:
                    weight.copy_(torch.randn_like(weight))

    own, other = map(learns, pair)
    told = []
    for seed in (1, 2):
        for policy in (own, other):
            move(policy, seed)
        told.append(_first(other)[0].ids)
        assert told[-1] == _first(own)[0].ids
    assert told[0] != told[1]
    _first(other)
    (engine,) = engines
    assert engine.events == [1, 2, 2], "one number a state"
    other.server.rest()
    other.server.rest()
    assert _first(other)[0].ids == told[1]
    assert engine.events[3:] == ["sleep", "wake", 3], "asleep, it lost what it had read"


def test_a_rollout_calls_tools_and_a_turn_ends_with_its_mark_though_more_was_said(pair, engines):
    _, policy = pair
    _first(policy)
    crop = write_call("", Action("ZOOM", {"box": [100, 100, 400, 300], "scale": 2}))
    engines[0].scripts, engines[0].late = [crop + "late", write_answer("A") + "late"], 4
    image = _picture(500, 600)
    media = Media("0" * 64, "image", "x.png", 600, 500)
    question = Question("q", (), Origin("world", "q", "CC0", "evaluation"), (media,), "Which?", "A", "t")
    heard: list[Any] = []
    converse = type(policy).converse

    def listened(self, *given):
        heard.append(converse(self, *given))
        return heard[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(policy), "converse", listened)
        (made,) = rollouts(
            *(policy, [question], default_registry(ToolSettings()), lambda media: Workspace([image])),
            HERE,
            name="base",
            tools=True,
            seed=0,
            right=lambda asked, answer: answer == "A",
        )
    assert made.correct and [step.valid for step in made.steps] == [True]
    words = policy.vocabulary.decode(heard[0]._rows[0])
    assert "late" not in words and words.endswith("<answer>A</answer>")
    assert len(heard[0]._images[0]) == 2


def test_what_cannot_be_served_is_refused_with_its_reason(checkpoints, engines, monkeypatch):
    folder, named = checkpoints(NAMES[0])
    short = HERE.model_copy(update={"server_tokens": 40})
    policy = large.load(folder, short, named)
    policy = replace(policy, contract=replace(policy.contract, system="Look."))
    with pytest.raises(PolicyError, match=r"policy\.server_tokens has room for 40"):
        _first(policy)
    with pytest.raises(PolicyError, match="serves one policy"):
        large.load(folder, HERE, named)
    monkeypatch.setattr(served, "_RUNNING", [])
    with monkeypatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        with pytest.raises(PolicyError, match="serves one process"):
            large.load(folder, HERE, named)
    monkeypatch.setitem(sys.modules, "vllm", None)  # as where it is not installed
    with pytest.raises(PolicyError, match=r"pip install 'pixelis\[vllm\]'"):
        large.load(folder, HERE, named)
    with pytest.raises(ValueError, match="no server knows the nano policy"):
        PolicySettings(rollouts="vllm")
