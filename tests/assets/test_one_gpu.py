"""`make gpu` from the weights to the answers of every phase, on a policy of its architecture made tiny."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from assets.policies import Checkpoint
from assets.stage import Project
from pixelis_pipeline.agent import adapted
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.records import Prediction
from tests.agent import tiny_large
from tests.assets.conftest import ROOT
from training import checkpoint

pytestmark = pytest.mark.slow

NAME = "qwen3-vl-8b"
STEPS = 3
SMALL = {
    "policy": {
        "name": NAME,
        "device": "cpu",
        "dtype": "float32",
        "turns": 2,
        "tokens_per_turn": 12,
        "picture_tokens_least": 4,
        "picture_tokens_most": 16,
    },
    "sft": {"epochs": 1, "batch": 8, "micro_batch": 4, "auxiliary": 0.2, "gradient_checkpointing": "true"},
    "rft": {"intrinsic": "none", "steps": STEPS, "save": 1, "collapse": 0.0, "prompts": 2, "group": 2},
}
# Every process of the run starts with this: the tiny policy passes for the published one, and its system turn
# is cut short, since letters are its tokens.
PASSES = """
from pixelis_pipeline.agent import render
from pixelis_pipeline.agent.published import POLICIES, Published
POLICIES[{name!r}] = Published(**{published!r})
render.INSTRUCTIONS = "Answer the question about {{picture}}."
"""


def command(root: Path, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """The command as a process of its own, on the project at `root` with the weights in `folder`."""
    given = {f"PIXELIS_{s.upper()}__{n.upper()}": str(v) for s, of in SMALL.items() for n, v in of.items()}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.one_gpu", "--profile", "tiny", *arguments],
        cwd=root,
        env=os.environ
        | given
        | {
            "PIXELIS_POLICY__WEIGHTS": str(folder / "weights"),
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    named = tiny_large.write(NAME, folder / "weights")
    (folder / "sitecustomize.py").write_text(PASSES.format(name=NAME, published=asdict(named)))
    return folder


def test_one_command_teaches_reinforces_and_measures_and_goes_on_after_a_kill(
    copy: Project, weights: Path
) -> None:
    killed = command(copy.root, weights, "--to", "predictions")
    states = copy.root / "data" / ".work" / "rft_policy" / "all"
    while not (found := list(states.glob("*/rft/state.safetensors"))) and killed.poll() is None:
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(killed.pid, signal.SIGKILL)
    said = killed.communicate()[0]
    assert found, said
    assert 0 < checkpoint.progress(found[0])["step"] <= STEPS
    assert "hours on A100 80 GB" in said and f"{STEPS} steps of 2 x 2 rollouts" in said
    before = copy.ledger.record("sft_policy")
    assert before is not None and copy.ledger.record("rft_policy") is None

    again = command(copy.root, weights, "--to", "predictions")
    assert again.wait() == 0, again.communicate()[0]
    ledger = Project(copy.root, copy.settings).ledger
    assert ledger.record("sft_policy") == before, "what is committed stays"
    base, sft, rft = (ledger.folder(f"{phase}_policy") for phase in ("base", "sft", "rft"))
    assert {path.name for path in (base / "policy").iterdir()} == {adapted.BASE}, "no copy of the weights"
    for folder in (sft, rft):
        assert (folder / "policy" / adapted.ADAPTER).is_file()
        assert adapted.Base.read(folder / "policy") == adapted.Base.read(base / "policy")
        (told,) = artifact.records(folder, Checkpoint)
        assert told.weights == sha256(folder / "policy" / adapted.ADAPTER)
    lines = [json.loads(line) for line in (rft / "rft" / "steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(STEPS))
    answers = {
        phase: list(artifact.records(ledger.folder("predictions", f"{phase}-capabilities"), Prediction))
        for phase in ("base", "sft", "sft_no_tools", "rft")
    }
    assert {len(each) for each in answers.values()} == {copy.settings.evaluation.held_out}


def test_what_cannot_run_here_is_said_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from benchmarks import one_gpu

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(one_gpu.cli, "main", lambda arguments: pytest.fail("it ran"))
    monkeypatch.setattr(one_gpu, "fetched", lambda settings: pytest.fail("it fetched"))
    assert one_gpu.main([]) == 2
    shown = capsys.readouterr()
    assert "17.5 GB of weights" in shown.out and "sees no GPU" in shown.err
    assert one_gpu.main(["--estimate"]) == 0
    assert one_gpu.main(["--profile", "tiny"]) == 2 and "make demo" in capsys.readouterr().err
