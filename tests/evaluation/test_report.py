"""The page: what it shows, what it escapes, that it fetches nothing, and that its filter works."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.comparisons import compare
from evaluation.funnel import ALL, Example, Row
from evaluation.report import Context, Curve, report, summary, trajectories
from evaluation.report.page import MOST_QUESTIONS
from evaluation.report.pictures import budget, thumbnail
from evaluation.report.plots import accuracy_plot, curve_plot, funnel_plot, reinforcement_plot
from evaluation.report.template import HERE
from evaluation.report.wording import p_value, shows, verdict
from evaluation.scores import Cell, PredictionSet, score
from pixelis_pipeline.settings import EvaluationSettings
from pixelis_pipeline.verify.draw import COLOURS, draw_steps
from tests.evaluation import conftest as planted

Plant = Callable[..., list[PredictionSet]]
CONTEXT = Context(
    profile="embedded",
    seeds={"sources": 7, "evaluation": 1_000_003},
    commit="0123abcd",
    environment="sha256:feed",
    versions={"sft_policy": "aaaa.dir", "predictions": "bbbb.dir"},
    bit_stable=("everything up to the training splits",),
    not_bit_stable=("the policy's weights",),
)
CURVES = (Curve("train", tuple(range(0, 300, 10)), tuple(float(3 * 0.97**k + 0.2) for k in range(30))),)


def row(stage: str, unit: str, read: int, accepted: int, rules: dict[str, int], **more: Any) -> Row:
    source = more.pop("source", ALL)
    emitted = more.pop("emitted", accepted)
    return Row(
        f"funnel/{stage}/{source}", (), stage, source, unit, read, accepted, emitted, rules=rules, **more
    )


FUNNEL = (
    row("raw", "samples", 160, 152, {"media: truncated": 5, "rle: wrong size": 3}, seconds=76.0),
    row("raw", "samples", 160, 152, {"media: truncated": 5, "rle: wrong size": 3}, source="sa1b"),
    row("synthesis_plan", "questions", 152, 152, {}, emitted=600),
    row("teacher_responses", "requests", 600, 597, {}, failed=3, tokens=1_000_000, dollars=6.0),
    row("replayed_trajectories", "traces", 597, 540, {"seg_iou": 41, "answer": 16}, tokens=1_000_000),
    row("deduplicated_trajectories", "traces", 540, 512, {"phash": 28}, tokens=1_000_000, unmetered=2),
)
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
EXAMPLES = (
    Example("raw", "sa1b", "abc", "", "How many? → 3", PIXEL),
    Example("deduplicated_trajectories", "sa1b", "def", "phash", "2 against 8", PIXEL, PIXEL),
)


class Page(HTMLParser):
    """What a test asks of a page: its `data` elements, its tags' attributes and its visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.values: list[tuple[str, float]] = []
        self.bounds: list[tuple[str, float, float]] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag == "data":
            self.values.append((found["data-cell"], float(found["value"])))
        if "data-low" in found:
            self.bounds.append((found["data-cell"], float(found["data-low"]), float(found["data-high"])))

    def handle_data(self, data: str) -> None:
        self.text += data


def _make(sets: list[PredictionSet], settings: EvaluationSettings, pixels: Any, **changes: Any) -> str:
    arguments = {
        "cells": score(sets, settings),
        "comparisons": compare(sets, settings),
        "predictions": [p for held in sets for p in held.predictions],
        "curves": CURVES,
        "funnel": FUNNEL,
        "examples": EXAMPLES,
        "context": CONTEXT,
        "pixels": pixels,
        "draw": draw_steps,
    }
    return report(**{**arguments, **changes})


@pytest.fixture(scope="module")
def page(request: pytest.FixtureRequest, settings: EvaluationSettings) -> str:
    conftest = request.config.pluginmanager.get_plugin(str(Path(__file__).parent / "conftest.py"))
    assert conftest is not None
    return _make(conftest.plant(24), settings, conftest.pixels)


def test_every_number_on_the_page_equals_its_cell(
    page: str, plant: Plant, settings: EvaluationSettings
) -> None:
    sets = plant(24)
    cells = {c.id: c for c in score(sets, settings)}
    cells |= {c.cell.id: c.cell for c in compare(sets, settings)}
    read = Page(page)
    assert {cell for cell, _ in read.values} == set(cells), "every cell stands on the page"
    assert all(cells[cell].value == value for cell, value in read.values)
    assert all((cells[cell].low, cells[cell].high) == (low, high) for cell, low, high in read.bounds)
    shown = shown_of(page)
    assert shown["accuracy/sft/capabilities/all"] == "75.0\u202f%"
    assert shown["difference/sft/base/capabilities/all"] == "+50.0"
    assert shown["difference/sft/majority-task/capabilities/all"] == "0.0"
    assert shown["chain_length/sft/capabilities/all"] == "2.00"


def test_the_headline_says_what_is_not_shown(page: str) -> None:
    text = Page(page).text
    assert "SFT answers 75.0\u202f% of 24 held-out questions correctly" in text
    assert "SFT is better than its base: the 95\u202f% interval of the difference lies above 0." in text
    assert "SFT is not shown to differ from the majority answer of each task" in text


def reinforced(right: Callable[[int], bool], n: int) -> list[PredictionSet]:
    """The planted phases, and one after them that is right where `right` says; sft misses each fourth."""
    made = tuple(planted.prediction("rft", i, right(i), tools=True, calls=1) for i in range(n))
    return [*planted.plant(n), PredictionSet(planted.BENCHMARK, "version-rft", made)]


def shown_of(page: str) -> dict[str, str]:
    """What stands on the page of each cell, by its id."""
    return dict(re.findall(r'<data [^>]*data-cell="([^"]+)"[^>]*>([^<]+)</data>', page))


def test_the_newest_phase_leads_beside_those_before_it_and_the_controls(
    settings: EvaluationSettings, pixels: Any
) -> None:
    sets = reinforced(lambda i: i != 3, 24)
    page = _make(sets, settings, pixels, context=replace(CONTEXT, steps={"rft": 20}))
    result = page[page.index('<section id="result">') : page.index('<section id="tasks">')]
    text = " ".join(Page(result).text.split(" "))
    assert "RFT answers 95.8\u202f% of 24 held-out questions correctly, SFT before it 75.0\u202f%" in text
    cards = re.findall(r"<h2>([^<]+)</h2>", result)
    assert cards == ["RFT, after 20 optimiser steps", "SFT", "Base", "From SFT to RFT"]
    shown = shown_of(result)
    assert {cell: value for cell, value in shown.items() if "/rft/" in cell} == {
        "accuracy/rft/capabilities/all": "95.8\u202f%",
        "difference/rft/sft/capabilities/all": "+20.8",
        "difference/rft/base/capabilities/all": "+70.8",
        "difference/rft/majority-task/capabilities/all": "+20.8",
        "difference/rft/sft-tools-off/capabilities/all": "+54.2",
    }
    assert shown["difference/sft/base/capabilities/all"] == "+50.0", "what was shown of SFT still is"
    assert "SFT with the tools off" in text and "Majority answer per task" in text
    assert "pixelis trace accuracy/rft/capabilities/all" in text
    assert "pixelis trace difference/rft/sft/capabilities/all" in text
    tasks = page[page.index('<section id="tasks">') : page.index('<section id="behaviour">')]
    assert re.findall(r"<th[^>]*>([^<]+)</th>", tasks)[2:8] == [
        *("RFT", "SFT", "Base", "Majority answer per task", "SFT, tools off"),
        "RFT against SFT (points)",
    ]
    assert shown_of(tasks)["difference/rft/sft/capabilities/task=read"] == "+83.3"
    assert page.count("right where SFT is wrong") == 1 and page.count('data-outcome="right over:sft ') == 5


@pytest.mark.parametrize(
    ("right", "said", "side", "colour"),
    [
        (lambda i: True, "RFT is better than SFT", "lies above 0.", "good"),
        (lambda i: i % 2 == 0, "RFT is worse than SFT", "lies below 0.", "bad"),
        (lambda i: i % 4 != 3 and i != 4, "RFT is not shown to differ from SFT", "includes 0.", "open"),
    ],
)
def test_what_a_phase_changed_is_said_as_it_is(
    right: Callable[[int], bool],
    said: str,
    side: str,
    colour: str,
    settings: EvaluationSettings,
    pixels: Any,
) -> None:
    sets = reinforced(right, 40)
    change = next(c for c in compare(sets, settings) if c.cell.id == "difference/rft/sft/capabilities/all")
    page = _make(sets, settings, pixels)
    (card,) = re.findall(r"<h2>From SFT to RFT</h2>.*?</div>", page, re.DOTALL)
    assert f"{said}: the 95\u202f% interval of the difference {side}" in Page(page).text
    assert f'class="big {colour}"' in card and f"{p_value(change.p)}, adjusted {p_value(change.q)}" in card


def test_an_interval_without_0_shows_nothing_where_the_adjusted_p_does_not(
    plant: Plant, settings: EvaluationSettings
) -> None:
    one = next(c for c in compare(plant(24), settings) if c.cell.slice == "all" and c.control == "base")
    assert (one.cell.low > 0, shows(one), shows(replace(one, q=0.06))) == (True, "better", "nothing")
    assert verdict(replace(one, q=0.06)) == (
        "SFT is not shown to differ from its base: the 95\u202f% interval of the difference lies above 0, "
        "but adjusted for all comparisons of this report p\u00a0=\u00a00.060."
    )


def test_a_worse_policy_is_called_worse(plant: Plant, settings: EvaluationSettings, pixels: Any) -> None:
    sft, base, majority = plant(24)
    swapped = [
        replace(s, predictions=tuple(replace(p, correct=not p.correct) for p in s.predictions if p.tools))
        for s in (sft, base)
    ]
    text = Page(_make([*swapped, majority], settings, pixels)).text
    assert "SFT is worse than its base: the 95\u202f% interval of the difference lies below 0." in text
    assert "\u221250.0" in text


def test_the_page_is_self_contained_and_locked_down(page: str) -> None:
    assert not re.search(r"(https?:)?//[a-z0-9]", re.sub(r'src="data:[^"]*"', "", page), re.IGNORECASE)
    read = Page(page)
    fetched = [a[k] for _, a in read.tags for k in ("src", "href", "srcset", "action", "data") if k in a]
    assert fetched and all(address.startswith(("data:", "#")) for address in fetched)
    (policy,) = [a["content"] for t, a in read.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert not [t for t, a in read.tags if "style" in a or any(name.startswith("on") for name in a)]
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids)), "ids are unique"
    assert len(page.encode()) < 12_000_000


def test_planted_markup_is_text(plant: Plant, settings: EvaluationSettings, pixels: Any) -> None:
    evil = "<script>alert('x')</script><img src=x onerror=alert(1)>"
    sets = plant(4)

    def poison(p: Any) -> Any:
        asked = replace(p.question, text=evil, answer=evil, choices=(evil,), origin=p.question.origin)
        steps = tuple(replace(s, thought=evil, output={"error": evil}, verdict=evil) for s in p.steps)
        return replace(p, question=asked, answer=evil, steps=steps)

    sets = [replace(s, predictions=tuple(poison(p) for p in s.predictions)) for s in sets]
    context = replace(CONTEXT, profile=evil, commit=evil, versions={evil: evil})
    funnel = (row(evil, "samples", 2, 1, {evil: 1}), row(evil, "samples", 2, 1, {evil: 1}, source=evil))
    examples = (Example(evil, evil, evil, evil, evil, ""),)
    curves = (Curve(f"${evil}", (0, 1), (1.0, 0.5)),)
    page = _make(sets, settings, pixels, context=context, funnel=funnel, examples=examples, curves=curves)
    tags = [tag for tag, _ in Page(page).tags]
    assert tags.count("script") == 1, "only the page's own"
    assert "<img src=x" not in page
    assert Page(page).text.count(evil) >= 20


def test_ids_to_trace_stand_beside_each_question(page: str, plant: Plant) -> None:
    text = Page(page).text
    for held in plant(24)[:2]:
        for p in held.predictions:
            assert f"pixelis trace {p.id}" in text
            assert f"pixelis trace {p.question.id}" in text
            assert f"pixelis trace --forward {p.question.media[0].sha256}" in text
    assert text.count("CC0-1.0") == 24
    assert "pixelis trace accuracy/sft/capabilities/all" in text


def test_context_and_funnel_are_printed(page: str) -> None:
    text = " ".join(Page(page).text.split())
    for word in ("embedded", "0123abcd", "sha256:feed", "aaaa.dir", "the policy's weights"):
        assert word in text
    assert "media: truncated 5, rle: wrong size 3" in text
    cells = " ".join(re.findall(r"<td[^>]*>([^<]*)</td>", page))
    assert "160 152 8 0 152 0.50" in cells, "in, accepted, rejected, failed, out, s"
    assert "600 597 0 3 597  1,675 0.01005" in cells, "a million tokens and 6 $ over 597 answers"
    assert "2 answers came without a token count" in text and "Dollars are unknown" in text
    assert "pixelis trace def" in text and "2 against 8" in text and page.count(PIXEL) == 3
    assert "the 24 questions stand on 8 different pictures" in text


def test_phases_stand_side_by_side_gained_lost_kept_and_never_right(page: str) -> None:
    section = page[page.index('<section id="phases">') : page.index('<section id="questions">')]
    assert re.findall(r'class="lane" data-outcome="(\w+)"', section) == [
        *("gained", "kept", "never", "gained", "kept", "never")
    ], "in turn; sft is right wherever base is, so nothing is lost"
    assert re.findall(r"<h4>(\w+)</h4>", section) == ["Base", "SFT"] * 6, "no control is a phase"
    tasks = re.findall(r'<p class="tags"><span class="tag">(\w+)</span>', section)
    assert len(set(tasks)) >= 3, "tasks are spread"
    pictures = re.findall(r'src="data:image/webp;base64,([^"]+)"', section)
    assert len(pictures) == 12
    calls = [column.count("data-step") for column in section.split('class="lane-column"')[1:]]
    for base, sft, before, after in zip(pictures[::2], pictures[1::2], calls[::2], calls[1::2], strict=True):
        assert after == 2 and (base == sft) == (before == after), "each has its own steps drawn on it"


def test_one_phase_has_none_to_stand_beside(plant: Plant, settings: EvaluationSettings, pixels: Any) -> None:
    sets = [held for held in plant(8) if held.version != "version-base"]
    assert "from the predictions of one phase only" in _make(sets, settings, pixels)


def test_a_lost_question_is_found_and_choices_are_spread() -> None:
    def run(policy: str, index: int, right: bool) -> Any:
        return planted.prediction(policy, index, right, tools=True, calls=1)

    made = [run("base", i, i in (2, 5, 6)) for i in range(12)] + [
        run("rft", i, i not in (2, 6, 9)) for i in range(12)
    ]
    between = [run("base", 9, False), run("sft", 9, True), run("rft", 9, False)]
    assert trajectories.outcome(between) == "lost", "what one phase gave the next one took"
    assert trajectories.outcome([between[0], between[2]]) == "never"
    runs = trajectories.by_question(made, ["base", "rft"])
    assert len(runs) == 12
    picked = trajectories.chosen(runs, 12, ("lost",))
    assert sorted(picked) == sorted(planted.question(i).id for i in (2, 6))
    gained = trajectories.chosen(runs, 4, ("gained",))
    assert {runs[key][0].question.task for key in gained} == {"compare", "count", "attribute", "read"}
    shuffled = trajectories.by_question(reversed(made), ["base", "rft"])
    assert trajectories.chosen(shuffled, 4, ("gained",)) == gained


def test_a_step_in_words_has_the_colour_of_its_box() -> None:
    css = (HERE / "trajectories.css").read_text()
    told = re.findall(r"nth-child\(6n(?:\+(\d))?\) \{ border-color: #(\w+);", css)
    assert {int(k or 6) - 1: tuple(bytes.fromhex(colour)) for k, colour in told} == dict(enumerate(COLOURS))


def test_the_same_input_gives_the_same_bytes(
    page: str, plant: Plant, settings: EvaluationSettings, pixels: Any
) -> None:
    assert _make(list(reversed(plant(24))), settings, pixels) == page


def test_a_number_without_its_predictions_is_refused(
    plant: Plant, settings: EvaluationSettings, pixels: Any
) -> None:
    sets = plant(8)
    few = [p for held in sets for p in held.predictions][1:]
    with pytest.raises(LookupError, match="is not among those given"):
        _make(sets, settings, pixels, predictions=few)
    with pytest.raises(LookupError, match="no accuracy of any phase on mmmu"):
        _make(sets, settings, pixels, benchmark="mmmu")


def test_a_report_without_controls_curves_or_funnel(
    plant: Plant, settings: EvaluationSettings, pixels: Any
) -> None:
    alone = replace(plant(8)[0], predictions=tuple(p for p in plant(8)[0].predictions if p.tools))
    page = _make([alone], settings, pixels, curves=(), funnel=(), examples=())
    assert "without a training curve" in page and "without the counts" in page
    assert "Reinforcement: each step" not in page


def test_many_questions_are_thinned_evenly(
    plant: Plant, settings: EvaluationSettings, pixels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.report.page.MOST_QUESTIONS", 12)
    page = _make(plant(40), settings, pixels)
    assert [page.count(f'data-task="{task}"') for task in ("compare", "count", "attribute", "read")] == [
        3
    ] * 4
    assert "12 of the 40 questions are shown" in page


def test_pictures_keep_their_budget() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 700, 3), dtype=np.uint8)
    address = thumbnail(draw_steps(noise, ()), 20_000)
    assert address.startswith("data:image/webp;base64,") and len(address) < 20_000 * 4 / 3 + 64
    assert budget(MOST_QUESTIONS) * MOST_QUESTIONS * 4 / 3 < 11_000_000, "leaves the words a megabyte"


def test_reinforcement_is_drawn_where_there_was_some(
    plant: Plant, settings: EvaluationSettings, pixels: Any
) -> None:
    curves = [Curve(f"Calls {k}", tuple(range(30)), (2.0,) * 30) for k in range(3)]
    page = _make(plant(8), settings, pixels, reinforced=curves)
    assert "Reinforcement: each step" in page and all(curve.name in page for curve in curves)


def test_a_stage_that_loses_records_is_refused() -> None:
    with pytest.raises(ValueError, match="10 samples went in and 9 came out"):
        row("raw", "samples", 10, 8, {"empty": 1})
    with pytest.raises(ValueError, match="2 steps and 1 values"):
        Curve("train", (1, 2), (0.5,))


def test_plots_have_no_style_of_their_own_and_titled_axes(plant: Plant, settings: EvaluationSettings) -> None:
    cells = score(plant(8), settings)[:2]
    accuracy, loss, funnel, rollouts = (
        accuracy_plot(cells, ["a & b", "$x"], 1),
        curve_plot(CURVES),
        funnel_plot(FUNNEL),
        reinforcement_plot([Curve("Calls & <more>", (0, 1), (2.0, 1.5)), Curve("Right", (0, 1), (0.5, 0.6))]),
    )
    assert "a &amp; b" in accuracy and "$x" in accuracy
    assert "Questions answered correctly (%)" in accuracy
    assert "Loss (nats per weighted token)" in loss and "Optimiser step" in loss
    assert "540 of 597" in funnel
    assert "Calls &amp; &lt;more&gt;" in rollouts and "Right" in rollouts
    assert all("style" not in svg and "xmlns" not in svg for svg in (accuracy, loss, funnel, rollouts))


def test_the_summary_is_json_with_every_cell(plant: Plant, settings: EvaluationSettings) -> None:
    sets = plant(8)
    cells, comparisons = score(sets, settings), compare(sets, settings)
    made = json.loads(json.dumps(summary(cells, comparisons), allow_nan=False))
    assert set(made["cells"]) == {c.id for c in cells}
    first: Cell = cells[0]
    assert made["cells"][first.id]["value"] == first.value
    assert made["cells"][first.id]["predictions"] == len(first.predictions)
    assert made["comparisons"]["difference/sft/base/capabilities/all"]["control"] == "base"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    chromium, driver = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
    if not (chromium.exists() and driver.exists()):
        pytest.skip("no chromium with chromedriver in /usr/bin: the filter was not tried in a browser")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(chromium)
    flags = "--headless=new --no-sandbox --disable-gpu --disable-background-networking --no-first-run"
    for flag in (*flags.split(), "--disable-component-update", "--disable-sync"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(driver)))
    yield found
    found.quit()


@pytest.mark.slow
def test_the_filter_works_in_a_browser(browser: Any, page: str, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.select import Select

    (tmp_path / "report.html").write_text(page)
    browser.get((tmp_path / "report.html").as_uri())
    assert browser.get_log("browser") == [], "nothing is refused by the page's own security policy"

    def visible() -> list[Any]:
        return [a for a in browser.find_elements(By.TAG_NAME, "article") if a.is_displayed()]

    assert len(visible()) == 24
    Select(browser.find_element(By.ID, "task")).select_by_visible_text("count")
    assert {a.get_attribute("data-task") for a in visible()} == {"count"} and len(visible()) == 6
    Select(browser.find_element(By.ID, "task")).select_by_visible_text("read")
    Select(browser.find_element(By.ID, "outcome")).select_by_value("wrong")
    assert len(visible()) == 6 and browser.find_element(By.ID, "shown").text == "6 of 24"
    Select(browser.find_element(By.ID, "outcome")).select_by_value("right")
    assert not visible() and browser.find_element(By.ID, "nothing").is_displayed()
    Select(browser.find_element(By.ID, "task")).select_by_index(0)
    Select(browser.find_element(By.ID, "outcome")).select_by_value("over:base")
    assert len(visible()) == 12
    lane = browser.find_element(By.CLASS_NAME, "lane")
    base, sft = (each.rect for each in lane.find_elements(By.CLASS_NAME, "lane-column"))
    assert base["y"] == sft["y"] and base["x"] + base["width"] <= sft["x"], "side by side"
    picture = lane.find_element(By.TAG_NAME, "img")
    browser.execute_script("arguments[0].scrollIntoView()", picture)
    assert picture.get_property("naturalWidth") > 0 and picture.is_displayed()
    widths = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1], "the page does not scroll sideways"
