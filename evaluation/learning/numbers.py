"""The numbers of the study, from its evidence alone.

A row is one arm over all its seeds; the unit of every interval and test is a question, with its mean over
the seeds. All tests of the study are one family (Benjamini-Hochberg). Where an arm has fewer seeds than the
one it is compared with, only the seeds that both have are compared; the base and the teacher have no seed of
their own and stand beside all of them.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from evaluation.comparisons import Comparison, adjusted, difference
from evaluation.learning.evidence import Evidence
from evaluation.scores import TOOLS_OFF, Array, Cell, Group, MetricName, PredictionSet, group, score_one
from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import EvaluationSettings

BENCHMARK, TEACHER, SHUFFLED = "capabilities", "teacher", "-shuffled"
BASE, SFT, RFT_BASE, RFT_FULL, HELD = "base", "sft", "rft-base", "rft-full", "rft-beta-held"
FAST, FAST_HELD = "rft-full-fast", "rft-beta-held-fast"  # at a rate that the controller has to hold
PREVIOUS = {SFT: BASE, RFT_BASE: SFT, RFT_FULL: SFT}  # what each phase started from
ABLATIONS = (RFT_BASE, "rft-curiosity", "rft-coherence", "rft-smoothness", HELD, FAST, FAST_HELD)
CONTROLLED = (SFT, RFT_FULL)  # the policies that controls are made of
SEEDLESS = (BASE, TEACHER)
LABELS = {
    BASE: "Base",
    SFT: "SFT",
    RFT_BASE: "RFT-Base",
    "rft-curiosity": "RFT-Curiosity",
    "rft-coherence": "RFT-Coherence",
    RFT_FULL: "RFT-Full",
    "rft-smoothness": "L2 smoothness",
    HELD: "RFT-Full without PID",
    FAST: "RFT-Full, fast",
    FAST_HELD: "RFT-Full, fast, without PID",
    TEACHER: "Teacher",
}
DIGITS = 6


def learning(evidence: Evidence) -> Json:
    """`phases`, `controls`, `ablations` and `kl`, each row with the data version it was computed from.

    What an unfinished study lacks, and what would be compared with it, is left out. ValueError where two arms
    did not answer the same questions."""
    held = PredictionSet(BENCHMARK, evidence.version, evidence.predictions)
    groups = {name: each for (_, name, part), each in group([held]).items() if part == "all"}
    settings, version = evidence.evaluation, {"data_version": evidence.version}
    tests = _tests(groups, settings)

    def row(name: str) -> Json:
        return {"name": name, **_numbers(name, groups[name], settings)}

    def against(ours: str, theirs: str) -> Json:
        test = tests[ours, theirs]
        bounds = [_rounded(test.cell.low), _rounded(test.cell.high)]
        return {
            "seeds_compared": test.cell.seeds,
            "difference": _rounded(test.cell.value),
            "difference_ci95": bounds,
            "p": _rounded(test.q),
        }

    def since(name: str) -> Json:
        test = tests.get((name, PREVIOUS.get(name, "")))
        found = (None, None) if test is None else (_rounded(test.cell.value), _rounded(test.q))
        return dict(zip(("difference_vs_previous", "p_vs_previous"), found, strict=True))

    phases = [name for name in (BASE, *PREVIOUS, TEACHER) if name in groups]
    made = [(of, of + how) for of in CONTROLLED for how in (TOOLS_OFF, SHUFFLED)]
    controls = [pair for pair in made if pair in tests]
    return {
        "phases": [row(name) | since(name) | version for name in phases],
        "controls": [
            row(name) | {"of": of, "p_vs_policy": _rounded(tests[of, name].q)} | version
            for of, name in controls
        ],
        "ablations": [
            row(name)
            | {"seeds_compared": tests[RFT_FULL, name].cell.seeds}
            | against(RFT_FULL, name)
            | version
            for name in ABLATIONS
            if (RFT_FULL, name) in tests
        ],
        "kl": divergence(evidence) | version,
    }


def _tests(groups: Mapping[str, Group], settings: EvaluationSettings) -> dict[tuple[str, str], Comparison]:
    """Every test that the study makes, by both arms, adjusted together."""
    pairs = [
        *PREVIOUS.items(),
        *((of, of + how) for of in CONTROLLED for how in (TOOLS_OFF, SHUFFLED)),
        *((RFT_FULL, name) for name in ABLATIONS),
    ]
    made = []
    for ours, theirs in pairs:
        if ours in groups and theirs in groups:
            alike = _alike(groups, ours, theirs)
            if all(each.seeds for each in alike):  # an unfinished study may hold other seeds of each
                made.append(difference(*alike, (ours, theirs, BENCHMARK, "all"), settings))
    return {(each.cell.policy, each.control): each for each in adjusted(made)}


def _alike(groups: Mapping[str, Group], ours: str, theirs: str) -> tuple[Group, Group]:
    """Both arms with the seeds that both have."""
    if {ours, theirs} & set(SEEDLESS):
        return groups[ours], groups[theirs]
    both = set(groups[ours].seeds) & set(groups[theirs].seeds)
    return _of_seeds(groups[ours], both), _of_seeds(groups[theirs], both)


def _of_seeds(held: Group, seeds: set[int]) -> Group:
    chosen = {q: [p for p in runs if p.seed in seeds] for q, runs in held.questions.items()}
    return Group(chosen, held.versions)


def _numbers(name: str, held: Group, settings: EvaluationSettings) -> Json:
    key = (BENCHMARK, name, "all")
    metrics: Sequence[MetricName] = ("accuracy", "valid_call_rate", "chain_length")
    cells = {metric: score_one(metric, key, held, settings) for metric in metrics}
    accuracy, valid, chain = cast(Cell, cells["accuracy"]), cells["valid_call_rate"], cells["chain_length"]
    return {
        "seeds": accuracy.seeds,
        "questions": accuracy.n,
        "accuracy_mean": _rounded(accuracy.value),
        "accuracy_sd": None if accuracy.sd is None else _rounded(accuracy.sd),
        "ci95": [_rounded(accuracy.low), _rounded(accuracy.high)],
        "valid_call_rate": None if valid is None else _rounded(valid.value),
        "chain_length": _rounded(cast(Cell, chain).value),
    }


def divergence(evidence: Evidence) -> Json:
    """Token KL after warm-up, in nats a token said: `with_pid` are the runs of the whole method, `beta_held`
    those of the same with β left at its start. `fast` has both once more, of runs at a higher rate.

    The corridor is judged on `smoothed`, the controller's own moving average, which is all that it sees and
    steers. `raw` are the means over single steps' batches (k3): a few prompts scatter about the average by
    most of its size, whatever β is, so no controller can hold their 95th percentile. Both are stated."""
    study, controller = evidence.study, evidence.controller
    found: Json = {
        "corridor": [study.low, study.high],
        "limit": study.limit,
        "judged": "smoothed",
        "ema": controller.ema,
        "target": controller.target,
        "warm_up": study.warm_up,
    }
    found |= {"with_pid": _of(RFT_FULL, evidence), "beta_held": _of(HELD, evidence)}
    found["fast"] = {"with_pid": _of(FAST, evidence), "beta_held": _of(FAST_HELD, evidence)}
    return found


def _of(method: str, evidence: Evidence) -> Json:
    """The divergence of a method's runs, together and one by one."""
    warm_up = evidence.study.warm_up
    runs = {seed: _after(warm_up, columns, evidence) for seed, columns in evidence.runs(method)}
    runs = {seed: both for seed, both in runs.items() if both.size}
    whole = np.concatenate([np.zeros((2, 0)), *runs.values()], axis=1)
    return {
        "method": method,
        "seeds": len(runs),
        **_both(whole, evidence),
        "runs": [{"seed": seed, **_both(both, evidence)} for seed, both in runs.items()],
    }


def paid_from(evidence: Evidence, method: str, seed: int) -> int | None:
    """The step of a run from which intrinsic terms were paid; None where they never were."""
    rows = evidence.steps.to_pylist()
    paid = (
        row["step"]
        for row in rows
        if (row["method"], row["seed"]) == (method, seed) and row["stage"] == "intrinsic"
    )
    return min(paid, default=None)


def smoothed(run: Mapping[str, Array], ema: float) -> Array:
    """The controller's moving average of `kl` after each step of a run [steps], whether it steers or not
    (`training/rft/pid.py`): from the first value on, and unmoved by a step that dropped every group."""
    found, average = [], None
    for kl, dropped in zip(run["kl"], run["filtered"], strict=True):
        if dropped < 1:
            average = kl if average is None else ema * average + (1 - ema) * kl
        found.append(average or 0.0)
    return np.array(found)


def _after(warm_up: int, run: Mapping[str, Array], evidence: Evidence) -> Array:
    """[2, steps]: the moving average, and the steps' own values, from the end of the warm-up on."""
    both = np.stack([smoothed(run, evidence.controller.ema), run["kl"]])
    return both[:, run["step"] >= warm_up]


def _both(both: Array, evidence: Evidence) -> Json:
    return {
        "steps": both.shape[1],
        "smoothed": _spread(both[0], evidence),
        "raw": _spread(both[1], evidence),
    }


def _spread(kl: Array, evidence: Evidence) -> Json:
    """Over steps: median, 95th percentile, the standard deviation as a share of the mean (`scatter`), and
    the share of steps in the corridor (`within`) and beyond the limit (`over`)."""
    if not kl.size:  # ended before the warm-up was over
        return dict.fromkeys(("median", "p95", "scatter", "within", "over"))
    study = evidence.study
    return {
        "median": _rounded(np.median(kl)),
        "p95": _rounded(np.percentile(kl, 95)),
        "scatter": _rounded(kl.std() / kl.mean()) if kl.mean() else 0.0,
        "within": _rounded(((kl >= study.low) & (kl <= study.high)).mean()),
        "over": _rounded((kl > study.limit).mean()),
    }


def _rounded(value: float | np.floating) -> float:
    """To six places, so that the last bits of another machine's sums do not show."""
    return round(float(value), DIGITS)
