"""What the study keeps: every prediction, the numbers of every step of reinforcement, and its settings.

Two Parquet files and a JSON file in one folder. All runs lie in one file and beside each other, question by
question, so that what they have in common is written once. The JSON file is written last and names the bytes
of the other two, so that a kill on the way leaves nothing that could be taken for whole.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.scores import Array, arm
from pixelis_pipeline.columns import from_table, to_table
from pixelis_pipeline.ledger import dvc, files
from pixelis_pipeline.records import Json, Prediction
from pixelis_pipeline.settings import EvaluationSettings, PidSettings, StudySettings

PREDICTIONS, STEPS, ABOUT = "predictions.parquet", "steps.parquet", "study.json"
FILES = (PREDICTIONS, STEPS, ABOUT)
SEALED = "sha256"  # of study.json: the digests of the tables that it was written for
LARGEST = 10_000_000  # bytes that may be committed
_DICTIONARY = 1 << 26  # bytes of what repeats, a column: without it a mask is written once a policy


class EvidenceError(ValueError):
    """Evidence that cannot be kept or does not bear out what is said of it; the text says which."""


@dataclass(frozen=True)
class Evidence:
    """`version` is DVC's hash of the folder; `steps` has a row a step with the columns `method`, `seed` and
    `step`; `about` holds the settings, and what each training came to."""

    version: str
    predictions: tuple[Prediction, ...]
    steps: pa.Table
    about: Json

    @cached_property
    def evaluation(self) -> EvaluationSettings:
        """How the numbers are stated: at 95 %, which the field `ci95` promises."""
        stored = EvaluationSettings.model_validate(self.about["settings"]["evaluation"])
        return stored.model_copy(update={"confidence": 0.95})

    @cached_property
    def study(self) -> StudySettings:
        """The corridor, and how much of a run is warm-up."""
        return StudySettings.model_validate(self.about["settings"]["study"])

    @cached_property
    def controller(self) -> PidSettings:
        """Of β: its target, and how it averages the divergence."""
        return PidSettings.model_validate(self.about["settings"]["pid"])

    def runs(self, method: str) -> Iterator[tuple[int, dict[str, Array]]]:
        """(seed, columns by name [steps]) of each reinforcement by `method`, in order."""
        names, seeds = (self.steps.column(name).to_numpy() for name in ("method", "seed"))
        for seed in sorted(set(seeds[names == method].tolist())):
            rows = self.steps.filter(pa.array((names == method) & (seeds == seed))).sort_by("step")
            numbers = [field.name for field in rows.schema if field.type in (pa.float64(), pa.int64())]
            yield seed, {name: rows.column(name).to_numpy().astype(np.float64) for name in numbers}


def write(folder: Path, predictions: Sequence[Prediction], steps: Sequence[Json], about: Json) -> None:
    """Keep all of it in `folder`, each file whole or not at all. EvidenceError, before anything is written,
    where it is too large to be committed."""
    ordered = sorted(predictions, key=lambda p: (p.question.id, arm(p), p.seed))
    columns = pa.schema([(name, _type(value)) for name, value in steps[0].items()]) if steps else None
    tables = {
        PREDICTIONS: to_table(Prediction, ordered),
        STEPS: pa.Table.from_pylist(list(steps), columns) if steps else pa.table(_NO_STEPS),
    }
    made: dict[str, bytes] = {}
    for name, table in tables.items():
        sink = pa.BufferOutputStream()
        pq.write_table(
            table, sink, compression="zstd", compression_level=19, dictionary_pagesize_limit=_DICTIONARY
        )
        made[name] = sink.getvalue().to_pybytes()
    told = about | {SEALED: {name: sha256(data).hexdigest() for name, data in made.items()}}
    made[ABOUT] = json.dumps(told, indent=1, sort_keys=True).encode() + b"\n"
    if (size := sum(map(len, made.values()))) > LARGEST:
        raise EvidenceError(f"{folder} would hold {size:,} bytes, and {LARGEST:,} may be committed")
    folder.mkdir(parents=True, exist_ok=True)
    for draft in folder.glob(".*.tmp"):  # of a process that was killed on the way
        draft.unlink()
    for name, data in made.items():
        files.replace(folder / name, data)


_NO_STEPS = {
    "method": pa.array([], pa.string()),
    "seed": pa.array([], pa.int64()),
    "step": pa.array([], pa.int64()),
}


def _type(value: object) -> pa.DataType:
    return pa.string() if isinstance(value, str) else pa.int64() if isinstance(value, int) else pa.float64()


def read(folder: Path, root: Path) -> Evidence:
    """The evidence in `folder` of the project at `root`. EvidenceError where a file is missing, cannot be
    read or is not the one that was written with the others, where one too many lies there, and where what
    they hold does not fit together: see `_whole`."""
    if (there := sorted(path.name for path in folder.glob("*"))) != sorted(FILES):
        raise EvidenceError(
            f"{folder} must hold {', '.join(FILES)}; it holds {', '.join(there) or 'nothing'}"
        )
    try:
        about = json.loads((folder / ABOUT).read_bytes())
        for name in (PREDICTIONS, STEPS):
            if sha256((folder / name).read_bytes()).hexdigest() != about[SEALED][name]:
                raise EvidenceError(f"{folder / name} is not the file that {ABOUT} was written with")
        version = dvc.hash_directory(folder, root, store=False).version
        predictions = tuple(from_table(Prediction, pq.read_table(folder / PREDICTIONS)))
        found = Evidence(version, predictions, pq.read_table(folder / STEPS), about)
        _whole(found)
    except (OSError, AttributeError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        if isinstance(error, EvidenceError):
            raise
        raise EvidenceError(f"{folder} cannot be read ({type(error).__name__}: {error})") from error
    return found


def _whole(found: Evidence) -> None:
    """EvidenceError where a question is not the same one everywhere, where an arm lacks one for one of its
    seeds or answers it twice, or where what is said of a run does not fit its predictions or its steps."""
    questions = {each.question.id: each.question for each in found.predictions}
    asked: dict[tuple[str, int], set[str]] = {}
    for each in found.predictions:
        if each.question != questions[each.question.id]:
            raise EvidenceError(f"question {each.question.id} is not the same in every prediction")
        of = asked.setdefault((arm(each), each.seed), set())
        if each.question.id in of:
            raise EvidenceError(f"{arm(each)} with seed {each.seed} answers {each.question.id} twice")
        of.add(each.question.id)
    for (name, seed), of in asked.items():
        if of != questions.keys():
            lacks = len(questions.keys() - of)
            raise EvidenceError(f"{name} with seed {seed} lacks {lacks} of the {len(questions)} questions")
    made = {(each.policy, each.tools, each.seed) for each in found.predictions}
    for each in found.about.get("answers", ()):
        if (run := (each["arm"], each["tools"], each["seed"])) not in made:
            raise EvidenceError(f"{ABOUT} tells of answers by {run[0]} with seed {run[2]}; there are none")
    names, seeds = (found.steps.column(name).to_pylist() for name in ("method", "seed"))
    steps = Counter(zip(names, seeds, strict=True))
    for each in found.about["trainings"]:
        rows = steps.get((each["method"], each["seed"]), each["steps"])
        if rows != each["steps"]:
            told = f"{each['steps']} steps of {each['method']} with seed {each['seed']}"
            raise EvidenceError(f"{ABOUT} tells of {told}, and {rows} are kept")
