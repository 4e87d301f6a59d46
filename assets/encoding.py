"""The learned encoder that settings name: its version, which decides what embeddings are, and itself."""

from assets.stage import Project, StageError
from pixelis_pipeline.curation import encoders
from pixelis_pipeline.curation.encoders import Encoder
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
