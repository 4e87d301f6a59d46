"""The exact joins of curation beside faiss, imagededup and plain NumPy: time, peak memory and the same pairs.

Each run is a process of its own (`join_runs`), so a peak is that of one join with its input. imagededup is
installed without torch: its search classes need none. Peers that take minutes
run for a stated part of the queries; a ratio is always of rates that were measured, never of sizes not run.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import join_runs
from benchmarks.measurement import Measurement, compared, measured
from benchmarks.peer_environment import ROOT, imagededup_python, python_of

SEED = 64_008
HASHES, PLANTED = 1_000_000, 2_000
QUERIES = 20_000  # of a million, for faiss BinaryFlat
GROWTH = (2_000, 4_000, 8_000)  # hashes, for imagededup
VECTORS, WIDTH, THRESHOLD = 100_000, 512, 0.95
OURS = Path(sys.executable)


def hashes(count: int) -> Any:
    """Random hashes, some of them copies of another with 0 to 8 bits flipped."""
    random = np.random.default_rng(SEED)
    made = random.integers(0, 2**64, count, dtype=np.uint64)
    for k in range(min(PLANTED, count // 4)):
        flips = random.choice(64, k % 9, replace=False).astype(np.uint64)
        made[-1 - k] = made[k] ^ np.bitwise_or.reduce(np.uint64(1) << flips, initial=0)
    return made


def vectors(count: int, width: int, clustered: bool) -> Any:
    """Isotropic noise, or clusters with a spectrum that falls as k^-.7; some are near copies of another."""
    random = np.random.default_rng(SEED)
    made = random.standard_normal((count, width), dtype=np.float32)
    strength = np.arange(1, width + 1, dtype=np.float32) ** (-0.7 if clustered else 0)
    made *= strength
    if clustered:
        centres = random.standard_normal((max(count // 50, 1), width), dtype=np.float32) * strength
        made = np.float32(0.6) * made + centres[random.integers(0, len(centres), count)]
    copies = min(PLANTED, count // 4)
    noise = random.standard_normal((copies, width), dtype=np.float32) * strength
    made[:copies] = made[-copies:] + np.float32(0.2) * noise
    return made


def run(python: Path, method: str, rows: Path, limit: float, queries: int) -> dict[str, Any]:
    """What `join_runs` measured. RuntimeError with its last word if it failed."""
    command = [str(python), join_runs.__file__, method, str(rows), str(limit), str(queries)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{method}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _agree(mine: dict[str, Any], theirs: dict[str, Any]) -> str:
    return f"same {mine['pairs']} pairs" if mine["digest"] == theirs["digest"] else "OTHER PAIRS"


def hamming(root: Path, count: int = HASHES, queries: int = QUERIES) -> Iterator[Measurement]:
    """Time and peak of ours at 7 and 8 bits, and faiss at 7."""
    rows = root / "hashes.npy"
    np.save(rows, hashes(count))
    for distance, at_most in ((7, 40.0), (8, 300.0)):
        mine = run(OURS, "ours", rows, distance, count)
        yield measured(f"Hamming <= {distance}, {count} hashes: wall", mine["seconds"], "s", at_most)
        yield measured(f"Hamming <= {distance}, {count} hashes: peak memory", mine["peak"] / 1e9, "GB", 1.0)
    python = python_of("faiss-cpu", "1.15.1")
    for method, asked in (("binary_flat", queries), ("binary_multi_hash", count)) if python else ():
        assert python is not None
        mine, theirs = run(OURS, "ours", rows, 7, asked), run(python, method, rows, 7, asked)
        name = f"Hamming <= 7, {count} hashes, peer asks {asked}, {_agree(mine, theirs)}"
        rates = count / mine["seconds"], asked / theirs["seconds"]
        yield compared(name, rates[0], "queries/s", f"faiss {method}", rates[1])


def growth(root: Path, sizes: tuple[int, ...] = GROWTH) -> Iterator[Measurement]:
    """imagededup's three searches, all queries, at growing sizes."""
    python = imagededup_python()
    for count in sizes if python else ():
        assert python is not None
        rows = root / "some.npy"
        np.save(rows, hashes(count))
        mine = run(OURS, "ours", rows, 8, count)
        for method in ("bktree", "brute_force", "brute_force_cython"):
            theirs = run(python, method, rows, 8, count)
            name = f"Hamming <= 8, {count} hashes, {_agree(mine, theirs)}"
            rates = count / mine["seconds"], count / theirs["seconds"]
            yield compared(name, rates[0], "hashes/s", f"imagededup {method}", rates[1], at_least=100.0)


def cosine(root: Path, count: int = VECTORS, width: int = WIDTH) -> Iterator[Measurement]:
    """Both kinds of vectors beside plain NumPy and faiss IndexFlatIP."""
    python = python_of("faiss-cpu", "1.15.1")
    for kind in ("isotropic", "clustered"):
        rows = root / "vectors.npy"
        np.save(rows, vectors(count, width, kind == "clustered"))
        mine = run(OURS, "our_cosine", rows, THRESHOLD, count)
        what = f"cosine >= {THRESHOLD}, {count} x {width} {kind}"
        yield measured(f"{what}: wall", mine["seconds"], "s", 90.0)
        yield measured(f"{what}: peak memory", mine["peak"] / 1e9, "GB", 2.0)
        peers = {"gemm": OURS} | ({"flat_ip": python} if python else {})
        for method, where in peers.items():
            theirs = run(where, method, rows, THRESHOLD, count)
            rates = count / mine["seconds"], count / theirs["seconds"]
            yield compared(f"{what}, {_agree(mine, theirs)}", rates[0], "vectors/s", method, rates[1])


def suite() -> list[Measurement]:
    """All of them; without the peers whose package index is out of reach."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        return [*hamming(root), *growth(root), *cosine(root)]
