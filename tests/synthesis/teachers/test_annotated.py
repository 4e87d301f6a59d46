"""The annotation teacher: what annotations say becomes traces, and nothing that they do not say."""

import hashlib
import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from pixelis_pipeline.media import MediaStore, probe
from pixelis_pipeline.records import (
    Accepted,
    Assignment,
    Json,
    Media,
    Origin,
    Rejected,
    Sample,
    TraceKind,
    Trajectory,
)
from pixelis_pipeline.settings import MediaLimits, Settings, SettingsError
from pixelis_pipeline.sources.licences import EvaluationRecord
from pixelis_pipeline.sources.registry import READERS
from pixelis_pipeline.synthesis.asking.client import ask
from pixelis_pipeline.synthesis.asking.endpoint import ANNOTATIONS, EMBEDDED, Endpoint, remote
from pixelis_pipeline.synthesis.asking.message import frame_file, frames
from pixelis_pipeline.synthesis.asking.store import AnswerStore
from pixelis_pipeline.synthesis.parse import trajectory
from pixelis_pipeline.synthesis.plan import plan
from pixelis_pipeline.synthesis.questions import questions
from pixelis_pipeline.synthesis.teachers.annotated_answers import BRIDGED, reply
from pixelis_pipeline.synthesis.teachers.annotated_truth import annotated, followed
from pixelis_pipeline.synthesis.teachers.embedded_answers import Unanswerable
from pixelis_pipeline.synthesis.teachers.embedded_teacher import serve
from pixelis_pipeline.synthesis.teachers.embedded_truth import first_frames, known
from pixelis_pipeline.tools.masks import encode
from pixelis_pipeline.tools.opening import opened
from pixelis_pipeline.tools.registry import default_registry
from pixelis_pipeline.verify.replay import replay
from pixelis_pipeline.world.build import build
from pixelis_pipeline.world.truth import truth
from tests.synthesis.planted import Planted, png
from tests.synthesis.teachers.painted import painted

SETTINGS = Settings.model_validate({"teacher": {"endpoint": ANNOTATIONS}})
TEACHER = SETTINGS.teacher_for("starqa")
NOWHERE = Endpoint(ANNOTATIONS, "http://127.0.0.1:9/v1", ANNOTATIONS)


# --- tracks between annotated frames ------------------------------------------------------------------


def line(label: str, keys: list[int], hidden: tuple[int, ...] = ()) -> Json:
    """A thing that moves 2 px a frame to the right and 1 px down, annotated in `keys`."""
    boxes = [[10.0 + 2 * n, 20.0 + n, 30.0 + 2 * n, 50.0 + n] for n in keys]
    return {"label": label, "frames": keys, "boxes": boxes, "hidden": list(hidden)}


@pytest.mark.parametrize("seed", range(5))
def test_between_annotated_frames_lies_a_straight_line(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = sorted({0, *(int(n) for n in rng.choice(60, 12, replace=False))})
    (track,) = followed([line("door", keys)], fps=30)
    assert track["keys"] == keys and track["frames"] == list(range(keys[0], keys[-1] + 1))
    whole = line("door", track["frames"])["boxes"]
    assert np.allclose(track["boxes"], whole)


def test_what_nobody_annotated_is_not_filled_in() -> None:
    """Over two seconds lie between 10 and 40 at 10 fps; at 50 the cup is said to be hidden; at 70 only the
    person is annotated."""
    cup = line("cup", [0, 10, 40, 45, 55, 65, 75, 80], hidden=(50,))
    person = line("person", [0, 10, 70])
    found = followed([cup, person, line("bag", [])], fps=10)
    assert [track["label"] for track in found] == ["cup", "person"]
    expected = [*range(0, 11), *range(40, 46), *range(55, 66), *range(75, 81)]
    assert found[0]["frames"] == expected
    assert followed([line("cup", [0, 5])], fps=0.0)[0]["frames"] == [0, 5]


# --- what is known of a picture -----------------------------------------------------------------------


def scene(planted: Planted, categories: list[str], **more: Any) -> Sample:
    """Three squares: a red one, one half blue and half orange, and one that is grey."""
    image = np.full((100, 200, 3), 128, np.uint8)
    image[20:60, 20:60] = (220, 20, 20)
    image[20:60, 80:100], image[20:60, 100:120] = (30, 60, 220), (240, 120, 10)
    parts = []
    for x, category in zip((20, 80, 140), categories, strict=True):
        mask = np.zeros((100, 200), bool)
        mask[20:60, x : x + 40] = True
        box = [x, 20, x + 40, 60]
        parts.append({"box": box, "rle": encode(mask), "area": 1600, "category": category, "parent": ""})
    image[0, 0] = len(planted.samples)
    return planted.add("partimagenet", png(image), {}, annotations={"objects": parts}, **more)


def test_a_thing_has_the_colour_under_its_mask_and_the_shape_of_its_category(planted: Planted) -> None:
    sample = scene(planted, ["Square Body", "Square Band", "Quadruped Head"])
    things = annotated([sample], planted.media)[sample.media[0].sha256]["things"]
    assert [thing["colour"] for thing in things] == ["red", "", ""]
    assert [thing["shape"] for thing in things] == ["square", "", ""]
    assert [thing["category"] for thing in things] == ["square body", "square band", "quadruped head"]
    asked = {"red": "[100 200 300 600]", "unsure": "[400 200 600 600]"}
    known_of = annotated([sample], planted.media)
    digests = [sample.media[0].sha256]
    said = reply(f"What colour is the square body at {asked['red']}?", digests, known_of)
    assert (said["answer"], said["steps"][0]["output"]) == ("red", {"colour": "red"})
    for question in ("What colour is the square band at {unsure}?", "What shape is the thing at {unsure}?"):
        with pytest.raises(Unanswerable, match="No annotation says so"):
            reply(question.format(**asked), digests, known_of)


def test_samples_of_one_picture_are_merged_once(planted: Planted) -> None:
    first = scene(planted, ["a", "b", "c"])
    objects = first.annotations["objects"]
    halves = [
        Sample(f"{n}", first.origin, first.media, {"objects": part})
        for n, part in enumerate((objects[:2], objects[1:]))
    ]
    entry = annotated([*halves, first], planted.media)[first.media[0].sha256]
    assert [thing["box"] for thing in entry["things"]] == [part["box"] for part in objects]


def test_what_does_not_decode_is_left_out(planted: Planted) -> None:
    sample = scene(planted, ["a", "b", "c"])
    Path(sample.media[0].path).write_bytes(b"gone")
    assert annotated([sample], planted.media) == {}


def test_evaluation_annotations_never_get_there(planted: Planted) -> None:
    with pytest.raises(EvaluationRecord):
        annotated([scene(planted, ["a", "b", "c"], role="evaluation")], planted.media)


# --- films --------------------------------------------------------------------------------------------

FPS, LENGTH, SIZE = 10, 60, (160, 120)
DOOR: Json = {
    "label": "door",
    "frames": [20, 28, 40],
    "boxes": [[20.0, 30.0, 60.0, 90.0], [36.0, 30.0, 76.0, 90.0], [60.0, 30.0, 100.0, 90.0]],
}
CUP: Json = {"label": "cup/glass/bottle", "frames": [28], "boxes": [[110.0, 80.0, 125.0, 100.0]]}
CHOICES = ("The door.", "The cup/glass/bottle.", "The doorway.")


def film(root: Path, name: str, tracks: list[Json]) -> Media:
    path = root / name
    path.write_bytes(painted(followed(tracks, FPS), *SIZE, LENGTH, FPS))
    return probe(path, MediaLimits(), root=root)


def star(
    media: Media, answer: str = "The door.", question: str = "What was opened?", **window: float
) -> Sample:
    span = {"query": question, "start": 1.8, "end": 4.5} | window
    return Sample(
        hashlib.sha256(f"{media.sha256}{answer}{question}{window}".encode()).hexdigest(),
        Origin("starqa", f"Interaction_{answer}", "Apache-2.0", "training"),
        (media,),
        {"windows": [span], "tracks": [DOOR, CUP]},
        question=question,
        choices=CHOICES,
        answer=answer,
        answer_kind="choice",
    )


def asked_of(samples: list[Sample], media: MediaStore) -> list[Assignment]:
    made = [q for sample in samples for q in questions(sample, media.pixels, seed=7)]
    return [Assignment(q.id, q.parents, q) for q in made]


def test_an_authors_question_becomes_a_span_and_a_track(tmp_path: Path) -> None:
    """Through the real client, over HTTP; the store's record names the teacher that spoke."""
    media = MediaStore(tmp_path, MediaLimits())
    shown = film(tmp_path, "a.mp4", [DOOR, CUP])
    samples = [star(shown), star(shown, "The cup/glass/bottle.", "What was taken?")]
    assignments = asked_of(samples, media)
    store = AnswerStore(tmp_path)
    with serve(annotated(samples, media), ANNOTATIONS) as endpoint:
        outcomes = ask(assignments, TEACHER, store, media, endpoint)
    answered, refused = [outcome.records[0] for outcome in outcomes if isinstance(outcome, Accepted)]
    assert answered.model == "annotation-programs" and answered.finish == "stop"
    assert store.read(answered.request).metadata["endpoint"] == "annotations"
    said = json.loads(answered.text)
    found, follow = said["steps"]
    assert (said["answer"], found["action"]) == ("The door.", "TEMP")
    assert found["arguments"] == {"query": "What was opened?", "start": 0.0, "end": 6.0}
    assert found["output"] == {"start": 1.8, "end": 4.5}
    assert follow["action"] == "TRK" and follow["thought"] == f"Follow the door. {BRIDGED}"
    assert {k: follow["arguments"][k] for k in ("start", "end")} == {"start": 20, "end": 40}
    boxes = np.array(follow["output"]["boxes"])
    expected = np.array([[20 + 2 * n, 30, 60 + 2 * n, 90] for n in range(21)])
    assert np.abs(boxes - expected * 999 / [160, 120, 160, 120]).max() <= 1
    # The cup stands in one annotated frame: the answer is known, and there is nothing to show for it.
    assert refused.finish == "refusal" and refused.text == "No annotation shows what the answer names."


def test_only_what_the_window_holds_is_followed(tmp_path: Path) -> None:
    media = MediaStore(tmp_path, MediaLimits())
    shown = film(tmp_path, "a.mp4", [DOOR])
    sample = star(shown, start=2.5, end=4.5)
    text = f"What was opened?\nChoices: {' | '.join(CHOICES)}"
    (digest,) = first_frames([shown], media)
    said = reply(text, [digest], annotated([sample], media))
    assert said["steps"][1]["arguments"]["start"] == 28  # the first annotated frame in it, not frame 25
    whole = annotated([star(shown, start=0.0, end=6.0)], media)
    assert [step["action"] for step in reply(text, [digest], whole)["steps"]] == ["TRK"]
    late = annotated([star(shown, start=4.5, end=6.0)], media)
    with pytest.raises(Unanswerable, match="No annotation shows"):
        reply(text, [digest], late)
    twice = annotated([sample, star(shown, "The doorway.")], media)
    with pytest.raises(Unanswerable, match="in 2 ways"):
        reply(text, [digest], twice)
    with pytest.raises(Unanswerable):
        reply("What was shut?", [digest], whole)


def test_films_that_begin_alike_are_not_confused(tmp_path: Path) -> None:
    media = MediaStore(tmp_path, MediaLimits())
    late = [{**DOOR, "frames": [n + 15 for n in DOOR["frames"]]}]
    one, other, third = (
        film(tmp_path, "a.mp4", late),
        film(tmp_path, "b.mp4", [DOOR]),
        film(tmp_path, "c.mp4", [line("x", [0, 9])]),
    )
    assert len({one.sha256, other.sha256, third.sha256}) == 3
    first = [hashlib.sha256(frame_file(frames(each, media)[0])).hexdigest() for each in (one, other, third)]
    assert first[0] == first[1] != first[2]
    assert first_frames([one, other, third, third], media) == {first[2]: third.sha256}


def masklets(root: Path) -> Path:
    """A folder in SA-V's form: one masklet moves 2 px a frame to the right, is out of sight in frames 20 and
    24, and a second one is never seen."""
    seen = {4 * row: row for row in range(15) if row not in (5, 6)}
    empty, rows = np.zeros((SIZE[1], SIZE[0]), bool), []
    for frame in range(0, LENGTH, 4):
        mask = empty.copy()
        if frame in seen:
            mask[40:80, 10 + 2 * frame : 34 + 2 * frame] = True
        rows.append([encode(mask), encode(empty)])
    record = {
        "video_id": "sav_000009",
        "video_frame_count": float(LENGTH),
        "video_height": float(SIZE[1]),
        "video_width": float(SIZE[0]),
        "masklet": rows,
        "masklet_id": [0, 1],
    }
    folder = root / "sav"
    folder.mkdir()
    (folder / "sav_000009_manual.json").write_text(json.dumps(record))
    boxes = [[10.0 + 2 * n, 40.0, 34.0 + 2 * n, 80.0] for n in seen]
    track = {"label": "0", "frames": list(seen), "boxes": boxes, "hidden": [20, 24]}
    film = painted(followed([track], 24), *SIZE, LENGTH, 24)
    (folder / "sav_000009.mp4").write_bytes(film)
    return folder


def test_masks_by_frame_become_tracks(tmp_path: Path) -> None:
    """Read by the real reader; nothing is claimed of the frames in which annotators saw nothing."""
    media = MediaStore(tmp_path, MediaLimits())
    read = READERS["sa1b"](masklets(tmp_path), MediaLimits(), lambda data, suffix: "")
    (sample,) = [s for outcome in read for s in getattr(outcome, "records", ())]
    asked = [q for q in questions(sample, media.pixels, seed=7) if q.task == "way"]
    (digest,) = first_frames(sample.media, media)
    known_of = annotated([sample], media)
    assert asked and {q.answer for q in asked} == {"right"}
    ends = set()
    for question in asked:
        said = reply(f"{question.text}\nChoices: {' | '.join(question.choices)}", [digest], known_of)
        (step,) = said["steps"]
        boxes = step["output"]["boxes"]
        ends.add(len(boxes) - 1)
        assert said["answer"] == "right" and step["action"] == "TRK"
        unseen = [frame for frame, box in enumerate(boxes) if box is None]
        assert unseen == [frame for frame in range(17, 28) if frame < len(boxes)]
        for frame, box in enumerate(boxes):
            want = np.array([10 + 2 * frame, 40, 34 + 2 * frame, 80]) * 999 / [160, 120, 160, 120]
            assert box is None or np.abs(np.array(box) - want).max() <= 1
    assert max(ends) >= 28  # some of them look past the gap


# --- who may be asked ---------------------------------------------------------------------------------


def test_mathvista_as_its_authors_publish_it_is_rejected_before_any_request(tmp_path: Path) -> None:
    folder = build("mathvista", tmp_path / "mathvista", seed=7, items=4)
    media = MediaStore(tmp_path, MediaLimits())
    read = partial(READERS["mathvista"], folder, MediaLimits(), lambda data, suffix: "")
    ours = [s for outcome in read() for s in getattr(outcome, "records", ())]
    (folder / "LICENSE").unlink()  # now these are the authors' files
    samples = [s for outcome in read() for s in getattr(outcome, "records", ())]
    assert len(samples) == len(ours) == 4 and {s.origin.role for s in samples} == {"evaluation"}
    outcomes = list(plan(samples, media.pixels, SETTINGS))
    assert [type(outcome) for outcome in outcomes] == [Rejected] * 4
    assert {getattr(outcome, "rule", "") for outcome in outcomes} == {"evaluation record"}
    with pytest.raises(EvaluationRecord):
        ask(asked_of(samples, media), TEACHER, AnswerStore(tmp_path), media, NOWHERE)
    with pytest.raises(EvaluationRecord):
        annotated(samples, media)


@pytest.mark.parametrize("name", ["embedded", "annotations", "none"])
def test_no_name_is_an_address(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        remote(Settings.model_validate({"teacher": {"endpoint": name}}).teacher)


def test_a_source_has_a_teacher_of_its_own() -> None:
    settings = Settings.model_validate(
        {"sources": {**Settings().model_dump()["sources"], "sa1b": {"teacher": ANNOTATIONS}}}
    )
    mine, other = settings.teacher_for("sa1b"), settings.teacher_for("ego4d")
    assert (mine.endpoint, mine.model) == (ANNOTATIONS, "annotation-programs")
    assert (other.endpoint, other.model) == (EMBEDDED, "embedded-teacher")


# --- the world's formats, by their annotations alone --------------------------------------------------

KINDS: tuple[TraceKind, ...] = get_args(TraceKind)
ASKED = 8  # questions a source


def accepted(
    made: list[Assignment], name: str, truths: dict[str, Json], root: Path
) -> Counter[tuple[str, str]]:
    """How many assignments end as an accepted trace of this teacher, by (source, kind)."""
    media, source = MediaStore(root, MediaLimits()), {"sa1b": {"teacher": name}}
    teacher = Settings.model_validate({"sources": source}).teacher_for("sa1b")
    with serve(truths, name) as endpoint:
        outcomes = ask(made, teacher, AnswerStore(root / name), media, endpoint)
    traces: list[Trajectory] = []
    for response in (r for outcome in outcomes for r in getattr(outcome, "records", ())):
        traces += getattr(trajectory(response, SETTINGS.synthesis), "records", ())
    registry = default_registry()
    judged = [replay(each, registry, partial(opened, media), SETTINGS.replay) for each in traces]
    kept = [outcome.records[0] for outcome in judged if isinstance(outcome, Accepted)]
    assert {trace.teacher for trace in kept} == {teacher.model}
    return Counter((trace.question.origin.source, trace.kind) for trace in kept)


@pytest.mark.slow
def test_annotations_of_the_worlds_formats_are_as_good_as_its_truth(tmp_path: Path) -> None:
    """Every kind of trace: what is wrong in a flawed one is drawn from what annotations leave known."""
    media = MediaStore(tmp_path, MediaLimits())

    def keep(data: bytes, suffix: str) -> str:
        path = tmp_path / (hashlib.sha256(data).hexdigest() + suffix)
        path.write_bytes(data)
        return str(path)

    made: list[Assignment] = []
    by_truth: dict[str, Json] = {}
    by_annotations: dict[str, Json] = {}
    for source, read in READERS.items():
        folder = build(source, tmp_path / source, seed=11, items=3)
        samples = [s for o in read(folder, MediaLimits(), keep) for s in getattr(o, "records", ())]
        found = [q for s in samples for q in questions(s, media.pixels, seed=7)]
        some = np.random.default_rng(7).permutation(len(found))[:ASKED]
        made += [Assignment(f"{kind} {found[n].id}", (), found[n], kind) for n in some for kind in KINDS]
        by_truth |= known(truth(folder), samples, media)
        by_annotations |= annotated(samples, media)
    asked = Counter((each.question.origin.source, each.kind) for each in made)
    told = accepted(made, EMBEDDED, by_truth, tmp_path)
    noted = accepted(made, ANNOTATIONS, by_annotations, tmp_path)
    for source, kind in asked:
        print(source, kind, asked[source, kind], told[source, kind], noted[source, kind])
        if source == "mathvista":  # its annotations say nothing about the picture
            assert noted[source, kind] == 0 < told[source, kind]
        else:
            assert noted[source, kind] >= asked[source, kind] - 1, (source, kind)
