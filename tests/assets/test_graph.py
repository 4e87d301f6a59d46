"""The shape of the graph: nobody changes a key, a dependency or a partitioning unnoticed."""

import html
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from assets import generated, graph
from assets.catalogue import STAGES
from assets.definitions import definitions
from assets.stage import LINE, MADE_FROM, POLICY
from pixelis_pipeline.settings import BENCHMARKS, SOURCES
from tests.assets.conftest import ROOT

GRAPH = {
    "synthesis_plan": LINE,
    "teacher_responses": LINE,
    "trajectories": LINE,
    "replayed_trajectories": LINE,
    "media_fingerprints": LINE,
    "benchmarks/capabilities": "all",
    "evaluation_whitelist": "all",
    "deduplicated_trajectories": "all",
    "leakage_audit": "all",
    "scored_trajectories": "all",
    "curriculum": "all",
    "training_splits": "all",
    "quality_funnel": "all",
    "base_policy": "all",
    "lora_ranks": "all",
    "sft_policy": "all",
    "trace_hardness": "all",
    "rft_policy": "all",
    "predictions": POLICY,
    "benchmark_scores": "all",
    "benchmark_report": "all",
}


def test_the_graph_holds_these_assets_with_this_partitioning():
    expected = GRAPH | {f"raw/{s}": s for s in SOURCES} | {f"benchmarks/{b}": "all" for b in BENCHMARKS}
    assert {key: stage.partitions for key, stage in STAGES.items()} == expected


def test_every_number_of_the_report_stands_on_raw_media():
    def above(key: str) -> set[str]:
        return {key}.union(*(above(each) for each in STAGES[key].inputs))

    pinned = {"lora_ranks", "trace_hardness"}  # settings may name a version of these: no edge leads on
    assert above("benchmark_report") == set(STAGES) - pinned


def test_every_asset_says_what_it_is_and_who_owns_it():
    for spec in definitions().resolve_all_asset_specs():
        assert spec.description and spec.owners and spec.kinds and spec.group_name and spec.code_version
        assert "dagster/code_references" in spec.metadata, spec.key


def test_every_asset_has_its_checks_and_the_leakage_check_blocks():
    checks = {(c.asset_key.to_user_string(), c.name): c for a in graph.assets() for c in a.check_specs}
    for key in STAGES:
        assert (key, "conservation") in checks and (key, "schema") in checks
    assert checks["leakage_audit", "no_leak"].blocking


def test_an_asset_that_returns_a_value_is_refused_not_pickled():
    @dg.asset
    def careless() -> int:
        return 1

    with pytest.raises(dg.DagsterInvariantViolationError, match="commit it instead"):
        dg.materialize([careless], resources={"io_manager": graph.NoStorage()})


def test_selections_written_as_strings_work():
    """They die where DVC's antlr shares the environment."""
    job = dg.define_asset_job("chosen", selection='+key:"trajectories" and group:"traces"')
    assert dg.Definitions(
        assets=graph.assets(), jobs=[job], resources={"io_manager": graph.NoStorage()}
    ).resolve_job_def("chosen")


@pytest.mark.parametrize("name", sorted(generated.pages()))
def test_generated_files_are_in_step(name: str):
    assert (ROOT / name).read_text() == generated.pages()[name], "run `make graph`"


def test_controls_are_measured_like_policies():
    assert set(MADE_FROM) == {"base", "majority", "sft", "sft_no_tools", "rft"}


def test_asking_the_ledger_needs_no_dagster_and_nothing_heavy_is_imported():
    """trace, verify, status and gc work where Dagster is not installed."""
    code = (
        "import sys; sys.modules['dagster'] = None\n"
        "from assets import cli, status, tracing, verifying, freeing, generated\n"
        "heavy = {'torch', 'transformers', 'ray', 'rapidocr', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_nothing_installed_shadows_the_project_or_breaks_dagster():
    import importlib.metadata
    from importlib.util import find_spec

    import training

    assert training.__file__ and training.__file__.startswith(str(ROOT))
    assert find_spec("hydra") is None and find_spec("torchvision") is None
    names = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
    assert {n for n in names if n.startswith("opencv")} == {"opencv-contrib-python-headless"}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["dg check defs", "dagster definitions validate -w workspace.yaml"])
def test_dagsters_own_programs_load_the_project_without_another_setting(command: str):
    program, *rest = command.split()
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER", "PIXELIS"))}
    subprocess.run([Path(sys.executable).with_name(program), *rest], cwd=ROOT, check=True, env=bare)


def test_text_from_records_is_shown_as_it_is_and_is_never_markup():
    from assets.examples import escaped

    shown = escaped("A at [8 154] <script>alert(1)</script> ![x](javascript:y) & `code`\n# head")
    assert not set("[]<>`*_!") & set(shown) and "\n" not in shown
    assert html.unescape(shown) == "A at [8 154] <script>alert(1)</script> ![x](javascript:y) & `code` # head"
