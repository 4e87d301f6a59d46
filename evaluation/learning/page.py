"""docs/LEARNING.md, written from the study's numbers by a template."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from evaluation.learning.evidence import Evidence
from evaluation.learning.numbers import (
    BASE,
    FAST,
    FAST_HELD,
    HELD,
    LABELS,
    RFT_BASE,
    RFT_FULL,
    SFT,
    SHUFFLED,
    TEACHER,
    paid_from,
)
from evaluation.scores import TOOLS_OFF
from pixelis_pipeline.records import Json

TEMPLATE = Path(__file__).with_suffix(".jinja")
SIGNIFICANT = 0.05
TERMS = {
    RFT_BASE: "nothing",
    "rft-curiosity": "curiosity",
    "rft-coherence": "coherence",
    "rft-smoothness": "curiosity, and an L2 prior on neighbouring boxes for coherence",
    HELD: "both, with β held at its start",
    FAST: "both, at a higher rate",
    FAST_HELD: "both, at a higher rate, with β held at its start",
}


@dataclass(frozen=True, slots=True)
class Aim:
    """What the study hoped for, what came out, and whether that is it (None: not measured)."""

    text: str
    came: str
    met: bool | None


def page(found: Json, evidence: Evidence) -> str:
    """The page in Markdown."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    named = {"percent": _percent, "p": _p, "interval": _interval, "number": _number, "points": _points}
    phases = {row["name"]: row for row in found["phases"]}
    gap = None
    if {TEACHER, RFT_FULL} <= set(phases):
        gap = phases[TEACHER]["accuracy_mean"] - phases[RFT_FULL]["accuracy_mean"]
    tests = sum(row["p_vs_previous"] is not None for row in found["phases"])
    return environment.from_string(TEMPLATE.read_text()).render(
        **named,
        label=_label,
        labels=LABELS,
        terms=TERMS,
        found=found,
        about=evidence.about,
        settings=evidence.about["settings"],
        study=evidence.study,
        trainings=[each | {"paid": _paid(evidence, each)} for each in evidence.about["trainings"]],
        version=evidence.version,
        left=evidence.about.get("left", ()),
        questions=found["phases"][0]["questions"],
        seeds=len(evidence.study.seeds),
        tests=tests + len(found["controls"]) + len(found["ablations"]),
        gap=gap,
        aims=list(aims(found)),
    )


def aims(found: Json) -> Iterator[Aim]:
    """What the study was to show, in the order of the issue that asked for it."""
    rows = {row["name"]: row for name in ("phases", "controls") for row in found[name]}
    for before, after in ((BASE, SFT), (SFT, RFT_FULL)):
        if {before, after} <= set(rows) and rows[after]["p_vs_previous"] is not None:
            gain, p = rows[after]["difference_vs_previous"], rows[after]["p_vs_previous"]
            text = f"{LABELS[after]} above {LABELS[before]}, p < {SIGNIFICANT}"
            yield Aim(text, f"{_points(gain)} points, {_p(p)}", gain > 0 and p < SIGNIFICANT)
    for name, least in ((SFT, 0.65), (RFT_FULL, 0.75)):
        if name in rows:
            reached = rows[name]["accuracy_mean"]
            yield Aim(f"{LABELS[name]} at least {100 * least:.0f} %", _percent(reached), reached >= least)
    if RFT_FULL in rows:
        valid = rows[RFT_FULL]["valid_call_rate"]
        met = None if valid is None else valid >= 0.9
        yield Aim("RFT-Full: at least 90 % valid calls", _percent(valid), met)
        if (off := rows.get(RFT_FULL + TOOLS_OFF)) is not None:
            solved = off["accuracy_mean"]
            yield Aim("RFT-Full with its tools off under 40 %", _percent(solved), solved < 0.4)
        if SFT in rows:
            chains = [rows[name]["chain_length"] for name in (SFT, RFT_FULL)]
            gain, came = rows[RFT_FULL]["difference_vs_previous"], f"{chains[0]:.2f} → {chains[1]:.2f}"
            met = None if gain is None else chains[1] < chains[0] and gain >= 0
            yield Aim("RFT-Full: shorter chains, accuracy not lower", came, met)
    yield from _divergence(found["kl"], found["kl"])
    yield from _divergence(found["kl"], found["kl"]["fast"], "fast, ")


def _divergence(kl: Json, runs: Json, of_which: str = "") -> Iterator[Aim]:
    """Of the moving average, which is judged; what single steps come to stands beside it."""
    (low, high), limit = kl["corridor"], kl["limit"]
    hoped: list[tuple[str, str, str, Callable[[float], bool]]] = [
        ("with_pid", "p95", f"PID: 95th percentile of the averaged KL at most {limit}", lambda x: x <= limit),
        ("with_pid", "median", f"PID: median of the averaged KL {low} to {high}", lambda x: low <= x <= high),
        ("beta_held", "p95", f"β held: 95th percentile of the averaged KL over {limit}", lambda x: x > limit),
    ]
    for run, of, words, reached in hoped:
        text = f"RFT-Full, {of_which}{words}"
        judged, raw = (runs[run][each][of] for each in (kl["judged"], "raw"))
        if judged is None:
            yield Aim(text, "", None)
        else:
            yield Aim(text, f"{judged:.3f} (single steps {raw:.3f})", reached(judged))


def _paid(evidence: Evidence, training: Json) -> str:
    method, seed = training["method"], training["seed"]
    if method in (SFT, RFT_BASE):
        return ""
    step = paid_from(evidence, method, seed)
    return "never" if step is None else f"step {step}"


def _label(row: Json) -> str:
    name = str(row["name"])
    for ending, words in ((TOOLS_OFF, ", tools off"), (SHUFFLED, ", tool outputs shuffled")):
        if name.endswith(ending):
            return LABELS[name.removesuffix(ending)] + words
    return LABELS[name]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _interval(bounds: list[float]) -> str:
    return "{:.1f} to {:.1f}".format(*(100 * each for each in bounds))


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _p(value: float | None) -> str:
    return "" if value is None else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
