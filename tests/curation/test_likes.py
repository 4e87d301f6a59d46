"""Stage two of de-duplication, by an encoder that counts colours: it sees no difference between a picture and
the same one flipped or turned, nor between two pages of one template."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pixelis_pipeline.curation import vectors
from pixelis_pipeline.curation.duplicates import Deduplication, deduplicate
from pixelis_pipeline.curation.encoders import TOGETHER, Encoder
from pixelis_pipeline.curation.evaluation_twins import (
    Near,
    by_pixels,
    hits,
    leaks,
    near,
    same_by_pixels,
)
from pixelis_pipeline.curation.fingerprints import Fingerprint
from pixelis_pipeline.curation.patches import small
from pixelis_pipeline.curation.twins import Like, likes
from pixelis_pipeline.curation.vectors import Vectors
from pixelis_pipeline.curation.verdict import Judge, turned
from pixelis_pipeline.records import Accepted, Media, Origin, Rejected, Sample
from pixelis_pipeline.settings import CurationSettings
from pixelis_pipeline.sources.whitelist import views, whitelist
from pixelis_pipeline.world.language import passage
from pixelis_pipeline.world.page import render_page

Array = np.ndarray[Any, Any]


class Colours(Encoder):
    """The root of how often each of 512 colours stands: a cosine is then the Bhattacharyya coefficient of two
    histograms."""

    version, dimension = "c" * 64, 512

    def __init__(self) -> None:
        self.batches: list[int] = []

    def batch(self, pictures: Sequence[Array]) -> Array:
        self.batches.append(len(pictures))
        cells = [(each // 32).reshape(-1, 3) @ (64, 8, 1) for each in pictures]
        return np.sqrt([np.bincount(cell, minlength=512) for cell in cells])


def embedded(
    folder: Path, gallery: Any, media: Iterable[Media], encoder: Encoder | None = None
) -> Vectors | None:
    """What the stages write of these media, read again."""
    folder.mkdir(exist_ok=True, parents=True)
    with vectors.embedder(folder, encoder or Colours()) as embed:
        for each in media:
            for number, picture in enumerate(views(each, gallery.pixels, gallery.frames)):
                embed(each, number, picture)
    return vectors.embeddings([folder])


def told(gallery: Any, media: Sequence[Media], **words: str) -> list[Fingerprint]:
    return [
        gallery.fingerprint(
            gallery.trajectory(each, name=str(k)), batch=str(k), words=lambda m: words.get(f"w{m.sha256}", "")
        )
        for k, each in enumerate(media)
    ]


def removed(found: Deduplication) -> list[Rejected]:
    return [o for o in found.outcomes if isinstance(o, Rejected)]


@pytest.mark.parametrize("way", range(1, 8))
def test_a_flipped_or_turned_copy_is_removed_with_an_encoder_and_not_without(
    gallery: Any, settings: CurationSettings, tmp_path: Path, way: int
) -> None:
    scene = gallery.scene(3, ground="photograph")
    pictures = [scene, gallery.encoded(turned(scene, way), 85), gallery.scene(4, ground="photograph")]
    media = [gallery.image(each) for each in pictures]
    found = told(gallery, media)
    seen = embedded(tmp_path, gallery, media)
    (gone,) = removed(deduplicate(found, settings, gallery.pixels, gallery.frames, None, seen))
    assert (gone.of, gone.rule, gone.threshold) == (
        found[1].id,
        "near-duplicate image",
        settings.encoder_image,
    )
    assert gone.measured is not None and gone.measured >= settings.encoder_image
    assert gone.detail.startswith(f"encoder: {media[1].sha256} resembles {media[0].sha256}")
    assert not removed(deduplicate(found, settings, gallery.pixels, gallery.frames))


@pytest.mark.slow
def test_pages_of_one_template_stay(gallery: Any, settings: CurationSettings, tmp_path: Path) -> None:
    """Their embeddings are near, and so benign: other words stand in the same places. A page turned round is
    the same page, unless words are known and differ."""
    pages = [gallery.image(gallery.print(k)) for k in range(6)]
    films = frozenset[str]()
    seen = embedded(tmp_path / "pages", gallery, pages)
    assert seen is not None and len(likes(seen, seen, films, settings)) == 15
    assert not removed(
        deduplicate(told(gallery, pages), settings, gallery.pixels, gallery.frames, None, seen)
    )

    turned_page = gallery.image(turned(gallery.print(2), 2))
    media = [*pages, turned_page]
    seen = embedded(tmp_path / "turned", gallery, media)
    found = told(gallery, media)
    (gone,) = removed(deduplicate(found, settings, gallery.pixels, gallery.frames, None, seen))
    assert gone.of == found[-1].id and pages[2].sha256 in gone.detail
    words = {f"w{pages[2].sha256}": "one two three", f"w{turned_page.sha256}": "four five six"}
    found = told(gallery, media, **words)
    assert not removed(deduplicate(found, settings, gallery.pixels, gallery.frames, None, seen))


@pytest.mark.slow
def test_pages_of_one_picture_margins_and_face_are_told_apart_by_their_words(
    gallery: Any, settings: CurationSettings
) -> None:
    """Whatever an encoder may say of them; their mirrored copies are found all the same."""

    def page(seed: int, text: int) -> Media:
        return gallery.image(render_page(passage(np.random.default_rng(text), 150), seed)[0])

    judge = Judge(settings, gallery.pixels, gallery.frames)
    pairs = [(page(seed, 1000 + seed), page(seed, 2000 + seed)) for seed in range(20)]
    assert sum(judge.alike(a, b, Like(1.0)) for a, b in pairs) <= 1
    mirrored = [gallery.image(turned(gallery.encoded(small(gallery.pixels(a))), 4)) for a, _ in pairs]
    assert all(judge.alike(a, copy, Like(1.0)) for (a, _), copy in zip(pairs, mirrored, strict=True))


def test_where_tiles_disagree_ssim_breaks_the_tie_and_only_then(
    gallery: Any, settings: CurationSettings, tmp_path: Path
) -> None:
    """A small thing painted out: one tile disagrees altogether, the picture as a whole hardly."""
    scene = np.ascontiguousarray(gallery.scene(3, ground="photograph"))
    flipped = np.ascontiguousarray(scene[:, ::-1])
    flipped[100:140, 100:140] = flipped[100:140, 100:140].mean(axis=(0, 1))
    media = [gallery.image(scene), gallery.image(flipped)]
    seen, found = embedded(tmp_path, gallery, media), told(gallery, media)

    def gone(**changed: float) -> int:
        asked = settings.model_copy(update=changed)
        return len(removed(deduplicate(found, asked, gallery.pixels, gallery.frames, None, seen)))

    assert gone(leak_agreement=1.0, ssim=0.8) == 1  # the tiles are made to disagree
    assert gone(leak_agreement=1.0, ssim=0.999) == 0
    assert gone(leak_agreement=1.0, ssim=0.8, information_floor=1.0) == 0  # SSIM of a page proves nothing
    assert gone(encoder_image=1.0) == 0  # not even a candidate


def test_a_film_that_begins_later_is_laid_over(
    gallery: Any, settings: CurationSettings, tmp_path: Path
) -> None:
    """Mirrored, and three seconds late: only the encoder can say so, at the right shift, in either order."""
    frames = [gallery.scene(k, ground="photograph") for k in range(9)]
    film = gallery.video(frames)
    late = gallery.video([gallery.encoded(np.ascontiguousarray(f[:, ::-1]), 85) for f in frames[3:]])
    other = gallery.video([gallery.scene(k, ground="photograph") for k in range(20, 29)])
    still = gallery.image(frames[4])  # an image is no film, whatever it looks like
    media = [film, late, other, still]
    films = {m.sha256 for m in media if m.kind == "video"}
    for name, order in (("first", media), ("last", media[::-1])):
        seen = embedded(tmp_path / name, gallery, media)  # the files know nothing of the total order
        assert seen is not None
        ((pair, like),) = likes(seen, seen, films, settings).items()
        assert set(pair) == {film.sha256, late.sha256}
        assert like.shift == (-3 if pair == (film.sha256, late.sha256) else 3)
        assert like.cosine >= settings.encoder_frame
        found = told(gallery, order)
        (gone,) = removed(deduplicate(found, settings, gallery.pixels, gallery.frames, None, seen))
        assert (gone.rule, gone.threshold) == ("near-duplicate video", settings.encoder_frame)
        assert not removed(deduplicate(found, settings, gallery.pixels, gallery.frames))


def test_films_need_most_of_the_views_that_lie_over_each_other(
    gallery: Any, settings: CurationSettings, tmp_path: Path
) -> None:
    frames = [gallery.scene(k, ground="photograph") for k in range(10)]
    others = [gallery.scene(k, ground="photograph") for k in range(30, 40)]
    film = gallery.video(frames)
    most, few = gallery.video(frames[:8] + others[8:]), gallery.video(frames[:6] + others[6:])
    films = {film.sha256, most.sha256, few.sha256}
    seen = embedded(tmp_path, gallery, [film, most, few])
    assert seen is not None
    found = likes(seen, seen, films, settings)
    assert {frozenset(pair) for pair in found} >= {frozenset((film.sha256, most.sha256))}
    assert frozenset((film.sha256, few.sha256)) not in {frozenset(pair) for pair in found}


def test_both_sides_of_a_pair_find_each_other(
    gallery: Any, settings: CurationSettings, tmp_path: Path
) -> None:
    scene = gallery.scene(3, ground="photograph")
    left, right = gallery.image(scene), gallery.image(turned(scene, 1))
    ours, theirs = (embedded(tmp_path / m.sha256, gallery, [m]) for m in (left, right))
    assert ours is not None and theirs is not None
    ((pair, like),) = likes(ours, theirs, frozenset(), settings).items()
    assert pair == (left.sha256, right.sha256) and like == Like(pytest.approx(1.0), 0)
    assert not likes(ours, ours, frozenset(), settings)


def test_a_mirrored_benchmark_picture_is_a_leak(
    gallery: Any, settings: CurationSettings, tmp_path: Path
) -> None:
    scene = gallery.scene(9, ground="photograph")
    page, twin = gallery.image(gallery.print(1)), gallery.image(gallery.print(2))
    held, ours = gallery.image(scene), gallery.image(turned(scene, 4))
    samples = [
        Sample(str(k), Origin("vstar", str(k), "test", "evaluation"), (m,), question="Which?", answer="7")
        for k, m in enumerate((held, page))
    ]
    entries = list(whitelist(samples, gallery.pixels, gallery.frames))
    traces = [f.trajectory for f in told(gallery, (ours, twin))]
    seen = embedded(tmp_path / "ours", gallery, (ours, twin))
    theirs = embedded(tmp_path / "theirs", gallery, (held, page))
    assert seen is not None and theirs is not None
    nothing = Vectors(
        *(column[:0] for column in (seen.owner, seen.view, seen.window)), np.zeros((0, 80), np.float32)
    )
    met: Near = near((nothing, nothing), (seen, theirs), frozenset(), settings)
    assert set(met) == {
        (ours.sha256, held.sha256),
        (twin.sha256, page.sha256),
    }  # one template: a candidate too
    evaluation = {m.sha256: m for m in (held, page)}
    look = by_pixels(evaluation, same_by_pixels(Judge(settings, gallery.pixels, gallery.frames), met))
    blocking = [hit for hit in hits(traces, entries, settings, look, met) if hit.blocks]
    assert [(hit.of, hit.record, hit.by) for hit in blocking] == [(traces[0].id, "0", "encoder")]
    assert leaks(traces[0], entries[0], settings, look, met)
    assert not leaks(traces[1], entries[1], settings, look, met)
    blind = by_pixels(evaluation, same_by_pixels(Judge(settings, gallery.pixels, gallery.frames)))
    assert not [hit for hit in hits(traces, entries, settings, blind) if hit.blocks]
    with pytest.raises(ValueError, match="two encoders"):
        near((nothing, nothing), (seen, nothing), frozenset(), settings)


def test_ids_say_which_encoder_decided_and_without_one_nothing_changes(
    gallery: Any, settings: CurationSettings, tmp_path: Path
) -> None:
    media = [gallery.image(gallery.scene(k)) for k in range(3)]
    found = told(gallery, media)

    def ids(seen: Vectors | None, **changed: float) -> list[str]:
        asked = settings.model_copy(update=changed)
        made = deduplicate(found, asked, gallery.pixels, gallery.frames, None, seen)
        return [o.records[0].id for o in made.outcomes if isinstance(o, Accepted)]

    seen = embedded(tmp_path, gallery, media)
    assert seen is not None and seen.encoder == Colours.version
    other = Vectors(seen.owner, seen.view, seen.window, seen.matrix, "d" * 64)
    told_apart = [ids(None), ids(seen), ids(other), ids(seen, encoder_image=0.99)]
    assert [len(each) for each in told_apart] == [3] * 4
    assert len({each[0] for each in told_apart}) == 4
    assert ids(None, encoder_image=0.99, encoder_frame=0.5) == ids(None)


def test_embeddings_are_written_a_batch_at_a_time_and_read_as_they_were(gallery: Any, tmp_path: Path) -> None:
    media = [gallery.image(gallery.scene(k)) for k in range(TOGETHER + 5)]
    blank = gallery.image(np.full((64, 64, 3), 250, np.uint8))
    film = gallery.video([gallery.scene(k) for k in (50, 51)])
    encoder = Colours()
    seen = embedded(tmp_path, gallery, [*media, blank, film], encoder)
    assert encoder.batches == [TOGETHER, 8]
    assert seen is not None and len(seen.owner) == TOGETHER + 5 + 1 + 2
    assert seen.view.tolist()[-2:] == [0, 1] and not seen.window.any()
    row = encoder([gallery.pixels(media[7])])[0]
    assert np.abs(seen.matrix[7] - row).max() < 1e-3
    assert not seen.matrix[TOGETHER + 5].any()  # a blank sheet looks like every other: it is like none
    assert pq.read_schema(tmp_path / vectors.EMBEDDINGS).metadata[b"encoder"] == b"c" * 64


def test_without_an_encoder_there_is_no_file(gallery: Any, tmp_path: Path) -> None:
    medium = gallery.image(gallery.scene(1))
    with vectors.embedder(tmp_path, None) as embed:
        embed(medium, 0, gallery.pixels(medium))
    assert not list(tmp_path.iterdir()) and vectors.embeddings([tmp_path]) is None


def test_embeddings_of_two_encoders_are_not_compared(gallery: Any, tmp_path: Path) -> None:
    class Other(Colours):
        version = "d" * 64

    medium = gallery.image(gallery.scene(1))
    embedded(tmp_path / "one", gallery, [medium])
    embedded(tmp_path / "two", gallery, [medium], Other())
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="not of the encoder"):
        vectors.embeddings([tmp_path / "one", tmp_path / "two"])
    with pytest.raises(FileNotFoundError):
        vectors.embeddings([tmp_path / "one", tmp_path / "none"])
