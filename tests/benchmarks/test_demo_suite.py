from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import demo
from benchmarks.graph_run import watched

BLOCK = 200_000_000


def test_each_stage_has_its_own_peak():
    """One stage takes 200 MB and gives them back; the next takes none."""

    def run(project: Any, stage: Any, partition: str, about: Any = None, watch: Any = None) -> Any:
        held = b"\x01" * BLOCK if stage.key == "large" else b""
        return SimpleNamespace(skipped=stage.key == "skipped", held=len(held))

    seen: dict[str, dict[str, float]] = {}
    observed: Any = watched(run, seen)
    for key in ("large", "small", "skipped", "small"):
        observed(None, SimpleNamespace(key=key), "all")
    assert list(seen) == ["large", "small"]
    assert seen["large"]["peak"] - seen["small"]["peak"] > 0.9 * BLOCK


@pytest.mark.slow
def test_a_run_of_one_asset_is_measured_as_a_whole_and_by_stage():
    found = {each.name: each for each in demo.suite("tiny", ["raw/sa1b"])}
    whole = found["tiny profile to raw/sa1b: wall"]
    assert whole.met is None  # nothing is aimed at for this part
    assert 0 < found["raw/sa1b: wall"].value < whole.value
    assert 0 < found["raw/sa1b: peak memory"].value <= found["tiny profile to raw/sa1b: peak memory"].value
    assert found["tiny profile to raw/sa1b: second run, wall"].value < whole.value
