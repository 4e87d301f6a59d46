"""What a run on one GPU will take, against the page's arithmetic."""

import pytest

from benchmarks import budget, one_gpu
from benchmarks.budget import GPUS, HOUR
from pixelis_pipeline.agent.published import POLICIES
from pixelis_pipeline.settings import load


@pytest.fixture
def settings(tmp_path):
    return load(tmp_path, "gpu80")


def test_the_profile_names_the_published_commit(settings):
    named = POLICIES[settings.policy.name]
    assert settings.policy.hub == f"{named.hub}@{named.revision}"


def test_phases_take_what_the_page_says_of_as_much(settings):
    of = budget.shape(POLICIES["qwen3-vl-8b"])
    for gpu in GPUS:
        page = budget.hours(of, gpu, settings.policy)
        trace = one_gpu.trained(of, settings, gpu) / HOUR
        assert trace * budget.TRACES * budget.EPOCHS == pytest.approx(page.sft)
        rollouts = budget.PROMPTS * budget.GROUP
        once = one_gpu._passes(of, settings, gpu)[0]
        again = (budget.STEPS + 1) * once / 2  # each turn reads half a trace again, which the page leaves out
        each = one_gpu.rolled(of, settings, gpu, rollouts) - again
        assert each * rollouts * budget.RFT_STEPS / HOUR == pytest.approx(page.decode)
        each += one_gpu.scored(of, settings, gpu)
        assert each * rollouts * budget.RFT_STEPS / HOUR == pytest.approx(page.rft)


def test_more_of_it_takes_longer_by_as_much(settings):
    twice = settings.model_copy(update={"rft": settings.rft.model_copy(update={"steps": 240})})
    before, after = one_gpu.estimate(settings), one_gpu.estimate(twice)
    assert settings.rft.steps == 120 and before[0] == after[0] and before[2] == after[2]
    assert float(after[1][3]) == pytest.approx(2 * float(before[1][3]), abs=0.15)


def test_eight_gpus_share_what_is_learned_and_no_answers(settings, tmp_path):
    eight = load(tmp_path, "gpu80x8")
    alone, shared = one_gpu.estimate(settings), one_gpu.estimate(eight)
    assert [row[2] for row in shared] == [row[2] for row in alone], "each holds the whole policy"
    for kind in range(3, 3 + len(GPUS)):
        assert float(shared[0][kind]) == pytest.approx(float(alone[0][kind]) / 8, abs=0.1)
    assert shared[2] == alone[2]
    split = eight.model_copy(update={"operations": eight.operations.model_copy(update={"strategy": "fsdp"})})
    assert float(one_gpu.estimate(split)[0][2]) < float(shared[0][2]) - 15
