"""Traces of the embedded world to replay: its teacher's for all tasks, and plans of the paper's tool mix."""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pixelis_pipeline.media import MediaStore
from pixelis_pipeline.records import Action, Json, Origin, Question, Sample, Step, Trajectory
from pixelis_pipeline.settings import MediaLimits, RecipeSettings, Settings
from pixelis_pipeline.sources.registry import READERS
from pixelis_pipeline.synthesis.asking.client import ask
from pixelis_pipeline.synthesis.asking.store import AnswerStore
from pixelis_pipeline.synthesis.parse import trajectory
from pixelis_pipeline.synthesis.plan import plan
from pixelis_pipeline.synthesis.teachers.embedded_teacher import serve
from pixelis_pipeline.synthesis.teachers.embedded_truth import known
from pixelis_pipeline.tools.contract import to_wire
from pixelis_pipeline.tools.opening import opened
from pixelis_pipeline.tools.registry import default_registry
from pixelis_pipeline.world.build import build
from pixelis_pipeline.world.truth import truth

SEED = 310_977  # not a profile's
# Paper, tool use in training, in percent, and the steps of a trajectory.
MIX = {"SEG": 24.1, "ZOOM": 17.1, "TRK": 22.9, "OCR": 20.2, "TEMP": 10.0, "PROP": 5.9}
STEPS = 5.8


@dataclass(frozen=True, slots=True)
class World:
    """Samples of the embedded world on disk, what is true of them, and the teacher's traces about them."""

    media: MediaStore
    samples: list[Sample]
    truths: dict[str, Json]
    traces: list[Trajectory]


def world(root: Path, items: dict[str, int]) -> World:
    """Build `items` of each source below `root` and have the embedded teacher write its traces."""
    settings, media = _asking(sum(items.values())), MediaStore(root, MediaLimits())
    (root / "kept").mkdir(parents=True)

    def keep(data: bytes, suffix: str) -> str:
        path = root / "kept" / (hashlib.sha256(data).hexdigest() + suffix)
        path.write_bytes(data)
        return str(path)

    samples: list[Sample] = []
    truths: dict[str, Json] = {}
    for source, count in items.items():
        folder = build(source, root / source, seed=SEED, items=count)
        outcomes = READERS[source](folder, MediaLimits(), keep)
        mine = [sample for outcome in outcomes for sample in getattr(outcome, "records", ())]
        truths |= known(truth(folder), mine, media)
        samples += mine
    planned = plan(samples, media.pixels, settings)
    asked = [assignment for outcome in planned for assignment in getattr(outcome, "records", ())]
    with serve(truths) as endpoint:
        answered = ask(asked, settings.teacher, AnswerStore(root), media, endpoint)
    responses = [response for outcome in answered for response in getattr(outcome, "records", ())]
    parsed = [trajectory(response, settings.synthesis) for response in responses]
    traces = [trace for outcome in parsed for trace in getattr(outcome, "records", ())]
    return World(media, samples, truths, traces)


def _asking(traces: int) -> Settings:
    """Settings that plan so many traces, all of them positive."""
    settings = Settings()
    flawed = ("outcome_negative", "process_negative", "self_correction")
    recipes = {kind: RecipeSettings(share=0) for kind in flawed}
    drawn = settings.synthesis.model_copy(update={**recipes, "candidates": traces})
    return settings.model_copy(update={"synthesis": drawn})


def mixed(made: World, count: int) -> list[Trajectory]:
    """`count` plans of 5 or 6 calls (5.8 on average) over the world's films of moving shapes (24 frames of
    320x240), actions drawn by the paper's shares, boxes around true shapes. Outputs are the tools' own, as
    a policy's rollout leaves them, so each is replayed as evidence."""
    random, registry = np.random.default_rng(SEED), default_registry()
    films = [sample for sample in made.samples if sample.origin.source == "starqa"]
    shares = np.array(list(MIX.values())) / sum(MIX.values())
    plans = []
    for number in range(count):
        film = films[number % len(films)]
        tracks = made.truths[film.media[0].sha256]["tracks"]
        workspace, steps = opened(made.media, film.media), []
        for _ in range(5 + int(random.random() < STEPS - 5)):
            name = str(random.choice(list(MIX), p=shares))
            call = Action(name, _asked(name, tracks, film, random))
            seen = registry.call(workspace, call)
            steps.append(
                Step(
                    "",
                    call,
                    seen.output,
                    valid=seen.valid,
                    tool_version=seen.version,
                    artifact=seen.artifact,
                )
            )
        question = _question(film, number)
        plans.append(Trajectory(f"mix-{number}", (), question, tuple(steps), question.answer, "positive"))
    return plans


def _question(film: Sample, number: int) -> Question:
    asked = partial(Question, parents=(film.id,), media=film.media, task="other", answer_kind="text")
    origin = Origin(film.origin.source, film.origin.record, film.origin.licence, "training")
    return asked(id=f"mix-{number}", origin=origin, text=film.question, answer=film.answer)


def _asked(name: str, tracks: list[Json], film: Sample, random: np.random.Generator) -> Json:
    """Arguments of one call about one of the film's shapes, seen at one of its frames."""
    media, track = film.media[0], tracks[int(random.integers(len(tracks)))]
    at = int(random.integers(len(track["frames"])))
    frame, box = track["frames"][at], list(to_wire(tuple(track["boxes"][at]), media.width, media.height))
    match name:
        case "TRK":
            first = list(to_wire(tuple(track["boxes"][0]), media.width, media.height))
            return {"box": first, "start": track["frames"][0], "end": track["frames"][-1]}
        case "TEMP":
            query = f"When does the {track['label']} move?"
            return {"query": query, "start": 0.0, "end": media.frames / media.fps}
        case "ZOOM":
            return {"box": box, "frame": frame, "scale": int(random.integers(2, 5))}
        case _:
            return {"box": box, "frame": frame}
