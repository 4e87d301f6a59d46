"""A picture cut out of another: found by descriptors, settled by laying the two over each other."""

from typing import Any

import numpy as np
import pytest

from pixelis_pipeline.curation import alignment, descriptor, vectors
from pixelis_pipeline.curation.duplicates import deduplicate
from pixelis_pipeline.curation.evaluation_twins import by_pixels, hits, leaks, near, same_by_pixels
from pixelis_pipeline.curation.patches import thumbnail
from pixelis_pipeline.curation.probes import probe
from pixelis_pipeline.curation.verdict import Judge
from pixelis_pipeline.records import Accepted, Origin, Rejected, Sample
from pixelis_pipeline.settings import CurationSettings
from pixelis_pipeline.sources.whitelist import whitelist

Array = np.ndarray[Any, Any]


def cut(picture: Array, left: float, top: float, share: float) -> Array:
    height, width = picture.shape[:2]
    y, x = round(top * height), round(left * width)
    return np.ascontiguousarray(picture[y : y + round(share * height), x : x + round(share * width)])


def test_windows_lie_inside_and_the_whole_comes_first() -> None:
    found = descriptor.windows()
    assert found[0] == (0.0, 0.0, 1.0, 1.0) and len(set(found)) == len(found) == 35
    assert all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for x0, y0, x1, y1 in found)


def test_a_flat_picture_is_described_by_nothing() -> None:
    assert not descriptor.describe(np.full((40, 50, 3), 128, np.uint8)).any()


@pytest.mark.parametrize("place", [(0.03, 0.17, 0.8), (0.1, 0.1, 0.8), (0.08, 0.02, 0.9)])
def test_a_cut_is_laid_where_it_was_cut(gallery: Any, place: tuple[float, float, float]) -> None:
    """The map that alignment finds is the planted one, to half a per cent of a side."""
    left, top, share = place
    whole = gallery.scene(11, ground="photograph")
    part = cut(whole, left, top, share)
    rows, own = descriptor.describe(whole), descriptor.describe(part)[0]
    best = int((rows @ own).argmax())
    found = alignment.aligned(thumbnail(whole), thumbnail(part), descriptor.windows()[best])
    assert found is not None
    assert abs(found[0, 0] - share) < 0.01 and abs(found[1, 1] - share) < 0.01
    assert np.abs(found[:, 2] / 256 - (left, top)).max() < 0.01


def _written(tmp_path: Any, gallery: Any, media: Any, name: str) -> vectors.Vectors:
    folder = tmp_path / name
    folder.mkdir()
    with vectors.writer(folder) as describe:
        for each in media:
            describe(each, 0, gallery.pixels(each))
    return vectors.read([folder])


def test_a_cut_copy_is_removed_and_names_what_it_was_cut_from(
    gallery: Any, settings: CurationSettings, tmp_path: Any
) -> None:
    """In either order of arrival; a flipped copy and other scenes stay."""
    scene = gallery.scene(3, ground="photograph")
    part, mirrored = cut(scene, 0.12, 0.05, 0.8), np.ascontiguousarray(scene[:, ::-1])
    pictures = {"scene": scene, "part": part, "mirrored": mirrored, "other": gallery.scene(4)}
    for first, second in (("scene", "part"), ("part", "scene")):
        order = [first, second, "mirrored", "other"]
        media = {name: gallery.image(pictures[name]) for name in order}
        found = [
            gallery.fingerprint(gallery.trajectory(media[name], name=name), batch=str(k))
            for k, name in enumerate(order)
        ]
        seen = _written(tmp_path, gallery, media.values(), f"{first} first")
        assert len(seen.owner) == 4 * 35
        told = deduplicate(found, settings, gallery.pixels, gallery.frames, seen)
        (removed,) = [o for o in told.outcomes if isinstance(o, Rejected)]
        assert removed.of == found[1].id and removed.detail.startswith("cut: ")
        assert removed.measured >= settings.cut_agreement
        (edge,) = told.edges
        assert (edge.earlier, edge.later) == (media[first].sha256, media[second].sha256)
        assert told.groups() == {media[first].sha256: [media[second].sha256]}
        without = deduplicate(found, settings, gallery.pixels, gallery.frames)
        assert all(isinstance(o, Accepted) for o in without.outcomes)  # pHash alone is blind to it


def test_a_newcomer_that_ties_two_groups_moves_neither(gallery: Any, settings: CurationSettings) -> None:
    """The last clip holds most of either; they hold too little of each other."""
    one = gallery.video([gallery.scene(int(s), ground="photograph") for s in range(10)])
    held = gallery.held[one.sha256]
    other = [gallery.scene(int(s), ground="photograph") for s in range(30, 40)]
    two = gallery.video(held[:6] + other[6:])
    both = gallery.video([gallery.encoded(f) for f in held[:8]] + [gallery.encoded(f) for f in other[8:]])
    found = [
        gallery.fingerprint(gallery.trajectory(m, name=str(k)), batch=str(k))
        for k, m in enumerate((one, two, both))
    ]
    told = deduplicate(reversed(found), settings, gallery.pixels, gallery.frames)
    assert [edge.blocked for edge in told.edges] == [True, False]
    assert {edge.later for edge in told.edges} == {both.sha256}
    assert {edge.root for edge in told.edges} == {one.sha256, two.sha256}
    assert told.groups() == {one.sha256: [both.sha256]}


def test_a_benchmark_picture_cut_out_is_a_leak(
    gallery: Any, settings: CurationSettings, tmp_path: Any
) -> None:
    scene = gallery.scene(9, ground="photograph")
    held, ours = gallery.image(scene), gallery.image(cut(scene, 0.1, 0.1, 0.8))
    clear = gallery.image(gallery.scene(10, ground="photograph"))
    sample = Sample("s", Origin("vstar", "7", "test", "evaluation"), (held,), question="Which?", answer="7")
    entries = list(whitelist([sample], gallery.pixels, gallery.frames))
    traces = [
        gallery.fingerprint(gallery.trajectory(m, name=str(k))).trajectory
        for k, m in enumerate((ours, clear))
    ]
    training = _written(tmp_path, gallery, (ours, clear), "training")
    evaluation = _written(tmp_path, gallery, (held,), "evaluation")
    met = near((training, evaluation), None, frozenset(), settings)
    look = by_pixels(
        {held.sha256: held}, same_by_pixels(Judge(settings, gallery.pixels, gallery.frames), met)
    )
    (hit,) = hits(traces, entries, settings, look, met)
    assert hit.of == traces[0].id and hit.blocks and hit.by == "descriptor"
    assert hit.distance > settings.phash_distance
    assert leaks(traces[0], entries[0], settings, look, met)
    assert not leaks(traces[1], entries[0], settings, look, met)
    assert not hits(traces, entries, settings, look)
    asked = settings.model_copy(update={"probes": 500})
    same = {ours.sha256}.__contains__
    count, found = probe(training, evaluation, asked, lambda mine, theirs: same(mine))
    assert count == 500 and 0 < found <= 500
    rest = training.where(training.owner == clear.sha256)
    assert probe(rest, evaluation, asked, lambda mine, theirs: True)[1] < found
