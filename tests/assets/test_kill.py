"""SIGKILL at random moments of a run, twenty times in all: the next run finishes with the same versions."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from assets.stage import Project
from pixelis_pipeline.ledger import chain, dvc, gc, verify
from pixelis_pipeline.ledger.ledger import Ledger
from tests.assets.conftest import project, run_in_child

pytestmark = pytest.mark.slow
ROOTS, KILLS = 4, 5  # few enough kills a root that there is work left to be killed in


@pytest.mark.parametrize("seed", range(ROOTS))
def test_kills_cost_nothing_but_time(splits: Project, tmp_path: Path, seed: int):
    root = project(tmp_path / "killed").root
    draw, interrupted = random.Random(seed), 0
    for _ in range(KILLS):
        child = run_in_child(root)
        time.sleep(draw.uniform(2.5, 7.5))
        interrupted += child.poll() is None
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    assert interrupted >= KILLS - 1, "most of the kills came after the end: they prove nothing"
    last = run_in_child(root)
    said, _ = last.communicate()
    assert last.returncode == 0, said

    ledger = Ledger(root)
    assert json.loads((root / dvc.POINTER).read_text()) == json.loads((splits.root / dvc.POINTER).read_text())
    assert not list((root / "data/.staging").glob("*"))
    assert not list((root / "data").rglob(".*.tmp"))
    assert not gc.garbage(ledger).folders
    assert not list(verify.pointers(ledger))
    for asset in chain.assets(root):
        chain.read(root, asset)


def test_killed_while_dagster_makes_its_tables(tmp_path: Path):
    """As the file of events appears, and a moment later: what is half made is not taken for tables."""
    root = project(tmp_path / "killed").root
    for wait in (0.0, 0.01, 0.03):
        child = run_in_child(root)
        while child.poll() is None and not any(root.glob(".dagster*/**/index.db")):
            time.sleep(0.001)
        time.sleep(wait)
        child.kill()
        said, _ = child.communicate()
        assert child.returncode == -signal.SIGKILL, said
    last = run_in_child(root, "raw/sa1b")
    said, _ = last.communicate()
    assert last.returncode == 0, said
