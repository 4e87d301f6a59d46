"""Jobs that a child process carries out in tests: one that learns, and others that go wrong.

When to die is read from a file in the project's folder.
"""

import atexit
import json
import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from pixelis_pipeline.ledger import files
from pixelis_pipeline.records import Json
from training.child import Order, Tell

STEPS = 20
PLANTED = np.arange(8.0)


def learn(order: Order, tell: Tell) -> Json:
    """Regression by gradient descent with momentum on planted data, saved every other step. `trips` in the
    project's folder lists steps at which it dies, each once; `started` gets a line with the process, where
    it began and its threads."""
    root, state = Path(order.root), order.made / "policy.work" / "state.safetensors"
    kept = {"weights": np.zeros(8), "momentum": np.zeros(8), "step": np.zeros((), np.int64)}
    if state.is_file():
        kept = load(state.read_bytes())
    weights, momentum, begun = kept["weights"], kept["momentum"], int(kept["step"])
    with (root / "started").open("a") as file:
        file.write(json.dumps([os.getpid(), begun, os.environ["OMP_NUM_THREADS"]]) + "\n")
    trips = json.loads((root / "trips").read_text()) if (root / "trips").exists() else []
    loss = 0.0
    for step in range(begun, STEPS):
        x = np.random.default_rng([order.settings.sft.seed, step]).normal(size=(32, 8))
        error = x @ weights - x @ PLANTED
        loss = float((error**2).mean())
        momentum = 0.5 * momentum + x.T @ error / len(x)
        weights = weights - 0.2 * momentum
        if step % 2:
            now = {"weights": weights, "momentum": momentum, "step": np.array(step + 1)}
            files.replace(state, save(now))
        tell(step + 1, STEPS, {"loss": loss, "rate": 0.2})
        if trips and trips[0] == step:
            (root / "trips").write_text(json.dumps(trips[1:]))
            os.kill(os.getpid(), signal.SIGKILL)
    out = order.made / "policy" / "model.safetensors"
    files.replace(out, save({"weights": weights}))
    shutil.rmtree(state.parent)
    return {"weights": files.sha256(out), "off": float(np.abs(weights - PLANTED).max())}


def unproven(order: Order, tell: Tell) -> Json:
    """Makes a file and ends with 0, before its time."""
    tell(1, 2, {})
    (order.made / "model.safetensors").write_bytes(b"half")
    os._exit(0)


def tampered(order: Order, tell: Tell) -> Json:
    """What it made is changed after it was proven."""
    told = learn(order, tell)
    atexit.register((order.made / "policy" / "model.safetensors").write_bytes, b"other weights")
    return told


def silent(order: Order, tell: Tell) -> Json:
    """Says something once and then hangs, as native code does."""
    tell(1, 2, {})
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    (Path(order.root) / "pid").write_text(str(os.getpid()))
    time.sleep(600)
    return {}


def ranked(order: Order, tell: Tell) -> Json:
    """Carried out by several processes, which wait for each other. `rank-0` and so on in the project's folder
    say which process each was and what it was told. `fate` says whether rank 1 is killed then, or all are
    silent."""
    root, rank = Path(order.root), int(os.environ["RANK"])
    told = [os.getpid(), os.environ["WORLD_SIZE"], os.environ["ACCELERATE_USE_FSDP"]]
    files.replace(root / f"rank-{rank}", json.dumps(told).encode())
    tell(rank + 1, 2, {"rank": rank})
    while len(list(root.glob("rank-*"))) < order.processes:
        time.sleep(0.05)
    fate = (root / "fate").read_text() if (root / "fate").exists() else ""
    if fate == "killed" and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if fate:
        time.sleep(600)
    if rank > 0:
        return {}
    out = order.made / "model"
    out.write_bytes(b"weights")
    return {"weights": files.sha256(out), "rank": rank}


def raising(order: Order, tell: Tell) -> Json:
    """Fails with a message."""
    raise ValueError("none of 3 trajectories holds anything to learn")


def secretive(order: Order, tell: Tell) -> Json:
    """Writes down its environment."""
    out = order.made / "environment.json"
    out.write_text(json.dumps(dict(os.environ)))
    return {"weights": files.sha256(out)}


def tripping_sft(order: Order, tell: Tell) -> Json:
    """The supervised fine-tuning itself; it dies where `trips` say so. `steps` lists what it told."""
    from training.sft import job

    root = Path(order.root)

    def told(step: int, of: int, scalars: Mapping[str, float], /) -> None:
        tell(step, of, scalars)
        with (root / "steps").open("a") as file:
            file.write(f"{step}\n")
        trips = json.loads((root / "trips").read_text())
        if trips and trips[0] == step:
            (root / "trips").write_text(json.dumps(trips[1:]))
            os.kill(os.getpid(), signal.SIGKILL)

    return job.sft(order, told)
