"""What curation would take for SA-1B and Ego4D: rates measured here on small samples, and the arithmetic.

Nothing of that size runs here. Each rate is of one core; linear steps are divided by the cores, quadratic
ones grow with the square of the corpus. The suite writes docs/SCALE.md.
"""

import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image

from benchmarks.measurement import Measurement, measured
from pixelis_pipeline.curation import cosine, descriptor
from pixelis_pipeline.curation.fingerprints import MediaFingerprint
from pixelis_pipeline.curation.hamming import within
from pixelis_pipeline.curation.looking import Look, look
from pixelis_pipeline.curation.twins import Candidate, Cut
from pixelis_pipeline.curation.verdict import Judge
from pixelis_pipeline.engine import pool
from pixelis_pipeline.ledger.files import replace
from pixelis_pipeline.media.files import probe
from pixelis_pipeline.media.store import MediaStore
from pixelis_pipeline.records import Media
from pixelis_pipeline.settings import CurationSettings, MediaLimits
from pixelis_pipeline.world.clip import encode
from pixelis_pipeline.world.scene import draw_scene

Array = np.ndarray[Any, Any]
TEMPLATE = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(
    Path(__file__).with_suffix(".jinja").read_text()
)
PAGE = Path(__file__).resolve().parent.parent / "docs" / "SCALE.md"
DAY, HOUR = 86_400.0, 3_600.0
CORE_HOUR = 0.04  # US dollars: an assumption, about what clouds ask for a core of a plain machine
GB_MONTH = 0.02  # US dollars, of object storage: likewise
PHASH_BITS = 8
SAMPLE = 24  # pictures

SA1B = 11_000_000  # images, of about 1500 x 2250 pixels (Kirillov et al. 2023)
EGO4D = 3_670 * 3_600  # seconds of film, key frames at one a second (Grauman et al. 2022)


@dataclass(frozen=True, slots=True)
class Machines:
    """Where it would run."""

    name: str
    cores: int


MACHINES = (Machines("2 cores, as here", 2), Machines("64 cores", 64), Machines("16 x 64 cores on Ray", 1024))


@dataclass(frozen=True, slots=True)
class Rates:
    """Measured: core seconds a unit, and bytes a picture."""

    image: float  # a look at one JPEG of 1500 x 2250
    second: float  # a look at one second of film, 1280 x 720
    hashes: float  # a pair of hashes x 1e12, distance 8
    pair: float  # a pair of (whole, row) in the cosine join x 1e9
    judged: float  # a candidate that is laid over, decoding included
    bytes: float  # of descriptors a picture, on disk in half precision


def measure() -> Rates:
    """The rates on this machine, one core; some two minutes."""
    with tempfile.TemporaryDirectory(prefix="pixelis-scale-") as place:
        folder = Path(place)
        store = MediaStore(folder, MediaLimits())
        images = [_jpeg(folder / f"{k}.jpg", k) for k in range(SAMPLE)]
        film = _film(folder / "film.mp4")
        seconds_of_film = film.frames / film.fps
        return Rates(
            image=_timed(lambda: [look(each, store) for each in images]) / SAMPLE,
            second=_timed(lambda: look(film, store)) / seconds_of_film,
            hashes=_timed(partial(_hashes, 1_000_000)) * _threads() / 1_000_000**2 * 1e12,
            pair=_timed(partial(_cuts, 6_000))
            * _threads()
            / (6_000 * 6_000 * len(descriptor.windows()))
            * 1e9,
            judged=_judged(images, store),
            bytes=2.0 * len(descriptor.windows()) * descriptor.DIMENSION,
        )


def _threads() -> int:
    """The joins use every core; rates are of one."""
    return pool.cores()


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _jpeg(path: Path, seed: int) -> Media:
    scene = draw_scene(np.random.default_rng(seed), width=750, height=500, ground="photograph").image
    held = io.BytesIO()
    Image.fromarray(scene).resize((2250, 1500), Image.Resampling.BICUBIC).save(held, "JPEG", quality=90)
    path.write_bytes(held.getvalue())
    return probe(path, MediaLimits())


def _film(path: Path) -> Media:
    scene = draw_scene(np.random.default_rng(1), width=1280, height=720, ground="photograph").image
    path.write_bytes(encode([np.roll(scene, 6 * k, axis=1) for k in range(240)], 30))
    return probe(path, MediaLimits())


def _hashes(count: int) -> None:
    within(np.random.default_rng(0).integers(0, 2**64, count, dtype=np.uint64), PHASH_BITS)


def _cuts(count: int) -> None:
    """As many wholes against the rows of as many pictures, with a spectrum as edges have it."""
    rng = np.random.default_rng(0)
    strength = 1.0 / np.sqrt(np.arange(1, descriptor.DIMENSION + 1))
    rows = (rng.standard_normal((count * len(descriptor.windows()), descriptor.DIMENSION)) * strength).astype(
        np.float32
    )
    cosine.between(rows[:count], rows, CurationSettings().descriptor_cosine)


def _judged(images: list[Media], store: MediaStore) -> float:
    """Both pictures decoded, thumbnails made and compared: what a candidate between strangers costs."""
    made: list[Look] = [look(each, store) for each in images]
    prints: list[MediaFingerprint] = [each.fingerprint for each in made if each.fingerprint]
    judge = Judge(CurationSettings(), partial(store.reduced, side=256), lambda _: [])
    pairs = list(zip(prints[::2], prints[1::2], strict=False))

    def all_pairs() -> None:
        for a, b in pairs:
            judge(a, b, Candidate(cut=Cut(a.media.sha256, b.media.sha256, descriptor.windows()[9], 0.8)))

    return _timed(all_pairs) / len(pairs)


def suite() -> list[Measurement]:
    """Measure, write docs/SCALE.md, and return the rates."""
    rates = measure()
    replace(PAGE, page(rates).encode())
    return [
        measured("a look at a JPEG of 1500 x 2250", 1e3 * rates.image, "core ms"),
        measured("a look at a second of film, 1280 x 720 at 30", 1e3 * rates.second, "core ms"),
        measured("Hamming join, distance 8", rates.hashes, "core s / 1e12 pairs"),
        measured("cosine join of wholes and windows", rates.pair, "core s / 1e9 pairs"),
        measured("a candidate judged", 1e3 * rates.judged, "core ms"),
    ]


def _span(seconds: float) -> str:
    for size, name in ((365 * DAY, "years"), (DAY, "days"), (HOUR, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {name}"
    return f"{seconds:,.1f} s"


def _row(name: str, core_seconds: float, note: str) -> str:
    spans = " | ".join(_span(core_seconds / machines.cores) for machines in MACHINES)
    return f"| {name} | {spans} | ${core_seconds / HOUR * CORE_HOUR:,.0f} | {note} |"


def page(rates: Rates) -> str:
    """docs/SCALE.md, whole."""
    windows = len(descriptor.windows())
    heads = " | ".join(machines.name for machines in MACHINES)
    table = (
        f"| Step | {heads} | at ${CORE_HOUR} a core hour | grows |\n|---|{'---:|' * len(MACHINES)}---:|---|"
    )
    pairs = rates.pair / 1e9 * windows
    within_reach = (DAY * 64 / pairs) ** 0.5  # pictures whose cuts are joined in a day on 64 cores
    sa1b = [
        _row("fingerprints of all images", SA1B * rates.image, "linear"),
        _row("pHash join, distance 8", SA1B**2 * rates.hashes / 1e12, "quadratic, with a small factor"),
        _row("cut join, every whole against every window", SA1B**2 * pairs, "**quadratic**"),
        _row("candidates, one a hundred images", SA1B / 100 * rates.judged, "linear in what is alike"),
    ]
    ego4d = [
        _row("key frames of all films", EGO4D * rates.second, "linear"),
        _row("pHash join of the key frames", EGO4D**2 * rates.hashes / 1e12, "quadratic, small factor"),
    ]
    return TEMPLATE.render(
        rates=rates,
        windows=windows,
        dimension=descriptor.DIMENSION,
        core_hour=CORE_HOUR,
        gb_month=GB_MONTH,
        table=table,
        sa1b=sa1b,
        ego4d=ego4d,
        disk=SA1B * rates.bytes / 1e9,
        hash_memory=SA1B * 250 / 1e9,  # bytes a hash that the join takes: 244 MB at a million
        within_reach=within_reach,
        paper=_span(80_000**2 * pairs / 2),
    )
