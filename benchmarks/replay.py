"""How fast replay is on all cores, beside one process, what it lets pass of 1,000 forged traces, and how
much of a plan comes back on media that are a little worse (plan re-execution consistency, PRC).

Rates are whole: from the first trace handed over to the last outcome, the start of the processes and
their engines included. Media lie on the disk and are decoded by whoever replays.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.measurement import Measurement, measured
from benchmarks.mutations import FOUR, KINDS, mutated
from benchmarks.traces import SEED, World, mixed, world
from pixelis_pipeline.engine.pool import cores
from pixelis_pipeline.records import Accepted, Outcome, Rejected, Trajectory
from pixelis_pipeline.settings import ReplaySettings, ToolSettings
from pixelis_pipeline.tools.opening import opened
from pixelis_pipeline.tools.registry import default_registry
from pixelis_pipeline.verify.batch import Bench, replay_all
from pixelis_pipeline.verify.prc import consistency, together

ITEMS = {"sa1b": 50, "partimagenet": 50, "fineweb": 50, "mathvista": 80, "starqa": 24, "ego4d": 12}
MIXED = 120
MUTATIONS = 1_000  # over the four kinds of FOUR
DISTURBED = 90  # plans, the tasks in turn
STILLS_AIM, MIX_AIM, PASS_AIM = 20.0, 6.0, 0.999


def bench(made: World, workers: int) -> Bench:
    """What replays the world's traces in `workers` processes."""
    return Bench(ToolSettings(), made.media, ReplaySettings(workers=workers))


def replayed(made: World, traces: Sequence[Trajectory], workers: int = 0) -> list[Outcome[Trajectory]]:
    """Every trace's outcome; over a pool from the first trace on, except with one worker."""
    tools = bench(made, workers)
    return list(replay_all(traces, tools, tools.settings, patience=0.0))


def _cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def rate(name: str, made: World, traces: Sequence[Trajectory], aim: float) -> list[Measurement]:
    """Traces a second over all cores, beside the same in one process, and what a trace costs: the first
    depends on what else the machine does, the second hardly. ValueError where many do not replay as
    recorded, for then other work than the usual was timed."""
    seconds, spent = [], []
    for workers in (1, 0):
        started, cpu = time.perf_counter(), _cpu()
        outcomes = replayed(made, traces, workers)
        seconds.append(time.perf_counter() - started)
        spent.append(_cpu() - cpu)
        ran = [o for o in outcomes if isinstance(o, Accepted) or getattr(o, "rule", "") == "no evidence"]
        if len(ran) < 0.85 * len(traces):
            first = next(outcome for outcome in outcomes if outcome not in ran)
            why = getattr(first, "rule", "") or getattr(first, "error", "")
            raise ValueError(f"{name}: only {len(ran)} of {len(traces)} replay, the first for: {why}")
    value, peer = len(traces) / seconds[1], len(traces) / seconds[0]
    whole = Measurement(
        name=f"{name} ({cores()} cores)",
        value=round(value, 2),
        unit="traces/s",
        target=aim,
        peer="one process",
        peer_value=round(peer, 2),
        ratio=round(value / peer, 2),
        met=value >= aim,
    )
    each = [1000 * cpu / len(traces) for cpu in spent]
    costs = Measurement(
        f"{name}: CPU, all processes",
        round(each[1], 1),
        "ms/trace",
        peer="one process",
        peer_value=round(each[0], 1),
        ratio=round(each[1] / each[0], 2),
    )
    return [whole, costs]


def forgeries(traces: Sequence[Trajectory], count: int, seed: int) -> Iterator[tuple[str, Trajectory, str]]:
    """(kind, the mutant with its id made to fit, the id that was recorded), `count` of each kind. Tasks take
    turns, so that each has its share whatever the world holds of it."""
    random = np.random.default_rng(seed)
    by_task: dict[str, list[Trajectory]] = {}
    for trace in traces:
        by_task.setdefault(trace.question.task, []).append(trace)
    tasks = [by_task[name] for name in sorted(by_task)]
    for kind in KINDS:
        made, turn = 0, 0
        while made < count:
            pool = tasks[turn % len(tasks)]
            trace = pool[int(random.integers(len(pool)))]
            mutant = mutated(kind, trace, traces, random)
            turn += 1
            if mutant is not None:
                made += 1
                yield kind, mutant, trace.id
            if turn > 100 * count + 1000:
                raise ValueError(f"{kind}: no trace can be changed so")


def study(made: World, count: int) -> list[Measurement]:
    """The share of mutants that replay refuses, per kind: by running the calls again alone, and with the
    ids that were recorded; and the share of untouched traces that pass again."""
    kept = [each for outcome in replayed(made, made.traces) for each in getattr(outcome, "records", ())]
    again = replayed(made, kept)
    passed = mean(isinstance(outcome, Accepted) for outcome in again)
    forged = list(forgeries(kept, count // len(FOUR), SEED))
    alone = replayed(made, [mutant for _, mutant, _ in forged])
    recorded = replayed(made, [replace(mutant, id=was) for _, mutant, was in forged])
    found = [
        Measurement(
            f"untouched traces that pass again ({len(kept)})",
            round(passed, 4),
            "share",
            target=PASS_AIM,
            met=passed >= PASS_AIM,
        )
    ]
    for label, outcomes in (("re-execution alone", alone), ("with recorded ids", recorded)):
        caught = {kind: _caught(kind, forged, outcomes) for kind in KINDS}
        for kind, share in caught.items():
            found.append(measured(f"caught, {label}: {kind}", share, "share"))
        whole = mean(caught[kind] for kind in FOUR)
        aim = 1.0 if outcomes is recorded else None
        found.append(
            Measurement(
                f"caught, {label}: all of {count:,}",
                round(whole, 4),
                "share",
                target=aim,
                met=None if aim is None else whole >= aim,
            )
        )
    return found


def _caught(kind: str, forged: Sequence[tuple[str, Trajectory, str]], outcomes: Sequence[object]) -> float:
    return mean(
        isinstance(outcome, Rejected)
        for (of, _, _), outcome in zip(forged, outcomes, strict=True)
        if of == kind
    )


def disturbed(made: World, count: int) -> list[Measurement]:
    """PRC: the share of plans whose every step agrees with the undisturbed run, and of their steps, under
    each disturbance, over `count` plans of all tasks in turn."""
    by_task: dict[str, list[Trajectory]] = {}
    for trace in made.traces:
        by_task.setdefault(trace.question.task, []).append(trace)
    turns = zip_longest(*(by_task[task] for task in sorted(by_task)))
    plans = [trace for turn in turns for trace in turn if trace is not None][:count]
    registry, look = default_registry(), partial(opened, made.media)
    held = together(consistency(plan, registry, look, ReplaySettings()) for plan in plans)
    rows = []
    for name, each in held.items():
        rows.append(measured(f"PRC, {name}: whole plans ({each.of_traces})", each.trace_rate, "share"))
        rows.append(measured(f"PRC, {name}: steps ({each.of_steps})", each.step_rate, "share"))
    return rows


def suite(
    items: dict[str, int] | None = None,
    plans: int = MIXED,
    count: int = MUTATIONS,
    worse: int = DISTURBED,
) -> list[Measurement]:
    """Throughput, then the mutation study, on a world that is made for it."""
    with TemporaryDirectory(prefix="pixelis-bench-") as temporary:
        made = world(Path(temporary), items or ITEMS)
        stills = [t for t in made.traces if t.question.media[0].kind == "image"]
        return [
            *rate("image-only world traces", made, stills, STILLS_AIM),
            *rate("the paper's tool mix, clips of 24 frames at 320x240", made, mixed(made, plans), MIX_AIM),
            *study(made, count),
            *disturbed(made, worse),
        ]
