"""What de-duplication finds of planted copies, measured in every run and drawn for its page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from assets.stage import Work
from pixelis_pipeline.columns import to_table
from pixelis_pipeline.curation.planted import COPIES, SIGNALS, Recall, film_copies, films, images
from pixelis_pipeline.media import video
from pixelis_pipeline.records import Media, Trajectory

SIDE = 384  # pixels: copies are made of pictures of this size, as far as they have it


def measure(work: Work, kept: Sequence[Trajectory]) -> list[Recall]:
    """Plant copies of the earliest `curation.planted` surviving media of each source; write recall.parquet
    and recall.png into the artifact."""
    chosen: dict[tuple[str, str], dict[str, Media]] = {}
    for trace in kept:
        for media in trace.question.media:
            held = chosen.setdefault((trace.question.origin.source, media.kind), {})
            if len(held) < work.settings.curation.planted:
                held[media.sha256] = media
    found: list[Recall] = []
    for (source, kind), held in sorted(chosen.items()):
        planted = list(held.values())
        if kind == "image":
            pictures = [work.project.media.reduced(each, SIDE) for each in planted]
            found += images(source, pictures, work.settings.curation)
        else:
            found += _of_films(work, source, planted)
    pq.write_table(to_table(Recall, found), work.folder / "recall.parquet")
    if found:
        _draw(work, found)
    return found


def _of_films(work: Work, source: str, media: Sequence[Media]) -> list[Recall]:
    store, limits = work.project.media, work.settings.media
    originals: dict[str, list[Any]] = {}
    copies: dict[str, list[Any]] = {}
    for each in media:
        frames = [picture for _, picture in store.frames(each, each.frames)]
        keyed = work.project.key_frames(each)
        for name, data in film_copies(frames, max(2, round(each.fps))).items():
            originals.setdefault(name, []).append(keyed)
            copies.setdefault(name, []).append(list(video.key_frames(data, "mp4", name, limits, SIDE)))
    return list(
        films(source, [(name, originals[name], copies[name]) for name in copies], work.settings.curation)
    )


def _draw(work: Work, found: Sequence[Recall]) -> None:
    """A table of shares: a row a transform, a column a source and signal; the number is recall, the colour
    too, and a mark says where something false was found."""
    from matplotlib.figure import Figure

    told = {(r.transform, r.source, r.signal): r for r in found}
    present = {r.transform for r in found}
    rows = [name for name in COPIES if name in present] + sorted(present - set(COPIES))
    columns = [(source, signal) for source in sorted({r.source for r in found}) for signal in SIGNALS]
    grid = np.full((len(rows), len(columns)), np.nan)
    figure = Figure(figsize=(0.55 * len(columns) + 2.5, 0.32 * len(rows) + 1.8), layout="constrained")
    axes = figure.subplots()
    for y, name in enumerate(rows):
        for x, (source, signal) in enumerate(columns):
            if (each := told.get((name, source, signal))) is not None:
                grid[y, x] = each.recall
                mark = "*" if each.pairs > each.found else ""
                axes.text(x, y, f"{each.recall:.2f}{mark}", ha="center", va="center", fontsize=7)
    axes.imshow(grid, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto", alpha=0.6)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    labels = [f"{source}\n{signal}" for source, signal in columns]
    axes.set_xticks(range(len(columns)), labels, fontsize=6, rotation=90)
    axes.set_title("Planted copies found, by step (* something false too)", fontsize=9)
    figure.savefig(work.folder / "recall.png", dpi=110, metadata={"Software": None})
