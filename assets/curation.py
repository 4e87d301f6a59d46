"""From proven traces to training splits: fingerprints, duplicates, the leakage audit, scores, curriculum."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow.parquet as pq

from assets import benchmarks, encoding, recall  # noqa: F401  (benchmarks declares stages that are read here)
from assets.stage import LINE, Project, StageError, Work, stage
from assets.traces import RAW
from pixelis_pipeline.curation import vectors
from pixelis_pipeline.curation.evaluation_twins import Near
from pixelis_pipeline.curation.fingerprints import Fingerprint, MediaFingerprint
from pixelis_pipeline.curation.leakage import LeakageReport
from pixelis_pipeline.curation.verdict import Judge
from pixelis_pipeline.ledger.chain import Input
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.records import (
    Accepted,
    Hardness,
    Media,
    Outcome,
    Prediction,
    Rejected,
    Sample,
    Trajectory,
)
from pixelis_pipeline.sources.whitelist import WhitelistEntry

# What `curation.predictor` may name a version of.
PREDICTORS: Mapping[str, type[Prediction] | type[Hardness]] = {
    "predictions": Prediction,
    "trace_hardness": Hardness,
}

whole = partial(stage, group="curation", settings=("curation", "media"), kinds=("parquet",))


@stage(
    "media_fingerprints",
    record=Fingerprint,
    group="curation",
    partitions=LINE,
    inputs=("replayed_trajectories", *RAW),
    settings=("media",),
    outside=encoding.version,
    kinds=("imagehash",),
)
def media_fingerprints(work: Work) -> Iterator[Outcome[Fingerprint]]:
    """What each trace's media look like: sha256, pHash, how far the hash can be trusted, known words."""
    from pixelis_pipeline.curation.fingerprints import fingerprint
    from pixelis_pipeline.curation.looking import looks

    text: dict[str, str] = {}
    for sample in work.read(f"raw/{work.source}", Sample):
        words = " ".join(str(word["text"]) for word in sample.annotations.get("words", []))
        text.update({media.sha256: words for media in sample.media})
    traces = work.read("replayed_trajectories", Trajectory)
    media = {m.sha256: m for trace in traces for m in trace.question.media}
    known: dict[str, MediaFingerprint] = {}
    unread: dict[str, MediaError] = {}
    with vectors.writer(work.folder) as write, work.progress(len(media)) as advance:
        for look in looks(media.values(), work.project.media, work.settings.engine):
            advance(1)
            sha = look.media.sha256
            if look.fingerprint is None:
                unread[sha] = MediaError(look.rule, look.why)
                continue
            known[sha] = replace(look.fingerprint, text=text.get(sha, ""))
            for view, rows in enumerate(look.rows):
                write.add(look.media, view, rows)
    encoding.embed(work, known, unread)

    def refuse(medium: Media) -> NoReturn:
        raise unread[medium.sha256]

    for trace in work.read("replayed_trajectories", Trajectory):
        yield fingerprint(trace, refuse, refuse, batch=work.batch, known=known)


def _near(work: Work, films: Set[str]) -> Near:
    """What vectors say of training and evaluation media: which may be one, or cut out of which."""
    from pixelis_pipeline.curation.evaluation_twins import near

    sides = "media_fingerprints", "evaluation_whitelist"
    ours, theirs = (vectors.read(work.folders(asset)) for asset in sides)
    seen, held = (encoding.embeddings(work, asset) for asset in sides)
    if (seen is None) != (held is None):
        raise StageError(
            "only one of media_fingerprints and evaluation_whitelist has embeddings: run `pixelis run`"
        )
    both = (seen, held) if seen is not None and held is not None else None
    try:
        return near((ours, theirs), both, films, work.settings.curation)
    except ValueError as error:
        raise StageError(f"{error}: run `pixelis run`") from error


def _films(media: Iterable[Media]) -> set[str]:
    return {each.sha256 for each in media if each.kind == "video"}


def _judge(work: Work) -> Callable[[], Judge]:
    """Makes a judge of candidates, in whichever process."""
    from pixelis_pipeline.curation.looking import decoders

    return partial(Judge, work.settings.curation, *decoders(work.project.media))


def _same(
    work: Work, near: Near, training: Mapping[str, Media], evaluation: Mapping[str, Media]
) -> Callable[[Media, Media], bool]:
    """Settles by their pixels whether a training and an evaluation medium are one."""
    from pixelis_pipeline.curation.evaluation_twins import decide, same_by_pixels

    make = _judge(work)
    return same_by_pixels(make(), near, decide(near, training, evaluation, make, work.settings.engine))


@stage(
    "deduplicated_trajectories",
    record=Trajectory,
    group="curation",
    inputs=("media_fingerprints", "evaluation_whitelist"),
    settings=("curation", "media"),
    kinds=("parquet",),
)
def deduplicated_trajectories(work: Work) -> Iterator[Outcome[Trajectory]]:
    """Near-copies of evaluation media and of earlier training media are taken out; each removal names its
    twin, the signal and the value. What is left carries its duplicate group."""
    from pixelis_pipeline.columns import to_table
    from pixelis_pipeline.curation.duplicates import Edge, deduplicate
    from pixelis_pipeline.curation.evaluation_twins import against, by_pixels
    from pixelis_pipeline.curation.looking import decoders

    settings, project = work.settings.curation, work.project
    fingerprints = list(work.read("media_fingerprints", Fingerprint))
    whitelist = list(work.read("evaluation_whitelist", WhitelistEntry))
    mine = {m.media.sha256: m.media for each in fingerprints for m in each.media}
    held = {m.sha256: m for each in whitelist for m in each.media}
    near = _near(work, _films([*mine.values(), *held.values()]))
    look = by_pixels(held, _same(work, near, mine, held))
    clear: list[Fingerprint] = []
    for outcome in against(fingerprints, whitelist, settings, look, near):
        if isinstance(outcome, Accepted):
            clear.extend(outcome.records)
        elif isinstance(outcome, Rejected):
            yield outcome
    seen = vectors.read(work.folders("media_fingerprints"))
    embedded = encoding.embeddings(work, "media_fingerprints")
    decode = decoders(project.media)
    found = deduplicate(clear, settings, *decode, seen, embedded, work.settings.engine)
    pq.write_table(to_table(Edge, found.edges), work.folder / "edges.parquet")
    work.about["duplicate groups"] = {root: len(later) for root, later in found.groups().items()}
    kept = [each for outcome in found.outcomes if isinstance(outcome, Accepted) for each in outcome.records]
    recall.measure(work, kept)
    yield from found.outcomes


@whole(
    "leakage_audit",
    record=LeakageReport,
    inputs=("deduplicated_trajectories", "evaluation_whitelist", "media_fingerprints"),
    conserves=(),
    gate="no_leak",
)
def leakage_audit(work: Work) -> Iterator[Outcome[LeakageReport]]:
    """Every training item against every benchmark item: media, question, answer. A leak blocks everything
    after this; the residual rate is bounded by a uniform spot check."""
    from pixelis_pipeline.curation.evaluation_twins import by_pixels
    from pixelis_pipeline.curation.leakage import LeakageError, ProbeError, audit
    from pixelis_pipeline.curation.probes import probe

    settings = work.settings.curation
    whitelist = list(work.read("evaluation_whitelist", WhitelistEntry))
    traces = list(work.read("deduplicated_trajectories", Trajectory))
    media = {m.sha256: m for each in whitelist for m in each.media}
    mine = {m.sha256: m for trace in traces for m in trace.question.media}
    near = _near(work, _films([*media.values(), *mine.values()]))
    same = _same(work, near, mine, media)
    seen = vectors.read(work.folders("media_fingerprints"))
    probes = probe(
        seen.where(np.array([sha in mine for sha in seen.owner], bool)),
        vectors.read(work.folders("evaluation_whitelist")),
        settings,
        lambda ours, theirs: same(mine[ours], media[theirs]),
    )
    report = audit(traces, whitelist, settings, by_pixels(media, same), near, probes)
    work.about |= {
        "pairs that agree": report.pairs,
        "spot check": f"{report.found} of {report.checked} drawn pairs leak: at most "
        f"{100 * report.residual[-1]:.4f} % at {100 * report.confidence:g} % confidence",
        "probes": f"{report.probe_hits} of {report.probed} benchmark pictures found themselves in training",
    }
    try:
        report.require_clean()
    except (LeakageError, ProbeError) as error:
        work.block(str(error))
    yield Accepted(report.training_digest, (report,))


def _audited(work: Work) -> Iterator[Trajectory]:
    """The deduplicated traces, once more refused if the audit in force found a leak: a blocking check
    guards one Dagster run only."""
    for report in work.read("leakage_audit", LeakageReport):
        report.require_clean()
    yield from work.read("deduplicated_trajectories", Trajectory)


@whole("scored_trajectories", record=Trajectory, inputs=("deduplicated_trajectories", "leakage_audit"))
def scored_trajectories(work: Work) -> Iterator[Outcome[Trajectory]]:
    """Logic, structure and visual fidelity, z-scored per task family against frozen statistics of the
    earliest positives; below their 10th percentile a trace is rejected."""
    from pixelis_pipeline.columns import to_row
    from pixelis_pipeline.curation.scores import COMPONENTS, fit, score
    from pixelis_pipeline.records import canonical

    statistics = fit(_audited(work), work.settings.curation)
    work.about["statistics"] = to_row(statistics)
    (work.folder / "statistics.json").write_bytes(canonical(to_row(statistics)) + b"\n")
    values: dict[str, array[float]] = {name: array("d") for name in (*COMPONENTS, "score")}
    for outcome in score(_audited(work), statistics, work.settings.curation):
        if isinstance(outcome, Accepted):
            for name, column in values.items():
                column.append(outcome.records[0].scores[name])
        elif isinstance(outcome, Rejected) and outcome.measured is not None:
            values["score"].append(outcome.measured)
        yield outcome
    _draw_scores(work.folder / "scores.png", values, statistics.threshold)


def _draw_scores(path: Path, values: dict[str, "array[float]"], threshold: float) -> None:
    """Histograms of the components of what was kept, and of every score, with the threshold in it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(values), figsize=(10, 2.4), layout="constrained")
    for axes, (name, column) in zip(panels, values.items(), strict=True):
        axes.hist(column, bins=40, color="#0072B2")
        axes.set(xlabel=name, yscale="log" if len(column) else "linear")
    panels[0].set_ylabel("traces")
    panels[-1].axvline(threshold, color="#D55E00")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _predictor(project: Project) -> tuple[Input, ...]:
    """The version by which `curation.predictor` tells what is hard. StageError where there is none such."""
    version = project.settings.curation.predictor
    if version == "none":
        return ()
    for asset in PREDICTORS:
        for record in project.ledger.chain(asset):
            if record.version == version:
                return (Input(asset, record.partition, version),)
    raise StageError(
        f"curation.predictor names {version}, which is no version of `predictions` or `trace_hardness` here: "
        "make one with `pixelis run --to trace_hardness`; `pixelis status` shows those in force, and "
        '"none" uses the heuristic'
    )


@whole("curriculum", record=Trajectory, inputs=("scored_trajectories",), pinned=_predictor)
def curriculum(work: Work) -> Iterator[Outcome[Trajectory]]:
    """Simple, medium or hard by tertiles of difficulty: a documented heuristic until settings pin a
    predictor, and the tags say which."""
    from pixelis_pipeline.curation.curriculum import curriculum, levels, predicted_error

    settings, predicted = work.settings.curation, None
    if settings.predictor != "none":
        asset = work.inputs[-1].asset
        predicted = predicted_error(work.read(asset, PREDICTORS[asset]))
    found = levels(work.read("scored_trajectories", Trajectory), settings, predicted)
    counts: Counter[tuple[str, str]] = Counter()
    for outcome in curriculum(work.read("scored_trajectories", Trajectory), found, settings, predicted):
        if isinstance(outcome, Accepted):
            counts[outcome.records[0].kind, outcome.records[0].difficulty] += 1
        yield outcome
    kinds = sorted({kind for kind, _ in counts})
    work.about["difficulty"] = {
        kind: {level: counts[kind, level] for level in ("simple", "medium", "hard")} for kind in kinds
    }


@whole("training_splits", record=Trajectory, inputs=("curriculum",))
def training_splits(work: Work) -> Iterator[Outcome[Trajectory]]:
    """Train, dev and test, disjoint by media and by duplicate group, balanced over tasks and tools, stable
    when a batch is added."""
    from pixelis_pipeline.curation.splits import Outline, assign, shares, split, stratum

    settings = work.settings.curation
    assigned = assign(work.read("curriculum", Outline), settings)
    counts: Counter[tuple[tuple[str, ...], str]] = Counter()
    for outcome in split(work.read("curriculum", Trajectory), assigned, settings):
        if isinstance(outcome, Accepted):
            counts[stratum(outcome.records[0].question), outcome.records[0].split] += 1
        yield outcome
    work.about["shares"] = shares(counts, settings)
