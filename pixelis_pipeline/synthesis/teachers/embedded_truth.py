"""What the embedded teacher knows, by the digest of what it will be shown."""

import hashlib
from collections.abc import Iterable, Mapping

from pixelis_pipeline.media import MediaError, MediaStore
from pixelis_pipeline.records import Json, Media, Sample
from pixelis_pipeline.synthesis.asking.message import frame_file, frames


def known(truths: Mapping[str, Json], samples: Iterable[Sample], media: MediaStore) -> dict[str, Json]:
    """The world's truths, and what follows from them and the samples for pictures it did not write itself.

    A page that was rendered from text is known by the words the renderer placed, a film by its first frame.
    """
    entries, films = dict(truths), []
    for sample in samples:
        for item in sample.media:
            if item.kind == "video" and item.sha256 in truths:
                films.append(item)
            elif item.sha256 not in truths and "words" in sample.annotations:
                entries[item.sha256] = {
                    "sha256": item.sha256,
                    "width": item.width,
                    "height": item.height,
                    "words": sample.annotations["words"],
                }
    return entries | {digest: truths[film] for digest, film in first_frames(films, media).items()}


def first_frames(films: Iterable[Media], media: MediaStore) -> dict[str, str]:
    """sha256 of the first frame that is sent of each film -> sha256 of the film.

    Films that do not decode are left out: nobody can ask about them. So are films that begin with the same
    picture, because what is told of one must not be taken for the other's.
    """
    begun: dict[str, list[str]] = {}
    for film in {item.sha256: item for item in films}.values():
        try:
            first = frame_file(frames(film, media)[0])
        except MediaError:
            continue
        begun.setdefault(hashlib.sha256(first).hexdigest(), []).append(film.sha256)
    return {digest: same[0] for digest, same in begun.items() if len(same) == 1}
