"""`pixelis estimate`, `--max-cost`, and what asset pages and `pixelis status` say about cost."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from assets import cli, estimating, page, status
from assets.stage import Project
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.chain import RunRecord
from pixelis_pipeline.ledger.ledger import Ledger
from pixelis_pipeline.records import Accepted, Assignment
from pixelis_pipeline.settings import load
from pixelis_pipeline.synthesis import prompt
from pixelis_pipeline.synthesis.asking.costs import costs, recorded
from pixelis_pipeline.synthesis.asking.store import Answer, AnswerStore
from pixelis_pipeline.synthesis.request import request_for
from tests.synthesis.asking.faults import FaultServer
from tests.synthesis.asking.test_prices import MEDIA, PAID, assignment, requested

PRICED = '[teacher.prices."m"]\nprompt = 3.0\ncompletion = 15.0\n'
Say = Callable[..., str]


def settings(
    root: Path,
    text: str = PRICED,
    url: str = "https://api.example/v1",
    asked: Sequence[str] = ("sa1b", "fineweb"),
) -> None:
    named = "".join(f'[sources.{source}]\nteacher = "{url}"\n' for source in asked)
    (root / "pixelis.toml").write_text(f'[teacher]\nendpoint = "{url}"\nmodel = "m"\n{text}\n{named}')


def keep(root: Path, asset: str, record: type, records: Sequence[object], about: dict[str, object]) -> None:
    """Commit a version of an asset's partition 000-sa1b that holds these records."""
    ledger = Ledger(root)
    with ledger.staging() as folder:
        counts = artifact.write(folder, record, [Accepted(each.id, (each,)) for each in records])  # type: ignore[attr-defined]
        artifact.seal(folder, counts, record)
        made = RunRecord(
            asset, "000-sa1b", "", 0, 0, (), "code", "settings", counts=asdict(counts), about=about
        )
        ledger.commit(folder, made)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a run, under a paid endpoint whose key nobody has."""
    (tmp_path / "workspace.yaml").touch()
    settings(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIXELIS_PROFILE", "tiny")
    monkeypatch.delenv("PIXELIS_TEACHER_KEY", raising=False)
    return tmp_path


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """What a command prints, on both streams, each run of blanks one blank."""

    def run(*arguments: str, code: int = 0) -> str:
        assert cli.main(list(arguments)) == code
        told = capsys.readouterr()
        return " ".join((told.out + told.err).split())

    return run


def plan(root: Path, count: int = 10) -> list[Assignment]:
    made = [assignment(number) for number in range(count)]
    keep(root, "synthesis_plan", Assignment, made, {})
    return made


def answer(root: Path, asked: list[Assignment], completion: int = 1_000) -> None:
    with AnswerStore(root) as store:
        for each in asked:
            request = request_for(each, "m", PAID.endpoint, prompt.load(each.kind, each.style))
            store.write(request, Answer("{}", "stop", "m", {"prompt": 2_000, "completion": completion}, {}))


def test_without_a_plan_it_says_how_to_make_one(root: Path, say: Say) -> None:
    assert say("estimate", code=1) == estimating.NO_PLAN
    assert "pixelis run --to synthesis_plan" in estimating.NO_PLAN


def test_it_tells_what_is_to_be_sent_and_its_dollars_without_a_key(root: Path, say: Say) -> None:
    made = plan(root)
    answer(root, made[:4])
    said = say("estimate")
    assert "sa1b m 10 4 6 " in said and " 6,000 answers " in said  # six completions of a thousand tokens
    (row,) = estimating.rows(Project(root, load(root)))[0]
    dollars, batch, most = row.found.dollars(), row.found.dollars(batch=True), row.found.most()
    assert dollars and batch == pytest.approx(dollars / 2) and most
    assert f"${dollars:.2f} ${batch:.2f} ${most:.2f} rate not known" in said
    assert "synthesis_plan [000-fineweb]: no plan yet" in said
    assert "synthesis_plan [000-sa1b]: older than its settings" in said  # this plan was made by no run


def test_a_finished_plan_costs_nothing_more(root: Path, say: Say) -> None:
    answer(root, plan(root))
    assert "sa1b m 10 10 0 0 0 $0.00 $0.00 $0.00" in say("estimate")


def test_time_is_told_where_the_rate_is_known_and_the_budget_where_there_is_one(root: Path, say: Say) -> None:
    settings(root, "requests_per_minute = 0.5\nmax_cost = 0.1\n" + PRICED)
    plan(root)
    said = say("estimate")
    (row,) = estimating.rows(Project(root, load(root)))[0]
    assert " 20.0 min" in said
    assert f"max_cost $0.10 allows {row.found.within(0.1)} of 10 requests" in said
    assert 0 < (row.found.within(0.1) or 0) < 10


def test_time_follows_the_rate_that_earlier_answers_taught(root: Path, say: Say) -> None:
    plan(root)
    with AnswerStore(root) as store:
        store.remember(f"pace/{PAID.endpoint}/m", {"rate": 0.2})  # requests a second
    assert " 50 s" in say("estimate")


def test_a_model_without_a_price_has_unknown_dollars(root: Path, say: Say) -> None:
    settings(root, "")
    plan(root)
    said = say("estimate")
    assert "no price for m: set teacher.prices.m" in said and "$" not in said


def test_own_teachers_cost_nothing_and_sources_left_out_are_not_shown(root: Path, say: Say) -> None:
    settings(
        root,
        PRICED + '[sources.sa1b]\nteacher = "annotations"\n[sources.fineweb]\nteacher = "none"\n',
        asked=(),
    )
    plan(root)
    said = say("estimate")
    assert "sa1b annotation-programs 10 0 10 " in said and " $0.00 $0.00 $0.00" in said
    assert "fineweb" not in said


def test_a_budget_without_a_price_stops_a_run_before_anything_is_sent(root: Path, say: Say) -> None:
    with_server = FaultServer([])
    settings(root, "", url=f"http://127.0.0.1:{with_server.server_address[1]}/v1")
    said = say("run", "--max-cost", "5", code=1)
    assert "teacher.max_cost is 5, but no price for m: set teacher.prices.m" in said
    assert with_server.asked == 0 and not (root / "data").exists()
    with_server.server_close()


@pytest.mark.parametrize("amount", ["-1", "0", "nan", "inf", "five"])
def test_only_an_amount_is_a_budget(root: Path, amount: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["run", "--max-cost", amount])
    assert "is no amount of dollars above 0" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_has_the_budget_and_tells_the_estimate_before_it_asks(
    root: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(root)
    assert "PIXELIS_TEACHER_KEY" in say("run", code=1), "before anything is run"
    monkeypatch.setenv("PIXELIS_TEACHER_KEY", "a key")
    ran: list[tuple[tuple[str, ...], float]] = []

    def run(project: Project, *, to: Sequence[str] = (), **more: object) -> int:
        ran.append((tuple(to), project.settings.teacher.max_cost))
        return 0

    monkeypatch.setattr("assets.driver.run", run)
    assert "to send" in say("run", "--max-cost", "7.5")
    assert ran == [(("synthesis_plan",), 7.5), ((), 7.5)]
    ran.clear()
    assert "to send" not in say("run", "--to", "synthesis_plan")
    assert "to send" in say("run", "--to", "training_splits")
    assert "to send" in say("run", "--asset", "teacher_responses")
    assert "to send" not in say("run", "--asset", "raw/sa1b")
    (root / "pixelis.toml").unlink()
    assert "to send" not in say("run")  # the embedded teacher is nobody's bill
    assert [to for to, _ in ran] == [
        ("synthesis_plan",), ("synthesis_plan",), ("training_splits",), (), (), ()
    ]  # fmt: skip


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["estimate", "--help"], ["run", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            cli.main(arguments)
    said = " ".join(capsys.readouterr().out.split())
    for words in ("85 + 170", "teacher.prices", "run --to synthesis_plan", "--max-cost DOLLARS", "no key"):
        assert words in said


def test_a_store_that_is_none_is_one_clear_line(root: Path, say: Say) -> None:
    plan(root)
    path = AnswerStore(root).path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a database at all" * 100)
    said = say("estimate", code=1)
    assert str(path) in said and "Traceback" not in said


def test_the_page_and_the_status_tell_the_cost_of_a_kept_trace(root: Path) -> None:
    project = Project(root, load(root))
    made = plan(root)
    answer(root, made)
    teacher = project.settings.teacher
    with AnswerStore(root) as store:
        pairs = requested(made)
        cost = recorded(costs(store, teacher, pairs, pairs[:4]), teacher)
    assert "| positive | 10 | 20,000 | 10,000 | 0.2100 | 4 | 7,500 | 0.0525 |" in page.cost_table(cost)
    keep(root, "replayed_trajectories", Assignment, made, {"cost": cost})
    assert status.cost(project) == "the teacher: 7,500 tokens and $0.0525 per accepted trace, of 4"
    unknown = teacher.model_copy(update={"prices": {}})
    with AnswerStore(root) as store:
        cost = recorded(costs(store, unknown, pairs, pairs[:4]), unknown)
    assert "set teacher.prices.m" in page.cost_table(cost)
    keep(root, "replayed_trajectories", Assignment, [replace(made[0], id="b")], {"cost": cost})
    assert "7,500 tokens and dollars unknown (no price)" in status.cost(project)


def test_media_of_the_plan_are_not_needed(root: Path) -> None:
    """The estimate counts a picture's pixels from its record: this one is nowhere."""
    assert not Path(MEDIA.path).exists()
    plan(root, 1)
    assert len(estimating.rows(Project(root, load(root)))[0]) == 1
