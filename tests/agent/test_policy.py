import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pixelis_pipeline.agent import decode, policy, render
from pixelis_pipeline.agent.render import RenderMismatch

PROMPTS = [
    render.render(render.nano(), text, ())
    for text in ("Which?", "What does the label on the green circle say, and what more?", "How many stars?")
]


def test_what_is_saved_is_loaded(model, folder):
    loaded = policy.load(folder)
    ours, theirs = dict(model.named_parameters()), dict(loaded.model.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())
    assert len(loaded.digest) == 64 and not any(folder.glob("*.bin"))


def test_saving_replaces_a_checkpoint_whole(model, tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "old").touch()
    assert policy.save(model, tmp_path / "p") == policy.save(model, tmp_path / "q")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p", "q"]
    assert not (tmp_path / "p" / "old").exists()


def test_another_contract_or_tokenizer_or_shape_is_refused(model, tmp_path):
    policy.save(model, tmp_path / "p")
    stored = json.loads((tmp_path / "p" / "render.json").read_text())
    (tmp_path / "p" / "render.json").write_text(json.dumps({**stored, "digest": "0" * 64, "system": "x"}))
    with pytest.raises(RenderMismatch, match="system"):
        policy.load(tmp_path / "p")
    policy.save(model, tmp_path / "p")
    (tmp_path / "p" / "tokenizer.json").write_text("{}")
    with pytest.raises(policy.PolicyError, match="tokenizer"):
        policy.load(tmp_path / "p")
    (tmp_path / "p" / "model.safetensors").unlink()
    with pytest.raises(policy.PolicyError, match="missing"):
        policy.load(tmp_path / "p")


@pytest.mark.parametrize("name", ["config.json", "render.json", "model.safetensors"])
@pytest.mark.parametrize("spoil", [lambda data: data[:40], lambda data: b"[]"])
def test_a_file_that_is_broken_off_is_named(model, tmp_path, name, spoil):
    policy.save(model, tmp_path / "p")
    path = tmp_path / "p" / name
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(policy.PolicyError, match=r"not JSON|no JSON object|cannot be loaded"):
        policy.load(tmp_path / "p")


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("text_config", "hidden_act", "relu"),
        ("text_config", "rms_norm_eps", 1.0),
        ("text_config", "attention_dropout", 0.5),
        ("text_config", "layer_types", ["sliding_attention", "full_attention"]),
        ("vision_config", "hidden_act", "relu"),
    ],
)
def test_a_configuration_that_is_not_nanos_is_refused(model, tmp_path, part, name, value):
    """The weights fit all the same, and the reader of rollouts would go by another function."""
    policy.save(model, tmp_path / "p")
    path = tmp_path / "p" / "config.json"
    stored = json.loads(path.read_text())
    stored[part][name] = value
    path.write_text(json.dumps(stored))
    with pytest.raises(policy.PolicyError, match=f"config.json sets {part}.{name}"):
        policy.load(tmp_path / "p")


def test_attention_is_not_a_checkpoints_choice(model, tmp_path):
    """transformers takes such a name for code on the hub."""
    policy.save(model, tmp_path / "p")
    path = tmp_path / "p" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"attn_implementation": "some/where"}))
    assert policy.load(tmp_path / "p").model.config._attn_implementation == model.config._attn_implementation


def test_weights_that_are_not_finite_are_refused(model, tmp_path):
    policy.save(model, tmp_path / "p")
    weights = load_file(tmp_path / "p" / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, tmp_path / "p" / "model.safetensors")
    with pytest.raises(policy.PolicyError, match="not finite"):
        policy.load(tmp_path / "p")


def test_a_batch_says_what_each_row_says_alone(folder, image):
    loaded = policy.load(folder)
    images = [image, image[:, ::-1], 255 - image]
    together = loaded.generate(PROMPTS, images, tokens=12)
    alone = [loaded.generate([p], [i], tokens=12)[0] for p, i in zip(PROMPTS, images, strict=True)]
    assert together == alone and len(set(together)) > 1


def test_the_cache_says_what_the_whole_row_says(model, folder, image):
    """Each next token, decoded with the cache, is the one that a fresh pass over the whole row gives."""
    from pixelis_pipeline.agent import nano, tokenizer
    from pixelis_pipeline.agent.batch import collate

    said = policy.load(folder).generate(PROMPTS[:1], [image], tokens=8)[0]
    never = [tokenizer.shared().token_to_id(mark) for mark in decode.NEVER]
    row = tokenizer.shared().encode(PROMPTS[0]).ids
    fresh = []
    with torch.inference_mode():
        for _ in range(8):
            scores = model.lm_head(nano.hidden_states(model, collate([row + fresh], [image], "left"))[0, -1])
            scores[never] = -torch.inf
            fresh.append(int(scores.argmax()))
    assert tokenizer.shared().decode(fresh, skip_special_tokens=False).startswith(said)


def test_sampling_follows_its_seed_and_never_speaks_for_the_environment(folder, image):
    loaded = policy.load(folder)

    def sample(seed: int) -> list[str]:
        return loaded.generate(PROMPTS, [image] * 3, tokens=30, temperature=3.0, seed=seed)

    assert sample(1) == sample(1) != sample(2)
    assert not any(mark in text for seed in range(5) for text in sample(seed) for mark in decode.NEVER)


def test_tokens_are_drawn_as_often_as_they_are_likely_and_never_where_they_are_not():
    chances = torch.tensor([0.0, 0.5, 0.0, 0.2, 0.3, 0.0])
    drawn = decode._choose(chances.log().expand(40_000, -1), 1.0, torch.Generator().manual_seed(3))
    shares = drawn.bincount(minlength=6) / len(drawn)
    assert (shares[chances == 0] == 0).all() and (shares - chances).abs().max() < 0.01
