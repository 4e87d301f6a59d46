"""What was written is read again; what a kill tore is not."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pixelis_pipeline.engine.journal import journal
from pixelis_pipeline.records import Accepted, Failed, Origin, Rejected, Sample

SAMPLES = [Sample(f"s{n}", Origin("sa1b", f"ü{n}", "CC0-1.0", "training"), ()) for n in range(4)]
OUTCOMES = [
    Accepted("a", (SAMPLES[0], SAMPLES[1])),
    Rejected("b", "stage", "rule", 0.25, 0.5, detail="why\nnot", record={"k": [1, None]}),
    Rejected("c", "stage", "rule"),
    Accepted("d", (SAMPLES[2],)),
]


def write(path: Path) -> None:
    with journal(path, Sample) as kept:
        for outcome in OUTCOMES:
            kept.add(f"key {outcome.of}", outcome)


def test_outcomes_come_back_as_they_were_and_failures_do_not(tmp_path: Path):
    path = tmp_path / "deep" / "journal.jsonl"
    write(path)
    with journal(path, Sample) as kept:
        assert kept.begun and len(kept) == 4
        assert [kept.outcome(f"key {outcome.of}") for outcome in OUTCOMES] == OUTCOMES
        kept.add("key e", Failed("e", "stage", "timeout"))
        assert "key e" not in kept
        kept.add("key f", Accepted("f", (SAMPLES[3],)))  # after reading in the middle
        assert kept.outcome("key a") == OUTCOMES[0] and "key f" in kept
    with journal(path, Sample) as kept:
        assert kept.outcome("key f") == Accepted("f", (SAMPLES[3],)) and len(kept) == 5


def test_a_new_journal_has_not_begun_and_none_keeps_nothing(tmp_path: Path):
    with journal(tmp_path / "new.jsonl", Sample) as kept:
        assert not kept.begun and not len(kept)
    with journal(None, Sample) as kept:
        kept.add("key a", OUTCOMES[0])
        assert "key a" not in kept and not kept.begun


@given(cut=st.integers(0, 2000), junk=st.sampled_from([b"", b"{", b'{"key": 3', b"\0\0\0", b"[]\n", b"7\n"]))
def test_wherever_a_kill_tears_it_whole_lines_are_read_and_it_goes_on(
    tmp_path_factory, cut: int, junk: bytes
):
    path = tmp_path_factory.mktemp("torn") / "journal.jsonl"
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] + junk)
    complete = whole[:cut].count(b"\n")
    with journal(path, Sample) as kept:
        assert len(kept) == complete
        for outcome in OUTCOMES[complete:]:
            kept.add(f"key {outcome.of}", outcome)
    assert path.read_bytes() == whole


def test_two_processes_never_write_one_journal(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    with journal(path, Sample) as mine:
        mine.add("key a", OUTCOMES[0])
        with journal(path, Sample) as theirs:
            assert "key a" not in theirs and not theirs.begun
            theirs.add("key b", OUTCOMES[1])
        assert len(mine) == 1
    with journal(path, Sample) as kept:
        assert "key a" in kept and "key b" not in kept
