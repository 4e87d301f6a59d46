"""One job over a Ray cluster of two nodes on this machine; prints what came back."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable

import ray
from ray.cluster_utils import Cluster

from pixelis_pipeline.engine.run import run
from pixelis_pipeline.settings import EngineSettings
from tests.engine import jobs

ITEMS, AFTER = 300, 40


def digests(settings: EngineSettings, then: Callable[[], None] | None = None) -> list[str]:
    """The job's results; when AFTER of them have come, `then` is called."""
    found = []
    make = jobs.slow_digests if then else jobs.digests
    for each in run(make, range(ITEMS), settings, seconds=60):
        found.append(each.hex() if isinstance(each, bytes) else repr(each))
        if then and len(found) == AFTER:
            then()
    return found


def kill_an_actor() -> None:
    """The first of the actors under way."""
    told = subprocess.run(["pgrep", "-f", "ray::_Work"], capture_output=True, text=True, check=True)
    os.kill(int(told.stdout.split()[0]), signal.SIGKILL)


def main() -> None:
    """Plain, with an actor killed, with a node gone."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        two = EngineSettings(kind="ray", workers=4, address=cluster.address)
        told: dict[str, object] = {"plain": digests(two), "an actor killed": digests(two, kill_an_actor)}
        ray.init(address=cluster.address, log_to_driver=False)
        told["nodes"] = len([node for node in ray.nodes() if node["Alive"]])
        ray.shutdown()
        gone = threading.Thread(target=cluster.remove_node, args=(second,))
        told["a node gone"] = digests(two, gone.start)
        gone.join()
    finally:
        cluster.shutdown()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
