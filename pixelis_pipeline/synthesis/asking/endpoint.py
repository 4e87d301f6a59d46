"""Where a teacher answers: an address, or one of the two that this package runs itself."""

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

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

    def told(self, words: object) -> str:
        """What this endpoint said, without the key: some repeat the Authorization header in their errors,
        and errors go into artifacts, Dagster's events and the terminal."""
        shown = self.key and self.key != self.name  # a teacher of our own has no secret
        return (str(words).replace(self.key.strip(), "***") if shown else str(words))[:300]


def remote(settings: TeacherSettings) -> Endpoint:
    """The endpoint that settings name by its base URL. SettingsError for a name that is no address, and for
    a key that cannot be one. Without a key in the environment its `key` is empty: `require_key`."""
    if settings.endpoint in OWN_TEACHERS:
        raise SettingsError(
            f"teacher.endpoint is {settings.endpoint!r}: start it with embedded_teacher.serve"
        )
    if settings.endpoint == NONE:
        raise SettingsError("teacher.endpoint is 'none': there is nobody to ask")
    if urlsplit(settings.endpoint).scheme not in ("http", "https") or not urlsplit(settings.endpoint).netloc:
        raise SettingsError(
            f"teacher.endpoint is {settings.endpoint!r}, no address such as https://api.x.ai/v1, "
            f"nor one of {', '.join((*OWN_TEACHERS, NONE))}"
        )
    key = os.environ.get(settings.key_variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise SettingsError(f"{settings.key_variable} holds what no HTTP header can: copy the key again")
    return Endpoint(settings.endpoint, settings.endpoint, key)


def require_key(endpoint: Endpoint, settings: TeacherSettings) -> None:
    """SettingsError where something is to be sent and there is no key. What is stored needs none."""
    if not endpoint.key:
        raise SettingsError(
            f"teacher.endpoint is {endpoint.name}, but the environment variable "
            f"{settings.key_variable} that should hold its key is empty"
        )
