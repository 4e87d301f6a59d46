import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.agent import large, render, skeleton, vocabulary
from pixelis_pipeline.agent.batch import ImageTokenMismatch
from pixelis_pipeline.agent.grammar import write_answer, write_call
from pixelis_pipeline.agent.policy import PolicyError, Said, opened
from pixelis_pipeline.agent.published import POLICIES
from pixelis_pipeline.agent.render import RenderMismatch, Turn
from pixelis_pipeline.agent.rollout import rollouts
from pixelis_pipeline.records import Action, Media, Origin, Question
from pixelis_pipeline.settings import PolicySettings, ToolSettings
from pixelis_pipeline.tools.contract import Workspace
from pixelis_pipeline.tools.registry import default_registry
from tests.agent import tiny_large

HERE = PolicySettings(device="cpu", dtype="float32", picture_tokens_least=4, picture_tokens_most=30, batch=4)
SIGHTED = ("qwen2.5-vl-7b", "qwen3-vl-8b")
# config.json as it stands on the hub, in the two ages of its format; what decides no shape is left out.
HUB = {
    "qwen2.5-vl-7b": {
        **{"model_type": "qwen2_5_vl", "hidden_size": 3584, "intermediate_size": 18944},
        **{"num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4},
        **{"max_position_embeddings": 128000, "max_window_layers": 28, "sliding_window": 32768},
        **{"use_sliding_window": False, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0},
        **{"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "vocab_size": 152064},
        "vision_config": {
            **{"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "in_chans": 3},
            **{"out_hidden_size": 3584, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14},
            **{"window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2},
            **{"temporal_patch_size": 2},
        },
    },
    "qwen3-vl-8b": {
        "model_type": "qwen3_vl",
        "text_config": {
            **{"model_type": "qwen3_vl_text", "hidden_size": 4096, "intermediate_size": 12288},
            **{"num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8},
            **{"head_dim": 128, "max_position_embeddings": 262144, "rms_norm_eps": 1e-06},
            **{"rope_theta": 5000000, "vocab_size": 151936},
            "rope_scaling": {
                **{"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
            },
        },
        "vision_config": {
            **{"model_type": "qwen3_vl", "depth": 27, "hidden_size": 1152, "intermediate_size": 4304},
            **{"num_heads": 16, "num_position_embeddings": 2304, "out_hidden_size": 4096},
            **{"patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2},
            **{"deepstack_visual_indexes": [8, 16, 24]},
        },
    },
    "qwen3-8b": {
        **{"model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "head_dim": 128},
        **{"num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8},
        **{"max_position_embeddings": 40960, "max_window_layers": 36, "use_sliding_window": False},
        **{"sliding_window": None, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000},
        **{"vocab_size": 151936},
    },
}


@pytest.fixture(scope="session", params=sorted(POLICIES))
def checkpoint(request, tmp_path_factory):
    """(name, folder, the shrunk numbers) of each policy."""
    folder = tmp_path_factory.mktemp("large") / request.param
    return request.param, folder, tiny_large.write(request.param, folder)


def _picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_published_numbers_make_the_published_model(name):
    made = skeleton.build(POLICIES[name])
    assert sum(weight.numel() for weight in made.parameters()) == POLICIES[name].parameters
    assert all(weight.is_meta for weight in made.parameters())


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_adapters_find_every_projection_of_the_language_model_and_no_other(name):
    made, text = skeleton.build(POLICIES[name]), POLICIES[name].text
    shapes = skeleton.targets(made)
    assert len(shapes) == 7 * text["num_hidden_layers"]
    assert not any("visual" in found for found in shapes)
    wide, inner = text["hidden_size"], text["intermediate_size"]
    ends = [shape for found, shape in shapes.items() if found.endswith(("gate_proj", "up_proj"))]
    assert ends == [(wide, inner)] * (2 * text["num_hidden_layers"])
    ranks = dict.fromkeys(shapes, 8)
    skeleton.check_ranks(ranks, made)
    first = next(iter(shapes))
    for wrong, told in (
        ({**ranks, first: 0}, "no rank 0"),
        ({**ranks, first: min(shapes[first]) + 1}, "has no rank"),
        ({**ranks, "model.visual.blocks.0.mlp.up_proj": 8}, "does not adapt"),
        ({found: rank for found, rank in ranks.items() if found != first}, "no rank for 1 "),
    ):
        with pytest.raises(ValueError, match=told):
            skeleton.check_ranks(wrong, made)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_hubs_own_config_is_the_named_one_and_a_changed_one_is_not(name):
    stored = HUB[name]
    assert large._differences(stored, POLICIES[name]) == []
    text = "text_config" if "text_config" in stored else None
    part = {**(stored[text] if text else stored), "num_hidden_layers": 12}
    changed = {**stored, text: part} if text else part
    whole = POLICIES[name].text["num_hidden_layers"]
    assert large._differences(changed, POLICIES[name]) == [f"num_hidden_layers is 12, not {whole}"]
    other = POLICIES["qwen3-8b" if name != "qwen3-8b" else "qwen3-vl-8b"]
    assert "model_type" in large._differences(stored, other)[0]


@pytest.mark.parametrize("name", SIGHTED)
def test_image_tokens_are_those_of_the_stock_processor(name):
    shown = large.contract(POLICIES[name], "0" * 64, PolicySettings())
    stock = large.pictures(shown)

    @given(height=st.integers(1, 3000), width=st.integers(1, 3000))
    @settings(max_examples=200, deadline=None, database=None)
    def same(height, width):
        narrow = max(height, width) > 200 * min(height, width)
        patches = 0 if narrow else stock.get_number_of_image_patches(height, width)
        assert shown.tokens(height, width) == patches // 4

    same()


@pytest.mark.parametrize("name", SIGHTED)
def test_the_template_written_out_is_what_the_stock_processor_makes_of_one_mark_a_picture(name, tmp_path):
    """The stock processor without its video part, which needs torchvision."""
    from transformers import PreTrainedTokenizerFast, Qwen2_5_VLProcessor, Qwen3VLProcessor

    stock = Qwen3VLProcessor if name == "qwen3-vl-8b" else Qwen2_5_VLProcessor

    class Images(stock):
        def __init__(self, image_processor=None, tokenizer=None, chat_template=None):
            super().__init__(image_processor, tokenizer, None, chat_template)

        @classmethod
        def get_attributes(cls):
            return ["image_processor", "tokenizer"]

    named = tiny_large.small(name)
    shown = large.contract(named, "0" * 64, PolicySettings())
    words = tiny_large.tokenizer()
    policy = large.LargePolicy(None, vocabulary.both(words), shown, "")
    sizes = [(480, 640), (37, 1000), (2000, 1500)]
    images = [_picture(*size) for size in sizes]
    turns = [Turn("<think>a</think>", "b", sizes[1]), Turn("c", "d"), Turn("e", "f", sizes[2])]
    whole = render.render(shown, "Which?", turns, picture=sizes[0])
    row = policy.vocabulary.encode(render.spans(shown, "Which?", turns, picture=sizes[0]))
    ours = policy.collate([row], images)
    mark = render.QWEN.image
    short = whole
    while mark * 2 in short:
        short = short.replace(mark * 2, mark)
    assert short.count(mark) == 3
    made = Images(large.pictures(shown), PreTrainedTokenizerFast(tokenizer_object=words))
    theirs = made(text=[short], images=images, return_tensors="pt")
    assert torch.equal(ours.ids, theirs["input_ids"]) and torch.equal(ours.grid, theirs["image_grid_thw"])
    assert torch.equal(ours.pixels, theirs["pixel_values"])
    assert torch.equal(ours.kinds, theirs["mm_token_type_ids"].long())


def _load(folder, named):
    """The policy with a short system turn: the tools' schemas are 4,500 tokens where a letter is one."""
    policy = large.load(folder, HERE, named)
    return replace(policy, contract=replace(policy.contract, system="Look."))


def _prompts(policy, images):
    return [
        policy.vocabulary.encode(render.spans(policy.contract, question, (), picture=image.shape[:2]))
        for question, image in zip(("Which?", "What does the label say?"), images, strict=False)
    ]


def _say(policy, prompts, images, tokens, temperature=0.0, seed=0):
    return [said.text for said in policy.converse(prompts, images).say(tokens, temperature, seed)]


def test_a_policy_is_loaded_and_a_batch_says_what_each_row_says_alone(checkpoint):
    _, folder, named = checkpoint
    (folder / "generation_config.json").write_text('{"repetition_penalty": 50.0, "max_new_tokens": 1}')
    policy = _load(folder, named)
    assert len(policy.digest) == 64
    images = [_picture(60, 90), _picture(200, 100, seed=1)]
    seen = images if named.vision else []
    prompts = _prompts(policy, images)
    together = _say(policy, prompts, seen, 10)
    alone = [_say(policy, [p], seen[k : k + 1], 10)[0] for k, p in enumerate(prompts)]
    assert together == alone and together[0] != together[1]
    (folder / "generation_config.json").unlink()
    assert _say(_load(folder, named), prompts, seen, 10) == together
    if named.vision:
        assert _say(policy, prompts, [image // 8 for image in seen], 10) != together


def test_sampling_follows_its_seed_and_never_speaks_for_the_environment(checkpoint):
    _, folder, named = checkpoint
    policy = _load(folder, named)
    images = [_picture(60, 90)]
    seen = images if named.vision else []
    prompt = _prompts(policy, images)

    def sample(seed: int) -> list[str]:
        return _say(policy, prompt, seen, 12, 5.0, seed)

    assert sample(1) == sample(1) != sample(2)
    marks = set(tiny_large.SPECIAL) - set(large.SAID)
    assert not any(mark in text for seed in range(4) for text in sample(seed) for mark in marks)


def test_a_turn_ends_where_its_mark_is_spelt_and_an_earlier_one_does_not_count():
    words = vocabulary.both(tiny_large.tokenizer())
    before, after = words.marks.encode("</call>").ids, words.marks.encode("xx</answer>").ids
    ends = large._TurnEnds(words, len(before))
    assert ends(torch.tensor([before + after]), None).tolist() == [True]
    assert ends(torch.tensor([before + after[:-1]]), None).tolist() == [False]
    policy = large.LargePolicy(None, words, None, "")
    ids = words.marks.encode("<answer>A</answer>\nmore").ids
    pad = words.id(large.TURN_ENDS)
    assert policy.said([*ids, pad, pad], (pad,)) == Said("<answer>A</answer>", tuple(ids))
    assert policy.said(ids[:5], (pad,)) == Said("<answ", tuple(ids[:5]))


def test_a_prompt_that_does_not_fit_its_pictures_is_refused(checkpoint):
    _, folder, named = checkpoint
    if not named.vision:
        pytest.skip("it is shown no pictures")
    policy = _load(folder, named)
    image = _picture(60, 90)
    (prompt,) = _prompts(policy, [image])
    short = [id_ for at, id_ in enumerate(prompt) if at != prompt.index(policy.image)]
    for prompts, images, told in (
        ([prompt], [], "places for 1 pictures, there are 0"),
        ([prompt], [image, image], "there are 2"),
        ([prompt], [_picture(200, 90)], "image tokens for picture 0, which needs"),
        ([prompt, short], [image, image], "row 1 holds"),
    ):
        with pytest.raises(ImageTokenMismatch, match=told):
            _say(policy, prompts, images, 1)


def test_what_is_no_checkpoint_of_the_policy_is_refused_with_its_reason(checkpoint, tmp_path):
    name, folder, named = checkpoint
    files = {path.name: path.read_bytes() for path in folder.iterdir()}

    def told(change: dict[str, bytes | None]) -> str:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        place.mkdir()
        for file, content in (files | change).items():
            if content is not None:
                (place / file).write_bytes(content)
        with pytest.raises(PolicyError) as raised:
            large.load(place, HERE, named)
        return str(raised.value)

    pickled = {"model.safetensors": None, "pytorch_model.bin": files["model.safetensors"]}
    assert "pickled weights are not loaded" in told(pickled)
    assert "no tokenizer.json" in told({"tokenizer.json": None})
    assert "no config.json" in told({"config.json": None})
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    assert "lacks model-00002-of" in told({large.INDEX: json.dumps(index).encode()})
    config = json.loads(files["config.json"])
    assert "model_type is 'llama'" in told(
        {"config.json": json.dumps({**config, "model_type": "llama"}).encode()}
    )
    words = tiny_large.tokenizer().to_str().replace("<|im_start|>", "<|begin|>")
    assert "no token <|im_start|>" in told({"tokenizer.json": words.encode()})
    if named.vision:
        moved = {**config, "image_token_id": 3}
        assert "<|image_pad|> is " in told({"config.json": json.dumps(moved).encode()})
    from safetensors.torch import load, save

    weights = load(files["model.safetensors"])
    weights.pop(sorted(weights)[-1])
    assert "1 missing weights" in told({"model.safetensors": save(weights, {"format": "pt"})})
    with pytest.raises(PolicyError, match=r"is not of Qwen/"):
        large.load(folder, HERE.model_copy(update={"name": name}))  # the full-size policy of that name
    with pytest.raises(PolicyError, match="no folder"):
        large.load(tmp_path / "nowhere", HERE, named)


def test_a_checkpoint_of_another_contract_is_refused(checkpoint):
    _, folder, named = checkpoint
    loaded = large.load(folder, HERE, named)
    try:
        loaded.contract.write(folder / "render.json")
        large.load(folder, HERE, named)
        replace(loaded.contract, system="x").write(folder / "render.json")
        with pytest.raises(RenderMismatch, match="system differ"):
            large.load(folder, HERE, named)
    finally:
        (folder / "render.json").unlink()


class Scripted:
    """A loaded policy that says what it is told to, after its real inputs were made and run once."""

    def __init__(self, policy, turns):
        self.contract, self.digest, self.vocabulary = policy.contract, policy.digest, policy.vocabulary
        self._policy, self._turns, self.shown = policy, list(turns), []

    def converse(self, prompts, images, copies=1):
        self._conversation = self._policy.converse(prompts, images, copies)
        return self

    def say(self, tokens, temperature, seed):
        (row,), (images,) = self._conversation._rows, self._conversation._images
        self._policy.turns(self._policy.collate([row], images), 1, temperature, seed)
        self.shown.append(len(images))
        text = self._turns.pop(0)
        ids = self.vocabulary.encode([render.Span(text, text.startswith("<"))])
        row += ids
        return [Said(text, tuple(ids))]

    def hear(self, rows, images=()):
        self._conversation.hear(rows, images)

    def keep(self, rows):
        self._conversation.keep(rows)


def test_a_rollout_shows_each_crop_with_the_turn_that_made_it(checkpoint):
    _, folder, named = checkpoint
    crop = write_call("", Action("ZOOM", {"box": [100, 100, 400, 300], "scale": 2}))
    sliver = write_call("", Action("ZOOM", {"box": [0, 0, 999, 2], "scale": 1}))
    policy = Scripted(_load(folder, named), [crop, "see <|image_pad|><|im_end|>", sliver, write_answer("A")])
    image = _picture(500, 600)
    media = Media("0" * 64, "image", "x.png", 600, 500)
    question = Question("q", (), Origin("world", "q", "CC0", "evaluation"), (media,), "Which?", "A", "t")
    made = rollouts(
        policy,
        [question],
        default_registry(ToolSettings()),
        lambda media: Workspace([image]),
        HERE,
        name="base",
        tools=True,
        seed=0,
        right=lambda asked, answer: answer == "A",
    )
    assert made[0].correct and [step.valid for step in made[0].steps] == [True, False, True]
    assert policy.shown == ([1, 2, 2, 2] if named.vision else [0, 0, 0, 0])


def test_settings_choose_the_kind_of_policy(checkpoint, monkeypatch):
    name, folder, named = checkpoint
    monkeypatch.setitem(POLICIES, name, named)
    chosen = HERE.model_copy(update={"name": name})
    assert isinstance(opened(folder, chosen), large.LargePolicy)
    with pytest.raises(PolicyError, match=r"render\.json is missing"):
        opened(folder, HERE)


def test_a_hub_is_asked_only_for_a_commit():
    assert PolicySettings(hub="Qwen/Qwen3-8B@" + "a" * 40).hub
    for wrong in ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B@main"):
        with pytest.raises(ValueError, match="hub"):
            PolicySettings(hub=wrong)
    with pytest.raises(ValueError, match="one of them"):
        PolicySettings(hub="Qwen/Qwen3-8B@" + "a" * 40, weights="here")
