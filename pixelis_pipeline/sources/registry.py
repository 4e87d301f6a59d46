"""The six sources and the reader of each."""

from pixelis_pipeline.sources import ego4d, fineweb, mathvista, partimagenet, sa1b, starqa
from pixelis_pipeline.sources.contract import SourceReader

READERS: dict[str, SourceReader] = {
    "sa1b": sa1b.read,
    "fineweb": fineweb.read,
    "starqa": starqa.read,
    "partimagenet": partimagenet.read,
    "mathvista": mathvista.read,
    "ego4d": ego4d.read,
}
