"""The one error of this room."""


class MediaError(ValueError):
    """Media that cannot be used. `rule` is the machine word that a `Rejected` carries:

    malformed name, path escapes folder, missing media, too large, not an image, not a video, wrong
    extension, truncated, decompression bomb, unsupported pixels, too long, media changed, worker lost.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(rule, message)  # both, so that it can be sent from one process to another
        self.rule = rule

    def __str__(self) -> str:
        return ": ".join(self.args)

    @property
    def passing(self) -> bool:
        """Whether media that were read once can be used again: as soon as their file is put back (they are
        gone or changed), or by another try (who looked at them died). To a reader, which has never seen them,
        missing media are no less final."""
        return self.rule in ("missing media", "media changed", "worker lost")
