"""What the batch mode does in each state of a batch, against a provider on loopback that keeps the bill."""

import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from pixelis_pipeline.media import MediaStore
from pixelis_pipeline.records import Failed, Json, Media, Rejected
from pixelis_pipeline.settings import MediaLimits, Price, SettingsError
from pixelis_pipeline.synthesis import prompt as prompts
from pixelis_pipeline.synthesis.asking import batch_creation, batch_files, batches
from pixelis_pipeline.synthesis.asking.batch_notes import Notes
from pixelis_pipeline.synthesis.asking.dispatch import Trouble
from pixelis_pipeline.synthesis.asking.estimate import estimate
from pixelis_pipeline.synthesis.asking.store import AnswerStore
from pixelis_pipeline.synthesis.asking.traffic import Traffic
from pixelis_pipeline.synthesis.asking.transport import TeacherError
from pixelis_pipeline.synthesis.asking.waiting import Pending
from pixelis_pipeline.synthesis.request import request_for
from tests.synthesis.asking import batch_child
from tests.synthesis.asking.batch_provider import Provider, ended, providing, refused, said

SETTINGS = batch_child.SETTINGS


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_PAUSE", "LONGEST_PAUSE", "SETTLING"):
        monkeypatch.setattr(batch_creation, name, 0.01)
        monkeypatch.setattr(batches, name, 0.01, raising=False)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)


@pytest.fixture(autouse=True, scope="module")
def certificates() -> Iterator[None]:
    """Every client reads the system's certificates, which takes longer than a test: read them once."""
    with pytest.MonkeyPatch.context() as patch, openai.DefaultHttpxClient() as connections:
        patch.setattr(openai, "OpenAI", functools.partial(openai.OpenAI, http_client=connections))
        yield


@pytest.fixture
def provider() -> Iterator[Provider]:
    with providing() as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with AnswerStore(tmp_path) as opened:
        yield opened


def run(
    provider: Provider, store: AnswerStore, planned: Pending, settings: object = SETTINGS
) -> dict[str, Trouble]:
    """One run over what the store does not answer, as the client starts it."""
    pending = {key: each for key, each in planned.items() if not store.exists(key)}
    media = MediaStore(store.path.parent, MediaLimits())
    with store.asking():
        return batches.ask_in_batches(pending, provider.endpoint, settings, store, media)  # type: ignore[arg-type]


def answered(store: AnswerStore, planned: Pending) -> int:
    """How many are answered, each with the answer to its own question, from a batch."""
    found = dict(store.read_many(planned))
    for key, answer in found.items():
        assert answer.text == f"words: {planned[key][1].question.text}"
        assert answer.metadata["batch"] and answer.usage == {"prompt": 7, "completion": 3}
    return len(found)


def once(provider: Provider, planned: Pending) -> bool:
    return dict(provider.bills) == dict.fromkeys(planned, 1)


def test_everything_is_answered_from_its_own_line_and_nothing_is_left_over(
    provider: Provider, store: AnswerStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    planned = batch_child.planned(5)
    monkeypatch.setattr(batch_files, "MOST_REQUESTS", 2)
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(batches.tempfile, "tempdir", str(folder))
    told: list[tuple[int, int]] = []
    pending = dict(planned)
    provider.looks = 2
    batches.ask_in_batches(
        pending,
        provider.endpoint,
        SETTINGS,
        store,
        MediaStore(tmp_path, MediaLimits()),
        lambda done, total: told.append((done, total)),
    )
    assert answered(store, planned) == 5 and once(provider, planned)
    assert sorted(batch["size"] for batch in provider.batches.values()) == [1, 2, 2]
    assert told[0] == (2, 5) and told[-1] == (5, 5) and told == sorted(told)
    assert not Notes(store, provider.endpoint).under_way and not list(folder.iterdir())
    assert run(provider, store, planned) == {} and provider.calls["create"] == 3


def test_a_line_is_what_a_live_request_sends(provider: Provider, store: AnswerStore) -> None:
    planned = batch_child.planned(1)
    run(provider, store, planned)
    ((key, (request, _)),) = planned.items()
    (line,) = provider.files["file-0"].splitlines()
    found = json.loads(line)
    assert (found["custom_id"], found["method"], found["url"]) == (key, "POST", "/v1/chat/completions")
    schema = {"name": "trace", "schema": json.loads(json.dumps(request.schema)), "strict": False}
    assert found["body"] == {
        "model": "m",
        "messages": [{"role": "system", "content": request.system}, *request.messages],
        "response_format": {"type": "json_schema", "json_schema": schema},
        **request.sampling,
    }


def test_files_are_cut_by_bytes_and_one_request_that_never_fits_fails_alone(
    provider: Provider, store: AnswerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = dict(batch_child.planned(5))
    key = list(planned)[2]
    request, assignment = planned[key]
    long = {"role": "user", "content": [{"type": "text", "text": "x" * 50_000}]}
    planned[key] = replace(request, messages=(long,)), assignment
    first = len(batch_files.line(planned[next(iter(planned))][0], []))
    monkeypatch.setattr(batch_files, "MOST_BYTES", int(2.9 * (first + 2500)))
    trouble = run(provider, store, planned)
    assert list(trouble) == [key] and isinstance(trouble[key], Failed) and "live" in str(trouble[key])
    assert len(store.answered(planned)) == 4 and len(provider.batches) > 1
    assert all(
        len(provider.files[b["input_file_id"]]) <= batch_files.MOST_BYTES for b in provider.batches.values()
    )


@pytest.mark.parametrize(
    ("status", "kind", "rule"),
    [
        (400, Rejected, "refused by the endpoint"),
        (422, Rejected, "refused by the endpoint"),
        (429, Failed, ""),
        (500, Failed, ""),
        (408, Failed, ""),
    ],
)
def test_one_line_with_an_error_concerns_one_request(
    status: int, kind: type, rule: str, provider: Provider, store: AnswerStore
) -> None:
    planned = batch_child.planned(3)
    provider.lines[1] = refused(status)
    ((key, stopped),) = run(provider, store, planned).items()
    assert key == list(planned)[1] and stopped.of == "a1" and isinstance(stopped, kind)
    if isinstance(stopped, Rejected):
        assert (stopped.rule, stopped.measured) == (rule, status)
    else:
        assert str(status) in stopped.error and not run(provider, store, planned)
        assert once(provider, planned), "asked again, since nothing was billed"
    assert answered(store, planned) == (2 if kind is Rejected else 3)


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_line_that_speaks_of_the_key_or_model_stops_the_run_after_what_was_paid_is_kept(
    status: int, provider: Provider, store: AnswerStore
) -> None:
    planned = batch_child.planned(3)
    provider.lines[0] = refused(status)
    with pytest.raises(TeacherError, match=str(status)):
        run(provider, store, planned)
    assert answered(store, planned) == 2
    assert run(provider, store, planned) == {} and once(provider, planned)


@pytest.mark.parametrize("state", ["expired", "cancelled"])
def test_a_batch_that_was_cut_off_gives_what_was_finished(
    state: str, provider: Provider, store: AnswerStore
) -> None:
    planned = batch_child.planned(4)
    provider.states = [state]
    provider.lines = {2: ended(f"batch_{state}"), 3: lambda key, asked: None}
    third, fourth = list(planned)[2:]
    trouble = run(provider, store, planned)
    assert set(trouble) == {third, fourth} and all(isinstance(each, Failed) for each in trouble.values())
    assert state in str(trouble[third]) and f"is {state} and says nothing" in str(trouble[fourth])
    assert answered(store, planned) == 2
    assert run(provider, store, planned) == {} and once(provider, planned)


def test_a_batch_that_fails_says_why(provider: Provider, store: AnswerStore) -> None:
    planned = batch_child.planned(2)
    provider.states = ["failed"]
    trouble = run(provider, store, planned)
    assert set(trouble) == set(planned)
    assert all(isinstance(each, Failed) and "line 1: no good" in each.error for each in trouble.values())
    assert run(provider, store, planned) == {} and once(provider, planned)
    provider.states, provider.errors = ["failed"], [{"code": "model_not_found", "message": "no model m"}]
    with pytest.raises(TeacherError, match="no model m"):
        run(provider, store, batch_child.planned(3))


def test_a_queue_without_room_is_filled_as_it_empties(
    provider: Provider, store: AnswerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = batch_child.planned(12)
    provider.room = 5
    monkeypatch.setattr(batch_files, "MOST_REQUESTS", 8)
    assert run(provider, store, planned) == {}
    assert answered(store, planned) == 12 and once(provider, planned)
    sizes = [batch["size"] for batch in provider.batches.values()]
    assert sizes == [0, 4, 0, 4, 4], "8 and 4 at once, 8 alone, and then what fits, one after another"
    made, provider.room = len(sizes), 0
    trouble = run(provider, store, batch_child.planned(20))
    assert len(trouble) == 8 and all("no room" in str(each) for each in trouble.values())
    assert len(provider.batches) == made + 5, "8, 8 alone, 4, 2 and 1: not each of them by itself"


def test_broken_and_foreign_lines_cost_only_what_they_hide(provider: Provider, store: AnswerStore) -> None:
    planned = batch_child.planned(3)
    provider.lines[1] = lambda key, asked: b'{"custom_id": "' + key.encode() + b'", "respon\n'
    provider.extra = b'[]\n7\n\n{"custom_id": "of another", "response": null}\n\xff\n'
    ((key, stopped),) = run(provider, store, planned).items()
    assert key == list(planned)[1] and isinstance(stopped, Failed)
    assert "1 lines are of no request in it, 4 broken" in stopped.error
    assert provider.calls["content"] == 4, "files that lack a line are read twice"
    assert answered(store, planned) == 2


@pytest.mark.parametrize("body", ["null", "{}", '{"choices": []}', '{"choices": [{"message": null}]}'])
def test_a_success_without_a_completion_is_failed(body: str, provider: Provider, store: AnswerStore) -> None:
    planned = batch_child.planned(1)
    text = '{"custom_id": "%s", "response": {"status_code": 200, "body": %s}}\n'
    provider.lines[0] = lambda key, asked: (text % (key, body)).encode()
    (stopped,) = run(provider, store, planned).values()
    assert isinstance(stopped, Failed) and not store.answered(planned)


@pytest.mark.parametrize(
    "script",
    [
        {"upload": ["500", "503"]},
        {"upload": ["429 0.01", "lost"]},
        {"create": ["500"]},
        {"create": ["429 0.01"]},
        {"create": ["lost"]},
        {"create": ["cut"]},
        {"create": ["garbage"]},
        {"create": ["lost"], "list": ["500", "lost"]},
        {"look": ["500", "lost", "garbage", "cut"]},
        {"content": ["500", "lost", "cut", "429"]},
    ],
    ids=str,
)
def test_trouble_that_passes_costs_nothing(
    script: dict[str, list[str]], provider: Provider, store: AnswerStore
) -> None:
    planned = batch_child.planned(3)
    provider.script = script
    settings = SETTINGS.model_copy(update={"patience_seconds": 20})
    assert run(provider, store, planned, settings) == {}
    assert answered(store, planned) == 3 and once(provider, planned)


def test_a_batch_whose_creation_nobody_confirms_is_found_by_the_next_run(
    provider: Provider, store: AnswerStore
) -> None:
    planned = batch_child.planned(3)
    run(provider, store, {})
    provider.script = {"create": ["lost", "503", "503"]}
    provider.lists_after = 3
    trouble = run(provider, store, planned)
    assert all("no batch could be created" in str(each) for each in trouble.values())
    assert run(provider, store, planned) == {}
    assert answered(store, planned) == 3 and once(provider, planned) and provider.calls["create"] == 3


def test_a_lost_batch_that_is_listed_late_is_waited_for(provider: Provider, store: AnswerStore) -> None:
    planned = batch_child.planned(3)
    provider.script = {"create": ["lost"], "list": ["503"] * 3}
    assert set(run(provider, store, planned)) == set(planned)
    provider.lists_after = 1
    assert run(provider, store, planned) == {} and provider.calls["create"] == 1 and once(provider, planned)


def test_an_earlier_batch_of_the_same_requests_is_not_taken_for_a_lost_one(
    provider: Provider, store: AnswerStore
) -> None:
    planned = batch_child.planned(3)
    provider.states = ["failed"]
    assert set(run(provider, store, planned)) == set(planned)
    provider.script = {"create": ["500"]}
    assert run(provider, store, planned) == {} and once(provider, planned)


def test_of_two_lines_about_one_request_the_first_counts(provider: Provider, store: AnswerStore) -> None:
    planned = batch_child.planned(2)
    provider.lines[0] = lambda key, asked: said(key, asked) + (refused(400)(key, asked) or b"")
    assert run(provider, store, planned) == {} and answered(store, planned) == 2


@pytest.mark.parametrize("call", ["upload", "create"])
@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_provider_that_takes_no_batches_stops_the_run_at_once(
    status: int, call: str, provider: Provider, store: AnswerStore
) -> None:
    provider.script = {call: [str(status)]}
    with pytest.raises(TeacherError, match=str(status)) as told:
        run(provider, store, batch_child.planned(2))
    assert ('teacher.mode = "live"' in str(told.value)) == (status in (404, 405))
    assert provider.calls[call] == 1
    assert run(provider, store, batch_child.planned(2)) == {}


def test_an_endpoint_that_goes_silent_leaves_its_batches_to_the_next_run(
    provider: Provider, store: AnswerStore
) -> None:
    planned = batch_child.planned(3)
    provider.script = {"look": ["500"] * 10_000}
    trouble = run(provider, store, planned)
    assert set(trouble) == set(planned) and "the next run waits on" in str(trouble[next(iter(planned))])
    provider.script = {}
    assert run(provider, store, planned) == {} and provider.calls["create"] == 1
    assert once(provider, planned)


def test_what_never_ends_is_left_to_the_next_run(
    provider: Provider, store: AnswerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = batch_child.planned(3)
    provider.looks = 5
    monkeypatch.setattr(batches, "LONGEST_WAIT", 0.0)
    assert all("nothing has come" in str(each) for each in run(provider, store, planned).values())
    monkeypatch.undo()
    monkeypatch.setattr(batches, "FIRST_PAUSE", 0.01)
    assert run(provider, store, planned) == {} and once(provider, planned)


def test_a_batch_of_another_account_stops_the_run_and_one_of_another_server_is_sent_again(
    provider: Provider, store: AnswerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = batch_child.planned(2)
    monkeypatch.setattr(batches, "LONGEST_WAIT", 0.0)
    run(provider, store, planned)
    monkeypatch.setattr(batches, "LONGEST_WAIT", 60.0)
    (held,) = provider.batches
    provider.script = {"look": ["404"]}
    with pytest.raises(TeacherError, match=held):
        run(provider, store, planned)
    with providing() as other:  # as the embedded teacher, whose batches end with it
        assert run(other, store, planned) == {} and once(other, planned)


def test_results_that_were_deleted_are_asked_for_again(provider: Provider, store: AnswerStore) -> None:
    planned = batch_child.planned(2)
    provider.before["content"] = provider.files.clear
    trouble = run(provider, store, planned)
    assert set(trouble) == set(planned) and all("says nothing" in str(each) for each in trouble.values())


def test_only_what_a_run_asks_for_is_waited_for_and_the_rest_stays_noted(
    provider: Provider, store: AnswerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = batch_child.planned(4)
    monkeypatch.setattr(batches, "LONGEST_WAIT", 0.0)
    run(provider, store, planned)
    monkeypatch.setattr(batches, "LONGEST_WAIT", 60.0)
    first = next(iter(planned))
    more = {key: each for key, each in batch_child.planned(6).items() if key not in planned}
    assert run(provider, store, {**more}) == {} and not store.answered(planned)
    assert run(provider, store, {first: planned[first]}) == {} and store.answered(planned) == {first}
    assert run(provider, store, planned) == {}
    assert once(provider, {**planned, **more}) and provider.calls["create"] == 2


def test_a_picture_that_cannot_be_sent_is_trouble_of_its_own(
    provider: Provider, store: AnswerStore, tmp_path: Path
) -> None:
    planned = dict(batch_child.planned(2))
    (tmp_path / "a.txt").write_bytes(b"no picture")
    for name in ("a.txt", "gone.png"):
        item = Media(hashlib.sha256(b"no picture").hexdigest(), "image", str(tmp_path / name), 8, 8)
        assignment = next(iter(planned.values()))[1]
        assignment = replace(
            assignment, id=name, question=replace(assignment.question, text=name, media=(item,))
        )
        request = request_for(assignment, "m", "provider", prompts.load("positive", "plain"))
        planned[request.key] = request, assignment
    trouble = {each.of: each for each in run(provider, store, planned).values()}
    assert set(trouble) == {"a.txt", "gone.png"} and isinstance(trouble["gone.png"], Failed)
    assert isinstance(trouble["a.txt"], Rejected) and trouble["a.txt"].rule == "not an image"
    assert len(store.answered(planned)) == 2


def test_a_budget_is_spent_up_to_the_estimate_and_no_further(provider: Provider, store: AnswerStore) -> None:
    planned = batch_child.planned(10)
    prices = {"m": Price(prompt=1.0, completion=1.0)}
    expected = estimate([each for _, each in planned.values()], SETTINGS, store)
    tokens = expected.prompt_tokens + expected.completion_tokens
    for limit in ({"max_tokens": int(tokens * 0.45)}, {"max_cost": tokens * 0.5 * 0.45 / 1e6}):
        settings = SETTINGS.model_copy(update={"prices": prices, **limit})
        with providing() as fresh, AnswerStore(store.path.parent / str(*limit)) as empty:
            trouble = run(fresh, empty, planned, settings)
            assert fresh.bills.total() == 4 and len(trouble) == 6
            assert all(isinstance(each, Failed) and "budget" in each.error for each in trouble.values())
    spent = Traffic(spent_tokens=tokens * 0.2)
    settings = SETTINGS.model_copy(update={"max_tokens": int(tokens * 0.45)})
    with providing() as fresh, AnswerStore(store.path.parent / "spent") as empty:
        media = MediaStore(store.path.parent, MediaLimits())
        ask = batches.ask_in_batches
        assert len(ask(planned, fresh.endpoint, settings, empty, media, traffic=spent)) == 8
        assert spent.spent_tokens == pytest.approx(tokens * 0.4)
    with pytest.raises(SettingsError, match="no price"):
        run(provider, store, planned, SETTINGS.model_copy(update={"max_cost": 1.0}))
    assert not provider.calls


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
def test_a_run_that_ends_at_any_note_is_taken_up_without_paying_twice(
    late: bool, store: AnswerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_files, "MOST_REQUESTS", 2)
    planned = batch_child.planned(5)
    kept = AnswerStore.remember
    for ends_at in range(20):
        written = 0

        def remember(self: AnswerStore, name: str, value: Json, ends_at: int = ends_at) -> None:
            nonlocal written
            written += 1
            if written > ends_at:
                if late:
                    kept(self, name, value)
                raise Killed
            kept(self, name, value)

        with providing() as provider, AnswerStore(store.path.parent / str(ends_at)) as begun:
            monkeypatch.setattr(AnswerStore, "remember", remember)
            try:
                run(provider, begun, planned)
                done = True
            except Killed:
                done = False
            monkeypatch.setattr(AnswerStore, "remember", kept)
            assert run(provider, begun, planned) == {}
            assert answered(begun, planned) == 5 and once(provider, planned)
            assert not Notes(begun, provider.endpoint).under_way
        if done:
            break
    assert ends_at == 9, "three batches, each noted before, with its id, and gone"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "call", "nth"),
    [
        ("before", "upload", 1),
        ("after", "upload", 2),
        ("before", "create", 1),
        ("after", "create", 1),
        ("after", "create", 3),
        ("after", "look", 2),
        ("before", "content", 1),
        ("after", "content", 2),
    ],
)
def test_sigkill_at_any_moment_costs_nothing(
    moment: str, call: str, nth: int, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_files, "MOST_REQUESTS", 40)
    monkeypatch.setattr(batch_creation, "SETTLING", 0.5)  # what was sent before the kill is still done
    planned = batch_child.planned(100)
    command = [sys.executable, batch_child.__file__, str(tmp_path), provider.endpoint.base_url, "100", "40"]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})

    def kill() -> None:
        if provider.calls[call] == nth:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()

    getattr(provider, moment)[call] = kill
    assert child.wait() == -signal.SIGKILL
    getattr(provider, moment).clear()
    with AnswerStore(tmp_path) as store:
        assert run(provider, store, planned) == {}
        assert answered(store, planned) == 100 and once(provider, planned)


def test_a_live_run_waits_for_what_is_in_batches_and_sends_none(
    provider: Provider, store: AnswerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, more = batch_child.planned(3), batch_child.planned(5)
    monkeypatch.setattr(batches, "LONGEST_WAIT", 0.0)
    run(provider, store, planned)
    monkeypatch.setattr(batches, "LONGEST_WAIT", 60.0)
    live = SETTINGS.model_copy(update={"mode": "live"})
    assert run(provider, store, more, live) == {}
    assert store.answered(more) == set(planned) and provider.calls["create"] == 1


def test_nothing_is_sent_while_nobody_says_whether_it_was_sent(
    provider: Provider, store: AnswerStore
) -> None:
    planned = batch_child.planned(3)
    provider.script = {"create": ["lost"], "list": ["503"] * 3}
    assert set(run(provider, store, planned)) == set(planned) and provider.calls["create"] == 1
    provider.script = {"list": ["503"] * 3}
    assert "nobody says" in str(run(provider, store, batch_child.planned(4)))
    assert provider.calls["create"] == 1
    assert run(provider, store, planned) == {} and once(provider, planned)
