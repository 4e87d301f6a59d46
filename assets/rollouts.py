"""The rollouts of a reinforcement run, early beside late: the same prompt, and what each step was paid."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assets.stage import Project, StageError

if TYPE_CHECKING:
    from evaluation.report.trajectories import Column, Draw, Earned, Row
    from training.rft.record import Rolled

Place = tuple[int, str]  # a step and a question that was asked at it
LEAD = (
    "Reward = answer - penalty + weights x (curiosity and coherence on the batch's scale, from the stage "
    "\u201cintrinsic\u201d on). Curiosity and coherence are shown raw; what stands beside a step is what it "
    "adds to the rollout's raw value, and these sum to it. Advantage is the reward beside those of the same "
    "prompt at the same step, 0 where all were equal and the group was dropped. Drawn are the best and the "
    "worst rollout."
)


def rows(
    project: Project,
    run: str,
    steps: Sequence[int] | None,
    beginnings: Sequence[str],
    task: str | None,
    count: int,
    draw: "Draw",
) -> "tuple[str, list[str], list[Row]]":
    """Title, lead and rows of the page about a run: `run` is "rft" or a folder. StageError for what is not
    there, MediaError for pictures that are not."""
    from evaluation.report.pictures import budget
    from training.rft import record

    folder = _folder(project, run)
    there = record.steps(folder)
    if not there:
        raise StageError(f"{folder} holds no rollouts yet: the run has not made a step")
    if missing := sorted(set(steps or ()) - set(there)):
        raise StageError(f"step {missing[0]} is not stored; there are {there[0]} to {there[-1]}")
    asked = {step: record.asked(folder, step) for step in sorted(set(steps or there))}
    tasks = {key: name for each in asked.values() for key, name in each}
    if task and task not in tasks.values():
        raise StageError(f"no prompt is of task {task}; there are {', '.join(sorted(set(tasks.values())))}")
    fits = {step: [key for key, name in each if task in (None, name)] for step, each in asked.items()}
    if beginnings:
        lanes = _of(beginnings, fits, bool(steps))
    elif steps:
        lanes = _common(fits) or _alike(fits, tasks)
    else:
        lanes = _again(fits) or _alike({step: fits[step] for step in {there[0], there[-1]}}, tasks)
    if not lanes:
        raise StageError(
            "these steps have no prompt, and no task, in common: name other steps or leave --task"
        )
    lanes = lanes[:count]
    stages = {line.step: line.stage for line in record.read(folder)}
    batches = {step: record.at(folder, step) for step in sorted({step for lane in lanes for step, _ in lane})}
    most_bytes = budget(2 * sum(map(len, lanes)))
    made = [_row(lane, batches, stages, draw, most_bytes) for lane in lanes]
    same = all(row.question is not None for row in made)
    told = f"{len(there)} steps are stored, {there[0]} to {there[-1]}, in {folder}."
    if not same:
        told += " No prompt was asked at all of these steps: beside each other stand prompts of one task."
    return "Rollouts of a training run, early and late", [told, LEAD], made


def named(beginnings: Sequence[str], ids: Sequence[str], where: str) -> list[str]:
    """The ids that begin so, in the order asked for. StageError for what begins none, or several."""
    found = []
    for beginning in beginnings:
        fits = [each for each in ids if each.startswith(beginning)]
        if not fits:
            raise StageError(f"no question {beginning} {where}: ids stand in the report and on the page")
        if len(fits) > 1:
            raise StageError(f"{len(fits)} questions begin with {beginning}: give more of the id")
        found += fits
    return list(dict.fromkeys(found))


def _folder(project: Project, run: str) -> Path:
    from training.rft.record import ROLLOUTS

    if run == "rft":
        if project.ledger.current("rft_policy") is None:
            raise StageError(
                "no reinforcement run is stored here: `pixelis run --to rft_policy` makes one; of one that "
                "lies elsewhere, or is under way, name the folder that holds rollouts/: --training FOLDER"
            )
        return project.ledger.folder("rft_policy") / "rft"
    if not (Path(run) / ROLLOUTS).is_dir():
        raise StageError(f"{run} is no run: give rft, or a folder that holds {ROLLOUTS}/")
    return Path(run)


def _of(beginnings: Sequence[str], fits: Mapping[int, Sequence[str]], every: bool) -> list[list[Place]]:
    """Those prompts: at `every` step, or at the first and the last that they were asked at."""
    lanes = []
    for key in named(
        beginnings, sorted({k for each in fits.values() for k in each}), "was asked at these steps"
    ):
        at = [step for step in fits if key in fits[step]]
        lanes.append([(step, key) for step in (at if every else dict.fromkeys((at[0], at[-1])))])
    return lanes


def _common(fits: Mapping[int, Sequence[str]]) -> list[list[Place]]:
    """The prompts that were asked at all the steps."""
    first, *rest = fits.values()
    return [[(step, key) for step in fits] for key in first if all(key in each for each in rest)]


def _again(fits: Mapping[int, Sequence[str]]) -> list[list[Place]]:
    """The prompts that came again, at the first and the last step of each, those furthest apart first."""
    at: dict[str, list[int]] = {}
    for step, keys in fits.items():
        for key in keys:
            at.setdefault(key, []).append(step)
    far = sorted((key for key in at if len(at[key]) > 1), key=lambda key: (at[key][0] - at[key][-1], key))
    return [[(at[key][0], key), (at[key][-1], key)] for key in far]


def _alike(fits: Mapping[int, Sequence[str]], tasks: Mapping[str, str]) -> list[list[Place]]:
    """Prompts of one task, one of each step."""
    left = {step: list(fits[step]) for step in sorted(fits)}
    lanes = []
    for key in list(next(iter(left.values()))):
        found = {step: next((k for k in keys if tasks[k] == tasks[key]), "") for step, keys in left.items()}
        if all(found.values()):
            lanes.append(list(found.items()))
            for step, taken in found.items():
                left[step].remove(taken)
    return lanes


def _row(
    lane: Sequence[Place],
    batches: "Mapping[int, Sequence[Rolled]]",
    stages: Mapping[int, str],
    draw: "Draw",
    most_bytes: int,
) -> "Row":
    from evaluation.report.trajectories import Row

    columns = []
    for step, key in lane:
        group = [each for each in batches[step] if each.prediction.question.id == key]
        stage = f", stage \u201c{stages[step]}\u201d" if step in stages else ""
        columns.append(_column(f"Step {step}{stage}", group, draw, most_bytes))
    one = len({key for _, key in lane}) == 1
    question = columns[0].sides[0].prediction.question if one else None
    return Row(question, tuple(columns))


def _column(title: str, group: "Sequence[Rolled]", draw: "Draw", most_bytes: int) -> "Column":
    """A group's worth as a table, and its best and its worst rollout drawn."""
    from evaluation.report.trajectories import Column, side

    order = sorted(range(len(group)), key=lambda k: (-group[k].total, k))
    shown = {"best": order[0], "worst": order[-1]} if len(group) > 1 else {"only": order[0]}
    sides = tuple(
        side(
            f"Rollout {k}, the {name} of {len(group)}",
            group[k].prediction,
            draw,
            most_bytes,
            earned(group[k]),
        )
        for name, k in shown.items()
    )
    return Column(title, sides, tuple((each.prediction, earned(each)) for each in group))


def earned(told: "Rolled") -> "Earned":
    """A stored rollout's rewards as the page takes them; a penalty is what it takes away."""
    from evaluation.report.trajectories import Earned

    terms = {
        "reward": told.total,
        "answer": told.answer,
        "penalty": -told.penalty,
        "curiosity": told.curiosity,
        "coherence": told.coherence,
    }
    steps = tuple(
        {"curiosity": curious, "coherence": joined, "penalty": -paid}
        for curious, joined, paid in zip(
            told.curiosity_steps, told.coherence_steps, told.penalty_steps, strict=True
        )
    )
    return Earned(terms, steps, told.advantage)
