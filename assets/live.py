"""What is shown of a training while it runs: how far it is, how long it will take, its curves.

An event in Dagster's database takes some 6 KB and is kept for good, so there is one every `every` seconds
and then ever more rarely: each time another hundredth of the time so far has passed. Days of training come
to a few hundred events.
"""

import math
from collections.abc import Mapping

SHARE = 0.01  # of the time so far, between two events
POINTS = 48  # of a curve, at most twice as many
BARS = "▁▂▃▄▅▆▇█"


class _Curve:
    """A series of unknown length in few points: means over equally long stretches."""

    def __init__(self) -> None:
        self.points: list[float] = []
        self.last = math.nan
        self._stretch, self._held, self._sum = 1, 0, 0.0

    def add(self, value: float) -> None:
        self.last = value
        if not math.isfinite(value):
            return
        self._sum += value
        self._held += 1
        if self._held < self._stretch:
            return
        self.points.append(self._sum / self._held)
        self._held, self._sum = 0, 0.0
        if len(self.points) == 2 * POINTS:
            self.points = [(a + b) / 2 for a, b in zip(self.points[::2], self.points[1::2], strict=True)]
            self._stretch *= 2

    def drawn(self) -> str:
        """A bar for each point, from the least of them to the greatest."""
        if not self.points:
            return ""
        low, high = min(self.points), max(self.points)
        scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
        return "".join(BARS[round((point - low) * scale)] for point in self.points)


class Live:
    """A training under way. Times are in seconds by any one clock; it was started at `now`."""

    def __init__(self, every: float, now: float) -> None:
        self._every, self._began, self._shown = every, now, -math.inf
        self._first: tuple[int, float] | None = None  # the first step that was told, and when
        self._now, self.step, self.of = now, 0, 0
        self._curves: dict[str, _Curve] = {}

    def add(self, now: float, step: int, of: int, scalars: Mapping[str, float]) -> None:
        """`step` steps of `of` are done, and `scalars` are what was measured."""
        self._first = self._first or (step, now)
        self._now, self.step, self.of = now, step, of
        for name, value in scalars.items():
            self._curves.setdefault(name, _Curve()).add(value)

    def due(self) -> bool:
        """Whether it is time to show it, as it is at the end; then it is taken for shown."""
        pause = max(self._every, SHARE * (self._now - self._began))
        if self.step < self.of and self._now - self._shown < pause:
            return False
        self._shown = self._now
        return True

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take at the pace of this process; None before its second step."""
        if self._first is None or self.step <= self._first[0]:
            return None
        return (self._now - self._first[1]) / (self.step - self._first[0]) * (self.of - self.step)

    @property
    def numbers(self) -> dict[str, float]:
        """What Dagster draws over time: the step, the seconds left, the newest scalars."""
        left = {} if self.left is None else {"seconds left": round(self.left, 1)}
        last = {name: curve.last for name, curve in self._curves.items() if math.isfinite(curve.last)}
        return {"step": self.step, "steps": self.of} | left | last

    @property
    def description(self) -> str:
        """The same in words."""
        return f"step {self.step} of {self.of}" + ("" if self.left is None else f", {said(self.left)} left")

    @property
    def curves(self) -> str:
        """Every scalar from the first step to the newest, as a Markdown table."""
        rows = [f"| {name} | {curve.last:.4g} | {curve.drawn()} |" for name, curve in self._curves.items()]
        return "\n".join(["| scalar | newest | so far |", "|---|---:|---|", *rows])


def said(seconds: float) -> str:
    """A length of time in its two largest units."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
