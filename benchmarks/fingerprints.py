"""How many pictures a second are fingerprinted, beside imagehash and imagededup on the same files.

The pictures are parts of photographs at 2000 x 1500 with a sensor's noise: at quality 90 some 1.4 bits a
pixel, as real ones of that size have (SA-1B's samples: 1.4 and 1.9). The more bits, the nearer come the
rates, since all must decode every one.
Every run is a process of its own (`fingerprint_runs`) with one thread. The methods take turns at one part of
the files after the other, so that what else the machine does meets all alike.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from subprocess import PIPE
from typing import Any

import cv2
import numpy as np
from PIL import Image

from benchmarks import fingerprint_runs
from benchmarks.measurement import Measurement, compared, measured
from benchmarks.peer_environment import ROOT, imagededup_python
from pixelis_pipeline.engine.pool import ONE_THREAD
from pixelis_pipeline.engine.run import run
from pixelis_pipeline.settings import EngineSettings
from pixelis_pipeline.world.grounds import PHOTOGRAPHS, photograph

Array = np.ndarray[Any, Any]

COUNT, PART = 2_000, 250  # pictures, and of these at a turn
WIDTH, HEIGHT, QUALITY = 2_000, 1_500, 90
CUT = (0.5, 0.95)  # of a photograph's side
NOISE = (1.5, 5.5)  # grey levels, standard deviation
AIM = 3.0  # times a peer's rate
BITS = 2  # a JPEG that is decoded smaller rounds otherwise than one that is made smaller afterwards


@dataclass(frozen=True, slots=True)
class Hashed:
    """What a method made of some files: seconds from the first one taken to the last one done, CPU seconds of
    all its processes, and hashes in the order of the files."""

    seconds: float = 0.0
    cpu: float = 0.0
    digits: tuple[str, ...] = ()

    def __add__(self, other: "Hashed") -> "Hashed":
        return Hashed(self.seconds + other.seconds, self.cpu + other.cpu, self.digits + other.digits)


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> Array:
    """uint8 [height, width, 3]: a part of one of the photographs, perhaps mirrored, enlarged, with noise."""
    random = np.random.default_rng(number)
    whole = photograph(list(PHOTOGRAPHS)[number % len(PHOTOGRAPHS)])
    rows, columns = whole.shape[:2]
    scale = min(rows / height, columns / width) * random.uniform(*CUT)
    h, w = int(height * scale), int(width * scale)
    top, left = random.integers(rows - h + 1), random.integers(columns - w + 1)
    part = np.ascontiguousarray(whole[top : top + h, left : left + w, :][:, :: random.choice((-1, 1))])
    enlarged = cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = np.empty((height, 3 * width), np.int16)
    cv2.setRNGSeed(number)
    cv2.randn(noise, np.zeros(1), random.uniform(*NOISE, 1))
    return np.asarray(cv2.add(enlarged, noise.reshape(enlarged.shape), dtype=cv2.CV_8U))


def _save(number: int, folder: Path, width: int, height: int) -> Path:
    path = folder / f"{number:05d}.jpg"
    Image.fromarray(picture(number, width, height)).save(path, quality=QUALITY)
    return path


def _saver(folder: Path, width: int, height: int) -> Callable[[int], Path]:
    return partial(_save, folder=folder, width=width, height=height)


def pictures(folder: Path, count: int, width: int = WIDTH, height: int = HEIGHT) -> list[Path]:
    """Write the files, on all cores. RuntimeError where one is lost."""
    made = list(run(partial(_saver, folder, width, height), range(count), EngineSettings(), seconds=60.0))
    if lost := [each for each in made if not isinstance(each, Path)]:
        raise RuntimeError(f"{len(lost)} pictures could not be made: {lost[0]}")
    return [each for each in made if isinstance(each, Path)]


def hashed(python: Path, method: str, paths: Sequence[Path], processes: int) -> Hashed:
    """The files hashed by so many processes at once, each with its share. RuntimeError with the last word of
    one that failed."""
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as place:
        under_way = []
        for k in range(processes):
            share = Path(place) / f"{k}.txt"
            share.write_text("\n".join(map(str, paths[k::processes])))
            command = list(map(str, (python, fingerprint_runs.__file__, method, share)))
            under_way.append(subprocess.Popen(command, env=environment, stdout=PIPE, stderr=PIPE, text=True))
        said = [process.communicate() for process in under_way]
    for process, (_, error) in zip(under_way, said, strict=True):
        if process.returncode:
            raise RuntimeError(f"{method}: {error.strip().splitlines()[-1]}")
    told = [json.loads(out.splitlines()[-1]) for out, _ in said]
    digits = [""] * len(paths)
    for k, each in enumerate(told):
        digits[k::processes] = each["digits"]
    seconds = max(each["ended"] for each in told) - min(each["began"] for each in told)
    return Hashed(seconds, sum(each["cpu"] for each in told), tuple(digits))


def in_turns(
    methods: Mapping[str, Path], paths: Sequence[Path], processes: int, part: int = PART
) -> dict[str, Hashed]:
    """All files hashed by each method (its name: the Python that has it), `part` files at a turn; at the next
    ones another method begins."""
    found, order = dict.fromkeys(methods, Hashed()), list(methods)
    for start in range(0, len(paths), part):
        for method in order:
            found[method] += hashed(methods[method], method, paths[start : start + part], processes)
        order = [*order[1:], order[0]]
    return found


def apart(one: Sequence[str], other: Sequence[str]) -> list[int]:
    """The bits in which two hashes of each file differ."""
    return [(int(a, 16) ^ int(b, 16)).bit_count() for a, b in zip(one, other, strict=True)]


def compare(paths: Sequence[Path], peers: Mapping[str, Path], part: int = PART) -> Iterator[Measurement]:
    """Ours beside each peer, in one process and in two, and how the hashes agree."""
    size = mean(path.stat().st_size for path in paths)
    yield measured(f"{len(paths)} JPEGs: size", size / 1e3, "kB")
    here = Path(sys.executable)
    for processes in (1, 2):
        found = in_turns({"ours": here, "our_look": here, **peers}, paths, processes, part)
        if processes == 1:
            differ = apart(found["ours"].digits, found["imagehash"].digits)
            yield measured("bits apart from imagehash: the most", max(differ), "bits")
            within = mean(bits <= BITS for bits in differ)
            yield measured(f"bits apart from imagehash: {BITS} at most", 100 * within, "% of them")
        for method, what in (
            ("ours", "sha256 and pHash"),
            ("our_look", "and tiles, information, descriptors"),
        ):
            name, aim = f"{what}, {processes} at once", AIM if method == "ours" else None
            mine = found[method]
            for peer in peers:
                rates = len(paths) / mine.seconds, len(paths) / found[peer].seconds
                yield compared(name, rates[0], "images/s", peer, rates[1], aim)
                rates = len(paths) / mine.cpu, len(paths) / found[peer].cpu
                yield compared(name, rates[0], "images/CPU s", peer, rates[1], aim)


def suite(count: int = COUNT) -> list[Measurement]:
    """All of it; without imagededup where the package index is out of reach."""
    peers = {"imagehash": Path(sys.executable)}
    if python := imagededup_python():
        peers["imagededup"] = python
    with tempfile.TemporaryDirectory(prefix="pixelis-fingerprints-") as place:
        return list(compare(pictures(Path(place), count), peers))
