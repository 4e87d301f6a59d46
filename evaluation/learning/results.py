"""Where the study's results lie in a project, and the proof that they follow from what is kept."""

import json
from pathlib import Path

from jinja2 import UndefinedError

from evaluation.learning import evidence as kept
from evaluation.learning.numbers import learning
from evaluation.learning.page import page
from pixelis_pipeline.ledger import files
from pixelis_pipeline.records import Json
from pixelis_pipeline.verify.answers import right

EVIDENCE, NUMBERS = "docs/results/learning", "docs/results/learning.json"
PAGE, IMAGES = "docs/LEARNING.md", "docs/images/learning"


def publish(root: Path, out: Path) -> None:
    """Write the numbers, the page and its plots beside the evidence that lies in `out`."""
    from evaluation.learning.plots import plots

    evidence = kept.read(out / EVIDENCE, root)
    found, told = _follows(evidence)
    (out / IMAGES).mkdir(parents=True, exist_ok=True)
    for name, picture in plots(found, evidence).items():
        files.replace(out / IMAGES / name, picture)
    files.replace(out / NUMBERS, _text(found))
    files.replace(out / PAGE, told)


def wrong(root: Path, out: Path) -> list[str]:
    """What of the results in `out` does not follow from the predictions that are kept there; empty where all
    does. Raises EvidenceError where the evidence itself is not whole."""
    evidence = kept.read(out / EVIDENCE, root)
    found, written = _follows(evidence)
    told = []
    if misjudged := [p.id for p in evidence.predictions if p.correct != right(p.question, p.answer)]:
        told.append(f"{len(misjudged)} predictions are judged otherwise; the first is {misjudged[0]}")
    for place, due in ((NUMBERS, _text(found)), (PAGE, written)):
        path = out / place
        if not path.is_file():
            told.append(f"{place} is missing")
        elif path.read_bytes() != due:
            told.append(f"{place} is not what the kept predictions come to")
    return told


def _follows(evidence: kept.Evidence) -> tuple[Json, bytes]:
    """The numbers and the page. EvidenceError where what is kept lacks what they are made of."""
    try:
        found = learning(evidence)
        return found, page(found, evidence).encode()
    except (KeyError, TypeError, ValueError, UndefinedError) as error:
        raise kept.EvidenceError(
            f"no numbers follow from what is kept ({type(error).__name__}: {error})"
        ) from error


def _text(found: dict[str, object]) -> bytes:
    return json.dumps(found, indent=1).encode() + b"\n"
