import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.agent import policy
from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.records import canonical
from tests.training.conftest import opens, trace
from training.frozen import Changed
from training.sft import exports, scalers
from training.sft.exports import Moments
from training.sft.heads import Heads
from training.sft.pool import pool

numbers = st.lists(st.lists(st.floats(-50, 50), max_size=20), max_size=8).filter(lambda parts: any(parts))


@settings(deadline=None)
@given(numbers)
def test_running_moments_are_those_of_all_values(parts):
    running = Moments()
    for part in parts:
        running.add(np.array(part))
    whole = np.concatenate([np.array(part) for part in parts])
    told = running.told()
    assert told["count"] == len(whole)
    assert told["mean"] == pytest.approx(whole.mean(), abs=1e-9)
    assert told["variance"] == pytest.approx(whole.var(), abs=1e-6)


def test_nothing_has_no_variance():
    assert Moments().told() == {"count": 0, "mean": 0.0, "variance": 0.0}


def test_normalisers_are_those_of_the_learned_tokens_and_need_no_batch_size(base):
    import torch

    from training.sft.objective import inputs, told

    model = policy.load(base).model
    held = pool([trace(k) for k in range(5)], opens, 2.0)
    one, counts = exports.statistics(model, held, 5)
    two, _ = exports.statistics(model, held, 2)
    for name in ("log_probability", "entropy"):
        assert one[name] == pytest.approx(two[name], rel=1e-4)
    with torch.inference_mode():
        said, _ = told(model, inputs(held.examples, held.images))
    assert (
        one["log_probability"]["count"] == len(said.ids) == sum((e.weights > 0).sum() for e in held.examples)
    )
    chances = said.scores.gather(1, said.ids[:, None]).numpy()
    assert one["log_probability"]["mean"] == pytest.approx(chances.mean(), rel=1e-4)
    assert one["entropy"]["mean"] == pytest.approx(
        torch.distributions.Categorical(logits=said.scores).entropy().mean().item(), rel=1e-4
    )
    assert counts["PROP"]["scale"] == pytest.approx(1.0) and counts["PROP"]["tokens"] > 0
    assert counts["SEG"] == {"scale": 1.0, "surprise": 0.0, "tokens": 0}


def test_a_tool_whose_calls_surprise_more_counts_less_within_bounds():
    made = scalers.scalers({"SEG": (10, 2.0), "OCR": (10, 1.0), "ZOOM": (10, 0.001)})
    assert made["SEG"]["scale"] == pytest.approx(max(3.001 / 3 / 2, 0.5))
    assert made["OCR"]["scale"] == pytest.approx(3.001 / 3)
    assert made["ZOOM"]["scale"] == 2.0


def test_what_is_written_names_its_digest(tmp_path):
    from safetensors.torch import load_file

    heads = Heads(24, 7)
    normalisers, counts = {"entropy": {"mean": 0.5}}, {"SEG": {"scale": 0.75}}
    files = exports.write(tmp_path / "a", heads, normalisers, counts)
    assert files == exports.write(tmp_path / "b", heads, normalisers, counts)
    assert scalers.read(tmp_path / "a") == {"SEG": 0.75}
    assert files == {path.name: sha256(path) for path in (tmp_path / "a").iterdir()}
    stored = json.loads((tmp_path / "a" / exports.NORMALISERS).read_text())
    digest = stored.pop("digest")
    assert stored == normalisers and digest == hashlib.sha256(canonical(normalisers)).hexdigest()
    (tmp_path / "b" / scalers.FILE).write_text(
        (tmp_path / "b" / scalers.FILE).read_text().replace("0.75", "2.0")
    )
    with pytest.raises(Changed, match="was changed"):
        scalers.read(tmp_path / "b")
    loaded = Heads(24, 8)
    loaded.load_state_dict(load_file(tmp_path / "a" / exports.HEADS))
    assert all((a == b).all() for a, b in zip(loaded.parameters(), heads.parameters(), strict=True))
