"""Ranks, from spectra to adapters: bounds, smoothing, the file, two checkpoints, what peft makes of them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from pixelis_pipeline.agent import nano
from pixelis_pipeline.settings import RankSettings
from tests.training.conftest import SIZES
from training.sft import ranks
from training.sft.ranks import RankError, Ranks, choose, pattern, smooth, study
from training.sft.spectrum import Spectrum

EXACT = RankSettings(least=1, most=64, window=1)


def planted(rank: int, rows: int = 64, columns: int = 64) -> Spectrum:
    """`rank` equal values that hold 90.5 % of the energy, so that for 90 % each of them is needed."""
    return Spectrum((1.0,) * rank, rank / 0.905, (rows, columns))


def stack(measured: list[int], module: str = "mlp.up_proj") -> dict[str, Spectrum]:
    return {f"model.layers.{at}.{module}": planted(rank) for at, rank in enumerate(measured)}


def chosen(measured: list[int], **given) -> list[int]:
    return [layer.rank for layer in choose(stack(measured), RankSettings(**given)).layers.values()]


def test_ranks_are_bounded_then_smoothed():
    assert chosen([2, 5, 9, 3], least=1, most=8, window=1) == [2, 5, 8, 3]
    assert chosen([2, 5, 9, 3], least=4, most=64, window=1) == [4, 5, 9, 4]
    assert chosen([2, 9, 4, 4, 8], least=1, window=3) == [6, 4, 4, 4, 6]  # 5.5 at the start is rounded up
    assert chosen([2, 9, 4, 4, 8], least=1, window=5) == [4, 4, 4, 6, 4]
    assert chosen([9], least=1, window=3) == [9]


def test_kinds_are_smoothed_apart_and_in_the_order_of_their_depth():
    names = [f"{tower}.layers.{k}.{m}" for tower in ("a", "b") for k in (10, 9, 2) for m in ("up", "down")]
    given_ranks = {name: {"10": 30, "9": 2, "2": 1}[name.split(".")[2]] for name in names}
    smoothed = smooth(given_ranks, 3)
    assert list(smoothed) == names
    assert {n.split(".")[2]: r for n, r in smoothed.items()} == {"10": 16, "9": 2, "2": 2}
    assert smoothed == smooth(dict(reversed(given_ranks.items())), 3)


def test_what_a_smoothed_rank_keeps_is_told():
    found = choose(stack([10, 2, 2]), RankSettings(least=1)).layers["model.layers.0.mlp.up_proj"]
    assert (found.measured, found.rank) == (10, 6)
    assert found.kept == pytest.approx(0.905 * 6 / 10)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), min_size=1, max_size=9),
    st.integers(1, 20),
    st.integers(0, 20),
    st.sampled_from([1, 3, 5]),
)
def test_every_rank_lies_within_its_bounds(layers, least, more, window):
    """Whatever was measured, and however narrow a matrix is beside its neighbours."""
    spectra = {
        f"layers.{at}.up_proj": planted(rank, side, 50) if rank else Spectrum((), 0.0, (side, 50))
        for at, (rank, side) in enumerate(layers)
    }
    found = choose(spectra, RankSettings(least=least, most=least + more, window=window))
    for name, layer in found.layers.items():
        side = spectra[name].shape[0]
        assert min(least, side) <= layer.rank <= min(least + more, side)


def test_no_difference_gives_the_least_rank():
    spectra = {"layers.0.q_proj": Spectrum((), 0.0, (64, 64))}
    layer = choose(spectra, RankSettings(least=4)).layers["layers.0.q_proj"]
    assert (layer.measured, layer.rank, layer.kept) == (0, 4, 1.0)


@pytest.fixture
def written(tmp_path) -> tuple[Path, Ranks]:
    spectra = stack([3, 40, 5]) | {"layers.0.q_proj": Spectrum((0.1 + 0.2, 1e-30), 123.456, (7, 9))}
    found = choose(spectra, RankSettings(device="cpu", seed=3))
    found.write(tmp_path / "ranks.json")
    return tmp_path / "ranks.json", found


def test_ranks_are_read_as_they_were_written(written):
    path, found = written
    assert Ranks.read(path) == found
    assert found.layers["layers.0.q_proj"].measured is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t[: len(t) // 2], "holds no ranks"),
        (lambda t: b"", "holds no ranks"),
        (lambda t: b"[]", "holds no ranks"),
        (lambda t: b"\xff" + t, "holds no ranks"),
        (
            lambda t: t.replace(b'"measured"', b'"guessed"'),
            "holds no ranks.*guessed|holds no ranks.*measured",
        ),
        (lambda t: t.replace(b'"least": 4', b'"least": 400'), "least"),
        (lambda t: re.sub(rb'"rank": \d+', b'"rank": 63', t, count=1), "follow from its spectra"),
        (lambda t: t.replace(b'"energy": 0.9', b'"energy": 0.1'), "follow from its spectra"),
    ],
)
def test_a_damaged_file_is_refused(written, change, told):
    path, _ = written
    damaged = change(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(RankError, match=f"ranks.json.*{told}"):
        Ranks.read(path)


QUERIES = EXACT.model_copy(update={"targets": ("q_proj",)})
RANK = {"q_proj": 3, "v_proj": 1, "down_proj": 11, "linear_fc1": 7}


@pytest.fixture
def tuned(base, tmp_path) -> Path:
    """`base` with changes of known rank to some kinds of module, and of no rank that counts elsewhere."""
    weights = load_file(base / "model.safetensors")
    rng = torch.Generator().manual_seed(0)
    for name, weight in weights.items():
        module = name.removesuffix(".weight").rpartition(".")[2]
        if "embed" in name or "norm" in name:
            weights[name] = weight + 1
        elif weight.ndim == 2 and (rank := RANK.get(module, 0)):
            left, right = (torch.linalg.qr(torch.randn(n, rank, generator=rng)).Q for n in weight.shape)
            weights[name] = weight + left @ right.T
    (tmp_path / "tuned").mkdir()
    save_file(weights, tmp_path / "tuned" / "model.safetensors")
    return tmp_path / "tuned"


def test_two_checkpoints_are_compared(base, tuned, tmp_path):
    told: list[tuple[int, int]] = []
    found = study(base, tuned, tmp_path / "out", EXACT, lambda done, all_: told.append((done, all_)))
    linear = {
        name
        for name, module in nano.build(nano.configuration(**SIZES), 0).named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    assert set(found.layers) == linear
    for name, layer in found.layers.items():
        rank = RANK.get(name.rpartition(".")[2], 0)
        assert (layer.measured, layer.rank) == (int(np.ceil(0.9 * rank)), max(int(np.ceil(0.9 * rank)), 1))
    assert told == [(k + 1, len(linear)) for k in range(len(linear))]
    assert Ranks.read(tmp_path / "out" / "ranks.json") == found
    picture = np.asarray(Image.open(tmp_path / "out" / "spectra.png").convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(first) == {"ranks.json", "spectra.png"}
    study(base, tuned, tmp_path / "out", EXACT)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == first


def test_shards_are_read_by_their_index(base, tuned, tmp_path):
    weights = load_file(tuned / "model.safetensors")
    sharded, index = tmp_path / "sharded", {}
    sharded.mkdir()
    for at in range(3):
        part = {name: weights[name] for name in sorted(weights)[at::3]}
        index |= dict.fromkeys(part, f"model-{at}.safetensors")
        save_file(part, sharded / f"model-{at}.safetensors")
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert study(base, sharded, tmp_path / "a", QUERIES) == study(base, tuned, tmp_path / "b", QUERIES)
    (sharded / "model-1.safetensors").unlink()
    with pytest.raises(RankError, match=r"model-1\.safetensors cannot be read"):
        study(base, sharded, tmp_path / "c", QUERIES)
    (sharded / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(RankError, match="no index of weights"):
        study(base, sharded, tmp_path / "c", QUERIES)


QUERY = "model.language_model.layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("weight", "told"),
    [
        (None, rf"1 weights on one side only: {QUERY} is in \S*nano\d*, not in \S*tuned"),
        (torch.zeros(64, 32), rf"{QUERY}: shapes differ: \[64, 64\].*\[64, 32\]"),
        (torch.full((64, 64), float("nan")), rf"{QUERY}: .*not finite"),
        (torch.zeros(64, 64, dtype=torch.int8), rf"{QUERY}: .*int8"),
    ],
)
def test_checkpoints_that_do_not_fit_are_named(base, tuned, tmp_path, weight, told):
    weights = load_file(tuned / "model.safetensors")
    del weights[f"{QUERY}.weight"]
    save_file(weights | ({} if weight is None else {f"{QUERY}.weight": weight}), tuned / "model.safetensors")
    with pytest.raises(RankError, match=told):
        study(base, tuned, tmp_path / "out", QUERIES)
    assert not (tmp_path / "out" / "ranks.json").exists()


def test_a_folder_without_weights_or_targets_is_an_error(base, tuned, tmp_path):
    with pytest.raises(RankError, match="cannot be read"):
        study(base, tmp_path, tmp_path / "out", QUERIES)
    (tuned / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(RankError, match=r"tuned/model\.safetensors cannot be read"):
        study(base, tuned, tmp_path / "out", QUERIES)
    with pytest.raises(RankError, match="holds a matrix of wte"):
        study(base, base, tmp_path / "out", RankSettings(targets=("wte",)))


def test_no_ranks_are_written_where_the_picture_fails(base, tuned, tmp_path, monkeypatch):
    def fail(_: Ranks) -> bytes:
        raise OSError("disk full")

    monkeypatch.setattr(ranks, "draw", fail)
    with pytest.raises(OSError, match="disk full"):
        study(base, tuned, tmp_path / "out", QUERIES)
    assert not (tmp_path / "out").exists()


MEASURE = """
import sys
from pathlib import Path
from pixelis_pipeline.settings import RankSettings
from training.sft.ranks import study
study(*(Path(each) for each in sys.argv[1:]), RankSettings(most=8))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_memory_does_not_grow_with_the_model(tmp_path):
    """88 MB more in each checkpoint, less than 40 MB more in memory. (Not by ru_maxrss, which begins at what
    the parent held.)"""
    peaks = []
    change = torch.ones(1024, 1).expand(1024, 1024).contiguous()
    for layers in (2, 24):
        for side, weight in (("before", torch.zeros(1024, 1024)), ("after", change)):
            made = {f"layers.{k}.up_proj.weight": weight.clone() for k in range(layers)}
            (tmp_path / side).mkdir(exist_ok=True)
            save_file(made, tmp_path / side / "model.safetensors")
        folders = [str(tmp_path / name) for name in ("before", "after", "out")]
        done = subprocess.run([sys.executable, "-c", MEASURE, *folders], capture_output=True, text=True)
        assert not done.returncode, done.stderr
        peaks.append(float(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 40


def matched(keys: dict[str, int], module: str) -> list[str]:
    """The keys that peft takes to name a module (`peft.utils.get_pattern_key`)."""
    return [key for key in keys if re.match(rf"(.*\.)?({key})$", module)]


def test_each_module_of_a_policy_is_named_by_one_key(base, tuned, tmp_path):
    found = study(base, tuned, tmp_path / "out", EXACT)
    made = pattern(found)
    for name, layer in found.layers.items():
        (key,) = matched(made["rank_pattern"], name)
        assert made["rank_pattern"][key] == layer.rank
        assert made["alpha_pattern"][key] == 2 * layer.rank
        assert sum(name == each or name.endswith(f".{each}") for each in made["target_modules"]) == 1
    assert (made["r"], made["lora_alpha"]) == (10, 20)
    assert not any(matched(made["rank_pattern"], name) for name in ("lm_head", "model.visual.merger.norm"))


def test_a_checkpoint_that_names_its_stack_otherwise_fits_its_model():
    """Qwen2.5-VL is published with `model.layers` and `visual.blocks`; the model's modules lie deeper."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    config = Qwen2_5_VLConfig()
    config.text_config.num_hidden_layers, config.vision_config.depth = 12, 2
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    adapted = [name for name in linear if name.rpartition(".")[2] in RankSettings().targets]
    published = [
        name.replace("model.language_model", "model").replace("model.visual", "visual") for name in adapted
    ]
    spectra = {name: planted(1 + at % 50) for at, name in enumerate(published)}
    made = pattern(choose(spectra, EXACT))
    for at, name in enumerate(adapted):
        (key,) = matched(made["rank_pattern"], name)
        assert made["rank_pattern"][key] == 1 + at % 50
    assert len(adapted) == 12 * 7 + 2 * 5 == len(made["rank_pattern"])


def test_two_stacks_of_one_name_are_refused():
    spectra = {f"{tower}.layers.0.q_proj": planted(2) for tower in ("left", "right")}
    with pytest.raises(RankError, match="two stacks"):
        pattern(choose(spectra, EXACT))


def test_peft_builds_each_adapter_at_its_rank(base, tuned, tmp_path):
    peft = pytest.importorskip("peft")
    found = study(base, tuned, tmp_path / "out", EXACT)
    model = peft.get_peft_model(
        nano.build(nano.configuration(**SIZES), 0), peft.LoraConfig(**pattern(found), lora_dropout=0.0)
    )
    adapters = {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }
    assert set(adapters) == set(found.layers)
    for name, module in adapters.items():
        rank = found.layers[name].rank
        assert tuple(module.lora_A["default"].weight.shape) == (rank, module.in_features)
        assert tuple(module.lora_B["default"].weight.shape) == (module.out_features, rank)
        assert module.scaling["default"] == 2.0
