"""World -> readers -> plan -> teacher -> trajectories, for every task; and the second run asks nobody."""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from pixelis_pipeline.media import MediaStore
from pixelis_pipeline.records import Accepted, Json, Question, Sample, Trajectory
from pixelis_pipeline.settings import MediaLimits, Settings
from pixelis_pipeline.sources.registry import READERS
from pixelis_pipeline.synthesis.client import ask
from pixelis_pipeline.synthesis.embedded_teacher import serve
from pixelis_pipeline.synthesis.embedded_truth import known
from pixelis_pipeline.synthesis.endpoint import Endpoint
from pixelis_pipeline.synthesis.parse import trajectory
from pixelis_pipeline.synthesis.plan import plan
from pixelis_pipeline.synthesis.store import AnswerStore
from pixelis_pipeline.tools.opening import opened
from pixelis_pipeline.tools.registry import default_registry
from pixelis_pipeline.verify.replay import replay
from pixelis_pipeline.world.build import build
from pixelis_pipeline.world.truth import truth

SETTINGS = Settings()
NOWHERE = Endpoint("embedded", "http://127.0.0.1:9/v1", "embedded")
ACTIONS = {
    "compare": ["SEG", "SEG"],
    "count": ["SEG", "PROP"],
    "attribute": ["PROP"],
    "read": ["OCR"],
    "read_small": ["ZOOM", "OCR"],
    "move": ["TRK", "PROP"],
    "when": ["TEMP"],
}


@dataclass
class Run:
    root: Path
    media: MediaStore
    samples: list[Sample]
    questions: list[Question]
    truths: dict[str, Json]
    trajectories: list[Trajectory]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("synthesis")
    media = MediaStore(root, MediaLimits())

    def keep(data: bytes, suffix: str) -> str:
        path = root / (hashlib.sha256(data).hexdigest() + suffix)
        path.write_bytes(data)
        return str(path)

    samples: list[Sample] = []
    truths: dict[str, Json] = {}
    for source, read in READERS.items():
        folder = build(source, root / source, seed=7, items=3)
        mine = [s for o in read(folder, MediaLimits(), keep) for s in getattr(o, "records", ())]
        truths |= known(truth(folder), mine, media)
        samples += mine
    planned = list(plan(samples, media.pixels, SETTINGS))
    questions = [q for outcome in planned for q in getattr(outcome, "records", ())]
    with serve(truths) as endpoint:
        responses = ask(questions, SETTINGS.teacher, AnswerStore(root), media, endpoint)
    parsed = [trajectory(r) for outcome in responses for r in getattr(outcome, "records", ())]
    made = [t for outcome in parsed for t in getattr(outcome, "records", ())]
    return Run(root, media, samples, questions, truths, made)


def test_every_question_of_every_task_becomes_a_right_trajectory(run: Run) -> None:
    assert {q.task for q in run.questions} == set(ACTIONS)
    assert [t.question for t in run.trajectories] == run.questions
    for made in run.trajectories:
        actions = [step.action.name for step in made.steps]
        if made.question.origin.source == "mathvista" and made.question.task == "count":
            assert actions == ["SEG"] * int(made.answer)
        else:
            assert actions == ACTIONS[made.question.task]
        letters = dict(zip("ABCDEFGH", made.question.choices, strict=False))
        right = {made.question.answer, letters.get(made.question.answer, made.question.answer)}
        assert made.answer in right


def test_replay_agrees_with_the_teacher(run: Run) -> None:
    registry = default_registry()
    stills = [t for t in run.trajectories if t.question.media[0].kind == "image"]
    open_media = partial(opened, run.media)
    kept = [replay(made, registry, open_media, SETTINGS.replay) for made in stills]
    agreed = sum(isinstance(outcome, Accepted) for outcome in kept)
    assert len(stills) >= 12 and agreed >= 0.85 * len(stills)


def test_the_second_run_sends_nothing_and_gives_the_same_records(run: Run) -> None:
    asked: list[int] = []
    again = ask(
        run.questions,
        SETTINGS.teacher,
        AnswerStore(run.root),
        run.media,
        NOWHERE,
        progress=lambda done, total: asked.append(total),
    )
    parsed = [trajectory(r) for outcome in again for r in getattr(outcome, "records", ())]
    assert [t for outcome in parsed for t in getattr(outcome, "records", ())] == run.trajectories
    assert asked == []


def test_a_film_is_known_by_its_first_frame_and_a_page_by_its_words(run: Run) -> None:
    films = {s.media[0].sha256 for s in run.samples if s.media[0].kind == "video"}
    pages = [s for s in run.samples if s.origin.source == "fineweb"]
    by_frame = [entry for digest, entry in run.truths.items() if entry["sha256"] != digest]
    assert {entry["sha256"] for entry in by_frame} == films
    assert all(run.truths[s.media[0].sha256]["words"] == s.annotations["words"] for s in pages)
