"""A process that asks and is killed for it. Its imports are all at the top: a fork server loads them once."""

from pathlib import Path

import openai.resources.chat.completions  # noqa: F401  (openai itself loads it at the first request)

from pixelis_pipeline.media import MediaStore
from pixelis_pipeline.records import Outcome
from pixelis_pipeline.settings import MediaLimits, TeacherSettings
from pixelis_pipeline.synthesis.asking.client import ask
from pixelis_pipeline.synthesis.asking.endpoint import Endpoint
from pixelis_pipeline.synthesis.asking.store import AnswerStore
from pixelis_pipeline.synthesis.response import Response
from tests.synthesis.asking.rows import rows

CONCURRENCY = 8


def asked(root: Path, url: str, count: int) -> list[Outcome[Response]]:
    """The outcomes of `count` rows over the store at `root`."""
    settings = TeacherSettings(model="m", concurrency=CONCURRENCY, timeout_seconds=20)
    media = MediaStore(root, MediaLimits())
    with AnswerStore(root) as store:
        return ask(rows(count), settings, store, media, Endpoint("billing", url, "key"))


def main(root: Path, url: str, count: int) -> None:
    """Ask and end."""
    asked(root, url, count)
