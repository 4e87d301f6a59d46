"""Plots as SVG fragments that live in the page: its font, its dark mode, no style of their own.

Colours are Okabe and Ito's set for colour-blind readers (jfly.uni-koeln.de/color, 2008). Matplotlib's
`style` attributes become presentation attributes, which the page's style sheet may override (and which
a strict content security policy lets through).
"""

import html
import re
from collections.abc import Callable, Sequence
from io import BytesIO, StringIO
from statistics import fmean
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from evaluation.funnel import Row
from evaluation.report.inputs import Curve
from evaluation.scores import Cell

BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#7f7f7f"
INK, FAINT = "#222222", "#cccccc"  # the page maps these two to its own text and line colours
LINES = (BLUE, ORANGE, GREEN, RED)
WIDTH = 12.0  # inches of 72 pixels
WINDOW = 10  # steps of a moving average

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.labelsize": 12,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": FAINT,
    "grid.color": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


def _attributes(style: re.Match[str]) -> str:
    """`style="a: b; c: d"` as `a="b" c="d"`; the font is the page's."""
    pairs = (item.split(":", 1) for item in style[1].split(";") if ":" in item)
    return " ".join(f'{k.strip()}="{v.strip()}"' for k, v in pairs if not k.strip().startswith("font"))


def _fragment(svg: str, title: str) -> Markup:
    """The `<svg>` element alone, without anything the page's security policy would refuse. Markup,
    because Matplotlib has escaped all text in it."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'style="([^"]*)"', _attributes, body)
    body = re.sub(r' xmlns(:\w+)?="[^"]*"', "", body).replace("xlink:href", "href")
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # only markers and clips are referred to by id
    body = re.sub(r'="([\d.]+)pt"', r'="\1"', body)
    body = re.sub(r">\s+<", "><", body)
    return Markup(body.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1).strip())


def _plot(title: str, height: float, *draws: Callable[[Axes], None]) -> Markup:
    """Pairs of axes side by side, `height` inches high, as an SVG fragment; equal input gives equal bytes."""
    with rc_context({**_RC, "svg.hashsalt": title}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        for place, draw in enumerate(draws, 1):
            axes = figure.add_subplot(1, len(draws), place)
            axes.set_axisbelow(True)
            draw(axes)
        out = StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _fragment(out.getvalue(), title)


def accuracy_plot(cells: Sequence[Cell], labels: Sequence[str], phases: int) -> Markup:
    """Accuracies in percent with their intervals, one row each, the first on top; so many of them are phases
    of training and blue, the others grey."""

    def draw(axes: Axes) -> None:
        for row, cell in enumerate(cells):
            value, low, high = (100 * x for x in (cell.value, cell.low, cell.high))
            colour = BLUE if row < phases else GREY
            axes.plot([low, high], [row, row], color=colour, linewidth=3, solid_capstyle="round")
            axes.plot([value], [row], "o", color=colour, markersize=9)
            axes.annotate(f"{value:.1f}", (value, row), (0, 9), textcoords="offset points", ha="center")
        axes.set(xlim=(-2, 102), ylim=(len(cells) - 0.5, -0.7), yticks=range(len(cells)), yticklabels=labels)
        axes.set_xlabel("Questions answered correctly (%), with interval")
        axes.grid(axis="x")

    return _plot("Accuracy of each policy with its interval", 1.0 + 0.52 * len(cells), draw)


def curve_plot(curves: Sequence[Curve]) -> Markup:
    """Loss over optimiser steps, a line per curve."""

    def draw(axes: Axes) -> None:
        for curve, colour in zip(curves, LINES, strict=False):
            marker = "o" if len(curve.steps) <= 40 else ""
            axes.plot(curve.steps, curve.values, marker, ls="-", ms=4, color=colour, label=curve.name)
        axes.set(xlabel="Optimiser step", ylabel="Loss (nats per weighted token)")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
        axes.legend(frameon=False)

    return _plot("Training loss over optimiser steps", 3.2, draw)


def reinforcement_plot(curves: Sequence[Curve]) -> Markup:
    """What rollouts were like over the steps of reinforcement, side by side, a pair of axes per curve: a step
    is a few questions, so it is drawn faintly and the mean of the last WINDOW steps over it."""

    def drawn(curve: Curve, colour: str) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            smooth = [fmean(curve.values[max(0, k + 1 - WINDOW) : k + 1]) for k in range(len(curve.values))]
            axes.plot(curve.steps, curve.values, color=colour, alpha=0.35, linewidth=1)
            axes.plot(curve.steps, smooth, color=colour, linewidth=2)
            axes.set(xlabel="Optimiser step", title=curve.name)
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
            axes.grid(axis="y")

        return draw

    draws = [drawn(curve, colour) for curve, colour in zip(curves, LINES, strict=False)]
    return _plot("Rollouts over the steps of reinforcement", 2.8, *draws)


def _funnel(axes: Axes, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        left = 0
        for count, colour in zip((row.accepted, row.rejected, row.failed), (BLUE, ORANGE, RED), strict=True):
            if count:
                axes.barh(place, count, left=left, color=colour, height=0.62)
            left += count
        text = f"{row.accepted:,} of {row.read:,}"
        axes.annotate(text, (left, place), (6, 0), textcoords="offset points", va="center")
    most = max((row.read for row in rows), default=1)
    axes.set(xlim=(0, 1.22 * max(most, 1)), ylim=(len(rows) - 0.4, -0.6))
    axes.set(yticks=range(len(rows)), yticklabels=[row.stage for row in rows], xlabel="Records")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.grid(axis="x")


def _funnel_height(rows: Sequence[Row]) -> float:
    return 0.9 + 0.36 * len(rows)


def funnel_plot(rows: Sequence[Row]) -> Markup:
    """Records per stage: accepted, rejected, failed; the first stage on top."""
    title = "Records accepted, rejected and failed at each stage"
    return _plot(title, _funnel_height(rows), lambda axes: _funnel(axes, rows))


def funnel_picture(rows: Sequence[Row]) -> bytes:
    """The same as a PNG with its own legend."""
    with rc_context(_RC):
        figure = Figure(figsize=(WIDTH, _funnel_height(rows) + 0.4), layout="constrained")
        axes = figure.add_subplot()
        axes.set_axisbelow(True)
        _funnel(axes, rows)
        names = {"accepted": BLUE, "rejected": ORANGE, "failed": RED}
        handles = [Patch(color=colour, label=name) for name, colour in names.items()]
        figure.legend(handles=handles, loc="outside upper right", ncols=3, frameon=False)
        out = BytesIO()
        figure.savefig(out, format="png", dpi=80, metadata={"Software": None})
    return out.getvalue()
