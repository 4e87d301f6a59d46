"""What the policies do on held-out questions, the numbers computed from it, and the page that shows them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow.parquet as pq

from assets.funnel import EXAMPLES
from assets.policies import FOLDER, Checkpoint
from assets.stage import MADE_FROM, POLICY, Work, stage
from assets.traces import tool_versions
from evaluation.funnel import Example, Row
from evaluation.scores import Cell, PredictionSet
from pixelis_pipeline.columns import from_table, to_table
from pixelis_pipeline.ledger import artifact, code
from pixelis_pipeline.ledger.chain import RunRecord
from pixelis_pipeline.ledger.verify import ancestors
from pixelis_pipeline.records import Accepted, Outcome, Prediction, Question, Trajectory, record_id

COMPARISONS = "comparisons.parquet"


@stage(
    "predictions",
    record=Prediction,
    group="measurements",
    partitions=POLICY,
    inputs=("benchmarks/capabilities", *sorted(set(MADE_FROM.values()))),
    settings=("policy", "tools", "evaluation.seed", "media", "rft.threads"),
    outside=tool_versions,
    kinds=("pytorch", "parquet"),
    stable=False,
)
def predictions(work: Work) -> Iterator[Outcome[Prediction]]:
    """Every rollout of a policy on the held-out questions, whole: thoughts, calls, observations, answer.
    The controls are the same: the majority answer, and the fine-tuned policy with its tools off."""
    questions = list(work.read("benchmarks/capabilities", Question))
    made = _majority(work, questions) if work.policy == "majority" else _rollouts(work, questions)
    by_question: dict[str, list[Prediction]] = {question.id: [] for question in questions}
    for prediction in made:
        by_question[prediction.question.id].append(prediction)
    for of, answers in by_question.items():
        yield Accepted(of, tuple(answers))


def _majority(work: Work, questions: list[Question]) -> list[Prediction]:
    from evaluation.majority import majority_predictions
    from pixelis_pipeline.verify.answers import right

    traces = work.read("training_splits", Trajectory)
    answers = [(t.question.task, t.question.answer) for t in traces if t.split == "train"]
    return majority_predictions(questions, answers, right)


def _rollouts(work: Work, questions: list[Question]) -> list[Prediction]:
    import torch

    from pixelis_pipeline.agent import policy
    from pixelis_pipeline.agent.rollout import rollouts
    from pixelis_pipeline.tools.opening import opened
    from pixelis_pipeline.tools.registry import default_registry, disabled_registry
    from pixelis_pipeline.verify.answers import right

    made_from = MADE_FROM[work.policy]
    checkpoint = next(iter(work.read(made_from, Checkpoint)))
    tools = work.policy != "sft_no_tools"
    registry = default_registry(work.settings.tools) if tools else disabled_registry()
    work.digests |= {"weights": checkpoint.weights, "tools": registry.versions}
    torch.set_num_threads(work.settings.rft.threads)
    with work.progress(len(questions)) as advance:
        made = rollouts(
            policy.opened(work.folders(made_from)[0] / FOLDER, work.settings.policy),
            questions,
            registry,
            partial(opened, work.project.media),
            work.settings.policy,
            name=work.policy.removesuffix("_no_tools"),
            tools=tools,
            seed=work.settings.evaluation.seed,
            right=right,
            progress=lambda done: advance(1),
        )
    work.about["correct"] = sum(p.correct for p in made)
    return [replace(p, parents=(*p.parents, checkpoint.id)) for p in made]


def _sets(work: Work) -> list[PredictionSet]:
    """All stored predictions with the data version they stand in."""
    found = []
    for each in work.inputs:
        if each.asset == "predictions":
            folder = work.project.ledger.folder(each.asset, each.partition, each.version)
            stored = tuple(artifact.records(folder, Prediction))
            found.append(PredictionSet("capabilities", each.version, stored))
    return found


@stage(
    "benchmark_scores",
    record=Cell,
    group="measurements",
    inputs=("predictions",),
    conserves=(),
    settings=("evaluation",),
    kinds=("scipy",),
)
def benchmark_scores(work: Work) -> Iterator[Outcome[Cell]]:
    """Accuracy, RaPR, chain length and valid calls with intervals, and the paired differences of each phase
    of training to the one before it and to the controls. Every cell names the predictions it was computed
    from."""
    from evaluation.comparisons import Comparison, compare
    from evaluation.scores import score

    sets = _sets(work)
    compared = compare(sets, work.settings.evaluation)
    pq.write_table(to_table(Comparison, compared), work.folder / COMPARISONS)
    cells = (*score(sets, work.settings.evaluation), *(c.cell for c in compared))
    for cell in cells:
        if cell.slice == "all":
            work.about[cell.id] = f"{cell.value:.4f} [{cell.low:.4f}, {cell.high:.4f}]"
        yield Accepted(cell.id, (cell,))


# What the report draws of a reinforcement's steps (`training.rft.record.Line`), and what it calls them.
REINFORCED = {
    "success": "Rollouts answered right (share)",
    "calls": "Calls a rollout",
    "kl": "Divergence from SFT (nats a token)",
}


@dataclass(frozen=True, slots=True)
class Page:
    """The report as a record: what it shows is in the cells it names."""

    id: str
    parents: tuple[str, ...]
    file: str


@stage(
    "benchmark_report",
    record=Page,
    group="measurements",
    inputs=("benchmark_scores", "predictions", "sft_policy", "rft_policy", "quality_funnel"),
    conserves=(),
    settings=("evaluation", "media", "profile"),
    kinds=("html",),
    stable=False,
)
def benchmark_report(work: Work) -> Iterator[Outcome[Page]]:
    """One self-contained HTML page: the numbers of every phase with their intervals, the curves, the funnel
    of the data, and for each question the picture, the steps drawn on it and the ids to trace."""
    from evaluation.comparisons import Comparison
    from evaluation.report import Curve, report, summary
    from pixelis_pipeline.verify.draw import draw_steps

    scores = work.folders("benchmark_scores")[0]
    compared = from_table(Comparison, pq.read_table(scores / COMPARISONS))
    cells = list(artifact.records(scores, Cell))
    points = next(iter(work.read("sft_policy", Checkpoint))).about["curve"]
    steps = tuple(int(p["step"]) for p in points)
    reinforced = next(iter(work.read("rft_policy", Checkpoint))).about["steps"]
    taken = {"sft": steps[-1] if steps else 0, "rft": len(reinforced)}
    curves = [Curve(name, steps, tuple(float(p[name]) for p in points)) for name in ("train", "dev")]
    made = [p for each in _sets(work) for p in each.predictions]
    records = ancestors(work.project.ledger, work.inputs)
    html = report(
        [c for c in cells if c.metric != "difference"],
        compared,
        made,
        curves,
        list(work.read("quality_funnel", Row)),
        from_table(Example, pq.read_table(work.folders("quality_funnel")[0] / EXAMPLES)),
        _context(work, records, taken),
        work.project.media.view,
        partial(draw_steps, max_side=480),
        reinforced=[
            Curve(title, tuple(p["step"] for p in reinforced), tuple(float(p[name]) for p in reinforced))
            for name, title in REINFORCED.items()
        ],
    )
    (work.folder / "report.html").write_text(html)
    (work.folder / "summary.json").write_text(json.dumps(summary(cells, compared), indent=1, sort_keys=True))
    work.about["report"] = "report.html"
    identity = record_id("benchmark_report", 1, {}, [c.id for c in cells], [c.predictions for c in cells])
    yield Accepted(identity, (Page(identity, tuple(c.id for c in cells), "report.html"),))


def _context(work: Work, records: list[RunRecord], steps: dict[str, int]) -> Any:
    from evaluation.report import Context

    root = work.project.root
    git = code.git_state(root)
    seeds = {
        name.removeprefix("sources."): values["seed"]
        for record in records
        for name, values in record.resolved.items()
        if isinstance(values, dict) and "seed" in values and name not in ("curation", "evaluation")
    }
    return Context(
        profile=work.settings.profile,
        seeds={**seeds, "evaluation": work.settings.evaluation.seed},
        commit=git["commit"] + (f" with uncommitted changes {git['dirty']}" if git["dirty"] else ""),
        environment=code.environment(root),
        versions={f"{r.asset} [{r.partition}]": r.version for r in records},
        steps=steps,
        bit_stable=(
            "Every artifact from the raw sources to the training splits: the same seeds give the same data "
            "versions on any machine with this environment.",
            "Scores and this page, given the stored predictions.",
        ),
        not_bit_stable=(
            "The weights of a phase: equal on one machine with one number of threads, not across machines.",
            "Predictions, as far as the weights differ.",
        ),
    )
