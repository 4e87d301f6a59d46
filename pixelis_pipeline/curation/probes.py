"""Benchmark pictures put as queries to an exact index over the training descriptors.

It is what an index for retrieval will be asked: does anything that may be retrieved belong to a benchmark?
It knows nothing of pHash or of the audit's own join, and so guards against either missing something.
"""

from collections.abc import Callable

import numpy as np

from pixelis_pipeline.curation.index import Exact
from pixelis_pipeline.curation.vectors import Vectors
from pixelis_pipeline.settings import CurationSettings

Same = Callable[[str, str], bool]


def probe(training: Vectors, evaluation: Vectors, settings: CurationSettings, same: Same) -> tuple[int, int]:
    """(queries, hits): `settings.probes` whole views and windows of the benchmarks, drawn uniformly with
    replacement, each with its nearest training picture; a hit where that is the same picture, by its bytes or
    by `same(training sha256, evaluation sha256)` at a cosine of `descriptor_cosine` or more."""
    ours = training.wholes()
    if not len(ours.owner) or not len(evaluation.owner):
        return 0, 0
    drawn = np.random.default_rng(settings.seed).integers(len(evaluation.owner), size=settings.probes)
    rows, times = np.unique(drawn, return_counts=True)
    asked = evaluation.where(rows)
    found, nearest = Exact(ours.matrix).search(asked.matrix, 1)
    hits = 0
    for sha, value, row, count in zip(asked.owner, found[:, 0], nearest[:, 0], times, strict=True):
        twin = ours.owner[row]
        if twin == sha or (value >= settings.descriptor_cosine and same(twin, sha)):
            hits += int(count)
    return settings.probes, hits
