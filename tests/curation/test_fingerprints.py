"""Fingerprints: made once a medium, equal to the authors' hashes, honest about plain pictures."""

import os
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageOps

from pixelis_pipeline.columns import from_table, to_table
from pixelis_pipeline.curation.fingerprints import Fingerprint, MediaFingerprint, fingerprint, information
from pixelis_pipeline.media import files, image
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.records import Failed, Media, Rejected
from pixelis_pipeline.settings import MediaLimits
from pixelis_pipeline.sources.whitelist import phash
from pixelis_pipeline.world.grounds import photograph


def test_one_picture_is_looked_at_once(gallery: Any) -> None:
    media = gallery.image(gallery.scene(1))
    known: dict[str, MediaFingerprint] = {}
    for text in ("How many?", "Which colour?", "Which is larger?"):
        gallery.fingerprint(gallery.trajectory(media, text=text), known=known)
    assert gallery.decoded == [media.sha256]


def test_record_carries_hash_batch_and_parent(gallery: Any) -> None:
    picture = gallery.scene(2)
    trajectory = gallery.trajectory(gallery.image(picture))
    found = gallery.fingerprint(trajectory, batch="004", words=lambda media: "red circle")
    assert found.parents == (trajectory.id,)
    assert found.trajectory.batch == "004"
    assert found.trajectory.phash == (phash(picture),)
    assert found.media[0].text == "red circle"
    assert found.id != gallery.fingerprint(trajectory, batch="005").id
    assert from_table(Fingerprint, to_table(Fingerprint, [found])) == [found]


def test_video_has_a_view_a_second(gallery: Any) -> None:
    frames = [gallery.scene(seed) for seed in range(4)]
    found = gallery.fingerprint(gallery.trajectory(gallery.video(frames)))
    assert found.trajectory.phash == tuple(phash(frame) for frame in frames)
    assert len(found.media[0].information) == 4


def test_unreadable_media_are_rejected_by_their_rule(gallery: Any) -> None:
    def broken(media: Media) -> np.ndarray:
        raise MediaError("truncated", media.path)

    trajectory = gallery.trajectory(gallery.image(gallery.scene(3)))
    outcome = fingerprint(trajectory, broken, gallery.frames, batch="000")
    assert isinstance(outcome, Rejected)
    assert (outcome.of, outcome.rule) == (trajectory.id, "truncated")
    without = fingerprint(gallery.trajectory(), gallery.pixels, gallery.frames, batch="000")
    assert isinstance(without, Rejected)
    assert without.rule == "no media"


@pytest.mark.parametrize("rule", ["missing media", "media changed"])
def test_media_that_are_gone_or_changed_are_tried_again(rule: str, gallery: Any) -> None:
    def gone(media: Media) -> np.ndarray:
        raise MediaError(rule, media.path)

    trajectory = gallery.trajectory(gallery.image(gallery.scene(3)))
    outcome = fingerprint(trajectory, gone, gallery.frames, batch="000")
    assert isinstance(outcome, Failed)
    assert outcome.of == trajectory.id and outcome.error.startswith(rule)


def test_information_tells_flat_from_full(gallery: Any, settings: Any) -> None:
    """A blank sheet says nothing, small print next to nothing, a photograph nearly everything."""
    assert information(np.full((512, 512, 3), 240, np.uint8)) == 0.0
    assert information(gallery.print(1)) < settings.information_floor / 2
    for name in ("astronaut", "china", "motorcycle", "flower"):
        assert information(photograph(name)) > settings.information_floor


def test_agrees_with_the_authors_hashes() -> None:
    """imagehash's own test picture exactly; imagededup's within 2 bits (it shrinks pictures otherwise), and
    those decoded at a smaller scale, as every stage does, within 2 bits of imagehash's."""
    root = os.environ.get("PIXELIS_REALDATA")
    if not root:
        pytest.skip("PIXELIS_REALDATA is not set: the authors' pictures are not at hand")
    folder = Path(root) / "dedup_image"

    def hashed(path: Path) -> str:
        return phash(np.asarray(Image.open(path).convert("RGB")))

    assert hashed(folder / "imagehash" / "imagehash.png") == "ba8c84536bd3c366"
    theirs = {
        "ukbench00120": "9fee256239984d71",
        "ukbench00120_resize": "9fee256239984d71",
        "ukbench00120_rotation": "850d513c4fdcbb72",
        "ukbench00120_hflip": "cabb7237e8cd3824",
        "ukbench09268": "c73c36c2da2f29c9",
    }
    for name, digits in theirs.items():
        ours = hashed(folder / "imagededup" / "mixed_images" / f"{name}.jpg")
        assert (int(ours, 16) ^ int(digits, 16)).bit_count() <= 2
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in {".jpg", ".jpeg", ".png"}]
    compared = 0
    for path in paths:
        data = path.read_bytes()
        try:
            ours = phash(image.reduced(data, files.sniff(data) or "", path.name, MediaLimits(), image.SIDE))
        except MediaError:
            continue
        compared += 1
        with Image.open(path) as opened:
            theirs_now = str(imagehash.phash(ImageOps.exif_transpose(opened).convert("RGB")))
        assert (int(ours, 16) ^ int(theirs_now, 16)).bit_count() <= 2, path.name
    assert compared == 6
