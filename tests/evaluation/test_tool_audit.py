"""The audit counts what fails: planted tools of known quality, and a page that says what was measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation import tool_audit
from evaluation.statistics import clopper_pearson
from evaluation.tool_audit import CASES, page
from evaluation.tools.case import JITTER, Case, jittered
from evaluation.tools.trials import Audited, Trial, trial
from pixelis_pipeline.records import Action
from pixelis_pipeline.tools.contract import Observation, ToolError, Workspace
from pixelis_pipeline.tools.registry import Registry


class Oracle:
    """Answers a case by its truth, altered."""

    version = "oracle/1"

    def __init__(self, answer: Callable[[], Observation]) -> None:
        self.answer = answer

    def __call__(self, workspace: Workspace, arguments: Any) -> Observation:
        return self.answer()


def judged(case: Case, answer: Callable[[], Observation]) -> Trial:
    """The case's last call alone, answered by `answer`."""
    alone = Case(case.tool, case.calls[-1:], case.truth, case.kind, case.workspace)
    if case.tool == "OCR":  # its picture is one that ZOOM would have made
        alone = Case("OCR", (Action("OCR", {}),), case.truth, case.kind, case.workspace)
    if "step" in case.calls[-1].arguments:
        alone = Case("PROP", (Action("PROP", {"box": [0, 0, 9, 9]}),), case.truth, case.kind, case.workspace)
    return trial(Registry({case.tool: Oracle(answer)}), alone)


def true_answer(case: Case) -> Observation:
    if case.tool == "SEG":
        return Observation({}, "", mask=case.truth["mask"])
    return Observation(dict(case.truth), "")


@pytest.mark.parametrize("tool", CASES)
def test_the_truth_itself_never_fails(tool: str) -> None:
    for case in CASES[tool](11, 4):
        found = judged(case, lambda case=case: true_answer(case))  # type: ignore[misc]
        assert found.right and found.score == 1.0 and found.missed == ()


@pytest.mark.parametrize("tool", CASES)
def test_no_answer_and_a_broken_backend_fail(tool: str) -> None:
    (case, *_) = CASES[tool](11, 3)

    def nothing() -> Observation:
        raise ToolError("nothing there")

    def broken() -> Observation:
        raise IndexError("out of range")

    assert judged(case, nothing).missed == ("no answer: nothing there",)
    assert not judged(case, nothing).right and judged(case, nothing).score == 0
    assert judged(case, broken).missed == (f"broke: {tool}: IndexError: out of range",)


def test_answers_beyond_the_tolerance_fail_and_those_within_do_not() -> None:
    seg = next(CASES["SEG"](11, 1))
    half = seg.truth["mask"].copy()
    half[:, : np.flatnonzero(half.any(0)).mean().astype(int)] = False
    assert not judged(
        seg, lambda: Observation({}, "", mask=half & (np.arange(len(half)) % 2 > 0)[:, None])
    ).right
    assert judged(seg, lambda: Observation({}, "", mask=np.roll(seg.truth["mask"], 2, 1))).right

    temp = next(CASES["TEMP"](11, 1))
    start, end = temp.truth["start"], temp.truth["end"]
    assert judged(temp, lambda: Observation({"start": start + 1, "end": end + 1}, "")).right
    late = judged(temp, lambda: Observation({"start": end, "end": end + 2}, ""))
    assert late.missed == ("tIoU below 0.5",) and late.score == 0

    trk = next(CASES["TRK"](11, 3))
    lost = [trk.truth["boxes"][0], *[None] * (len(trk.truth["boxes"]) - 1)]
    assert not judged(trk, lambda: Observation({"boxes": lost}, "")).right


def test_prop_is_told_what_it_missed() -> None:
    case = next(CASES["PROP"](11, 1))
    said = dict(case.truth) | {
        "colour": "grey",
        "orientation": case.truth["orientation"] + 8,
        "area": case.truth["area"] * 1.2 + 2,
    }
    # 8 degrees are within the tolerance of 9, and a period more is the same direction
    assert judged(case, lambda: Observation(said, "")).missed == ("colour", "area")
    turned = dict(case.truth) | {"orientation": case.truth["orientation"] - case.truth["period"]}
    assert judged(case, lambda: Observation(turned, "")).right


def test_cases_are_drawn_from_their_seed_and_index_alone() -> None:
    for tool in ("SEG", "PROP", "OCR", "ZOOM", "TEMP"):
        one, more = next(CASES[tool](5, 1)), next(CASES[tool](5, 3))
        assert one.calls == more.calls != next(CASES[tool](6, 1)).calls
        assert np.array_equal(one.workspace().images[0], more.workspace().images[0])


def test_boxes_are_moved_by_no_more_than_is_stated() -> None:
    rng = np.random.default_rng(1)
    moved = np.array([jittered(rng, (100, 200, 300, 250)) for _ in range(200)])
    off = np.abs(moved - (100, 200, 300, 250)) / (200, 50, 200, 50)
    assert 0.9 * JITTER < off.max() <= JITTER


def planted(failed: int, of: int) -> list[Trial]:
    small = [Trial("SEG", {"size": "small"}, 0.25, False, ("IoU below 0.5",))] * failed
    return [*small, *[Trial("SEG", {"size": "large"}, 1.0, True)] * (of - failed)]


def test_a_rate_has_its_exact_interval() -> None:
    audited = Audited("SEG", "seg/9", planted(3, 40))
    assert (audited.failures, audited.rate) == (3, clopper_pearson(3, 40))
    assert audited.mean == pytest.approx((3 * 0.25 + 37) / 40)


def test_the_page_says_what_was_measured_and_how() -> None:
    written = page([Audited("SEG", "seg/9 planted", planted(3, 40))], seed=77, count=40)
    assert "python -m evaluation.tool_audit --seed 77 --count 40 --out docs/TOOLS.md" in written
    assert "not comparable" in written and "`seg/9 planted`" in written
    low, high = (100 * bound for bound in (clopper_pearson(3, 40).low, clopper_pearson(3, 40).high))
    row = next(line for line in written.splitlines() if line.startswith("| SEG |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["SEG", "40", "3", "7.5 %", f"{low:.1f} % to {high:.1f} %", "11.4 %", "mean IoU 0.944"]
    assert "IoU below 0.5 (3)" in written
    assert "| size | small | 3 | 3 | 100.0 % | 0.250 |" in written
    assert "| size | large | 37 | 0 | 0.0 % | 1.000 |" in written


def test_every_table_of_the_page_is_rectangular() -> None:
    lines = page([Audited("PROP", "", planted(0, 2))], 1, 2).splitlines()
    tables = "\n".join(line if line.startswith("|") else "" for line in lines).split("\n\n")
    for table in filter(str.strip, tables):
        rows = table.strip().splitlines()
        assert len({row.count("|") for row in rows}) == 1 and set(rows[1]) <= set("|- ")


def test_the_command_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "TOOLS.md"
    monkeypatch.setattr(tool_audit, "CASES", {"ZOOM": CASES["ZOOM"]})
    monkeypatch.setattr("sys.argv", ["x", "--seed", "3", "--count", "2", "--out", str(out)])
    tool_audit.main()
    assert "| ZOOM | 2 | 0 | 0.0 % |" in out.read_text() and "--seed 3 --count 2" in out.read_text()


def test_what_the_repository_holds_was_written_by_this_generator() -> None:
    """Not its numbers: its headings, tables and command are those the generator gives."""
    held = (Path(__file__).parents[2] / "docs/TOOLS.md").read_text()
    made = page([Audited(tool, "v", [Trial(tool, {"a": "b"}, 1.0, True)]) for tool in CASES], 1, 1)

    def frame(text: str) -> list[str]:
        heads = [
            a for a, b in zip(text.splitlines(), text.splitlines()[1:], strict=False) if b.startswith("| ---")
        ]
        return heads + [line for line in text.splitlines() if line.startswith("#")]

    assert frame(held) == frame(made)
    assert [p for p in held.split("\n\n") if p.startswith(("Ours", "A call"))] == [
        p for p in made.split("\n\n") if p.startswith(("Ours", "A call"))
    ]
