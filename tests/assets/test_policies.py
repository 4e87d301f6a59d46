"""Ranks, a policy taught through adapters of them, and hardness, as versions that settings pin."""

import json

import pytest

from assets import driver
from assets.policies import FOLDER, Checkpoint, LayerRank
from assets.stage import Project, StageError
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.chain import Input
from pixelis_pipeline.records import Hardness, Trajectory
from tests.assets.test_traces import changed, make

pytestmark = pytest.mark.slow


def test_ranks_and_hardness_are_inputs_where_they_are_pinned_and_edges_nowhere(copy: Project) -> None:
    make(copy, "all", "base_policy")
    with pytest.raises(StageError, match="no version of `lora_ranks`"):
        make(changed(copy, sft={"lora": "nosuch"}), "all", "sft_policy")
    make(copy, "all", "lora_ranks")
    ranks = copy.ledger.record("lora_ranks")
    assert ranks is not None
    folder = copy.ledger.folder("lora_ranks")
    layers = {layer.module: layer for layer in artifact.records(folder, LayerRank)}
    stored = json.loads((folder / "ranks.json").read_bytes())["layers"]
    assert {name: layer.rank for name, layer in layers.items()} == {
        name: layer["rank"] for name, layer in stored.items()
    }
    assert (folder / "spectra.png").is_file()

    adapted = changed(copy, sft={"lora": ranks.version})
    make(adapted, "all", "sft_policy", "trace_hardness")
    taught, hard = adapted.ledger.record("sft_policy"), adapted.ledger.record("trace_hardness")
    assert taught is not None and hard is not None
    assert taught.inputs[-1] == Input("lora_ranks", "all", ranks.version)
    policy = adapted.ledger.folder("sft_policy")
    assert (policy / FOLDER / "model.safetensors").is_file()
    assert (policy / "exports" / "adapter" / "adapter_model.safetensors").is_file()
    assert set(taught.digests["exports"]) == {
        path.relative_to(policy / "exports").as_posix() for path in (policy / "exports").rglob("*.*")
    }
    (checkpoint,) = artifact.records(policy, Checkpoint)
    splits = artifact.records(copy.ledger.folder("training_splits"), Trajectory)
    train = {t.id: t for t in splits if t.split == "train"}
    scored = list(artifact.records(adapted.ledger.folder("trace_hardness"), Hardness))
    assert scored and all(0 < each.error < 1 for each in scored)
    for each in scored:
        trace, by = each.parents
        assert train[trace].question == each.question and by == checkpoint.id

    pinned = changed(copy, curation={"predictor": hard.version})
    make(pinned, "all", "curriculum", "training_splits")
    made = pinned.ledger.record("curriculum")
    assert made is not None and made.inputs[-1] == Input("trace_hardness", "all", hard.version)
    kept = list(artifact.records(pinned.ledger.folder("training_splits"), Trajectory))
    assert {t.difficulty_by for t in kept} == {hard.version}
    error = {each.question.id: each.error for each in scored}
    alone = {i for i in error if sum(each.question.id == i for each in scored) == 1}
    assert alone
    for t in kept:
        if t.question.id in alone:
            assert t.scores["difficulty"] == error[t.question.id]


def test_what_stands_aside_is_made_only_where_it_is_asked_for(splits: Project) -> None:
    def planned(*to: str) -> set[str]:
        return {stage.key for each in driver.plan(splits, to) for stage in each.stages}

    assert planned().isdisjoint({"lora_ranks", "trace_hardness"})
    assert planned("lora_ranks") > {"lora_ranks", "base_policy", "training_splits"}
