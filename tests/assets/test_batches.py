"""Batches that are opened: their names and order, and who takes which record of a user's folder."""

import shutil
from datetime import UTC, datetime, timedelta, timezone
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets import batches, cli
from assets.batches import BatchError
from assets.catalogue import STAGES
from assets.opening import open_batch
from assets.running import Made, settled
from assets.running import run as run_stage
from assets.stage import Project
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.ledger import LedgerError
from pixelis_pipeline.records import Sample
from pixelis_pipeline.settings import load
from pixelis_pipeline.world.build import build
from tests.assets.conftest import ROOT, project

NOON = datetime(2026, 11, 3, 12, 0, 0, tzinfo=UTC)


# Names and order --------------------------------------------------------------------------------


@given(
    moments=st.lists(st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1)), min_size=1, max_size=6),
    named=st.from_regex(r"[A-Za-z0-9_.]{1,10}", fullmatch=True),
)
def test_names_by_time_sort_after_all_that_is_there(moments, named):
    """Whatever settings call their batches, and however often one is opened."""
    there = [named]
    for moment in sorted({m.replace(microsecond=0, tzinfo=UTC) for m in moments}):
        name = batches.name_at(moment, there)
        assert name > max(there) and len(name) <= 26
        there.append(name)
        assert batches.name_at(moment, there) == name


def test_a_name_is_the_time_in_utc():
    east = NOON.astimezone(timezone(timedelta(hours=9)))
    assert batches.name_at(NOON, ["000"]) == batches.name_at(east, ["000"]) == "20261103.120000"


def test_opened_batches_come_after_the_settings_and_hold_their_sources(tmp_path: Path):
    made = project(tmp_path, batches=["000", "001"])
    assert batches.add(made.root, "002", ["sa1b", "ego4d"], ["000", "001"])
    assert not batches.add(made.root, "002", ["ego4d", "sa1b"], ["000", "001"])
    assert batches.add(made.root, "010", ["fineweb"], ["000", "001"])
    assert made.batches == ["000", "001", "002", "010"]
    assert made.partitions(STAGES["raw/sa1b"]) == ["000-sa1b", "001-sa1b", "002-sa1b"]
    assert made.partitions(STAGES["trajectories"])[-3:] == ["002-ego4d", "002-sa1b", "010-fineweb"]
    assert made.partitions(STAGES["training_splits"]) == ["all"]


@pytest.mark.parametrize(
    ("name", "sources", "why"),
    [
        ("0009", ["sa1b"], "would come before 005"),
        ("001", ["sa1b"], "open already"),
        ("005", ["ego4d"], "open already"),
        ("a-b", ["sa1b"], "letters, digits"),
        ("", ["sa1b"], "letters, digits"),
        ("../x", ["sa1b"], "letters, digits"),
        ("z" * 41, ["sa1b"], "letters, digits"),
        ("006", ["coco"], "no source"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_with_a_word(tmp_path: Path, name, sources, why):
    batches.add(tmp_path, "005", ["sa1b"], ["000"])
    before = (tmp_path / batches.FILE).read_bytes()
    with pytest.raises(BatchError, match=why):
        batches.add(tmp_path, name, sources, ["000", "001"])
    assert (tmp_path / batches.FILE).read_bytes() == before


@pytest.mark.parametrize("text", ["", "[]", '{"001": "sa1b"}', '{"001": ["coco"]}', '{"a-b": ["sa1b"]}'])
def test_a_damaged_file_is_an_error_and_no_empty_list(tmp_path: Path, text: str):
    (tmp_path / "data").mkdir()
    (tmp_path / batches.FILE).write_text(text)
    with pytest.raises(LedgerError, match=r"data/batches\.json.*restore it from git"):
        batches.read(tmp_path)


def _open(root: Path, name: str) -> bool:
    try:
        return batches.add(root, name, ["sa1b"], ["000"])
    except BatchError:
        return False


def test_opening_from_several_processes_loses_none(tmp_path: Path):
    names = [f"{n:03d}" for n in range(1, 25)]
    with get_context("fork").Pool(4) as pool:
        opened = pool.starmap(_open, [(tmp_path, name) for name in names])
        pool.close()  # they end by themselves: the pool's SIGTERM may meet a handler that Dagster has left
        pool.join()
    assert list(batches.read(tmp_path)) == [n for n, done in zip(names, opened, strict=True) if done]
    assert any(opened)


def test_the_command_opens_lists_and_refuses(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(project(tmp_path).root)
    assert cli.main(["--profile", "tiny", "batch", "open", "2027", "--source", "sa1b"]) == 0
    assert cli.main(["--profile", "tiny", "batch", "open", "2026"]) == 1
    assert "sorts after 2027" in " ".join(capsys.readouterr().err.split())
    assert cli.main(["--profile", "tiny", "batch", "open"]) == 0
    assert cli.main(["--profile", "tiny", "batch", "list"]) == 0
    listed = capsys.readouterr().out.splitlines()[-3:]
    assert listed[1] == "2027: sa1b" and listed[2].startswith("2027_20")


# A user's folder --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images in SA-1B's layout."""
    return build("sa1b", tmp_path_factory.mktemp("published") / "sa1b", seed=3, items=8)


def files_of(published: Path) -> list[list[Path]]:
    """Of each record the files it needs."""
    return [[p, p.with_suffix(".jpg")] for p in sorted(published.rglob("sa_*.json"))]


def arrive(folder: Path, published: Path, which: slice) -> None:
    folder.mkdir(exist_ok=True)
    for pair in files_of(published)[which]:
        for path in pair:
            shutil.copy(path, folder / path.name)


def on(folder: Path, root: Path, changes: dict[str, object] | None = None, **source: object) -> Project:
    sources = load(root, "tiny").model_dump()["sources"]
    sources["sa1b"] |= {"path": str(folder), **source}
    return project(root, sources=sources, **(changes or {}))


def read_batch(made: Project, batch: str) -> Made:
    return run_stage(made, STAGES["raw/sa1b"], f"{batch}-sa1b")


def held(made: Project, batch: str) -> list[str]:
    folder = made.ledger.folder("raw/sa1b", f"{batch}-sa1b")
    return sorted(artifact.ids(folder, "accepted"))


def is_settled(made: Project, batch: str) -> bool:
    return settled(made, STAGES["raw/sa1b"], f"{batch}-sa1b") is not None


def test_a_new_batch_takes_what_is_new_and_leaves_what_stands(tmp_path: Path, published: Path):
    folder = tmp_path / "mine"
    arrive(folder, published, slice(0, 4))
    made = on(folder, tmp_path / "p")
    with pytest.raises(BatchError, match=r"has not read .*mine yet"):
        open_batch(made, "001")
    first = read_batch(made, "000")
    assert first.counts.accepted == 4

    arrive(folder, published, slice(4, 6))
    assert not is_settled(made, "000"), "without a new batch the one there is takes what arrives"
    assert open_batch(made, "001", ["sa1b"])
    assert is_settled(made, "000"), "a batch after it lets it stand"
    assert read_batch(made, "000").skipped
    assert read_batch(made, "001").counts.accepted == 2

    arrive(folder, published, slice(6, 8))
    assert is_settled(made, "000") and not is_settled(made, "001")
    assert open_batch(made, "002", ["sa1b"])
    assert is_settled(made, "001")
    assert read_batch(made, "002").counts.accepted == 2
    everything = sorted(pair[0].name for pair in files_of(published))
    assert sorted(held(made, "000") + held(made, "001") + held(made, "002")) == everything
    assert made.ledger.current("raw/sa1b", "000-sa1b") == first.record.version


def test_a_standing_batch_made_again_reads_what_it_held(tmp_path: Path, published: Path):
    folder = tmp_path / "mine"
    arrive(folder, published, slice(2, 5))
    made = on(folder, tmp_path / "p")
    first = read_batch(made, "000")
    arrive(folder, published, slice(0, 8))
    open_batch(made, "001", ["sa1b"])
    again = on(folder, made.root, {"media": {"frames": 9}})
    assert not is_settled(again, "000")
    second = read_batch(again, "000")
    assert not second.skipped and second.record.version == first.record.version
    assert is_settled(again, "000")
    assert read_batch(again, "001").counts.accepted == 5


def test_what_was_refused_is_tried_again_and_not_refused_twice(tmp_path: Path, published: Path):
    """A picture that was half copied when it was read comes in later; a bad one is refused once."""
    folder = tmp_path / "mine"
    arrive(folder, published, slice(0, 4))
    half, bad = (pair[1].name for pair in files_of(published)[1:3])
    whole = (folder / half).read_bytes()
    (folder / half).write_bytes(whole[:40])
    (folder / bad).write_bytes(b"no picture")
    made = on(folder, tmp_path / "p")
    counts = read_batch(made, "000").counts
    assert (counts.accepted, counts.rejected) == (2, 2)
    (folder / half).write_bytes(whole)
    open_batch(made, "001", ["sa1b"])
    counts = read_batch(made, "001").counts
    assert (counts.accepted, counts.rejected) == (1, 0)
    assert held(made, "001") == [Path(half).with_suffix(".json").name]


def test_each_batch_reads_up_to_the_limit(tmp_path: Path, published: Path):
    folder = tmp_path / "mine"
    arrive(folder, published, slice(0, 8))
    made = on(folder, tmp_path / "p", limit=3)
    sizes = [read_batch(made, "000").counts.accepted]
    for batch in ("001", "002", "003"):
        open_batch(made, batch, ["sa1b"])
        sizes.append(read_batch(made, batch).counts.accepted)
    assert sizes == [3, 3, 2, 0]


def test_batches_of_settings_share_a_folder_too(tmp_path: Path, published: Path):
    folder = tmp_path / "mine"
    arrive(folder, published, slice(0, 8))
    made = on(folder, tmp_path / "p", {"batches": ["000", "001"]}, limit=5)
    assert [read_batch(made, batch).counts.accepted for batch in ("000", "001")] == [5, 3]
    assert is_settled(made, "000") and is_settled(made, "001")


def test_a_batch_of_the_world_draws_other_items(tmp_path: Path):
    sources = load(tmp_path, "tiny").model_dump()["sources"]
    sources["sa1b"]["items"] = 2
    made = project(tmp_path, sources=sources)
    first = read_batch(made, "000")
    open_batch(made, "001", ["sa1b"])
    read_batch(made, "001")

    def shown(batch: str) -> set[str]:
        folder = made.ledger.folder("raw/sa1b", f"{batch}-sa1b")
        return {s.media[0].sha256 for s in artifact.records(folder, Sample)}

    assert len(shown("000") | shown("001")) == 4
    assert is_settled(made, "000") and made.ledger.current("raw/sa1b", "000-sa1b") == first.record.version


def test_git_keeps_the_file_that_names_the_batches():
    assert "!data/batches.json" in (ROOT / ".gitignore").read_text().splitlines()
