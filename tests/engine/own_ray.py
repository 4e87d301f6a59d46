"""A job that kills one of its workers, on a Ray of our own; prints what came of it and the open ports."""

import json
import subprocess

from pixelis_pipeline.engine import ray_pool
from pixelis_pipeline.engine.pool import Lost, PoolError
from pixelis_pipeline.engine.run import run
from pixelis_pipeline.settings import EngineSettings
from tests.engine import jobs

RAY = EngineSettings(kind="ray", workers=2)


def main() -> None:
    """The answers, the error of a function that raises, and the addresses that Ray's processes listen on."""
    with ray_pool.cluster("", 2):
        found = run(jobs.troubled, ["a", "b", "die", *"cdefghi"], RAY, seconds=60)
        told: dict[str, object] = {"answers": ["lost" if isinstance(r, Lost) else r for r in found]}
        try:
            list(run(jobs.troubled, ["raise"], RAY, seconds=60))
        except PoolError as error:
            told["raised"] = str(error)
        lines = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
        names = ("raylet", "gcs_server", "ray::")
        told["ports"] = [
            line.split()[3] for line in lines.splitlines() if any(name in line for name in names)
        ]
    print(json.dumps(told))


if __name__ == "__main__":
    main()
