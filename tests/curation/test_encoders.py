"""Encoders from local files: real loading code on small models of random weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelis_pipeline.curation.encoders import BESIDE, KINDS, TOGETHER, opened, version
from pixelis_pipeline.world.scene import draw_scene

pytestmark = pytest.mark.slow  # torch and transformers take 20 s to import

Array = np.ndarray[Any, Any]


def pictures(count: int) -> list[Array]:
    sizes = [(64, 64), (80, 48), (48, 96)]
    shapes = [sizes[k % 3] for k in range(count)]
    return [draw_scene(np.random.default_rng(k), width=w, height=h).image for k, (w, h) in enumerate(shapes)]


def saved(where: Path, kind: str, seed: int = 3) -> Path:
    """A model of random weights with its processor, saved as transformers saves them."""
    import torch
    import transformers

    torch.manual_seed(seed)
    sight: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    sight |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    text = {"vocab_size": 10, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 12}
    text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    small = {"height": 32, "width": 32}
    made: Any
    processor: Any
    if kind == "clip":
        config: Any = transformers.CLIPConfig(text_config=text, vision_config=sight, projection_dim=8)
        made, processor = (
            transformers.CLIPModel(config),
            transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=small),
        )
    elif kind == "siglip":
        config = transformers.SiglipConfig(text_config=text, vision_config=sight)
        made, processor = transformers.SiglipModel(config), transformers.SiglipImageProcessorPil(size=small)
    elif kind == "siglip2":
        config = transformers.Siglip2Config(text_config=text, vision_config=sight | {"num_patches": 16})
        made = transformers.Siglip2Model(config)
        processor = transformers.Siglip2ImageProcessorPil(patch_size=16, max_num_patches=16)
    else:
        config = transformers.Dinov2Config(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
        )
        made = transformers.Dinov2Model(config)
        processor = transformers.BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=small)
    made.save_pretrained(where)
    processor.save_pretrained(where)
    return where


@pytest.fixture(scope="module", params=sorted(KINDS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp(request.param), request.param)


def test_rows_are_of_length_one_and_equal_pictures_have_equal_rows(folder: Path) -> None:
    encoder = opened(str(folder))
    shown = pictures(TOGETHER + 3)
    rows = encoder(shown)
    assert rows.shape == (len(shown), encoder.dimension) and rows.dtype == np.float32
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
    assert encoder(shown).tobytes() == rows.tobytes() == opened(str(folder))(shown).tobytes()
    alone = np.concatenate([encoder([each]) for each in shown])
    assert np.abs(alone - rows).max() < 1e-4
    assert len({row.tobytes() for row in rows}) == len(rows)
    assert encoder([]).shape == (0, encoder.dimension)


def test_rows_are_what_the_model_itself_says(folder: Path) -> None:
    """Against transformers' own choice of classes for the folder."""
    import torch
    import transformers

    shown = pictures(3)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    asked = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")(shown, return_tensors="pt")
    sight = getattr(model, "vision_model", model)
    with torch.inference_mode():
        said = sight(**asked).pooler_output
        said = model.visual_projection(said) if hasattr(model, "visual_projection") else said
    expected = said.numpy() / np.linalg.norm(said.numpy(), axis=1, keepdims=True)
    assert np.abs(opened(str(folder))(shown) - expected).max() < 1e-5


def test_every_file_that_decides_a_row_is_in_the_version(tmp_path: Path) -> None:
    folder = saved(tmp_path / "one", "dinov2")
    before = version(str(folder))
    assert opened(str(folder)).version == before and len(before) == 64
    assert version(str(shutil.copytree(folder, tmp_path / "moved"))) == before
    for name in BESIDE:
        text = (folder / name).read_text()
        (folder / name).write_text(text + " ")
        assert version(str(folder)) != before
        (folder / name).write_text(text)
    assert version(str(folder)) == before
    assert version(str(saved(tmp_path / "two", "dinov2", seed=4))) != before


def test_what_will_not_do_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"curation\.encoder: there is no folder '/nowhere'.*local copy of"):
        opened("/nowhere")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(ValueError, match=r"only pytorch_model\.bin, and pickled weights are not loaded"):
        opened(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match=r"has no preprocessor_config\.json"):
        opened(str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ValueError, match="type 'bert', not clip, siglip, siglip2, dinov2"):
        opened(str(tmp_path))


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = saved(tmp_path, "dinov2")
    tensors = load_file(folder / "model.safetensors")
    del tensors["layernorm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 of the model's weights, such as layernorm\.weight"):
        opened(str(folder))


# --- open_clip ----------------------------------------------------------------------------------------


def test_without_open_clip_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (tmp_path / "b.safetensors").write_bytes(b"weights")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ModuleNotFoundError, match=r"pixelis\[open-clip\]"):
        opened(f"open_clip:ViT-B-32:{tmp_path / 'b.safetensors'}")


def test_open_clip_takes_safetensors_only(tmp_path: Path) -> None:
    (tmp_path / "b.pt").write_bytes(b"pickled")
    for where in ("ViT-B-32", f"ViT-B-32:{tmp_path / 'b.pt'}", f"ViT-B-32:{tmp_path / 'none.safetensors'}"):
        with pytest.raises(ValueError, match="is no file of safetensors"):
            opened(f"open_clip:{where}")


def test_a_model_of_open_clip_is_loaded_and_answers(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    import torch
    from safetensors.torch import save_file

    name = "ViT-S-32-alt"
    torch.manual_seed(3)
    made, _, prepare = open_clip.create_model_and_transforms(name)
    save_file(made.state_dict(), tmp_path / "s.safetensors")
    where = f"open_clip:{name}:{tmp_path / 's.safetensors'}"
    encoder = opened(where)
    shown = pictures(3)
    rows = encoder(shown)
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5 and rows.shape == (3, encoder.dimension)
    from PIL import Image

    with torch.inference_mode():
        said = made.eval().encode_image(torch.stack([prepare(Image.fromarray(each)) for each in shown]))
    expected = torch.nn.functional.normalize(said, dim=1).numpy()
    assert np.abs(rows - expected).max() < 1e-4
    assert version(where) == encoder.version
    told = {"preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(told))
    assert version(where) != encoder.version
    assert np.abs(opened(where)(shown) - rows).max() > 1e-3
    with pytest.raises(ValueError, match="open_clip knows no model 'hf-hub'"):
        opened(f"open_clip:hf-hub:{tmp_path / 's.safetensors'}")


def test_broken_weights_and_halves_of_files_are_said(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = saved(tmp_path / "nan", "dinov2")
    tensors = load_file(folder / "model.safetensors")
    tensors["layernorm.weight"][:] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="not finite"):
        opened(str(folder))(pictures(2))
    half = saved(tmp_path / "half", "dinov2")
    whole = (half / "model.safetensors").read_bytes()
    (half / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"curation\.encoder: .*half cannot be opened on cpu"):
        opened(str(half))
    (half / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is no JSON"):
        version(str(half))
