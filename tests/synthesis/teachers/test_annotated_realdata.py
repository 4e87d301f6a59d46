"""What the annotation teacher makes of the authors' own files, by the table of docs/REAL_DATA.md.

PIXELIS_REALDATA names the folder. Where a family came without its film, one is painted from its annotations:
their form and geometry are real, the pixels are not.
"""

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pixelis_pipeline.media import MediaStore
from pixelis_pipeline.records import Accepted, Assignment, Rejected
from pixelis_pipeline.settings import MediaLimits, Settings
from pixelis_pipeline.sources import partimagenet, sav, starqa
from pixelis_pipeline.sources.record import parse
from pixelis_pipeline.sources.registry import READERS
from pixelis_pipeline.synthesis.asking.client import ask
from pixelis_pipeline.synthesis.asking.endpoint import ANNOTATIONS
from pixelis_pipeline.synthesis.asking.store import AnswerStore
from pixelis_pipeline.synthesis.parse import trajectory
from pixelis_pipeline.synthesis.questions import COLOUR, questions
from pixelis_pipeline.synthesis.teachers.annotated_truth import annotated, followed
from pixelis_pipeline.synthesis.teachers.embedded_teacher import serve
from pixelis_pipeline.tools.opening import opened
from pixelis_pipeline.tools.registry import default_registry
from pixelis_pipeline.verify.replay import replay
from tests.synthesis.teachers.painted import painted

ROOT = Path(os.environ.get("PIXELIS_REALDATA", ""))
PAGE = (Path(__file__).parents[3] / "docs" / "REAL_DATA.md").read_text()
SETTINGS = Settings.model_validate({"teacher": {"endpoint": ANNOTATIONS}})
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "PIXELIS_REALDATA" not in os.environ, reason="PIXELIS_REALDATA names no folder of authors' files"
    ),
]


def star(folder: Path) -> None:
    """The one whole record of STAR, without its video."""
    record = json.loads((ROOT / "star_qa" / "fork" / "sample_question.json").read_bytes())
    (folder / "STAR_val.json").write_text(json.dumps([record]))
    shutil.copy(ROOT / "star_qa" / "official" / "object_classes.txt", folder)


def painted_star(folder: Path) -> None:
    star(folder)
    (record,) = json.loads((folder / "STAR_val.json").read_bytes())
    told = starqa.tracks(parse(starqa.Record, record).situations or {}, starqa.classes(folder), None)
    film = painted(followed(told["tracks"], 30), 480, 270, 480, 30)
    (folder / f"{record['video_id']}.mp4").write_bytes(film)


def painted_sav(folder: Path) -> None:
    shutil.copy(ROOT / "sav" / "sav_000001_manual.json", folder)
    record = parse(sav.Record, json.loads((folder / "sav_000001_manual.json").read_bytes()))
    size = int(record.video_width), int(record.video_height), int(record.video_frame_count)
    film = painted(followed(sav.tracks(record), 24), *size, 24)
    (folder / f"{record.video_id}.mp4").write_bytes(film)


Lay = Callable[[Path], None]
FAMILIES: dict[str, tuple[str, Path | Lay]] = {
    "FineWeb": ("fineweb", ROOT / "web_text"),
    "SA-V": ("sa1b", ROOT / "sav"),
    "SA-V, film painted": ("sa1b", painted_sav),
    "STAR": ("starqa", star),
    "STAR, film painted": ("starqa", painted_star),
    "Charades-STA": ("ego4d", ROOT / "temporal_grounding_misc"),
}


def outcome(source: str, folder: Path, scratch: Path) -> tuple[int, int, int, int, dict[str, int]]:
    """(samples, questions, answered, accepted, rejections by rule) with the embedded tools."""
    media = MediaStore(scratch, MediaLimits())

    def keep(data: bytes, suffix: str) -> str:
        path = scratch / (hashlib.sha256(data).hexdigest() + suffix)
        path.write_bytes(data)
        return str(path)

    read = READERS[source](folder, MediaLimits(), keep)
    samples = [sample for each in read for sample in getattr(each, "records", ())]
    asked = [q for sample in samples for q in questions(sample, media.pixels, seed=7)]
    with serve(annotated(samples, media), ANNOTATIONS) as endpoint:
        assignments = [Assignment(q.id, q.parents, q) for q in asked]
        answers = ask(assignments, SETTINGS.teacher_for(source), AnswerStore(scratch), media, endpoint)
    responses = [response for each in answers for response in getattr(each, "records", ())]
    parsed = [trajectory(response, SETTINGS.synthesis) for response in responses]
    traces = [trace for each in parsed for trace in getattr(each, "records", ())]
    registry = default_registry()
    judged = [replay(trace, registry, partial(opened, media), SETTINGS.replay) for trace in traces]
    refused = Counter(each.rule for each in judged if isinstance(each, Rejected))
    kept = sum(isinstance(each, Accepted) for each in judged)
    return len(samples), len(asked), len(traces), kept, dict(refused)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_says_what_comes_of_real_annotations(family: str, tmp_path: Path) -> None:
    source, place = FAMILIES[family]
    folder = tmp_path / "files"
    folder.mkdir()
    if isinstance(place, Path):
        folder = place
    else:
        place(folder)
    found = outcome(source, folder, tmp_path)
    row = re.search(rf"^\| {family} \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (.*)\|$", PAGE, re.MULTILINE)
    assert row is not None
    refused = {rule: int(n) for rule, n in re.findall(r"([A-Za-z: ]+?) (\d+)", row[5])}
    assert found == (*map(int, row.groups()[:4]), refused)


def test_every_real_part_has_a_name_that_can_be_asked_for() -> None:
    """The authors' forty categories, in the words of the question about a part's colour."""
    table = json.loads((ROOT / "partimagenet_facts" / "categories.json").read_bytes())["categories"]
    names = [category.name.lower() for category in partimagenet.categories(table).values()]
    asked = [COLOUR.format(part=name, box="[1 2 3 4]") for name in names]
    assert "What colour is the quadruped head at [1 2 3 4]?" in asked and len(set(asked)) == 40
