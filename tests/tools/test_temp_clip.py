"""TEMP by CLIP and SigLIP: planted embeddings become the planted window, and real loading code runs on small
models of random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelis_pipeline.media.clip import Clip
from pixelis_pipeline.records import Action
from pixelis_pipeline.settings import BackendSettings, ToolSettings
from pixelis_pipeline.tools.contract import Observation, Workspace
from pixelis_pipeline.tools.registry import Registry, default_registry
from pixelis_pipeline.tools.temp_clip import BESIDE, ClipScores, likelihood

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "the", "red", "circle", "appear", "dog", "runs"]


def _clip(frames: int = 24, fps: float = 2.0) -> Clip:
    pictures = np.random.default_rng(5).integers(0, 255, (frames, 48, 64, 3)).astype(np.uint8)
    return Clip(frames, fps, 64, 48, lambda: iter([picture.copy() for picture in pictures]))


def _asked(tool: ClipScores, query: str = "When does the red circle appear?") -> Observation:
    window = {"query": query, "start": 0.0, "end": 12.0}
    return Registry({"TEMP": tool}).call(Workspace.watching(_clip()), Action("TEMP", window))


# --- the folder ---------------------------------------------------------------------------------------


def _folder(where: Path, kind: str = "clip") -> Path:
    for name in BESIDE:
        (where / name).write_text(json.dumps({"model_type": kind}))
    (where / "model.safetensors").write_bytes(b"weights")
    return where


def test_a_folder_that_will_not_do_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tools\.temp\.weights: there is no folder ''"):
        default_registry(ToolSettings(temp=BackendSettings(backend="clip")))
    with pytest.raises(ValueError, match="no weights"):
        ClipScores(str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(ValueError, match=r"only pytorch_model\.bin, and pickled weights are not loaded"):
        ClipScores(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"has no config\.json"):
        ClipScores(str(tmp_path))
    with pytest.raises(ValueError, match="type 'bert', not clip or siglip"):
        ClipScores(str(_folder(tmp_path, "bert")))


@pytest.mark.parametrize("name", [*BESIDE, "model.safetensors"])
def test_every_file_that_decides_an_answer_is_in_the_version(tmp_path: Path, name: str) -> None:
    before = ClipScores(str(_folder(tmp_path))).version
    assert ClipScores(str(tmp_path)).version == before
    path = tmp_path / name
    path.write_bytes(path.read_bytes() + b" ")
    assert ClipScores(str(tmp_path)).version != before


# --- similarities to windows --------------------------------------------------------------------------


def _planted(monkeypatch: pytest.MonkeyPatch, where: Path, cosines: np.ndarray[Any, Any]) -> ClipScores:
    images = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    monkeypatch.setattr(ClipScores, "image_embeddings", lambda self, frames: images[: len(frames)])
    monkeypatch.setattr(ClipScores, "text_embedding", lambda self, query: np.array([1.0, 0.0]))
    monkeypatch.setattr(ClipScores, "_scale", 100.0)
    return ClipScores(str(_folder(where)))


def test_planted_similarities_give_the_planted_window(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    noise = np.random.default_rng(11).uniform(-0.003, 0.003, 24)
    cosines = np.where((np.arange(24) >= 9) & (np.arange(24) < 15), 0.29, 0.23) + noise
    found = _asked(_planted(monkeypatch, tmp_path, cosines))
    assert (found.output["start"], found.output["end"]) == (4.5, 7.5)
    assert found.confidence == found.output["spans"][0][2] > 0.5


def test_frames_that_are_all_alike_give_no_window(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert _asked(_planted(monkeypatch, tmp_path, np.full(24, 0.25))).output["kind"] == "nothing"


def test_likelihood_grows_with_the_odds() -> None:
    text = np.array([1.0, 0.0])
    images = np.array([[np.cos(a), np.sin(a)] for a in (1.2, 1.0, 0.8)])
    values = likelihood(images, text, 10.0)
    assert values[0] == 0 and np.all(np.diff(values) > 0) and values[-1] < 1
    assert np.all(likelihood(images, text, 100.0) >= values)


# --- the models ---------------------------------------------------------------------------------------


def _save(where: Path, kind: str) -> Path:
    """A model of random weights with its tokenizer and processor, saved as transformers saves them."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    torch.manual_seed(3)
    text = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 12,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    sight = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sight |= {"image_size": 32, "patch_size": 16}
    small = {"height": 32, "width": 32}
    made: Any
    processor: Any
    if kind == "clip":
        made = transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text, vision_config=sight, projection_dim=8)
        )
        processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=small)
    else:
        made = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=sight))
        processor = transformers.SiglipImageProcessorPil(size=small)
    made.save_pretrained(where)
    processor.save_pretrained(where)
    tokens = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokens.normalizer = normalizers.Lowercase()
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(where)
    return where


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_saved_model_is_loaded_and_answers(tmp_path: Path, kind: str) -> None:
    folder = str(_save(tmp_path, kind))
    tool = ClipScores(folder)
    frames = list(_clip(20).between(0, 19))
    images = tool.image_embeddings(frames)
    assert images.shape[0] == 20 and np.allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    one = tool.text_embedding("When does the red circle appear?")
    assert one.shape == images.shape[1:] and np.allclose(one, tool.text_embedding("the RED  circle appear"))
    assert not np.allclose(one, tool.text_embedding("the dog runs"))

    # What a frame's likeness is, by the model's own forward pass
    import torch
    import transformers

    model = getattr(transformers, {"clip": "CLIPModel", "siglip": "SiglipModel"}[kind]).from_pretrained(
        folder
    )
    tokens = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    pad = {"padding": "max_length", "max_length": 12} if kind == "siglip" else {}
    read = tokens(["the dog runs"], return_tensors="pt", **pad)["input_ids"]
    pixels = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")(
        frames, return_tensors="pt"
    )
    with torch.inference_mode():
        logits = model.eval()(input_ids=read, pixel_values=pixels["pixel_values"]).logits_per_image[:, 0]
    mine = tool._scale * images @ tool.text_embedding("the dog runs")
    assert np.allclose(mine - mine.min(), (logits - logits.min()).numpy(), atol=1e-4)

    found = _asked(tool)
    assert found.output == _asked(ClipScores(folder)).output
    assert found.valid or found.output["kind"] == "nothing"


@pytest.mark.slow
def test_a_model_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = _save(tmp_path, "clip")
    tensors = load_file(folder / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"lacks 1 of the model's weights, such as visual_projection\.weight"
    ):
        ClipScores(str(folder)).image_embeddings(list(_clip(2).between(0, 1)))
