"""Quotas add up, and the mixture they make has the wished tool shares."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from pixelis_pipeline.records import Media, Origin, Question
from pixelis_pipeline.settings import SOURCES, Settings, load
from pixelis_pipeline.synthesis.questions import TOOLS as NEEDED
from pixelis_pipeline.synthesis.strata import (
    FAMILIES,
    KINDS,
    TOOLS,
    apportion,
    goals,
    mixture,
    room,
    span_of,
)


def settings(**synthesis: object) -> Settings:
    base = Settings()
    return base.model_copy(update={"synthesis": base.synthesis.model_copy(update=synthesis)})


def without(base: Settings, *sources: str) -> Settings:
    left = {name: base.sources[name].model_copy(update={"teacher": "none"}) for name in sources}
    return base.model_copy(update={"sources": base.sources | left})


def shares(of: Settings) -> dict[str, float]:
    """Percent of the calls, with the one call more that a tenth of the traces makes."""
    mixed = mixture(of)
    calls = {tool: sum(share * family.calls.get(tool, 0.0) for family, share in mixed) for tool in TOOLS}
    for family, share in mixed:
        calls[NEEDED[family.task][0]] += 0.1 * share
    return {tool: 100 * number / sum(calls.values()) for tool, number in calls.items()}


def test_the_mixture_has_the_papers_tool_shares_within_one_and_a_half_points() -> None:
    wished = {"SEG": 24.1, "ZOOM": 17.1, "TRK": 22.9, "OCR": 20.2, "TEMP": 10.0, "PROP": 5.9}
    found, whole = shares(Settings()), sum(wished.values())  # the paper's add up to 100.2
    assert all(abs(found[tool] - 100 * wished[tool] / whole) <= 1.5 + 1e-9 for tool in TOOLS), found
    assert all(share > 0.01 for _, share in mixture(Settings())), "no family dies out"


def test_other_wishes_give_another_mixture() -> None:
    found = shares(settings(trk=0.0, temp=0.0, prop=40.0))
    assert max(found["TRK"], found["TEMP"]) <= 1.5 and abs(found["PROP"] - 100 * 40 / 101.4) <= 1.5, found


def test_sources_that_are_left_out_get_nothing_and_their_tools_leave_their_part_to_the_rest() -> None:
    stills = without(Settings(), "starqa", "ego4d")
    found = shares(stills)
    assert found["TRK"] == found["TEMP"] == 0.0
    assert abs(found["SEG"] - 100 * 24.1 / 67.3) <= 1.5
    asked = without(settings(candidates=500, accepted=300), "starqa")
    assert goals(asked, "starqa") == room(asked, "starqa") == {}
    assert sum(sum(goals(asked, source).values()) for source in SOURCES) == 300
    nobody = without(Settings(), *SOURCES)
    assert mixture(nobody) == [] and all(room(nobody, source) == {} for source in SOURCES)


@trying(deadline=None, max_examples=25)
@given(st.integers(0, 3000), st.integers(0, 3000))
def test_goals_add_up_to_what_is_accepted_and_lie_within_the_room(accepted: int, more: int) -> None:
    asked = settings(accepted=accepted, candidates=accepted + more)
    owed = {(source, name): n for source in SOURCES for name, n in goals(asked, source).items()}
    held = {(source, name): n for source in SOURCES for name, n in room(asked, source).items()}
    assert sum(owed.values()) == accepted
    assert sum(held.values()) == accepted + more
    assert all(number <= held[name] for name, number in owed.items())
    assert all(number > 0 for number in held.values())


def test_kinds_and_spans_keep_their_shares_over_many_small_strata() -> None:
    held = Counter[str]()
    spans = Counter[str]()
    for source in SOURCES:
        for name, number in room(settings(candidates=1000), source).items():
            _, span, kind = name.split("/")
            held[kind] += number
            spans[span] += number
    assert all(abs(held[kind] - 100) <= 2 for kind in KINDS[1:]) and abs(held["positive"] - 700) <= 2
    of_films = [spans[span] for span in ("short", "medium", "long")]
    assert held.total() == 1000 and max(of_films) - min(of_films) <= 2


def test_without_numbers_nothing_is_bounded() -> None:
    assert room(Settings(), "sa1b") == goals(Settings(), "sa1b") == {}


@trying(deadline=None)
@given(
    st.integers(0, 500),
    st.lists(st.floats(0, 10), min_size=1, max_size=6).filter(lambda shares: sum(shares) > 0.1),
    st.integers(1, 5),
)
def test_apportion_gives_whole_numbers_near_their_quotas(total: int, parts: list[float], cells: int) -> None:
    owed = [0.0] * len(parts)
    sums = [0] * len(parts)
    for _ in range(cells):
        given_ = apportion(total, parts, owed)
        assert sum(given_) == total and min(given_) >= 0
        sums = [a + b for a, b in zip(sums, given_, strict=True)]
    quotas = [cells * total * part / sum(parts) for part in parts]
    assert all(abs(have - quota) < len(parts) for have, quota in zip(sums, quotas, strict=True))
    assert all(have == 0 for have, part in zip(sums, parts, strict=True) if part == 0)


def test_apportion_is_the_largest_remainder() -> None:
    assert apportion(10, [0.7, 0.1, 0.1, 0.1]) == [7, 1, 1, 1]
    assert apportion(5, [0.7, 0.1, 0.1, 0.1]) == [4, 1, 0, 0], "3.5, .5, .5, .5: the first ones"
    assert apportion(3, [0.5, 0.3, 0.2]) == [1, 1, 1], "1.5, .9, .6"


def _question(span: tuple[float, ...], kind: str = "video") -> Question:
    media = Media("a" * 64, kind, "/v.mp4", 320, 240, 24, 8.0)  # type: ignore[arg-type]
    return Question("q", (), Origin("x", "r", "CC0-1.0", "training"), (media,), "?", "a", "when", span=span)


@pytest.mark.parametrize(
    ("span", "name"),
    [
        ((0.0, 0.75), "short"),
        ((1.0, 2.5), "medium"),
        ((0.5, 2.25), "long"),
        ((), "long"),
    ],
)
def test_the_span_of_a_question_is_its_share_of_the_film(span: tuple[float, ...], name: str) -> None:
    assert span_of(_question(span)) == name
    assert span_of(_question(span, "image")) == "still"


def test_every_family_calls_what_its_task_cannot_do_without() -> None:
    for family in FAMILIES:
        assert set(NEEDED[family.task]) <= set(family.calls)
    assert len({(family.source, family.task) for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize(
    ("profile", "accepted", "candidates"), [("cluster", 76_000, 100_000), ("tiny", 0, 36)]
)
def test_profiles_ask_for_what_they_say(
    profile: str, accepted: int, candidates: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in SOURCES:  # an endpoint at an address is asked about files of one's own
        monkeypatch.setenv(f"PIXELIS_SOURCES__{source.upper()}__PATH", "/data")
    asked = load(tmp_path, profile)
    assert sum(sum(goals(asked, source).values()) for source in SOURCES) == accepted
    assert sum(sum(room(asked, source).values()) for source in SOURCES) == candidates
