"""A pinned predictor of difficulty through the ledger, and what scores leave beside their records."""

import json

import pytest

from assets.running import derive
from assets.stage import Project, StageError
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.chain import Input, RunRecord
from pixelis_pipeline.records import Accepted, Prediction, Trajectory
from tests.assets.test_traces import changed, make

pytestmark = pytest.mark.slow


def test_a_pinned_predictor_is_an_input_of_the_curriculum_and_no_edge(copy: Project) -> None:
    with pytest.raises(StageError, match="no version of `predictions` or"):
        make(changed(copy, curation={"predictor": "nosuch"}), "all", "curriculum")
    scored = list(artifact.records(copy.ledger.folder("scored_trajectories"), Trajectory))
    predictions = [
        Accepted(t.id, (Prediction(f"p{n}", (), t.question, "sft", True, 7, (), "", n % 3 > 0),))
        for n, t in enumerate(scored)
    ]
    with copy.ledger.staging() as folder:
        artifact.seal(folder, artifact.write(folder, Prediction, predictions), Prediction)
        record = copy.ledger.commit(
            folder,
            RunRecord("predictions", "sft-capabilities", "", 0, 0, (), "c", "s", {}, {}, {}, {}, "", {}),
        )
    pinned = changed(copy, curation={"predictor": record.version})
    make(pinned, "all", "curriculum", "training_splits")
    made = pinned.ledger.record("curriculum")
    assert made is not None and made.inputs[-1] == Input("predictions", "sft-capabilities", record.version)
    kept = list(artifact.records(pinned.ledger.folder("training_splits"), Trajectory))
    assert {t.difficulty_by for t in kept} == {record.version}
    assert all(t.scores["weight"] >= t.sampling_weight for t in kept)


def test_statistics_and_figure_stand_beside_the_scores_and_come_out_the_same(splits: Project) -> None:
    folder = splits.ledger.folder("scored_trajectories")
    record = splits.ledger.record("scored_trajectories")
    assert record is not None and (folder / "scores.png").is_file()
    assert json.loads((folder / "statistics.json").read_bytes()) == record.about["statistics"]
    assert derive(splits, record) == record.version
