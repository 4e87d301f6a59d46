"""What may be asked at all, and that what is asked depends on nothing but the partition and settings."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from pixelis_pipeline.media import MediaError
from pixelis_pipeline.records import (
    Accepted,
    Assignment,
    Failed,
    Json,
    Media,
    Origin,
    Outcome,
    Question,
    Rejected,
    Sample,
)
from pixelis_pipeline.settings import Settings, SourceSettings
from pixelis_pipeline.synthesis.plan import asking_order, plan
from pixelis_pipeline.synthesis.strata import KINDS, room
from tests.synthesis.planted import Planted

FILM = Media("ab" * 32, "video", "/a.mp4", 320, 240, 24, 2.0)


def no_pixels(media: Media) -> np.ndarray[Any, Any]:
    raise AssertionError("these questions need no pixels")


def film(name: str, count: int = 6) -> Sample:
    """A film with windows of every length, none told as a question: when, and which of two is first."""
    windows: list[Json] = [
        {"query": f"thing {name} {n} appears", "start": 0.5 * n, "end": 0.5 * n + 1.5 * (1 + n % 6)}
        for n in range(count)
    ]
    origin = Origin("ego4d", name, "CC0-1.0", "training")
    return Sample(name, origin, (replace(FILM, sha256=name.ljust(64, "0")),), {"windows": windows})


def asked(outcomes: Iterable[Outcome[Assignment]]) -> list[Assignment]:
    return [each for outcome in outcomes for each in getattr(outcome, "records", ())]


def bounded(candidates: int, **synthesis: Any) -> Settings:
    base = Settings()
    drawn = base.synthesis.model_copy(update={"candidates": candidates, **synthesis})
    left = {name: SourceSettings(teacher="none") for name in base.sources if name != "ego4d"}
    return base.model_copy(update={"synthesis": drawn, "sources": base.sources | left})


def test_every_sample_has_one_outcome_in_order(planted: Planted) -> None:
    first, *rest = planted.samples
    empty = replace(first, id="empty", annotations={})
    held_out = replace(first, id="held out", origin=replace(first.origin, role="evaluation"))
    theirs = replace(
        first,
        id="theirs",
        origin=replace(first.origin, source="mathvista", licence="CC-BY-SA-4.0", role="training"),
    )
    outcomes = list(plan([empty, held_out, theirs, *rest], planted.pixels, Settings()))
    assert [outcome.of for outcome in outcomes] == ["empty", "held out", "theirs", *(s.id for s in rest)]
    rules = [outcome.rule for outcome in outcomes if isinstance(outcome, Rejected)]
    assert rules == ["no question", "evaluation record", "licence forbids training"]
    assert all(isinstance(outcome, Accepted) for outcome in outcomes[3:])


def test_the_seed_of_a_source_moves_its_own_questions_alone(planted: Planted) -> None:
    def texts(settings: Settings) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for each in asked(plan(planted.samples, planted.pixels, settings)):
            found.setdefault(each.question.origin.source, []).append(each.question.text)
        return found

    settings = Settings()
    moved = settings.sources | {"sa1b": settings.sources["sa1b"].model_copy(update={"seed": 8})}
    before, after = texts(settings), texts(settings.model_copy(update={"sources": moved}))
    assert before["sa1b"] != after["sa1b"]
    assert before["fineweb"] == after["fineweb"] and before["partimagenet"] == after["partimagenet"]


def test_media_that_are_gone_are_tried_again_by_the_next_run(planted: Planted) -> None:
    for sample in planted.samples:
        Path(sample.media[0].path).unlink()
    outcomes = list(plan(planted.samples, planted.pixels, Settings()))
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    assert failed and all(outcome.error.startswith("missing media") for outcome in failed)
    assert not any(isinstance(outcome, Rejected) for outcome in outcomes)


def test_media_that_cannot_be_decoded_are_rejected_by_their_rule(planted: Planted) -> None:
    def damaged(media: Media) -> np.ndarray[Any, Any]:
        raise MediaError("truncated", media.path)

    outcomes = list(plan(planted.samples, damaged, Settings()))
    assert {outcome.rule for outcome in outcomes if isinstance(outcome, Rejected)} == {"truncated"}


def test_a_source_without_a_teacher_is_left_out() -> None:
    settings = bounded(0)
    sample = replace(film("f"), origin=Origin("sa1b", "f", "CC0-1.0", "training"))
    (outcome,) = plan([sample], no_pixels, settings)
    assert isinstance(outcome, Rejected) and outcome.rule == "left out" and "sa1b" in outcome.detail


def test_without_a_bound_every_question_is_asked_once_in_the_shares_of_the_recipes() -> None:
    found = asked(plan([film(f"f{n}") for n in range(40)], no_pixels, Settings()))
    assert len({each.question.id for each in found}) == len(found) == 480
    kinds = Counter(each.kind for each in found)
    assert all(abs(kinds[kind] / len(found) - 0.1) < 0.01 for kind in KINDS[1:])
    assert {each.style for each in found} == set(Settings().synthesis.styles)


def test_a_bound_is_kept_and_every_stratum_gets_its_room() -> None:
    settings, told = bounded(120), dict[str, int]()
    found = asked(plan([film(f"f{n}") for n in range(60)], no_pixels, settings, told=told))
    have = Counter(each.stratum for each in found)
    wanted = room(settings, "ego4d")
    assert len(found) == sum(wanted.values()) == 120
    of_when = [name for name in wanted if name.startswith("when/")]
    assert of_when and all(have[name] == wanted[name] and name not in told for name in of_when)
    assert all(each.stratum.endswith(f"/{each.kind}") for each in found)


def test_what_a_span_lacks_others_of_its_task_give_and_it_is_told() -> None:
    films = [film(f"f{n}", count=2) for n in range(60)]  # 1.5 and 3 of 12 s: short, all of them
    settings, told = bounded(60), dict[str, int]()
    found = asked(plan(films, no_pixels, settings, told=told))
    wanted = Counter[str]()
    for name, number in room(settings, "ego4d").items():
        wanted[name.split("/")[0]] += number
    have = Counter(each.question.task for each in found)
    assert have["when"] == wanted["when"], "the task keeps its part"
    assert told["when/long/positive"] == room(settings, "ego4d")["when/long/positive"]
    assert (
        have["order"] == 0
        and sum(n for name, n in told.items() if name.startswith("order/")) == wanted["order"]
    )


def test_a_question_is_drawn_again_only_when_all_were_and_never_for_the_same_kind() -> None:
    settings = bounded(200)
    found = asked(plan([film("f"), film("g")], no_pixels, settings))
    pairs = Counter((each.question.id, each.kind) for each in found)
    assert max(pairs.values()) == 1
    times = Counter(each.question.id for each in found)
    assert max(times.values()) > 1
    for question in times:
        mine = [each for each in found if each.question.id == question]
        assert sorted(each.sample for each in mine) == list(range(len(mine)))
    assert len({each.id for each in found}) == len(found)


@trying(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([0, 17, 90, 400]))
def test_the_order_of_the_samples_shows_nowhere(shuffle: int, candidates: int) -> None:
    films = [film(f"f{n}") for n in range(12)]
    settings = bounded(candidates)
    forward = {o.of: o for o in plan(films, no_pixels, settings)}
    shuffled = Random(shuffle).sample(films, len(films))
    backward = list(plan(shuffled, no_pixels, settings))
    assert [o.of for o in backward] == [s.id for s in shuffled]
    assert {each.id for each in asked(backward)} == {each.id for each in asked(forward.values())}
    assert asking_order(asked(backward), settings.synthesis) == asking_order(
        asked(forward.values()), settings.synthesis
    )


def test_memory_is_bounded_by_the_room_and_the_choice_is_the_same() -> None:
    """Far more candidates than are held at a time give what drawing from all of them would give."""
    films = [film(f"f{n}") for n in range(300)]
    settings = bounded(12)
    few = asked(plan(films, no_pixels, settings))
    keys = {each.question.id for each in few if each.question.task == "when"}
    everything = asking_order(asked(plan(films, no_pixels, bounded(0))), settings.synthesis)
    by_span: dict[str, list[str]] = {}
    for each in everything:
        if each.question.task == "when":
            by_span.setdefault(each.stratum.split("/")[1], []).append(each.question.id)
    wanted = Counter[str]()
    for name, number in room(settings, "ego4d").items():
        task, span, _ = name.split("/")
        wanted[span] += number if task == "when" else 0
    assert keys == {one for span, ids in by_span.items() for one in ids[: wanted[span]]}


def test_a_batch_that_is_added_changes_nothing_that_stands() -> None:
    films = [film(f"f{n}") for n in range(12)]
    alone, with_more = bounded(40), bounded(40).model_copy(update={"batches": ("000", "001")})
    assert list(plan(films, no_pixels, alone)) == list(plan(films, no_pixels, with_more))


def _by_id(question: Question) -> float:
    return int(question.id[:2], 16) / 256


def test_a_pinned_predictor_draws_the_hardest_first() -> None:
    films = [film(f"f{n}") for n in range(40)]
    settings = bounded(20)
    found = asked(plan(films, no_pixels, settings, hardness=_by_id))
    mine = [_by_id(each.question) for each in found if each.stratum.startswith("when/short/")]
    every = [each.question for each in asked(plan(films, no_pixels, Settings()))]
    short = sorted(
        (_by_id(q) for q in every if q.task == "when" and q.span[1] - q.span[0] <= 3), reverse=True
    )
    assert sorted(mine, reverse=True) == short[: len(mine)] and len(mine) > 2
    ordered = asking_order(found, settings.synthesis, _by_id)
    rates = [_by_id(each.question) for each in ordered if not each.sample]
    assert rates == sorted(rates, reverse=True)


def test_nothing_drawn_is_said_so() -> None:
    outcomes = list(plan([film(f"f{n}") for n in range(30)], no_pixels, bounded(6)))
    rules = {o.rule for o in outcomes if isinstance(o, Rejected)}
    assert rules == {"not drawn"} and sum(len(getattr(o, "records", ())) for o in outcomes) == 6
