"""The plots of docs/LEARNING.md, as SVG files that read on a light and on a dark page."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.learning.evidence import Evidence
from evaluation.learning.numbers import FAST, FAST_HELD, HELD, LABELS, RFT_BASE, RFT_FULL, smoothed
from evaluation.scores import Array
from pixelis_pipeline.records import Json

BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#7f7f7f"
TERMS = {"answer": BLUE, "penalty": RED, "curiosity": GREEN, "coherence": ORANGE}
WINDOW = 10  # steps of the moving average that is drawn over single steps


def plots(found: Json, evidence: Evidence) -> dict[str, bytes]:
    """File name -> SVG; equal evidence gives equal bytes from one version of Matplotlib."""
    return {
        "accuracy.svg": _drawn("accuracy", 3.2, lambda axes: _accuracy(axes, found)),
        "kl.svg": _drawn("kl", 3.4, lambda axes: _kl(axes, evidence, RFT_FULL, HELD)),
        "kl_fast.svg": _drawn("kl_fast", 3.4, lambda axes: _kl(axes, evidence, FAST, FAST_HELD)),
        "chain.svg": _drawn("chain", 3.0, lambda axes: _chain(axes, evidence)),
        "rewards.svg": _drawn("rewards", 3.4, lambda axes: _rewards(axes, evidence)),
    }


def _drawn(name: str, height: float, draw: Callable[[Axes], None]) -> bytes:
    settings: dict[Any, Any] = {"svg.hashsalt": name, "font.size": 10, "axes.grid": True, "grid.alpha": 0.3}
    settings |= {"axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"}
    with rc_context(settings):
        figure = Figure(figsize=(7.5, height), layout="constrained", facecolor="white")
        draw(figure.add_subplot())
        out = BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _accuracy(axes: Axes, found: Json) -> None:
    shown = {row["name"] for row in found["phases"]}
    rows = [*found["phases"], *(row for row in found["ablations"] if row["name"] not in shown)]
    for place, row in enumerate(rows):
        mean, (low, high) = 100 * row["accuracy_mean"], (100 * each for each in row["ci95"])
        colour = GREY if row["name"] == "teacher" or place >= len(found["phases"]) else BLUE
        axes.errorbar([mean], [place], xerr=[[mean - low], [high - mean]], fmt="o", color=colour, capsize=3)
        axes.annotate(f"{mean:.1f}", (mean, place), (0, 5), textcoords="offset points", ha="center")
    labels = [LABELS[row["name"]] for row in rows]
    axes.set(ylim=(len(rows) - 0.4, -0.8), yticks=range(len(rows)), yticklabels=labels, xlim=(-3, 103))
    axes.set_xlabel("held-out questions answered correctly (%), 95 % interval over questions")


def _kl(axes: Axes, evidence: Evidence, steered: str, held: str) -> None:
    study = evidence.study
    axes.axhspan(study.low, study.high, color=GREY, alpha=0.2, linewidth=0, label="corridor")
    axes.axhline(study.limit, color=GREY, linestyle="--", label="limit")
    if study.warm_up:
        axes.axvline(study.warm_up, color=GREY, linestyle=":", label="end of warm-up")
    for method, colour in ((steered, BLUE), (held, RED)):
        for n, (_, run) in enumerate(evidence.runs(method)):
            label = "with PID" if method == steered else "β held at its start"
            average = smoothed(run, evidence.controller.ema)
            axes.plot(run["step"], run["kl"], color=colour, linewidth=0.7, alpha=0.35)
            axes.plot(run["step"], average, color=colour, linewidth=1.8, label=None if n else label)
    axes.set(xlabel="step (thin: single steps; bold: the controller's moving average)")
    axes.set(ylabel="KL, nats a token", ylim=(0, None))
    axes.legend(frameon=False, ncols=3, fontsize=8)


def _chain(axes: Axes, evidence: Evidence) -> None:
    for method, colour in ((RFT_BASE, ORANGE), (RFT_FULL, BLUE)):
        for n, (_, run) in enumerate(evidence.runs(method)):
            steps, smooth = _smooth(run["step"], run["calls"])
            axes.plot(steps, smooth, color=colour, linewidth=1.5, label=None if n else LABELS[method])
    axes.set(xlabel=f"step (mean of {WINDOW})", ylabel="calls a rollout")
    if axes.lines:
        axes.legend(frameon=False)


def _rewards(axes: Axes, evidence: Evidence) -> None:
    runs = [run for _, run in evidence.runs(RFT_FULL)]
    shortest = min((run["step"].size for run in runs), default=0)
    for name, colour in TERMS.items():
        if runs:
            mean = np.mean([run[name][:shortest] for run in runs], axis=0)
            steps, smooth = _smooth(runs[0]["step"][:shortest], mean)
            axes.plot(steps, smooth, color=colour, label=name)
    axes.set(xlabel=f"step (mean of {WINDOW})", ylabel="raw reward, mean a rollout")
    if runs:
        axes.legend(frameon=False, ncols=4, fontsize=8)


def _smooth(steps: Array, values: Array) -> tuple[Array, Array]:
    """The moving average, at the last step of each window."""
    width = min(WINDOW, len(values))
    kept: Array = np.convolve(values, np.ones(width) / max(width, 1), mode="valid")
    return steps[width - 1 :], kept
