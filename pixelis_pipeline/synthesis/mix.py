"""What accepted traces are made of, beside what was wanted: kinds, tool shares, lengths, decisive calls."""

from collections import Counter
from collections.abc import Sequence

from pixelis_pipeline.records import Json, Trajectory
from pixelis_pipeline.settings import SynthesisSettings
from pixelis_pipeline.synthesis.strata import TOOLS

PAPER_CALLS = 5.8  # a trace, paper section 3.1


def mix(traces: Sequence[Trajectory], settings: SynthesisSettings) -> Json:
    """Counts and percentages over replayed traces; `decisive` is of the calls of positives."""
    calls = Counter(step.action.name for trace in traces for step in trace.steps)
    wanted = {tool: getattr(settings, tool.lower()) for tool in TOOLS}
    decided = [step.decisive for trace in traces if trace.kind == "positive" for step in trace.steps]
    return {
        "kinds": dict(sorted(Counter(trace.kind for trace in traces).items())),
        "calls": {tool: calls[tool] for tool in TOOLS},
        "calls, %": {tool: _percent(calls[tool], calls.total()) for tool in TOOLS},
        "wanted over all sources, %": {tool: _percent(n, sum(wanted.values())) for tool, n in wanted.items()},
        "decisive, %": _percent(sum(decided), len(decided)),
        "calls a trace": round(calls.total() / max(len(traces), 1), 2),
        "calls a trace, paper": PAPER_CALLS,
    }


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 1) if whole else 0.0
