"""`pixelis trajectories`: planted predictions and rollouts with known boxes and rewards, on one page."""

import base64
import hashlib
import html
import io
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assets import cli
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.chain import RunRecord
from pixelis_pipeline.ledger.ledger import Ledger
from pixelis_pipeline.records import Accepted, Action, Media, Origin, Prediction, Question, Step
from pixelis_pipeline.verify.draw import COLOURS
from tests.media.made import encoded
from training import frozen
from training.rft.record import Line, Log, Rolled
from training.sft import scalers

WIDTH, HEIGHT, GREY = 200, 160, 205
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
FIRST, SECOND = [100, 200, 500, 700], [600, 100, 900, 400]  # where sft looks, on the wire
RIGHT = {"gained": ("", "x"), "lost": ("x", ""), "kept": ("x", "x"), "never": ("", "")}


def asked(name: str, media: Media, task: str = "count") -> Question:
    key = hashlib.sha256(name.encode()).hexdigest()
    origin = Origin("sa1b", name, "CC0-1.0", "evaluation")
    return Question(key, (), origin, (media,), f"How many, {name}? {EVIL}", "2", task)


def look(box: list[int], valid: bool = True) -> Step:
    output: dict[str, Any] = {"box": box, "area": 40} if valid else {"error": f"no such box {EVIL}"}
    return Step(f"Look. {EVIL}", Action("SEG", {"box": box}), output, valid=valid)


def told(question: Question, policy: str, right: bool, steps: tuple[Step, ...]) -> Prediction:
    key = hashlib.sha256(f"{policy} {question.id}".encode()).hexdigest()
    answer = "2" if right else EVIL
    return Prediction(key, (question.id,), question, policy, True, 0, steps, answer, right)


@pytest.fixture
def media(tmp_path: Path) -> Media:
    data = encoded(Image.fromarray(np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)), "PNG")
    (tmp_path / "grey.png").write_bytes(data)
    return Media(hashlib.sha256(data).hexdigest(), "image", str(tmp_path / "grey.png"), WIDTH, HEIGHT)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which nothing is stored, and the command run there."""
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / "workspace.yaml").write_text("")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def stored(bare: Path, media: Media) -> Path:
    """Predictions of base, which calls nothing, and sft, whose second call is invalid."""
    questions = [asked(name, media, "read" if name == "kept" else "count") for name in RIGHT]
    for place, (policy, steps) in enumerate({"base": (), "sft": (look(FIRST), look(SECOND, False))}.items()):
        made = [
            told(question, policy, bool(right[place]), steps)
            for question, right in zip(questions, RIGHT.values(), strict=True)
        ]
        put(bare, f"{policy}-capabilities", made)
    return bare


def put(root: Path, partition: str, made: list[Prediction]) -> None:
    ledger = Ledger(root)
    with ledger.staging() as folder:
        counts = artifact.write(folder, Prediction, [Accepted(p.question.id, (p,)) for p in made])
        artifact.seal(folder, counts, Prediction)
        ledger.commit(folder, RunRecord("predictions", partition, "", 0, 0, (), "code", "settings", {}))


def page_of(*words: str) -> str:
    assert cli.main(["trajectories", *words]) == 0
    return Path("trajectories.html").read_text()


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert cli.main(["trajectories", *words]) == 1
    return " ".join(capsys.readouterr().err.split())


def pictures(page: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each))).convert("RGB"), int) for each in found]


def near(picture: np.ndarray, x: float, y: float, colour: tuple[int, int, int]) -> bool:
    """Whether a line of the colour runs within two pixels of a place given in shares, as far as WebP leaves
    it its colour: what differs from the ground differs in the colour's direction."""
    row, column = round(y * (HEIGHT - 1)), round(x * (WIDTH - 1))
    around = picture[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
    apart, towards = (around - GREY).reshape(-1, 3), np.array(colour) - GREY
    alike = apart @ towards / np.maximum(np.linalg.norm(apart, axis=1) * np.linalg.norm(towards), 1)
    return bool(((alike > 0.9) & (np.linalg.norm(apart, axis=1) > 60)).any())


def test_each_policy_has_its_own_steps_on_the_picture_and_in_words(stored: Path):
    page = page_of("--outcome", "gained")
    assert page.count('class="lane"') == 1 and 'data-outcome="gained"' in page
    base, sft = pictures(page)
    left, middle = 0.1, 0.45
    assert near(sft, left, middle, COLOURS[0]) and near(sft, 0.3, 0.7, COLOURS[0]), "the first step's box"
    assert near(sft, 0.6, 0.25, COLOURS[1]), "and the second's"
    assert not near(sft, 0.5, 0.05, COLOURS[0]) and np.abs(base - GREY).max() < 12, "base looked nowhere"
    assert re.findall(r'<li data-step="(\d)">', page) == ["0", "1"]
    assert page.index("box 100 200 500 700 area 40") < page.index("no such box"), "what was heard, in order"
    assert (page.count("✓ valid"), page.count("✗ invalid")) == (1, 1)
    assert page.count("✗ wrong") == 1 and page.count("✓ right") == 1
    assert "no call" in page and "0 steps" in page and "2 steps" in page
    # An invalid call costs .3 and the answer earns 1, by the settings in force.
    assert "answer <b>+1.00</b>, penalty <b>\u22120.30</b>" in page
    rewards = re.findall(r'<span class="kind">reward</span>penalty <b>([^<]+)</b>', page)
    assert rewards == ["0", "\u22120.30"]


def test_an_invalid_call_costs_what_it_does_in_reinforcement(stored: Path):
    """By the scaler of its tool that SFT exported, where there is one."""
    ledger = Ledger(stored)
    with ledger.staging() as folder:
        surprise = {"SEG": (10, 0.5), "ZOOM": (10, 2.0)}  # 1.25 on the whole; SEG's 2.5 is bounded
        told = scalers.scalers(surprise)
        (folder / "exports").mkdir()
        frozen.write(folder / "exports" / scalers.FILE, told)
        artifact.seal(folder, artifact.write(folder, Prediction, []), Prediction)
        ledger.commit(folder, RunRecord("sft_policy", "all", "", 0, 0, (), "code", "settings", {}))
    page = page_of("--outcome", "gained")
    assert told["SEG"]["scale"] == 2.0 and "answer <b>+1.00</b>, penalty <b>\u22120.60</b>" in page
    assert "by what SFT found each tool to count" in page


def test_what_is_shown_is_text_and_nothing_is_fetched(stored: Path):
    page = page_of()
    assert "<script" not in page and "<img src=x" not in page and html.escape(EVIL, quote=False)[:20] in page
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy and policy[1].startswith("default-src 'none'") and "unsafe" not in policy[1]
    assert not re.search(r"(https?:)?//[a-z0-9]", re.sub(r'src="data:[^"]*"', "", page), re.IGNORECASE)
    assert all(each.startswith("data:") for each in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert page == page_of(), "equal predictions give equal bytes"


def test_questions_are_chosen_by_what_came_of_them(stored: Path, media: Media):
    def outcomes(*words: str) -> list[str]:
        return re.findall(r'class="lane" data-outcome="(\w+)"', page_of(*words))

    assert outcomes() == ["gained", "lost", "kept", "never"]
    assert outcomes("--outcome", "both") == ["gained", "lost"]
    assert outcomes("--count", "1") == ["gained"]
    assert outcomes("--task", "read") == ["kept"]
    assert outcomes("--policies", "sft,base", "--outcome", "gained") == ["gained"], "the last one's gain"
    lost = asked("lost", media)
    assert lost.id[:16] in page_of("--policies", "sft,base", "--outcome", "gained")
    assert outcomes(asked("never", media).id[:8], lost.id) == ["never", "lost"], "in the order asked for"


def test_a_mistake_says_what_to_do(stored: Path, capsys: pytest.CaptureFixture[str]):
    assert "no question zz was put to all of base, sft" in refused(capsys, "zz")
    assert "no predictions of rft are stored; there are those of base, sft" in refused(
        capsys, "--policies", "base,rft"
    )
    assert "gpt is no policy; there are predictions of base, sft" in refused(capsys, "--policies", "gpt")
    assert "--policies names none" in refused(capsys, "--policies", ",")
    assert "no question is of task sing; there are count, read" in refused(capsys, "--task", "sing")
    assert "no question was gained or lost there" in refused(capsys, "--task", "read", "--outcome", "both")
    assert "--step is a step of a training run" in refused(capsys, "--step", "1")
    assert "do not go with --training" in refused(capsys, "--training", "rft", "--outcome", "lost")
    assert "no reinforcement run is stored here" in refused(capsys, "--training", "rft")
    assert "nowhere is no run: give rft, or a folder" in refused(capsys, "--training", "nowhere")
    assert "cannot be written" in refused(capsys, "--out", "away/page.html")
    for words in (["--count", "0"], ["--training", "rft", "--step", "last"]):
        with pytest.raises(SystemExit):
            cli.main(["trajectories", *words])
    assert not Path("trajectories.html").exists()


def test_several_questions_with_one_beginning_are_told_apart(
    stored: Path, capsys: pytest.CaptureFixture[str]
):
    assert "questions begin with" in refused(capsys, "")


def test_without_anything_stored_it_says_what_makes_it(bare: Path, capsys: pytest.CaptureFixture[str]):
    assert "no predictions are stored here: `pixelis run`" in refused(capsys)


def test_a_picture_that_is_gone_is_named(stored: Path, media: Media, capsys: pytest.CaptureFixture[str]):
    Path(media.path).unlink()
    assert "a question's picture cannot be shown" in refused(capsys)


def rolled(question: Question, step: int, k: int) -> Rolled:
    """Rollout `k` of a group: worth .01 for every k, and .1 for every step of the run."""
    steps = (look(FIRST), look(SECOND, k != 0))
    numbers = {f.name: 0.0 for f in fields(Rolled) if f.type == "float" or f.type is float}
    return Rolled(
        told(question, "rft-full", k > 0, steps),
        (1,),
        (True,),
        (-0.5,),
        **numbers
        | {
            "total": 0.1 * step + 0.01 * k,
            "advantage": k - 1.0,
            "curiosity": 0.57,
            "penalty": 0.3 * (k == 0),
            "penalty_steps": (0.0, 0.3 * (k == 0)),
            "curiosity_steps": (0.34, 0.23),
            "coherence_steps": (0.0, -0.12),
        },
    )


def trained(folder: Path, asked_at: list[list[Question]]) -> Path:
    log = Log(folder, 0)
    numbers = {f.name: 0.0 for f in fields(Line) if f.name not in ("step", "stage", "tokens")}
    for step, questions in enumerate(asked_at):
        stage = "intrinsic" if step else "answer"
        log.write(
            Line(step=step, stage=stage, tokens=1, **numbers),
            [rolled(question, step, k) for question in questions for k in range(3)],
        )
    return folder


def test_a_run_shows_one_prompt_early_and_late_with_what_each_step_was_paid(bare: Path, media: Media):
    one, two, three = (asked(name, media) for name in ("one", "two", "three"))
    run = str(trained(bare / "run", [[one], [two], [one, three], [two]]))
    page = page_of("--training", run)
    heads = re.findall(r"<h4>([^<]+)</h4>", page)
    pairs = {tuple(heads[:2]), tuple(heads[2:])}
    assert pairs == {
        ("Step 0, stage “answer”", "Step 2, stage “intrinsic”"),
        ("Step 1, stage “intrinsic”", "Step 3, stage “intrinsic”"),
    }
    assert re.findall(r"Rollout (\d), the (\w+) of 3", page) == [("2", "best"), ("0", "worst")] * 4
    assert page.count("curiosity <b>+0.34</b>, coherence <b>0</b>, penalty <b>0</b>") == 8
    assert page.count("curiosity <b>+0.23</b>, coherence <b>\u22120.12</b>, penalty <b>\u22120.30</b>") == 4
    assert page.count("advantage <b>\u22121.00</b>") == 4 and page.count("advantage <b>+1.00</b>") == 4
    assert "reward <b>+0.22</b>" in page and len(pictures(page)) == 8
    assert all(near(each, 0.1, 0.45, COLOURS[0]) for each in pictures(page))
    assert page_of("--training", run, "--count", "1").count('class="lane"') == 1


def test_a_run_by_steps_and_by_question(bare: Path, media: Media, capsys: pytest.CaptureFixture[str]):
    one, two = (asked(name, media, name) for name in ("one", "two"))
    run = str(trained(bare / "run", [[one, two], [one], [one, two]]))
    page = page_of("--training", run, "--step", "0", "2", "--task", "two")
    assert page.count("<h4>") == 2 and two.id[:16] in page and one.id[:16] not in page
    page = page_of("--training", run, one.id[:10], "--step", "0", "1", "2")
    assert page.count("<h4>") == 3 and two.id[:16] not in page
    assert "step 7 is not stored; there are 0 to 2" in refused(capsys, "--training", run, "--step", "7")
    assert "was asked at these steps" in refused(capsys, "--training", run, "--step", "1", "--", two.id)
    assert "no prompt is of task sing" in refused(capsys, "--training", run, "--task", "sing")


def test_where_no_prompt_came_twice_those_of_one_task_stand_beside_each_other(bare: Path, media: Media):
    one, two, other = asked("one", media, "a"), asked("two", media, "a"), asked("other", media, "b")
    page = page_of("--training", str(trained(bare / "run", [[one], [two, other]])))
    assert page.count("<h4>") == 2 and "No prompt was asked at all of these steps" in page
    assert one.id[:16] in page and two.id[:16] in page and other.id[:16] not in page


def test_a_run_without_a_step_is_no_page(bare: Path, capsys: pytest.CaptureFixture[str]):
    Log(bare / "run", 0)
    assert "holds no rollouts yet" in refused(capsys, "--training", "run")


def test_help_teaches_by_examples(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cli.main(["trajectories", "--help"])
    said = capsys.readouterr().out
    assert "pixelis trajectories --training rft" in said and said.count("  pixelis trajectories") >= 6
