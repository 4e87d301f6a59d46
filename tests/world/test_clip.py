"""Films: the same frames give the same bytes, whatever lay in memory before."""

import os
import subprocess
import sys

import pytest

_BUILD = """
import hashlib, sys, tempfile
from pathlib import Path
from pixelis_pipeline.world.build import build
from pixelis_pipeline.world.truth import truth
for source in ("starqa", "ego4d"):
    with tempfile.TemporaryDirectory() as folder:
        print(sorted(truth(build(source, Path(folder) / "w", seed=7, items=3))))
"""


def _built(filler: str) -> str:
    """What a fresh process builds where every allocation is first filled with a byte (glibc's own knob)."""
    environment = os.environ | {"MALLOC_PERTURB_": filler}
    run = subprocess.run(
        [sys.executable, "-c", _BUILD], env=environment, check=True, capture_output=True, text=True
    )
    return run.stdout


@pytest.mark.slow
def test_unset_memory_does_not_reach_the_bytes() -> None:
    """Fails with x264's macroblock tree switched on."""
    plain, filled, other = (_built(filler) for filler in ("0", "1", "170"))
    assert plain == filled == other and plain.count("'") == 12
