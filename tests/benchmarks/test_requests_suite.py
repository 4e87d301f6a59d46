"""What the requests suite counts is what it says, in small."""

from pathlib import Path

import pytest

from benchmarks import requests
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.records import Assignment
from pixelis_pipeline.synthesis.asking.store import AnswerStore
from pixelis_pipeline.synthesis.response import Response


def test_every_assignment_is_a_request_of_its_own():
    plan = list(requests.plan(600))
    keys = {requests.request(each).key for each in plan}
    assert len(keys) == len({each.id for each in plan}) == 600
    assert len({each.kind for each in plan}) == 4 and len({each.style for each in plan}) == 3
    assert sum(each.question.media[0].kind == "video" for each in plan) == 200


@pytest.mark.slow
def test_all_phases_see_the_same_requests(tmp_path: Path):
    found = {each.name: each for each in requests.compare(tmp_path, 120)}
    assert found["120 requests, answered: kept durably by 8 threads"].value > 0
    assert found["120 requests, resumed with all answered: time"].met is not None
    assert all(each.value > 20 for name, each in found.items() if "memory" in name)
    with AnswerStore(tmp_path) as store:
        planned = list(artifact.records(tmp_path / "plan", Assignment))
        responses = list(artifact.records(tmp_path / "responses", Response))
        assert [each.parents[0] for each in responses] == [each.id for each in planned]
        assert store.answered(each.request for each in responses) == {each.request for each in responses}
        assert store.request(responses[7].request).sample == 0
