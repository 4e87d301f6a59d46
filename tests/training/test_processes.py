"""Full-size policies, made tiny, trained by two processes over gloo: the steps of one process, killed or not.

`tests/assets/test_child.py` has the launcher; here processes are told by the environment as it tells them.
They are forked from one that did nothing but import: from the tests' own they would inherit locks and pools
of threads, whatever ran there before.
"""

import json
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pixelis_pipeline.agent import adapted
from pixelis_pipeline.agent.sampled import Sampled
from pixelis_pipeline.records import Question
from pixelis_pipeline.settings import CurationSettings, PolicySettings, SftSettings
from tests.agent import tiny_large
from tests.training.conftest import opens, trace
from tests.training.test_rft import ground, recipe
from tests.training.test_rft_adapters import coin
from training import distributed
from training.rft import record
from training.rft import train as rft
from training.rft.trainer import Reinforcement
from training.sft import course, exports
from training.sft import train as sft

pytestmark = pytest.mark.slow

NAME = "qwen3-vl-8b"
# Two steps an epoch, of rows that weigh unlike: a row's share in a step's loss is no half of its process'.
SFT = SftSettings(
    epochs=2,
    batch=4,
    micro_batch=1,
    learning_rate=1e-2,
    gradient_checkpointing=True,
    auxiliary=0.2,
    hide_outputs=0.3,
    warm_up=1,
)
TRACES = [trace(k) for k in range(6)]


CLEAN = multiprocessing.get_context("forkserver")
CLEAN.set_forkserver_preload([__name__])
Work = Callable[[], object]


@pytest.fixture(scope="module")
def limits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicySettings]:
    """Of one policy for all tests here."""
    folder = tmp_path_factory.mktemp("policy")
    with pytest.MonkeyPatch.context() as patch:
        yield tiny_large.limits(NAME, folder / "weights", patch)


def carried_out(processes: int, work: Work, sharded: bool = False) -> list[int | None]:
    """Have so many processes do it; how each ended (exit code, or minus the signal). All end where one
    fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    of = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
    of |= {"MASTER_PORT": port, "ACCELERATE_USE_FSDP": str(sharded).lower()}
    ranks = [
        of | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
        for rank in range(processes)
    ]
    started = [CLEAN.Process(target=_rank, args=(rank, sharded, work)) for rank in ranks]
    for each in started:
        each.start()
    while left := [each for each in started if each.exitcode is None]:
        connection.wait([each.sentinel for each in left])
        if any(each.exitcode for each in started):
            for each in left:
                each.terminate()
    return [each.exitcode for each in started]


def _rank(environment: dict[str, str], sharded: bool, work: Work) -> None:
    """A process that knows the small policy and saves each step of SFT. accelerate takes FSDP for a matter of
    GPUs; torch splits weights over CPUs as well, and that check alone is left out."""
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    os.environ.update(environment)
    torch.set_num_threads(1)
    begun = AcceleratorState.__init__

    def begin(state, *given, fsdp_plugin=None, **named) -> None:
        begun(state, *given, fsdp_plugin=fsdp_plugin, **named)
        if fsdp_plugin is not None:
            state.distributed_type, state.fsdp_plugin = DistributedType.FSDP, fsdp_plugin

    with pytest.MonkeyPatch.context() as patch:
        tiny_large.known(NAME, patch)
        patch.setattr(course, "SAVE", 1)
        if sharded:
            patch.setattr(AcceleratorState, "__init__", begin)
        work()


def taught(
    limits: PolicySettings, out: Path, dies: tuple[int, int] = (-1, -1), settings: SftSettings = SFT
) -> Work:
    """Supervised fine-tuning into `out`, in which (rank, step) is killed once that step is done."""
    return partial(_teach, limits, out, dies, settings)


def _teach(limits: PolicySettings, out: Path, dies: tuple[int, int], settings: SftSettings) -> None:
    def told(step, of, scalars) -> None:
        with out.with_suffix(".steps").open("a") as file:
            file.write(json.dumps([distributed.rank(), step, scalars]) + "\n")
        if dies == (distributed.rank(), step):
            os.kill(os.getpid(), signal.SIGKILL)

    base = Path(limits.weights)
    sft.train(*(TRACES, TRACES[:3], base, out, settings, CurationSettings(), opens, told, None, limits))


def steps(out: Path, rank: int = 0) -> list[tuple[int, dict[str, float]]]:
    """What a rank told, in order."""
    lines = map(json.loads, out.with_suffix(".steps").read_text().splitlines())
    return [(step, scalars) for each, step, scalars in lines if each == rank]


def adapter(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / adapted.ADAPTER)


@pytest.fixture(scope="module")
def alone(limits: PolicySettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process learns."""
    out = tmp_path_factory.mktemp("alone") / "policy"
    assert carried_out(1, taught(limits, out)) == [0]
    return out


def test_two_processes_learn_the_steps_of_one_and_go_on_after_a_kill_to_the_same_weights(
    limits: PolicySettings, alone: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert carried_out(2, taught(limits, whole)) == [0, 0]
    assert carried_out(2, taught(limits, killed, dies=(1, 3)))[1] == -signal.SIGKILL
    assert not killed.exists()
    assert carried_out(2, taught(limits, killed)) == [0, 0]
    assert [step for step, _ in steps(killed, 1)] == [1, 2, 3, 4], "from the last checkpoint on"

    agree(adapter(whole), adapter(alone))
    two, again = adapter(whole), adapter(killed)
    assert all(torch.equal(again[name], two[name]) for name in two)
    for rank in (0, 1):
        same_steps(whole, alone, rank)


def agree(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], apart: float = 1e-5) -> None:
    """Whether adapters are one up to rounding; a step moves a weight by some 0.001."""
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=apart)


def same_steps(ours: Path, theirs: Path, rank: int = 0) -> None:
    """Whether losses were told alike, step for step; of a step that was done again, as told last."""
    both = [dict(steps(ours, rank)), dict(steps(theirs))]
    assert both[0].keys() == both[1].keys()
    for step, scalars in both[0].items():
        assert scalars == pytest.approx(both[1][step], rel=1e-4)


def test_weights_split_over_processes_learn_the_same_steps_too(
    limits: PolicySettings, alone: Path, tmp_path: Path
) -> None:
    """FSDP2, from the checkpoint that one process leaves in the first epoch, and killed itself in the second:
    a checkpoint is the same file whoever writes it."""
    out = tmp_path / "split"
    assert carried_out(1, taught(limits, out, dies=(0, 1))) == [-signal.SIGKILL]
    assert carried_out(2, taught(limits, out, dies=(1, 3)), sharded=True)[1] == -signal.SIGKILL
    assert carried_out(2, taught(limits, out), sharded=True) == [0, 0]
    assert [step for step, _ in steps(out)] == [1, 2, 3, 4]
    agree(adapter(out), adapter(alone))
    agree(*(load_file(sft.exported(each) / exports.HEADS) for each in (out, alone)))
    same_steps(out, alone)


def test_weights_split_over_processes_learn_in_mixed_precision(
    limits: PolicySettings, tmp_path: Path
) -> None:
    """As on a GPU: a layer's frozen weights in bfloat16, its adapters in float32, which stay that."""
    mixed, short = limits.model_copy(update={"dtype": "bfloat16"}), SFT.model_copy(update={"epochs": 1})
    alone, out = tmp_path / "alone", tmp_path / "split"
    assert carried_out(1, taught(mixed, alone, settings=short)) == [0]
    assert carried_out(2, taught(mixed, out, settings=short), sharded=True) == [0, 0]
    assert {weight.dtype for weight in adapter(out).values()} == {torch.float32}
    agree(adapter(out), adapter(alone), 1e-4)
    same_steps(out, alone)


def reinforced(limits: PolicySettings, out: Path, dies: tuple[int, int] = (-1, -1)) -> Work:
    """Reinforcement into `out`, in which (rank, step) is killed once that step is told."""
    return partial(_reinforce, limits, out, dies)


def _reinforce(limits: PolicySettings, out: Path, dies: tuple[int, int]) -> None:
    """Draws are a process' own; here they are a question's, so that one process rolls out the same."""
    real = Reinforcement._sample

    def by_question(trainer: Any, questions: Sequence[Question], process: int) -> list[Sampled]:
        step, count = trainer.course.step, trainer.accelerator.num_processes
        start = (trainer.recipe.rft.seed * 1_000_003 + step) * count
        drawn = [real(trainer, [each], 100 * step + int(each.id[1:]) - start) for each in questions]
        return [rollout for group in drawn for rollout in group]

    def told(line: record.Line) -> None:
        if dies == (distributed.rank(), line.step):
            os.kill(os.getpid(), signal.SIGKILL)

    settings = replace(recipe(steps=3, learning_rate=1e-2, group=2, prompts=2, save=1), policy=limits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reinforcement, "_sample", by_question)
        rft.train(ground(coin()), Path(limits.weights), out, settings, None, told)


def test_two_processes_roll_out_their_share_of_a_steps_prompts_and_learn_as_one_does(
    limits: PolicySettings, tmp_path: Path
) -> None:
    alone, whole, killed = (tmp_path / name for name in ("alone", "whole", "killed"))
    assert carried_out(1, reinforced(limits, alone)) == [0]
    assert carried_out(2, reinforced(limits, whole)) == [0, 0]
    assert carried_out(2, reinforced(limits, killed, dies=(1, 1)))[1] == -signal.SIGKILL
    assert carried_out(2, reinforced(limits, killed)) == [0, 0]
    lines = record.read(whole)
    assert [line.step for line in lines] == [0, 1, 2] and lines[0].kl < 1e-6 < lines[-1].kl
    for line in lines:
        asked = [each.prediction.question.id for each in record.at(whole, line.step)]
        assert len(asked) == 4 and asked[0] == asked[1] != asked[2] == asked[3], "groups stay whole"
        assert record.at(whole, line.step) == record.at(killed, line.step)
    assert record.read(killed) == lines
    agree(adapter(whole / rft.POLICY), adapter(alone / rft.POLICY))
    one, again = adapter(whole / rft.POLICY), adapter(killed / rft.POLICY)
    assert all(torch.equal(again[name], one[name]) for name in one)
