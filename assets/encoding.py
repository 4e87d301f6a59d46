"""The learned encoder that settings name: its version, itself, and the embeddings that it makes of media."""

from assets.stage import Project, StageError, Work
from pixelis_pipeline.curation import encoders, vectors
from pixelis_pipeline.curation.encoders import Encoder
from pixelis_pipeline.curation.fingerprints import MediaFingerprint
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.records import Json


def version(project: Project, partition: str) -> Json:
    """The encoder's version and its device; nothing where none is set. It stands for the weights, which no
    code digest sees. StageError where it cannot be used."""
    chosen = project.settings.curation
    if not chosen.encoder:
        return {}
    try:
        return {"encoder": encoders.version(chosen.encoder), "device": chosen.encoder_device}
    except (ValueError, ImportError, OSError) as error:
        raise StageError(str(error)) from error


def opened(project: Project) -> Encoder | None:
    """The encoder; None where none is set. StageError where it cannot be loaded."""
    chosen = project.settings.curation
    try:
        return encoders.opened(chosen.encoder, chosen.encoder_device) if chosen.encoder else None
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        raise StageError(str(error)) from error


def embed(work: Work, known: dict[str, MediaFingerprint], unread: dict[str, MediaError]) -> None:
    """Write the embeddings of what is `known`, where an encoder is set. Pictures are decoded once more, here:
    the model is loaded once, and so few of them are in memory. A medium that is gone by now is `unread`."""
    from pixelis_pipeline.sources.whitelist import views

    encoder = opened(work.project)
    if encoder is None:
        return
    work.digests["encoder"] = encoder.version
    with vectors.embedder(work.folder, encoder) as write, work.progress(len(known)) as advance:
        for sha in list(known):
            advance(1)
            media = known[sha].media
            try:
                shown = views(media, work.project.reduced, work.project.key_frames)
            except MediaError as error:
                unread[sha] = error
                del known[sha]
                continue
            for view, picture in enumerate(shown):
                write(media, view, picture)


def embeddings(work: Work, asset: str) -> vectors.Vectors | None:
    """The embeddings of all media of `asset`; None where it was made without an encoder. StageError where
    partitions were made by two, or only some with one."""
    try:
        return vectors.embeddings(work.folders(asset))
    except (ValueError, FileNotFoundError) as error:
        raise StageError(f"{error}: run `pixelis run` so that one encoder makes all of {asset}") from error
