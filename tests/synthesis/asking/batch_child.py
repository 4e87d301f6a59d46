"""Asks in batches until done or killed: batch_child.py <root> <address> <requests> <requests a file>."""

import sys
from pathlib import Path

from pixelis_pipeline.media import MediaStore
from pixelis_pipeline.records import Assignment, Origin, Question
from pixelis_pipeline.settings import MediaLimits, TeacherSettings
from pixelis_pipeline.synthesis import prompt as prompts
from pixelis_pipeline.synthesis.asking import batch_creation, batch_files, batches
from pixelis_pipeline.synthesis.asking.endpoint import Endpoint
from pixelis_pipeline.synthesis.asking.store import AnswerStore
from pixelis_pipeline.synthesis.asking.waiting import Pending
from pixelis_pipeline.synthesis.request import request_for

SETTINGS = TeacherSettings(model="m", mode="batch", attempts=3, timeout_seconds=60, patience_seconds=0.2)


def planned(count: int) -> Pending:
    """`count` requests about nothing to be seen."""
    origin = Origin("source", "record", "CC0-1.0", "training")
    found = {}
    for number in range(count):
        question = Question(f"q{number}", (), origin, (), f"Question {number}?", "A", "task")
        assignment = Assignment(f"a{number}", (question.id,), question)
        request = request_for(assignment, "m", "provider", prompts.load("positive", "plain"))
        found[request.key] = request, assignment
    return found


def hurry() -> None:
    """Pauses for a server that needs none."""
    batches.FIRST_PAUSE, batches.LONGEST_PAUSE, batch_creation.SETTLING = 0.01, 0.02, 0.05


if __name__ == "__main__":
    root, address, count, most = sys.argv[1:]
    batch_files.MOST_REQUESTS = int(most)
    hurry()
    store = AnswerStore(Path(root))
    keys = planned(int(count))
    pending = {key: each for key, each in keys.items() if not store.exists(key)}
    endpoint = Endpoint("provider", address, "key")
    trouble = batches.ask_in_batches(
        pending, endpoint, SETTINGS, store, MediaStore(Path(root), MediaLimits())
    )
    sys.exit(len(trouble))
