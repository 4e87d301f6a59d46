"""How many traces of each kind of work a batch wants, so that its calls come in the wished tool shares.

A stratum is task / temporal span / kind of trace. A family (a task as one source asks it) has a known number
of calls; the shares of the families are the least-squares solution that brings the tools near their shares
and the families near their weights, with as much of the latter as leaves every tool within 1.5 points. Only
sources that are in use count, and the tools that none of their families calls leave their part to the rest.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import nnls

from pixelis_pipeline.records import ActionName, Assignment, Question, TraceKind
from pixelis_pipeline.settings import Settings
from pixelis_pipeline.synthesis.questions import TOOLS as NEEDED

Array = np.ndarray[Any, Any]

KINDS: tuple[TraceKind, ...] = ("positive", "outcome-negative", "process-negative", "self-correction")
TOOLS: tuple[ActionName, ...] = ("SEG", "ZOOM", "TRK", "OCR", "TEMP", "PROP")
STILL, SPANS = "still", ("short", "medium", "long")
SHORT, MEDIUM = 0.25, 0.5  # of the film's length: a span is at most so long
NEAR = 0.015  # of all calls: how far the weights may draw a tool's share away from the wished one
PULLS = tuple(2.0 ** (-n / 2) for n in range(-2, 15))  # of the weights, against 1 for the tool shares


@dataclass(frozen=True, slots=True)
class Family:
    """A task of one source: the mean number of calls of an accepted positive trace by tool, as measured on
    the embedded world (tests hold them to it), and how many traces are wished for relative to others."""

    source: str
    task: str
    calls: Mapping[ActionName, float]
    weight: float = 1.0
    spans: tuple[str, ...] = field(default=(STILL,))


FAMILIES = (
    Family("sa1b", "compare", {"SEG": 2}, 3),
    Family("sa1b", "largest", {"SEG": 3}, 1.5),
    Family("sa1b", "count", {"SEG": 2.9}, 1.5),
    Family("partimagenet", "attribute", {"PROP": 1}, 4),
    Family("mathvista", "read", {"OCR": 1}, 2),
    Family("mathvista", "count", {"SEG": 3.5}, 1.5),
    Family("mathvista", "attribute", {"PROP": 1}, 2),
    Family("fineweb", "read_small", {"ZOOM": 1, "OCR": 1}, 3),
    Family("fineweb", "read_two", {"ZOOM": 2, "OCR": 2}, 1.5),
    Family("starqa", "move", {"TRK": 2.5}, spans=SPANS),
    Family("starqa", "way", {"TRK": 1}, spans=SPANS),
    Family("starqa", "further", {"TRK": 2}, spans=SPANS),
    Family("starqa", "moving", {"TRK": 3}, 1.5, SPANS),
    Family("ego4d", "when", {"TEMP": 1}, 2, SPANS),
    Family("ego4d", "order", {"TEMP": 2}, 1.5, SPANS),
)


def span_of(question: Question) -> str:
    """ "short", "medium" or "long" by the share of the film that the question's span takes; a film's whole
    length where it names none. "still" for pictures."""
    film = next((media for media in question.media if media.kind == "video"), None)
    if film is None:
        return STILL
    seconds = film.frames / film.fps if film.fps else 0.0
    share = (question.span[1] - question.span[0]) / seconds if question.span and seconds else 1.0
    return "short" if share <= SHORT else "medium" if share <= MEDIUM else "long"


def stratum(task: str, span: str, kind: TraceKind) -> str:
    """The name of a stratum: "when/short/positive"."""
    return f"{task}/{span}/{kind}"


def mixture(settings: Settings) -> list[tuple[Family, float]]:
    """The share of the traces that each family of the sources in use gets; they add up to 1.

    Minimises |(C - s n) x|^2 / mean(n)^2 + p^2 |(x - w) / sqrt(w)|^2 / families over x >= 0, sum x = 1; C
    holds calls by tool and family, n their sum by family, s the wished shares, w the weights. p is the
    largest of PULLS with which every share comes NEAR the wished one, the smallest where none does that.
    A self-correction makes one call more than its family's, of the tool that the task cannot do without.
    """
    sources = frozenset(name for name in settings.sources if settings.teacher_for(name).endpoint != "none")
    wished = tuple(getattr(settings.synthesis, tool.lower()) for tool in TOOLS)
    kinds = recipes(settings)
    return list(_mixture(sources, wished, kinds[KINDS.index("self-correction")] / sum(kinds)))


@functools.cache
def _mixture(
    sources: frozenset[str], wishes: tuple[float, ...], corrected: float
) -> tuple[tuple[Family, float], ...]:
    used = [family for family in FAMILIES if family.source in sources]
    if not used:
        return ()
    needed = np.array([[tool in NEEDED[family.task][:1] for family in used] for tool in TOOLS])
    calls = np.array([[family.calls.get(tool, 0.0) for family in used] for tool in TOOLS])
    calls = calls + corrected * needed
    wished = np.array(wishes) * calls.any(axis=1)
    weights = np.array([family.weight for family in used]) / sum(family.weight for family in used)
    lengths = calls.sum(axis=0)
    shares = wished / wished.sum() if wished.any() else calls @ weights / (lengths @ weights)
    for pull in PULLS:
        mixed = _solved(calls, shares, weights, pull)
        if np.abs(calls @ mixed / (lengths @ mixed) - shares).max() <= NEAR:
            break
    return tuple(zip(used, mixed.tolist(), strict=True))


def _solved(calls: Array, shares: Array, weights: Array, pull: float) -> Array:
    """The mixture for one pull: float [families]."""
    lengths = calls.sum(axis=0)
    drawn = pull / np.sqrt(weights * len(weights))
    whole = 1e3  # that the sum is 1 is no wish
    rows = [(calls - np.outer(shares, lengths)) / (lengths @ weights), np.diag(drawn)]
    left = np.vstack([*rows, np.full((1, len(weights)), whole)])
    solved, _ = nnls(left, np.concatenate([np.zeros(len(shares)), drawn * weights, [whole]]))
    return np.asarray(solved / solved.sum())


def goals(settings: Settings, source: str) -> dict[str, int]:
    """How many accepted traces of each stratum one batch of `source` owes where `synthesis.accepted` asks for
    a number: over all sources exactly that number. Empty where it asks for none."""
    return _parted(settings, settings.synthesis.accepted, source)


def room(settings: Settings, source: str) -> dict[str, int]:
    """How many candidates of each stratum the plan of one batch of `source` may hold: its goals and its part
    of what `synthesis.candidates` allows beyond them. Empty where that is 0, for no bound."""
    asked = settings.synthesis
    if not asked.candidates:
        return {}
    found = goals(settings, source)
    for name, count in _parted(settings, asked.candidates - asked.accepted, source).items():
        found[name] = found.get(name, 0) + count
    return found


def recipes(settings: Settings) -> list[float]:
    """The shares of the kinds, in the order of KINDS."""
    return [getattr(settings.synthesis, kind.replace("-", "_")).share for kind in KINDS]


def _parted(settings: Settings, total: int, source: str) -> dict[str, int]:
    """`total` over all families, each part over its spans evenly, and each of these over the kinds."""
    mixed = mixture(settings)
    counts = apportion(total, [share for _, share in mixed]) if mixed else []
    owed = [0.0] * len(KINDS)
    owed_spans = [0.0] * len(SPANS)
    found: dict[str, int] = {}
    for (family, _), count in zip(mixed, counts, strict=True):
        spans = [count] if family.spans == (STILL,) else apportion(count, [1.0] * len(SPANS), owed_spans)
        for span, part in zip(family.spans, spans, strict=True):
            for kind, number in zip(KINDS, apportion(part, recipes(settings), owed), strict=True):
                if family.source == source and number:
                    found[stratum(family.task, span, kind)] = number
    return found


def apportion(total: int, shares: Sequence[float], owed: list[float] | None = None) -> list[int]:
    """`total` parted by `shares` (not all 0) into whole numbers, by the largest remainder.

    `owed` is what rounding has kept from each part so far, in cells that were parted before; it counts for
    this one and is brought up to date. So the sums over many small cells keep the shares too.
    """
    whole = sum(shares)
    before = owed or [0.0] * len(shares)
    exact = [total * share / whole + late for share, late in zip(shares, before, strict=True)]
    given = [max(int(part), 0) for part in exact]
    parts = [n for n, share in enumerate(shares) if share]
    while (missing := total - sum(given)) != 0:
        step = 1 if missing > 0 else -1
        able = parts if step > 0 else [n for n in parts if given[n]]
        given[max(able, key=lambda n: (round(step * (exact[n] - given[n]), 9), -n))] += step
    if owed is not None:
        owed[:] = [part - had for part, had in zip(exact, given, strict=True)]
    return given


def lacking(settings: Settings, source: str, planned: Iterable[Assignment]) -> dict[str, int]:
    """Stratum -> how many candidates the plan of `source` holds less than it has room for."""
    left = room(settings, source)
    for each in planned:
        left[each.stratum] = left.get(each.stratum, 0) - 1
    return {name: count for name, count in sorted(left.items()) if count > 0}
