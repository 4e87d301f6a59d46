"""One run of the tiny profile up to the splits, shared by the tests that only look at it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from assets.stage import Project
from pixelis_pipeline.ledger import dvc
from pixelis_pipeline.settings import Settings, load

ROOT = Path(__file__).resolve().parents[2]
SPLITS = ["training_splits"]
Made = Callable[..., Project]


def project(root: Path, **changes: object) -> Project:
    """A project at `root` under the tiny profile, with the files that DVC and Dagster want."""
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "dvc.yaml").exists():
        for name in ("dagster.yaml", "workspace.yaml", "dvc.yaml", ".dvcignore", ".gitignore"):
            shutil.copy(ROOT / name, root / name)
        shutil.copytree(ROOT / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
        (root / "data").mkdir()
        pointer = subprocess.run(
            ["git", "show", f":{dvc.POINTER}"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        (root / dvc.POINTER).write_text(pointer)
    settings = load(root, "tiny")
    return Project(root, Settings.model_validate(settings.model_dump() | changes))


def run_in_child(root: Path, *to: str, jobs: int = 1) -> "subprocess.Popen[str]":
    """`pixelis run` of a project elsewhere, as a process of its own that can be killed."""
    code = (
        "import sys; from pathlib import Path; from tests.assets.conftest import project; "
        "from assets import driver; "
        "sys.exit(driver.run(project(Path(sys.argv[1])), jobs=int(sys.argv[2]), to=sys.argv[3:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(root), str(jobs), *(to or SPLITS)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(made: Project, to: list[str] | None = None) -> int:
    """`pixelis run` in this process."""
    from assets import driver

    return driver.run(made, to=to or SPLITS)


@pytest.fixture(scope="session")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The graph made up to the splits. Do not change it."""
    root = tmp_path_factory.mktemp("tiny")
    assert run(project(root)) == 0
    return project(root)


@pytest.fixture
def copy(splits: Project, tmp_path: Path) -> Project:
    """A copy of it to break or to change."""
    shutil.copytree(splits.root, tmp_path / "copy", symlinks=True)
    return project(tmp_path / "copy")
