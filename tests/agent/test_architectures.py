"""nano in the architectures of Qwen2.5-VL and of text-only Qwen3: the same code runs and teaches them."""

import numpy as np
import pytest
import torch

from pixelis_pipeline.agent import batch, nano, policy, render, tokenizer

SIZES = {"hidden": 32, "layers": 2, "vision": 32, "depth": 1}
CONFIGURATIONS = {
    "qwen3-vl": nano.configuration(**SIZES),
    "qwen2.5-vl": nano.qwen2_5(**SIZES),
    "qwen3": nano.text_only(hidden=32, layers=2),
}
GREY, BRIGHT = (np.full((32, 32, 3), level, np.uint8) for level in (40, 220))


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def made(request):
    return nano.build(CONFIGURATIONS[request.param], seed=1)


def _rows(made, questions, ending=""):
    contract = render.nano(sees=nano.sees(made))
    return [tokenizer.shared().encode(render.render(contract, q, (), ending)).ids for q in questions]


@pytest.mark.parametrize("side", ["left", "right"])
def test_positions_are_those_of_the_stock_qwen_2_5(image, side):
    model = nano.build(CONFIGURATIONS["qwen2.5-vl"], seed=1)
    rows = _rows(model, ("Which?", "What colour is the largest shape of all?"))
    given = batch.collate(rows, [image, image], side)
    types = (given.ids == model.config.image_token_id).int()
    stock, _ = model.model.get_rope_index(given.ids, types, given.grid, attention_mask=given.attention)
    assert torch.equal(given.positions, stock)


def test_a_checkpoint_comes_back_as_what_it_was(made, tmp_path):
    digest = policy.save(made, tmp_path / "p")
    loaded = policy.load(tmp_path / "p")
    assert type(loaded.model) is type(made) and loaded.digest == digest
    theirs = dict(loaded.model.named_parameters())
    assert all(torch.equal(weight, theirs[name]) for name, weight in made.named_parameters())
    assert loaded.contract == render.nano(sees=nano.sees(made))


def test_another_architecture_is_refused():
    with pytest.raises(ValueError, match="'llama'"):
        nano.from_json({"model_type": "llama"})


def test_pictures_are_not_dropped_by_a_model_without_sight(image):
    blind = nano.build(CONFIGURATIONS["qwen3"], seed=1)
    rows = _rows(nano.build(CONFIGURATIONS["qwen3-vl"], seed=1), ["Which?"])
    with pytest.raises(ValueError, match="no vision tower"):
        nano.hidden_states(blind, batch.collate(rows, [image], "left"))


def test_a_tiny_set_is_learned_by_heart(made, tmp_path):
    """Two answers that only the picture tells apart (for the text-only model: only the question), and the
    turns that are then decoded are those."""
    sight = nano.sees(made)
    questions = ["Which?", "Which?"] if sight else ["Which word?", "How many?"]
    images = [GREY, BRIGHT] if sight else []
    answers = ["<answer>dark</answer>", "<answer>bright</answer>"]
    prompts = _rows(made, questions)
    rows = [_rows(made, [q], a)[0] for q, a in zip(questions, answers, strict=True)]
    given = batch.collate(rows, images, "right")
    told = torch.zeros_like(given.ids, dtype=torch.bool)
    for index, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        told[index, len(prompt) : len(row)] = True
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
    for _ in range(150):
        scores = made.lm_head(nano.hidden_states(made, given)[:, :-1][told[:, 1:]])
        loss = torch.nn.functional.cross_entropy(scores, given.ids[told])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.02:
            break
    assert loss.item() < 0.02
    policy.save(made.eval(), tmp_path / "p")
    loaded = policy.load(tmp_path / "p")
    texts = [render.render(loaded.contract, question, ()) for question in questions]
    assert loaded.generate(texts, images, tokens=8) == answers
