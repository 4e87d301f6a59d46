"""Where a teacher answers: an address, or one of the two that this package runs itself."""

import os
from dataclasses import dataclass, field

from pixelis_pipeline.settings import OWN_TEACHERS, SettingsError, TeacherSettings

EMBEDDED = "embedded"  # knows the world's own truth
ANNOTATIONS = "annotations"  # knows what the samples' annotations say
NONE = "none"  # the source is left out


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`name` goes into request keys; `base_url` does not, because a teacher of our own changes its port."""

    name: str
    base_url: str
    key: str = field(repr=False)


def remote(settings: TeacherSettings) -> Endpoint:
    """The endpoint that settings name by its base URL. SettingsError without a key in the environment, and
    for a name that is no address."""
    if settings.endpoint in OWN_TEACHERS:
        raise SettingsError(
            f"teacher.endpoint is {settings.endpoint!r}: start it with synthesis.embedded_teacher.serve"
        )
    if settings.endpoint == NONE:
        raise SettingsError("teacher.endpoint is 'none': there is nobody to ask")
    key = os.environ.get(settings.key_variable, "")
    if not key:
        raise SettingsError(
            f"teacher.endpoint is {settings.endpoint}, but the environment variable "
            f"{settings.key_variable} that should hold its key is empty"
        )
    return Endpoint(settings.endpoint, settings.endpoint, key)
