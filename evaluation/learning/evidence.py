"""What the study keeps: every prediction, the numbers of every step of reinforcement, and its settings.

Two Parquet files and a JSON file in one folder. All runs lie in one file and beside each other, question by
question, so that what they have in common is written once.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
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
    """Keep all of it in `folder`, each file whole or not at all. EvidenceError where it is too large to be
    committed."""
    folder.mkdir(parents=True, exist_ok=True)
    ordered = sorted(predictions, key=lambda p: (p.question.id, arm(p), p.seed))
    columns = pa.schema([(name, _type(value)) for name, value in steps[0].items()]) if steps else None
    tables = {
        PREDICTIONS: to_table(Prediction, ordered),
        STEPS: pa.Table.from_pylist(list(steps), columns) if steps else pa.table(_NO_STEPS),
    }
    for name, table in tables.items():
        sink = pa.BufferOutputStream()
        pq.write_table(
            table, sink, compression="zstd", compression_level=19, dictionary_pagesize_limit=_DICTIONARY
        )
        files.replace(folder / name, sink.getvalue().to_pybytes())
    files.replace(folder / ABOUT, json.dumps(about, indent=1, sort_keys=True).encode() + b"\n")
    size = sum((folder / name).stat().st_size for name in FILES)
    if size > LARGEST:
        raise EvidenceError(f"{folder} holds {size:,} bytes, and {LARGEST:,} may be committed")


_NO_STEPS = {
    "method": pa.array([], pa.string()),
    "seed": pa.array([], pa.int64()),
    "step": pa.array([], pa.int64()),
}


def _type(value: object) -> pa.DataType:
    return pa.string() if isinstance(value, str) else pa.int64() if isinstance(value, int) else pa.float64()


def read(folder: Path, root: Path) -> Evidence:
    """The evidence in `folder` of the project at `root`. EvidenceError where a file is missing or one too
    many lies there."""
    if (found := sorted(path.name for path in folder.glob("*"))) != sorted(FILES):
        raise EvidenceError(
            f"{folder} must hold {', '.join(FILES)}; it holds {', '.join(found) or 'nothing'}"
        )
    version = dvc.hash_directory(folder, root, store=False).version
    predictions = from_table(Prediction, pq.read_table(folder / PREDICTIONS))
    about = json.loads((folder / ABOUT).read_bytes())
    return Evidence(version, tuple(predictions), pq.read_table(folder / STEPS), about)
