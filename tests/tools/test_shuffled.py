"""The control that tells a policy what a call about another picture returned."""

import numpy as np
import pytest

from pixelis_pipeline.records import Action
from pixelis_pipeline.tools.contract import Arguments, Observation, ToolError, Workspace, spoken
from pixelis_pipeline.tools.registry import Registry
from pixelis_pipeline.tools.shuffled import Shuffled

LOOK = Action("OCR", {"box": [0, 0, 999, 999]})


class Reads:
    """Reads the number that a picture is painted with, and gives a mask of that picture's size."""

    version = "reads"

    def __call__(self, workspace: Workspace, arguments: Arguments) -> Observation:
        picture = workspace.images[0]
        if not picture.any():
            raise ToolError("nothing is written there", "nothing")
        output = {"text": str(picture.max())}
        return Observation(output, spoken("OCR", output), mask=picture[..., 0] > 0, version="reads")


def seeing(number: int) -> Workspace:
    return Workspace([np.full((number + 1, 4, 3), number, np.uint8)])


@pytest.fixture
def shuffled() -> Shuffled:
    return Shuffled({"OCR": Reads()})


def told(registry: Registry, *spaces: Workspace) -> list[str]:
    return [seen.text for seen in registry.call_all([(space, LOOK) for space in spaces])]


def test_each_call_of_a_turn_is_told_its_neighbours_answer(shuffled: Shuffled):
    spaces = [seeing(n) for n in (1, 2, 3)]
    assert told(Registry({"OCR": Reads()}), *(seeing(n) for n in (1, 2, 3))) == ["1", "2", "3"]
    assert told(shuffled, *spaces) == ["3", "1", "2"]
    assert [space.observations[-1].text for space in spaces] == ["3", "1", "2"], "what the policy reads"


def test_what_later_calls_point_to_stays_the_calls_own(shuffled: Shuffled):
    spaces = [seeing(n) for n in (1, 2)]
    told(shuffled, *spaces)
    for space in spaces:
        (seen,) = space.observations
        assert seen.mask is not None and seen.mask.shape == space.images[0].shape[:2]
        assert seen.output == {"text": seen.text}


def test_a_rollout_alone_in_a_turn_is_never_told_its_own_answer(shuffled: Shuffled):
    one, two = seeing(1), seeing(2)
    assert told(shuffled, one) == ["1"], "there is no other picture yet"
    assert told(shuffled, two) == ["1"]
    assert told(shuffled, two) == ["1"] and told(shuffled, two) == ["1"], "not what it got itself before"
    assert told(shuffled, one) == ["2"]


def test_errors_are_told_to_who_made_them_and_to_nobody_else(shuffled: Shuffled):
    spaces = [seeing(1), seeing(0), seeing(2)]
    assert told(shuffled, *spaces) == ["2", "error: nothing is written there", "1"]
    bad = shuffled.call(seeing(3), Action("OCR", {"box": "there"}))
    assert not bad.valid and "OCR box" in bad.text


def test_its_predictions_are_not_taken_for_those_of_the_tools_themselves(shuffled: Shuffled):
    assert shuffled.versions == Registry({"OCR": Reads()}).versions
    assert shuffled.digest != Registry({"OCR": Reads()}).digest
