"""Planted copies are found, distinct pictures are kept, and the order of arrival never shows."""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from pixelis_pipeline.curation.duplicates import Deduplication, deduplicate
from pixelis_pipeline.curation.verdict import Judge, words_similarity
from pixelis_pipeline.records import Accepted, Rejected, Trajectory
from pixelis_pipeline.settings import CurationSettings
from pixelis_pipeline.world.grounds import photograph
from pixelis_pipeline.world.language import passage
from pixelis_pipeline.world.page import render_page

SCENES = 40
PAGES = 15
PRINTS = 60


def rejected(found: Deduplication) -> dict[str, Rejected]:
    return {o.of: o for o in found.outcomes if isinstance(o, Rejected)}


def kept(found: Deduplication) -> list[Trajectory]:
    return [record for o in found.outcomes if isinstance(o, Accepted) for record in o.records]


@pytest.mark.slow
def test_planted_copies_are_found_and_the_rest_is_kept(gallery: Any, settings: CurationSettings) -> None:
    """Recall and false positives of the stage itself, over scenes, pages with pictures and bare print."""
    rng = np.random.default_rng(8)
    originals = [gallery.scene(seed) for seed in range(SCENES)]
    originals += [render_page(passage(rng, 150), seed)[0] for seed in range(PAGES)]
    originals += [gallery.print(seed) for seed in range(PAGES)]
    copies = [gallery.encoded(p) if k % 2 else gallery.rescaled(p) for k, p in enumerate(originals)]
    first = [
        gallery.fingerprint(gallery.trajectory(gallery.image(p), name=f"original {k}"))
        for k, p in enumerate(originals)
    ]
    later = [
        gallery.fingerprint(gallery.trajectory(gallery.image(p), name=f"copy {k}"), batch="001")
        for k, p in enumerate(copies)
    ]
    outcomes = deduplicate(later + first, settings, gallery.pixels, gallery.frames)
    removed, survivors = rejected(outcomes), {t.parents[0]: t.id for t in kept(outcomes)}
    assert set(removed) == {f.id for f in later}
    for original, copy in zip(first, later, strict=True):
        reason = removed[copy.id]
        assert reason.twin == survivors[original.id]
        assert reason.rule == "near-duplicate image"
        assert reason.measured is not None and reason.threshold is not None
        by_hash = reason.detail.startswith("phash")
        assert reason.measured <= 8 if by_hash else reason.measured >= settings.patch_agreement
    signals = {reason.detail.split(":")[0] for reason in removed.values()}
    assert signals == {"phash", "patches"}


def test_two_pictures_of_one_hash_stay_two(gallery: Any, settings: CurationSettings) -> None:
    """A photograph, and its low frequencies, by which it is hashed, under a texture of its own."""
    one = cv2.resize(photograph("astronaut"), (320, 320), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(0).normal(0, 1, one.shape).astype(np.float32)
    texture = cv2.GaussianBlur(noise, (0, 0), 4) - cv2.GaussianBlur(noise, (0, 0), 9)
    low = cv2.GaussianBlur(one.astype(np.float32), (0, 0), 16) - 128
    mixed = np.clip(128 + 0.6 * low + 50 * texture / texture.std(), 0, 255).astype(np.uint8)
    found = [
        gallery.fingerprint(gallery.trajectory(gallery.image(p), name=str(k)), batch=str(k))
        for k, p in enumerate((one, mixed))
    ]
    a, b = (each.media[0] for each in found)
    assert (int(a.phash[0], 16) ^ int(b.phash[0], 16)).bit_count() <= settings.phash_distance
    assert min(a.information + b.information) >= settings.information_floor
    assert not rejected(deduplicate(found, settings, gallery.pixels, gallery.frames))
    trusting = settings.model_copy(update={"refuting_agreement": -1.0})
    assert len(rejected(deduplicate(found, trusting, gallery.pixels, gallery.frames))) == 1


@pytest.mark.slow
def test_bare_print_collides_by_hash_alone(gallery: Any, settings: CurationSettings) -> None:
    """Without the floor these distinct pages would go: the test above could not fail otherwise."""
    pages = [
        gallery.fingerprint(gallery.trajectory(gallery.image(gallery.print(s)), name=str(s)))
        for s in range(PRINTS)
    ]
    trusting = settings.model_copy(update={"information_floor": 0.0, "refuting_agreement": -1.0})
    assert len(rejected(deduplicate(pages, trusting, gallery.pixels, gallery.frames))) >= 4
    assert not rejected(deduplicate(pages, settings, gallery.pixels, gallery.frames))


def test_questions_share_a_picture_but_not_themselves(gallery: Any, settings: CurationSettings) -> None:
    media = gallery.image(gallery.scene(1))
    asked = gallery.trajectory(media, name="a")
    again = gallery.trajectory(media, name="b", text="How many  circles\nare there?")
    other = gallery.trajectory(media, name="c", text="Which colour is the star?", answer="red")
    trap = gallery.trajectory(media, name="d", kind="process-negative")
    found = [
        gallery.fingerprint(t, batch=b) for t, b in ((asked, "0"), (again, "1"), (other, "1"), (trap, "1"))
    ]
    outcomes = deduplicate(found, settings, gallery.pixels, gallery.frames)
    (repeat,) = rejected(outcomes).values()
    assert (repeat.of, repeat.rule) == (found[1].id, "exact duplicate")
    survivors = kept(outcomes)
    assert repeat.twin == survivors[0].id
    assert {t.group for t in survivors} == {media.sha256}


def test_later_batch_never_removes_what_stands(gallery: Any, settings: CurationSettings) -> None:
    scenes = [gallery.scene(seed) for seed in range(6)]
    first = [
        gallery.fingerprint(gallery.trajectory(gallery.image(p), name=str(k))) for k, p in enumerate(scenes)
    ]
    second = [
        gallery.fingerprint(gallery.trajectory(gallery.image(gallery.encoded(p)), name=f"x{k}"), batch="001")
        for k, p in enumerate(scenes)
    ]
    alone = kept(deduplicate(first, settings, gallery.pixels, gallery.frames))
    both = kept(deduplicate(second + first, settings, gallery.pixels, gallery.frames))
    assert both[: len(alone)] == alone


def test_removed_media_stay_removed(gallery: Any, settings: CurationSettings) -> None:
    """A copy of a removed copy, and another question on it, name the one that was kept."""
    picture = gallery.scene(3, ground="photograph")
    chain = [picture, gallery.encoded(picture, 40), gallery.rescaled(gallery.encoded(picture, 40), 0.5)]
    media = [gallery.image(p) for p in chain]
    found = [
        gallery.fingerprint(gallery.trajectory(m, name=str(k)), batch=str(k)) for k, m in enumerate(media)
    ]
    found.append(gallery.fingerprint(gallery.trajectory(media[1], text="Another?"), batch="3"))
    outcomes = deduplicate(found, settings, gallery.pixels, gallery.frames)
    (survivor,) = kept(outcomes)
    assert {reason.twin for reason in rejected(outcomes).values()} == {survivor.id}
    assert len(rejected(outcomes)) == 3


def test_two_like_images_of_one_question_are_no_duplicates(gallery: Any, settings: CurationSettings) -> None:
    picture = gallery.scene(4)
    pair = [gallery.image(picture), gallery.image(gallery.encoded(picture))]
    found = [gallery.fingerprint(gallery.trajectory(*pair, text="What differs?"))]
    assert not rejected(deduplicate(found, settings, gallery.pixels, gallery.frames))


def test_video_needs_most_of_its_views(gallery: Any, settings: CurationSettings) -> None:
    frames = [gallery.scene(seed, ground="photograph") for seed in range(10)]
    others = [gallery.scene(seed, ground="photograph") for seed in range(20, 30)]
    strange = [gallery.scene(seed, ground="photograph") for seed in range(40, 43)]
    clips = {
        "clip": frames,
        "copy": [gallery.encoded(f) for f in frames],
        "four in five": [gallery.encoded(f, 50) for f in frames[:8]] + others[8:],
        "seven in ten": [gallery.encoded(f, 55) for f in frames[:7]] + strange,
        "shifted": [gallery.encoded(f) for f in frames[1:] + others[:1]],
    }
    found = {
        name: gallery.fingerprint(gallery.trajectory(gallery.video(clip), name=name), batch=f"{k}")
        for k, (name, clip) in enumerate(clips.items())
    }
    outcomes = deduplicate(found.values(), settings, gallery.pixels, gallery.frames)
    removed = rejected(outcomes)
    assert {name for name, f in found.items() if f.id in removed} == {"copy", "four in five", "shifted"}
    assert {reason.rule for reason in removed.values()} == {"near-duplicate video"}


def test_words_that_differ_refute(gallery: Any, settings: CurationSettings) -> None:
    """Below the floor a copy with other known words stays; with the same words, or none known, it goes."""
    page = gallery.print(1)
    original = gallery.trajectory(gallery.image(page))
    copy = gallery.trajectory(gallery.image(gallery.encoded(page)), name="copy")
    for words, removed in (("one two three", 1), ("four five six", 0), ("", 1)):
        found = [
            gallery.fingerprint(original, words=lambda _: "One, two three."),
            gallery.fingerprint(copy, batch="001", words=lambda _, said=words: said),
        ]
        outcomes = deduplicate(found, settings, gallery.pixels, gallery.frames)
        assert len(rejected(outcomes)) == removed
    assert words_similarity("a b c d", "a b x d") == 0.75


@given(st.data())
@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_input_leaves_once_in_one_order(gallery: Any, settings: CurationSettings, data: Any) -> None:
    """accepted + rejected = input, and a shuffled input gives the same outcomes, for any mix of copies,
    repeated questions and batches."""
    scenes = [gallery.scene(seed) for seed in range(3)]
    pictures = scenes + [gallery.encoded(s) for s in scenes] + [gallery.rescaled(s) for s in scenes]
    drawn = data.draw(
        st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1), st.sampled_from("01")), max_size=12)
    )
    found = [
        gallery.fingerprint(
            gallery.trajectory(gallery.image(pictures[p]), text=f"question {q}", name=str(k)), batch=b
        )
        for k, (p, q, b) in enumerate(drawn)
    ]
    outcomes = deduplicate(found, settings, gallery.pixels, gallery.frames)
    assert sorted(o.of for o in outcomes.outcomes) == sorted(f.id for f in found)
    shuffled = data.draw(st.permutations(found))
    assert deduplicate(shuffled, settings, gallery.pixels, gallery.frames) == outcomes
    survivors = {t.id for t in kept(outcomes)}
    assert all(reason.twin in survivors for reason in rejected(outcomes).values())


def test_confirming_needs_the_whole_picture(gallery: Any, settings: CurationSettings) -> None:
    """Half a picture in common is not a copy."""
    left, right = gallery.scene(5, ground="plain"), gallery.scene(6, ground="plain")
    mixed = np.concatenate([left[:, :128], right[:, 128:]], axis=1)
    judge = Judge(settings, gallery.pixels, gallery.frames)
    assert judge.agreement(gallery.image(left), gallery.image(mixed)) < settings.patch_agreement
    assert (
        judge.agreement(gallery.image(left), gallery.image(gallery.encoded(left))) > settings.patch_agreement
    )


def test_the_authors_groups(gallery: Any, settings: CurationSettings) -> None:
    """imagededup's own expectation: the resized copy goes, the mirrored and the turned one stay."""
    root = os.environ.get("PIXELIS_REALDATA")
    if not root:
        pytest.skip("PIXELIS_REALDATA is not set: the authors' pictures are not at hand")
    folder = Path(root) / "dedup_image" / "imagededup" / "mixed_images"
    names = [f"ukbench{n}" for n in ("00120", "00120_hflip", "00120_resize", "00120_rotation", "09268")]
    found = {}
    for name in names:
        picture = np.asarray(Image.open(folder / f"{name}.jpg").convert("RGB"))
        trajectory = gallery.trajectory(gallery.image(picture), name=name)
        found[gallery.fingerprint(trajectory, batch=name).id] = gallery.fingerprint(trajectory, batch=name)
    outcomes = deduplicate(found.values(), settings, gallery.pixels, gallery.frames)
    removed = [found[of].trajectory.question.origin.record for of in rejected(outcomes)]
    assert removed == ["ukbench00120_resize"]
