"""`sft_policy` as it is run: in a process that is killed on the way, against a training left in peace."""

import json
from pathlib import Path

import pytest

from assets import child
from assets.catalogue import STAGES
from assets.policies import Checkpoint
from assets.running import upstream
from assets.stage import Project, Work
from pixelis_pipeline.agent import policy
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.records import Trajectory
from tests.assets.conftest import project, run
from tests.training import jobs
from training.sft import job

pytestmark = pytest.mark.slow
SFT = {"epochs": 8, "batch": 1, "threads": 1}


def test_killed_on_the_way_it_ends_with_the_weights_of_an_undisturbed_training(
    copy: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (copy.root / "trips").write_text("[65]")
    undisturbed = job.sft
    made = project(copy.root, sft=SFT)
    with monkeypatch.context() as patched:
        patched.setattr(job, "sft", jobs.tripping_sft)
        assert run(made, ["sft_policy"]) == 0
    told = [int(line) for line in (copy.root / "steps").read_text().splitlines()]
    assert told[:65] == list(range(1, 66)) and 1 < told[65] <= 66, "it goes on from a checkpoint"
    assert told[65:] == list(range(told[65], told[-1] + 1))

    stage, folder = STAGES["sft_policy"], made.ledger.folder("sft_policy")
    record = made.ledger.record("sft_policy", "all")
    (checkpoint,) = artifact.records(folder, Checkpoint)
    assert policy.load(folder / "policy").digest == checkpoint.weights == record.digests["weights"]
    traces = artifact.records(made.ledger.folder("training_splits"), Trajectory)
    learned = [t.id for t in traces if t.split == "train"]
    assert checkpoint.parents[1:] == tuple(learned) and len(learned) == record.about["train traces"]

    work = Work(made, stage, "all", tmp_path, upstream(made, stage, "all"))
    order = child._order(work, undisturbed, "key", tmp_path)
    order.made.mkdir()
    losses: list[float] = []
    alone = undisturbed(order, lambda step, of, scalars: losses.append(scalars["imitation"]))
    assert alone["weights"] == checkpoint.weights, "in this process, without a kill"
    assert json.loads(json.dumps(alone["points"])) == checkpoint.about["curve"]
    assert len(losses) == told[-1] and min(losses) > 0, "every step tells what it lost"
