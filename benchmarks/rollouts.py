"""Rollouts of ours beside those of TRL's own environment loop: one policy, the same prompts, pictures, tools
and ends of turns.

The shipped nano base is taught what to call (`rollout_ground`). A turn that cannot be read ends a rollout of
TRL's (`trl_loop`), while ours goes on with the error: taught until nearly every turn can be read, both sides
do the same work, and the counts are told.

Only tokens that the policy chose are counted. Times are by the clock, the model on one thread, both sides in
turns; the tools' share is measured apart: our rollouts share a call that TRL makes once each, and make the
calls of a turn on all cores.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measurement import Measurement, measured
from benchmarks.rollout_ground import Ground, Made, ground, teach
from benchmarks.trl_loop import Theirs
from pixelis_pipeline.agent.policy import Policy, load
from pixelis_pipeline.ledger.code import ROOT
from pixelis_pipeline.settings import PolicySettings, RftSettings

BASE = ROOT / "training" / "base" / "nano"
PROMPTS, COPIES, TEMPERATURE = RftSettings().prompts, RftSettings().group, RftSettings().temperature
CALLS = ("SEG", "PROP", "PROP")  # and the answer: a chain is 3.7 steps long after reinforcement
ROUNDS, RATIO = 5, 3.0


def ours(policy: Policy, given: Ground, copies: int, temperature: float, seed: int) -> Made:
    """`copies` rollouts of each question, by `sample`."""
    from pixelis_pipeline.agent.sampled import sample

    settings = PolicySettings(turns=len(given.calls) + 1)
    tools, calls, start = given.registry.seconds, given.registry.calls, time.perf_counter()
    found = sample(
        policy,
        given.questions,
        copies,
        given.registry,
        given.opens,
        settings,
        name="nano",
        seed=seed,
        right=lambda asked, answer: answer == asked.answer,
        temperature=temperature,
    )
    seconds = time.perf_counter() - start
    return Made(
        [list(each.ids) for each in found],
        [list(each.said) for each in found],
        seconds,
        given.registry.seconds - tools,
        given.registry.calls - calls,
    )


def rollouts(policy: Policy, given: Ground, copies: int = COPIES) -> Iterator[Measurement]:
    """Tokens a second of both sides on a taught policy and their ratio, with the tools' time and without."""
    pairs: list[tuple[Made, Made]] = []
    with tempfile.TemporaryDirectory() as folder:
        theirs = Theirs(policy, given, copies, TEMPERATURE, Path(folder))
        for seed in range(ROUNDS + 1):
            pairs.append((ours(policy, given, copies, TEMPERATURE, seed), theirs.roll(seed)))
    counted = pairs[1:]  # the first warms up
    told = f"{len(given.questions)} x {copies} rollouts of {len(given.calls)} calls"
    for side, name in enumerate(("ours", "TRL's")):
        made = [pair[side] for pair in counted]
        yield measured(f"{told}: {name}", statistics.median(each.rate for each in made), "tokens/s")
        yield measured(f"{name}: tokens chosen", statistics.median(each.tokens for each in made), "")
        yield measured(f"{name}: calls of tools", statistics.median(each.calls for each in made), "")
        yield measured(f"{name}: in tools", statistics.median(each.tools for each in made), "s")
    ratio = statistics.median(a.rate / b.rate for a, b in counted)
    yield measured("ours / TRL's, median of rounds", ratio, "", at_least=RATIO)
    alone = statistics.median(a.alone / b.alone for a, b in counted)
    yield measured("ours / TRL's without the time in tools, median of rounds", alone, "")


def suite() -> list[Measurement]:
    """The shipped base, taught."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        policy, given = load(BASE), ground(CALLS, PROMPTS)
        teach(policy, given)
        return list(rollouts(policy, given))
    finally:
        torch.set_num_threads(threads)
