"""The answer store: written once, whole or not at all, by many threads, also in a process that is killed."""

import multiprocessing
import os
import random
import resource
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.records import canonical
from pixelis_pipeline.synthesis.asking import answer_file
from pixelis_pipeline.synthesis.asking.store import Answer, AnswerStore, StoreError
from pixelis_pipeline.synthesis.request import Request

REQUEST = Request(
    endpoint="https://api.example/v1",
    model="m",
    system="You answer. " * 50,
    messages=({"role": "user", "content": [{"type": "image", "sha256": "ef" * 32}]},),
    sampling={"temperature": 0.7},
    schema={"type": "object"},
    tools=({"type": "function", "function": {"name": "SEG"}},),
)
ANSWER = Answer("words", "stop", "m", {"prompt": 1, "completion": 2}, {"id": "x"})
FORK = multiprocessing.get_context("fork")  # no test has the file open where it forks


def numbered(number: int) -> Request:
    return replace(REQUEST, sample=number)


def raw(store: AnswerStore) -> sqlite3.Connection:
    """The file in other hands."""
    return sqlite3.connect(store.path, isolation_level=None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with AnswerStore(tmp_path) as opened:
        yield opened


def test_what_is_written_is_read_and_stays(store: AnswerStore, tmp_path: Path) -> None:
    assert not store.exists(REQUEST.key) and store.answered([REQUEST.key]) == set()
    store.write(REQUEST, ANSWER)
    store.write(REQUEST, Answer("later words", "stop", "m", {}, {}))
    assert store.exists(REQUEST.key)
    with AnswerStore(tmp_path) as another:
        assert another.read(REQUEST.key) == ANSWER
        assert another.request(REQUEST.key) == REQUEST


def test_reading_makes_no_file_and_finds_nothing(store: AnswerStore, tmp_path: Path) -> None:
    assert not store.exists(REQUEST.key) and store.recall("x") is None and store.bills("m") == []
    assert list(store.read_many([REQUEST.key])) == []
    with pytest.raises(KeyError):
        store.read(REQUEST.key)
    with pytest.raises(KeyError):
        store.request(REQUEST.key)
    assert list(tmp_path.iterdir()) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
TABLE = st.dictionaries(st.text(), JSON, max_size=4)
# Every code point, halves of surrogate pairs among them, also a high half right before a low one.
WORDS = st.text(st.characters(exclude_categories=()))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(
            st.builds(
                Request, st.text(), st.text(), st.text(), st.tuples(TABLE), TABLE, TABLE, st.tuples(TABLE),
                st.integers(0, 9),
            ),
            st.builds(Answer, WORDS, WORDS, WORDS, TABLE, TABLE),
        ),
        min_size=1, max_size=4,
    )
)  # fmt: skip
def test_what_goes_in_comes_out(pairs: list[tuple[Request, Answer]]) -> None:
    first: dict[str, tuple[Request, Answer]] = {}
    with tempfile.TemporaryDirectory() as folder, AnswerStore(Path(folder)) as store:
        for request, answer in pairs:
            store.write(request, answer)
            first.setdefault(request.key, (request, answer))
        assert store.answered([*first, "00" * 32]) == set(first)
        for key, (request, answer) in first.items():
            found = store.read(key)
            assert [list(map(ord, text)) for text in (found.text, found.finish, found.model)] == [
                list(map(ord, text)) for text in (answer.text, answer.finish, answer.model)
            ]
            assert asdict(found) == asdict(answer)
            again = store.request(key)
            assert again.key == key and canonical(asdict(again)) == canonical(asdict(request))
        assert dict(store.read_many(first)) == {key: answer for key, (_, answer) in first.items()}


def test_equal_requests_and_no_others_share_a_key() -> None:
    """Parts that swap places, that look like another's digest, or that are changed in place."""
    swapped = replace(REQUEST, system="a", endpoint="b"), replace(REQUEST, system="b", endpoint="a")
    posing = replace(REQUEST, schema={"sha256": REQUEST.key}), replace(REQUEST, schema={})
    assert len({each.key for each in (REQUEST, *swapped, *posing)}) == 5
    assert replace(REQUEST, schema={"a": 1, "b": 2}).key == replace(REQUEST, schema={"b": 2, "a": 1}).key
    assert len({replace(REQUEST, schema={"a": value}).key for value in (1, 1.0, True, "1", None, [1])}) == 6
    changing = replace(REQUEST, schema={"a": 1})
    before = changing.key
    changing.schema["a"] = 2
    assert changing.key != before and changing.key == replace(REQUEST, schema={"a": 2}).key


def test_long_parts_stand_in_the_file_once(store: AnswerStore, tmp_path: Path) -> None:
    long = replace(REQUEST, system="s" * 50_000)
    with AnswerStore(tmp_path) as another:  # which cannot know what the first has written
        for number in range(40):
            (store, another)[number % 2].write(replace(long, sample=number), ANSWER)
    store.close()
    assert store.path.stat().st_size < 200_000
    assert raw(store).execute("SELECT count(*) FROM parts").fetchone() == (3,)
    assert store.request(replace(long, sample=7).key) == replace(long, sample=7)


@pytest.mark.parametrize("table", ["answers", "parts"])
def test_nobody_changes_what_was_written(store: AnswerStore, table: str) -> None:
    store.write(REQUEST, ANSWER)
    other = raw(store)
    before = other.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
    column = {"answers": "answer", "parts": "body"}[table]
    for statement in (f"UPDATE {table} SET {column} = x'00'", f"DELETE FROM {table}"):
        with pytest.raises(sqlite3.IntegrityError, match="written once"):
            other.execute(statement)
    blank = ", ".join(["?"] * len(before[0]))
    for how in ("REPLACE", "IGNORE", "ABORT"):
        other.execute(
            f"INSERT OR {how} INTO {table} VALUES ({blank})", [before[0][0]] + ["x"] * (len(before[0]) - 1)
        )
    assert other.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() == before
    assert store.read(REQUEST.key) == ANSWER


def test_notes_are_kept_and_changed(store: AnswerStore, tmp_path: Path) -> None:
    assert store.recall("ceiling") is None
    store.remember("ceiling", {"limit": 4})
    store.remember("ceiling", {"limit": 7, "of": ["a"]})
    store.remember("batches", {})
    with AnswerStore(tmp_path) as another:
        assert another.recall("ceiling") == {"limit": 7, "of": ["a"]} and another.recall("batches") == {}


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "AB" * 32, "ab" * 31])
def test_only_a_digest_is_a_key(store: AnswerStore, key: str) -> None:
    for use in (store.exists, store.read, store.request, lambda key: store.answered([key])):
        with pytest.raises(ValueError, match="not a request key"):
            use(key)


@pytest.mark.slow
def test_thousands_of_keys_are_looked_up_in_their_order(store: AnswerStore) -> None:
    requests = [numbered(number) for number in range(2_000)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda request: store.write(request, ANSWER), requests[::2]))
    keys = [request.key for request in requests]
    random.Random(1).shuffle(keys)
    answered = {request.key for request in requests[::2]}
    assert store.answered(keys) == answered
    assert [key for key, _ in store.read_many(keys)] == [key for key in keys if key in answered]


def test_bills_are_summed_by_system_prompt_over_one_model(store: AnswerStore) -> None:
    for number, (system, model, usage) in enumerate(
        [
            ("a", "m", {"prompt": 10, "completion": 1}),
            ("a", "m", {"prompt": 20, "completion": 2}),
            ("a", "m", {}),
            ("b", "m", {"prompt": 5, "completion": 5}),
            ("b", "other", {"prompt": 1000, "completion": 1000}),
        ]
    ):
        request = replace(numbered(number), system=system, model=model)
        store.write(request, replace(ANSWER, usage=usage, text="\ud800 half"))
    found = {(bill.answers, bill.prompt_tokens, bill.completion_tokens) for bill in store.bills("m")}
    assert found == {(2, 30, 3), (1, 5, 5)}


def test_threads_write_one_answer_each_and_all_of_one_request_agree(
    store: AnswerStore, tmp_path: Path
) -> None:
    start = threading.Barrier(12)

    def write(number: int) -> None:
        start.wait()
        for index in range(30):
            store.write(numbered(index), replace(ANSWER, text=f"{number}"))
            store.write(numbered(1_000 * (number + 1) + index), replace(ANSWER, text=f"{number}/{index}"))
            with AnswerStore(tmp_path) as another:  # what `write` came back from is there for anybody
                assert another.exists(numbered(1_000 * (number + 1) + index).key)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(write, range(12)))
    texts = {
        (number, index): store.read(numbered(1_000 * (number + 1) + index).key).text
        for number in range(12)
        for index in range(30)
    }
    assert all(text == f"{number}/{index}" for (number, index), text in texts.items())
    with raw(store) as other:
        assert other.execute("SELECT count(*) FROM answers").fetchone() == (12 * 30 + 30,)


def _write_some(root: Path, first: int, count: int) -> None:
    with AnswerStore(root) as store:
        for number in range(first, first + count):
            store.write(numbered(number), replace(ANSWER, text=f"of {first}"))


def test_two_processes_write_while_a_third_reads(tmp_path: Path) -> None:
    writers = [FORK.Process(target=_write_some, args=(tmp_path, first, 150)) for first in (0, 100)]
    for writer in writers:
        writer.start()
    keys = [numbered(number).key for number in range(250)]
    with AnswerStore(tmp_path) as store:
        seen = 0
        while any(writer.is_alive() for writer in writers):
            now = len(store.answered(keys))
            assert now >= seen
            seen = now
        for writer in writers:
            writer.join()
        assert [writer.exitcode for writer in writers] == [0, 0]
        texts = [answer.text for _, answer in store.read_many(keys)]
    assert len(texts) == 250
    assert set(texts[:100]) == {"of 0"} and set(texts[150:]) == {"of 100"}
    assert set(texts[100:150]) <= {"of 0", "of 100"}


def _write_for_ever(root: Path, first: int = 0) -> None:
    store, pool = AnswerStore(root), ThreadPoolExecutor(4)
    acknowledged = (root / "acknowledged").open("a", buffering=1)

    def write(number: int) -> None:
        store.write(numbered(number), replace(ANSWER, text=f"{number} " + "w" * 20_000))
        acknowledged.write(f"{number}\n")

    for number in range(first, 10**9):
        if number % 200 == 0:
            pool.shutdown()
            pool = ThreadPoolExecutor(4)
        pool.submit(write, number)


def test_after_a_kill_every_answer_is_whole_and_none_that_was_acknowledged_is_gone(tmp_path: Path) -> None:
    told = tmp_path / "acknowledged"
    writer = FORK.Process(target=_write_for_ever, args=(tmp_path,))
    writer.start()
    while not told.exists() or told.read_bytes().count(b"\n") < 40:
        time.sleep(0.01)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    numbers = [int(line) for line in told.read_text().split("\n")[:-1]]
    with AnswerStore(tmp_path) as store:
        for number in numbers:
            assert store.read(numbered(number).key).text == f"{number} " + "w" * 20_000
            assert store.request(numbered(number).key) == numbered(number)
        store.write(numbered(10**9), ANSWER)  # and the next run goes on
    other = raw(store)
    assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert other.execute("SELECT count(*) FROM answers").fetchone()[0] > len(numbers)


@pytest.mark.slow
def test_twenty_kills_at_any_moment_leave_a_store_that_goes_on(tmp_path: Path) -> None:
    """The first ten are killed about when they make the file, the others while they write to it."""
    draw, told = random.Random(5), tmp_path / "acknowledged"
    for turn in range(20):
        if turn < 10:
            for path in (tmp_path / "data" / "teacher").glob("*"):
                path.unlink()
            told.unlink(missing_ok=True)
        before = told.stat().st_size if told.exists() else 0
        writer = FORK.Process(target=_write_for_ever, args=(tmp_path, turn * 10**6))
        writer.start()
        while not (any((tmp_path / "data").rglob("*.*")) if turn < 10 else told.stat().st_size > before):
            time.sleep(0.001)
        time.sleep(draw.random() * (0.02 if turn < 10 else 0.1))
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        numbers = {int(line) for line in told.read_text().split("\n")[:-1]} if told.exists() else set()
        with AnswerStore(tmp_path) as store:
            keys = [numbered(number).key for number in numbers]
            assert store.answered(keys) == set(keys)
            assert sum(1 for _ in store.read_many(keys)) == len(keys)


def changed(store: AnswerStore, statement: str, *values: object) -> None:
    """Change the file as no trigger allows."""
    store.close()
    other = raw(store)
    for (name,) in other.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        other.execute(f"DROP TRIGGER {name}")
    other.execute(statement, values)
    other.close()


def test_a_damaged_answer_is_named(store: AnswerStore) -> None:
    store.write(REQUEST, ANSWER)
    data = raw(store).execute("SELECT answer FROM answers").fetchone()[0]
    changed(store, "UPDATE answers SET answer = ?", data.replace(b"words", b"wordz"))
    with pytest.raises(StoreError, match=f"{store.path}.*{REQUEST.key}.*other bytes"):
        store.read(REQUEST.key)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE answers SET request = replace(CAST(request AS TEXT), '\"m\"', '\"n\"')",
        "UPDATE answers SET request = x'7b7d'",
        "UPDATE answers SET request = x'ff'",
        "UPDATE parts SET body = CAST(replace(CAST(body AS TEXT), 'SEG', 'TRK') AS BLOB)",
        "UPDATE parts SET body = x'00'",
        "DELETE FROM parts",
    ],
)
def test_a_request_that_is_not_its_keys_is_refused(store: AnswerStore, statement: str) -> None:
    store.write(REQUEST, ANSWER)
    changed(store, statement)
    with pytest.raises(StoreError, match=f"{store.path} is damaged: the request of {REQUEST.key}"):
        store.request(REQUEST.key)


@pytest.mark.parametrize("content", [b"", b"no database " * 400, b"SQLite format 3\0" + b"\0" * 5_000])
def test_another_file_in_its_place_is_no_store(store: AnswerStore, content: bytes) -> None:
    store.path.parent.mkdir(parents=True)
    store.path.write_bytes(content)
    for use in (
        lambda: store.exists(REQUEST.key),
        lambda: store.write(REQUEST, ANSWER),
        lambda: store.remember("a", {}),
    ):
        with pytest.raises(StoreError, match=str(store.path)):
            use()
    assert store.path.read_bytes() == content


def test_a_database_of_somebody_else_or_of_a_later_format_is_no_store(store: AnswerStore) -> None:
    store.path.parent.mkdir(parents=True)
    raw(store).execute("CREATE TABLE answers (key TEXT)")
    with pytest.raises(StoreError, match="no store of answers"):
        store.exists(REQUEST.key)
    other = raw(store)
    other.execute(f"PRAGMA application_id = {answer_file.APPLICATION}")
    other.execute("PRAGMA user_version = 2")
    with pytest.raises(StoreError, match="of format 2, not 1"):
        store.exists(REQUEST.key)


def test_a_file_cut_short_is_a_clear_error(store: AnswerStore) -> None:
    for number in range(50):
        store.write(numbered(number), replace(ANSWER, text="w" * 3_000))
    store.close()
    data = store.path.read_bytes()
    store.path.write_bytes(data[: len(data) // 3])
    with pytest.raises(StoreError, match="damaged"):
        for number in range(50):
            store.read(numbered(number).key)


def test_the_log_of_a_lost_file_is_not_played_into_a_new_one(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    store.write(REQUEST, ANSWER)  # and not closed: its log stands there
    lost = store.path.rename(tmp_path / "lost")
    with AnswerStore(tmp_path) as another, pytest.raises(StoreError, match="put the file back"):
        another.write(numbered(1), ANSWER)
    lost.rename(store.path)
    with AnswerStore(tmp_path) as another:
        another.write(numbered(1), ANSWER)
        assert another.exists(REQUEST.key)
    store.close()


def _fill(root: Path, most: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # as a full disk: writing past it fails
    store = AnswerStore(root)
    for number in range(10**6):
        try:
            store.write(numbered(number), replace(ANSWER, text="w" * 20_000))
        except StoreError as error:
            (root / "told").write_text(f"{number} {error}")
            os._exit(3)


def test_a_full_disk_is_told_and_takes_nothing_with_it(tmp_path: Path) -> None:
    writer = FORK.Process(target=_fill, args=(tmp_path, 600_000))
    writer.start()
    writer.join()
    number, _, said = (tmp_path / "told").read_text().partition(" ")
    assert writer.exitcode == 3 and int(number) > 5
    assert "make room and run again" in said and "answers.sqlite" in said
    with AnswerStore(tmp_path) as store:
        keys = [numbered(each).key for each in range(int(number) + 1)]
        assert store.answered(keys) == set(keys[:-1])
        store.write(numbered(int(number)), ANSWER)
        assert store.answered(keys) == set(keys)


def test_when_a_commit_fails_nobody_in_it_believes_to_be_kept(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    store.write(REQUEST, ANSWER)
    other = raw(store)
    other.execute("CREATE TRIGGER full BEFORE INSERT ON answers BEGIN SELECT RAISE(ABORT, 'no room'); END")
    with ThreadPoolExecutor(8) as pool:
        tried = [pool.submit(store.write, numbered(number), ANSWER) for number in range(1, 60)]
    assert all(isinstance(each.exception(), StoreError) for each in tried)
    other.execute("DROP TRIGGER full")
    store.write(numbered(1), ANSWER)
    assert store.answered([numbered(n).key for n in range(60)]) == {REQUEST.key, numbered(1).key}
    store.close()


def _read_as_nobody(root: Path, key: str) -> None:
    if os.geteuid() == 0:
        os.setuid(65534)
    with AnswerStore(root) as store:
        sys.exit(0 if store.read(key) == ANSWER and store.request(key) == REQUEST else 5)


def test_who_may_only_read_can_read(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        with AnswerStore(root) as store:
            store.write(REQUEST, ANSWER)
        store.path.parent.chmod(0o555)
        reader = FORK.Process(target=_read_as_nobody, args=(root, REQUEST.key))
        reader.start()
        reader.join()
        store.path.parent.chmod(0o755)
    assert reader.exitcode == 0


def _ask(root: Path, log: str) -> None:
    with AnswerStore(root).asking(), open(log, "a") as told:
        for word in ("in", "out"):
            told.write(f"{word}\n")
            told.flush()
            time.sleep(0.05)


def test_one_process_asks_at_a_time(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    askers = [FORK.Process(target=_ask, args=(tmp_path, log)) for _ in range(3)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert Path(log).read_text().split() == ["in", "out"] * 3
