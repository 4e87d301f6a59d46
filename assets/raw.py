"""Raw media and questions: one asset a source. A user's files stay where they are; where settings name no
folder, the embedded world writes one first, in the same published format.

Several batches share a folder: each takes the records that none before it took, at most `limit` of them. Once
a batch was opened after it, a batch stands: it is no longer compared with the folder, and made again (for new
code or settings) it reads the records that it held.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from assets import batches
from assets.stage import STAGES, Project, StageError, Work, stage
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.media.pack import Packer
from pixelis_pipeline.records import Accepted, Json, Media, Outcome, Rejected, Sample, canonical
from pixelis_pipeline.settings import SourceSettings
from pixelis_pipeline.sources.contract import Reader, SourceReader


def world_folder(root: Path, name: str, seed: int, items: int) -> Path:
    """Where the embedded world of these parameters lies; they make its bytes again at any time."""
    return root / "data" / "world" / name / f"{seed}-{items}"


def named_folder(root: Path, settings: SourceSettings) -> Path | None:
    """The folder that settings name, a relative one from the project root; None for the embedded world."""
    return root / Path(settings.path).expanduser() if settings.path else None


def seed_of(settings: SourceSettings, batch: str) -> int:
    """The world's seed for one batch of a source."""
    return int(sha256(f"{settings.seed}/{batch}".encode()).hexdigest()[:8], 16)


def listing(folder: Path) -> Json:
    """A digest of a user's folder: names, sizes and times of its files. The time of the last change of an
    entry is among them, so that new bytes under an old size and date show."""
    files: list[list[str | int]] = [
        [os.fsencode(p.relative_to(folder)).hex(), s.st_size, s.st_mtime_ns, s.st_ctime_ns]
        for p in sorted(folder.rglob("*"))
        if p.is_file() and (s := p.stat())
    ]
    size = sum(int(each[1]) for each in files)
    return {"files": len(files), "bytes": size, "sha256": sha256(canonical(files)).hexdigest()}


def _held(project: Project, partition: str) -> Json:
    """What a standing batch saw of the user's folder when it was read; empty for a batch that none was opened
    after, and for one that the embedded world wrote."""
    batch, _, source = partition.rpartition("-")
    later = project.batches[project.batches.index(batch) + 1 :] if batch in project.batches else []
    opened = batches.read(project.root)
    if not any(source in opened.get(each, ()) for each in later):
        return {}
    record = project.ledger.record(f"raw/{source}", partition)
    return dict(record.resolved.get("outside") or {}) if record else {}


def _before(project: Project, partition: str) -> dict[str, str]:
    """The versions of this source's earlier batches. StageError where one is not made yet."""
    source = partition.rpartition("-")[2]
    found = {}
    for earlier in project.partitions(STAGES[f"raw/{source}"]):
        if earlier == partition:
            break
        version = project.ledger.current(f"raw/{source}", earlier)
        if version is None:
            raise StageError(f"raw/{source} [{partition}] needs [{earlier}] first: run `pixelis run`")
        found[earlier] = version
    return found


def outside(project: Project, partition: str) -> Json:
    """The user's folder, where settings name one, and the batches that read from it before; the world's bytes
    follow from settings and code."""
    folder = named_folder(project.root, project.settings.sources[partition.rpartition("-")[2]])
    if folder is None:
        return {}
    before = _before(project, partition)
    return _held(project, partition) or {**listing(folder), **({"before": before} if before else {})}


@dataclass(frozen=True, slots=True)
class Share:
    """Which records of a user's folder belong to one batch."""

    own: frozenset[str] | None = None  # those of a standing batch; None: whatever is left
    taken: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()  # by an earlier batch: perhaps their files were half copied then

    def wanted(self, name: str) -> bool:
        """Whether the record of this name is to be read."""
        return name in self.own if self.own is not None else name not in self.taken

    def new(self, outcome: Outcome[Sample]) -> bool:
        """What was refused before and is refused again stands among the earlier batch's rejections."""
        return self.own is not None or not (isinstance(outcome, Rejected) and outcome.of in self.refused)


EVERYTHING = Share()


def share(project: Project, partition: str) -> Share:
    """The part of the user's folder that this batch takes."""
    key = f"raw/{partition.rpartition('-')[2]}"

    def names(of: str, *stems: str) -> frozenset[str]:
        folder = project.ledger.folder(key, of)
        return frozenset(name for stem in stems for name in artifact.ids(folder, stem))

    if _held(project, partition):
        return Share(own=names(partition, "accepted", "failed", "rejected"))
    before = _before(project, partition)
    taken = frozenset[str]().union(*(names(each, "accepted", "failed") for each in before))
    return Share(None, taken, frozenset[str]().union(*(names(each, "rejected") for each in before)) - taken)


def located(media: Media, root: Path) -> Media:
    """Media inside the project are named relative to it, so that every clone makes the same records."""
    path = Path(media.path)
    inside = path.is_absolute() and path.is_relative_to(root)
    return replace(media, path=str(path.relative_to(root))) if inside else media


def read(
    work: Work, reader: Reader, folder: Path, limit: int = 0, mine: Share = EVERYTHING
) -> Iterator[Outcome[Sample]]:
    """Read one folder. Media that the reader makes go into the artifact's own media.zip."""
    root = work.project.root
    place = f"{work.stage.key}/{work.partition}/media.zip"
    with closing(Packer(work.folder / "media.zip", place)) as packer, work.progress(limit) as advance:
        found = (each for each in reader(folder, work.settings.media, packer.keep) if mine.new(each))
        for number, outcome in enumerate(found):
            if limit and number >= limit:
                break
            advance(1)
            if isinstance(outcome, Accepted):
                samples = [
                    replace(s, media=tuple(located(m, root) for m in s.media)) for s in outcome.records
                ]
                outcome = Accepted(outcome.of, tuple(samples))
            yield outcome


def world(project: Project, partition: str) -> Path:
    """The folder of a partition's embedded world, written if it is not there."""
    from pixelis_pipeline.world.build import build

    batch, _, name = partition.rpartition("-")
    source = project.settings.sources[name]
    seed = seed_of(source, batch)
    return build(name, world_folder(project.root, name, seed, source.items), seed=seed, items=source.items)


def _restore(project: Project, partition: str) -> None:
    if not project.settings.sources[partition.rpartition("-")[2]].path:
        world(project, partition)


def _source(work: Work, reader: SourceReader) -> Iterable[Outcome[Sample]]:
    source = work.settings.sources[work.source]
    folder = named_folder(work.project.root, source)
    if folder is None:
        folder = world(work.project, work.partition)
        work.about["world"] = str(folder.relative_to(work.project.root))
        return read(work, reader, folder, source.limit)
    mine = share(work.project, work.partition)
    limit = 0 if mine.own is not None else source.limit
    return read(work, partial(reader, wanted=mine.wanted), folder, limit, mine)


raw = partial(
    stage, record=Sample, group="raw", settings=("source", "media"), outside=outside, restore=_restore
)


@raw("raw/ego4d", partitions="ego4d", kinds=("mp4", "json"))
def ego4d(work: Work) -> Iterable[Outcome[Sample]]:
    """Ego4D: egocentric clips with natural-language query windows and moments."""
    from pixelis_pipeline.sources import ego4d

    return _source(work, ego4d.read)


@raw("raw/fineweb", partitions="fineweb", kinds=("parquet",))
def fineweb(work: Work) -> Iterable[Outcome[Sample]]:
    """FineWeb: web text, rendered into pages of small print whose every word has a known box."""
    from pixelis_pipeline.sources import fineweb

    return _source(work, fineweb.read)


@raw("raw/mathvista", partitions="mathvista", kinds=("json",))
def mathvista(work: Work) -> Iterable[Outcome[Sample]]:
    """MathVista: figures with questions. The authors' own items are evaluation only; they are read here
    and refused by the plan."""
    from pixelis_pipeline.sources import mathvista

    return _source(work, mathvista.read)


@raw("raw/partimagenet", partitions="partimagenet", kinds=("json", "image"))
def partimagenet(work: Work) -> Iterable[Outcome[Sample]]:
    """PartImageNet: images with masks of the parts of each object, in COCO form."""
    from pixelis_pipeline.sources import partimagenet

    return _source(work, partimagenet.read)


@raw("raw/sa1b", partitions="sa1b", kinds=("json", "image"))
def sa1b(work: Work) -> Iterable[Outcome[Sample]]:
    """SA-1B: photographs with class-agnostic masks, as RLE."""
    from pixelis_pipeline.sources import sa1b

    return _source(work, sa1b.read)


@raw("raw/starqa", partitions="starqa", kinds=("mp4", "json"))
def starqa(work: Work) -> Iterable[Outcome[Sample]]:
    """STAR: situated questions on short videos, with choices and per-frame boxes."""
    from pixelis_pipeline.sources import starqa

    return _source(work, starqa.read)
