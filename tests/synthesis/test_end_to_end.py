"""World -> readers -> plan -> teacher -> trajectories, for every task; and the second run asks nobody."""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pixelis_pipeline.media import MediaStore
from pixelis_pipeline.records import Accepted, Assignment, Json, Sample, Trajectory
from pixelis_pipeline.settings import MediaLimits, RecipeSettings, Settings, load
from pixelis_pipeline.sources.registry import READERS
from pixelis_pipeline.synthesis.asking.client import ask
from pixelis_pipeline.synthesis.asking.endpoint import Endpoint
from pixelis_pipeline.synthesis.asking.store import AnswerStore
from pixelis_pipeline.synthesis.parse import trajectory
from pixelis_pipeline.synthesis.plan import plan
from pixelis_pipeline.synthesis.strata import FAMILIES, TOOLS
from pixelis_pipeline.synthesis.teachers.embedded_teacher import serve
from pixelis_pipeline.synthesis.teachers.embedded_truth import known
from pixelis_pipeline.tools.opening import opened
from pixelis_pipeline.tools.registry import default_registry
from pixelis_pipeline.verify.replay import replay
from pixelis_pipeline.world.build import build
from pixelis_pipeline.world.truth import truth

pytestmark = pytest.mark.slow

NOWHERE = Endpoint("embedded", "http://127.0.0.1:9/v1", "embedded")
# The calls of a positive trace; where its length is not given by its task, one of the call that it repeats.
ACTIONS = {
    "compare": ["SEG", "SEG"],
    "largest": ["SEG", "SEG", "SEG"],
    "count": ["SEG"],
    "attribute": ["PROP"],
    "read": ["OCR"],
    "read_small": ["ZOOM", "OCR"],
    "read_two": ["ZOOM", "OCR", "ZOOM", "OCR"],
    "move": ["TRK"],
    "way": ["TRK"],
    "further": ["TRK", "TRK"],
    "moving": ["TRK", "TRK", "TRK"],
    "when": ["TEMP"],
    "order": ["TEMP", "TEMP"],
}
REPEATED = ("count", "move")


def _settings(**synthesis: object) -> Settings:
    """Positive traces alone: the other kinds have tests of their own."""
    none = {
        kind: RecipeSettings(share=0) for kind in ("outcome_negative", "process_negative", "self_correction")
    }
    base = Settings()
    return base.model_copy(
        update={"synthesis": base.synthesis.model_copy(update={**none, "styles": ("plain",), **synthesis})}
    )


SETTINGS = _settings(candidates=45)


@dataclass
class Run:
    root: Path
    media: MediaStore
    samples: list[Sample]
    assignments: list[Assignment]
    truths: dict[str, Json]
    trajectories: list[Trajectory]


def made(root: Path, settings: Settings, items: dict[str, int]) -> Run:
    """Worlds of so many items, planned and answered by the embedded teacher over HTTP."""
    media = MediaStore(root, MediaLimits())

    def keep(data: bytes, suffix: str) -> str:
        path = root / (hashlib.sha256(data).hexdigest() + suffix)
        path.write_bytes(data)
        return str(path)

    samples: list[Sample] = []
    truths: dict[str, Json] = {}
    for source, read in READERS.items():
        folder = build(source, root / source, seed=7, items=items[source])
        mine = [s for o in read(folder, MediaLimits(), keep) for s in getattr(o, "records", ())]
        truths |= known(truth(folder), mine, media)
        samples += mine
    planned = plan(samples, media.pixels, settings)
    assignments = [each for outcome in planned for each in getattr(outcome, "records", ())]
    with serve(truths) as endpoint:
        responses = ask(assignments, settings.teacher, AnswerStore(root), media, endpoint)
    parsed = [
        trajectory(r, settings.synthesis) for outcome in responses for r in getattr(outcome, "records", ())
    ]
    traces = [t for outcome in parsed for t in getattr(outcome, "records", ())]
    return Run(root, media, samples, assignments, truths, traces)


def replayed(run: Run, traces: list[Trajectory]) -> list[Trajectory]:
    registry, open_media = default_registry(), partial(opened, run.media)
    outcomes = [replay(each, registry, open_media, SETTINGS.replay) for each in traces]
    return [outcome.records[0] for outcome in outcomes if isinstance(outcome, Accepted)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("synthesis"), SETTINGS, dict.fromkeys(READERS, 3))


def test_every_question_of_every_task_becomes_a_right_trajectory(run: Run) -> None:
    assert {each.question.task for each in run.assignments} == set(ACTIONS)
    assert [t.question for t in run.trajectories] == [each.question for each in run.assignments]
    for told in run.trajectories:
        actions = [step.action.name for step in told.steps]
        expected = ACTIONS[told.question.task]
        if told.question.task in REPEATED:
            expected = expected * len(actions)
        if told.question.task == "count":
            assert len(actions) == int(told.answer)
        assert actions == expected
        letters = dict(zip("ABCDEFGH", told.question.choices, strict=False))
        assert told.answer in {told.question.answer, letters.get(told.question.answer, told.question.answer)}


def test_replay_agrees_with_the_teacher_and_every_call_is_decisive(run: Run) -> None:
    by_task: dict[str, Trajectory] = {}
    for each in run.trajectories:
        by_task.setdefault(each.question.task, each)
    kept = replayed(run, list(by_task.values()))
    assert len(by_task) == len(ACTIONS) and len(kept) >= len(ACTIONS) - 1
    assert all(step.decisive for each in kept for step in each.steps)


def test_the_second_run_sends_nothing_and_gives_the_same_records(run: Run) -> None:
    asked: list[int] = []
    again = ask(
        run.assignments,
        SETTINGS.teacher,
        AnswerStore(run.root),
        run.media,
        NOWHERE,
        progress=lambda done, total: asked.append(total),
    )
    parsed = [trajectory(r, SETTINGS.synthesis) for outcome in again for r in getattr(outcome, "records", ())]
    assert [t for outcome in parsed for t in getattr(outcome, "records", ())] == run.trajectories
    assert asked == []


def test_a_film_is_known_by_its_first_frame_and_a_page_by_its_words(run: Run) -> None:
    films = {s.media[0].sha256 for s in run.samples if s.media[0].kind == "video"}
    pages = [s for s in run.samples if s.origin.source == "fineweb"]
    by_frame = [entry for digest, entry in run.truths.items() if entry["sha256"] != digest]
    assert {entry["sha256"] for entry in by_frame} == films
    assert all(run.truths[s.media[0].sha256]["words"] == s.annotations["words"] for s in pages)


@pytest.mark.slow
def test_the_embedded_worlds_traces_have_the_papers_tool_shares(tmp_path: Path) -> None:
    """A fifth of the embedded profile: accepted traces of all kinds keep every tool within 2 points, each
    family is accepted and has the calls that `strata.FAMILIES` says, and no call of a positive is padding."""
    profile = load(tmp_path, "embedded")
    drawn = profile.synthesis.model_copy(update={"candidates": profile.synthesis.candidates // 5})
    settings = profile.model_copy(update={"synthesis": drawn})
    items = {source: max(profile.sources[source].items // 5, 1) for source in READERS}
    run = made(tmp_path, settings, items)
    kept = replayed(run, run.trajectories)
    assert len(kept) >= 0.97 * len(run.assignments)
    calls = Counter(step.action.name for each in kept for step in each.steps)
    wished = np.array([getattr(drawn, tool.lower()) for tool in TOOLS])
    found = np.array([calls[tool] for tool in TOOLS])
    assert np.abs(100 * found / found.sum() - 100 * wished / wished.sum()).max() <= 2.0, calls
    lengths: dict[tuple[str, str], list[int]] = defaultdict(list)
    for each in kept:
        if each.kind == "positive":
            assert all(step.decisive for step in each.steps), each.question.text
            lengths[each.question.origin.source, each.question.task].append(len(each.steps))
    for family in FAMILIES:
        mine = lengths[family.source, family.task]
        error = 3 * float(np.std(mine)) / len(mine) ** 0.5
        assert abs(float(np.mean(mine)) - sum(family.calls.values())) <= error + 1e-9, family
