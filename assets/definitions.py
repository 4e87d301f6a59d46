"""The code location that Dagster loads."""

import dagster as dg

from assets import (
    automation,
    catalogue,  # noqa: F401  (importing it declares the stages)
)
from assets.graph import NoStorage, assets, jobs


@dg.definitions
def definitions() -> dg.Definitions:
    """Every asset, its checks, the jobs that `pixelis run` drives, and what runs without a person."""
    return dg.Definitions(
        assets=assets(),
        jobs=[*jobs().values(), automation.resynthesise],
        schedules=[automation.resynthesis],
        sensors=[automation.new_raw_shards, automation.dead_runs],
        resources={"io_manager": NoStorage()},
        executor=dg.in_process_executor,
    )
