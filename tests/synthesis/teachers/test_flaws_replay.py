"""The embedded teacher's flawed traces against replay, over every form of question of the world."""

import hashlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import get_args

import pytest

from pixelis_pipeline.media import MediaStore
from pixelis_pipeline.records import Accepted, Assignment, Json, Question, Sample, TraceKind
from pixelis_pipeline.settings import MediaLimits, Settings
from pixelis_pipeline.sources.registry import READERS
from pixelis_pipeline.synthesis.asking.message import message
from pixelis_pipeline.synthesis.parse import trajectory
from pixelis_pipeline.synthesis.prompt import load
from pixelis_pipeline.synthesis.questions import questions
from pixelis_pipeline.synthesis.request import request_for
from pixelis_pipeline.synthesis.response import Response
from pixelis_pipeline.synthesis.teachers.embedded_teacher import MODEL, complete
from pixelis_pipeline.synthesis.teachers.embedded_truth import known
from pixelis_pipeline.tools.opening import opened
from pixelis_pipeline.tools.registry import default_registry
from pixelis_pipeline.verify.replay import replay
from pixelis_pipeline.world.build import build
from pixelis_pipeline.world.truth import truth

SETTINGS = Settings()
OF_A_FORM = 3  # questions of one source and task


@pytest.mark.slow
def test_replay_confirms_the_flawed_traces_of_the_world(tmp_path: Path) -> None:
    media = MediaStore(tmp_path, MediaLimits())

    def keep(data: bytes, suffix: str) -> str:
        path = tmp_path / (hashlib.sha256(data).hexdigest() + suffix)
        path.write_bytes(data)
        return str(path)

    samples: list[Sample] = []
    truths: dict[str, Json] = {}
    for source, read in READERS.items():
        folder = build(source, tmp_path / source, seed=7, items=4)
        mine = [s for o in read(folder, MediaLimits(), keep) for s in getattr(o, "records", ())]
        truths |= known(truth(folder), mine, media)
        samples += mine
    asked: dict[tuple[str, str], list[Question]] = {}
    for sample in samples:
        for question in questions(sample, media.pixels, seed=7):
            asked.setdefault((question.origin.source, question.task), []).append(question)
    registry, open_media = default_registry(SETTINGS.tools), partial(opened, media)

    def confirmed(question: Question, kind: TraceKind) -> bool:
        """Whether the teacher's trace of this kind parses, replays and is accepted."""
        given = Assignment(f"{question.id}/{kind}", (question.id,), question, kind)
        request = request_for(given, MODEL, "embedded", load(kind, "plain"))
        body = {"model": MODEL, "messages": message(request, question.media, media)}
        said = complete(body, truths)["choices"][0]["message"]
        refusals[kind] += said["content"] is None
        text = said["content"] or said["refusal"]
        parsed = trajectory(
            Response("r", (given.id,), question, kind, "k", MODEL, text, "stop"), SETTINGS.synthesis
        )
        if not isinstance(parsed, Accepted):
            return False
        return isinstance(replay(parsed.records[0], registry, open_media, SETTINGS.replay), Accepted)

    refusals: Counter[str] = Counter()
    found: Counter[str] = Counter()
    every = [question for of in asked.values() for question in of[:OF_A_FORM]]
    sound = [question for question in every if confirmed(question, "positive")]
    for question in sound:
        for kind in get_args(TraceKind)[1:]:
            found[kind] += confirmed(question, kind)
    print(f"of {len(every)} questions {len(sound)} replay; confirmed {dict(found)}, refused {dict(refusals)}")
    assert len(every) >= 30 and len(sound) >= 0.95 * len(every)
    assert all(found[kind] >= 0.99 * len(sound) for kind in get_args(TraceKind)[1:]), found
    assert refusals.total() <= 0.01 * 4 * len(every)
