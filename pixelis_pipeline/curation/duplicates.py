"""De-duplication: the same question on the same bytes, and near-duplicate media.

Trajectories arrive in the total order. One is kept unless something before it is its duplicate, so a later
batch can lose its own items to what stands but never removes what stands. A medium that was removed
stays removed, and what resembles it goes too. Several questions on one picture are not duplicates of
each other; they share a group, and the splits keep a group together. Groups are found as by union-find with
the earliest medium as root, but for one thing: a newcomer that resembles two groups does not join them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from pixelis_pipeline.curation.fingerprints import Fingerprint, MediaFingerprint
from pixelis_pipeline.curation.order import total_order
from pixelis_pipeline.curation.twins import FAR, candidates
from pixelis_pipeline.curation.vectors import Vectors
from pixelis_pipeline.curation.verdict import HERE, Evidence, Judge, judged
from pixelis_pipeline.records import Accepted, Outcome, Rejected, Trajectory, record_id
from pixelis_pipeline.settings import CurationSettings, EngineSettings
from pixelis_pipeline.sources.whitelist import Frames, Pixels

STAGE, VERSION = "deduplicated_trajectories", 3
PARAMETERS = {
    "phash_distance",
    "information_floor",
    "text_anls",
    "patch_agreement",
    "video_agreement",
    "descriptor_cosine",
    "cut_agreement",
    "refuting_agreement",
    "worst_agreement",
    "ssim",
}
ENCODED = {"encoder_image", "encoder_frame", "leak_agreement"}  # and these, where there is an encoder
Asked = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """Two media that are one, on what evidence. `root` is the medium that stands for the group of `earlier`
    when `later` arrives; `blocked` says that `later` was kept out because of it. An edge that blocks nothing
    ties a medium that was blocked already to another group, whose members stay: what stands is not moved."""

    later: str
    earlier: str
    signal: str
    measured: float
    threshold: float
    distance: int
    root: str
    blocked: bool


@dataclass(frozen=True, slots=True)
class Deduplication:
    """An outcome for every fingerprint, in the total order, and every pair of media that was confirmed."""

    outcomes: tuple[Outcome[Trajectory], ...]
    edges: tuple[Edge, ...]

    def groups(self) -> dict[str, list[str]]:
        """Surviving medium -> what was blocked for it, in order; sha256 all."""
        found: dict[str, list[str]] = {}
        for edge in self.edges:
            if edge.blocked:
                found.setdefault(edge.root, []).append(edge.later)
        return found


def deduplicate(
    fingerprints: Iterable[Fingerprint],
    settings: CurationSettings,
    pixels: Pixels,
    frames: Frames,
    vectors: Vectors | None = None,
    embeddings: Vectors | None = None,
    engine: EngineSettings = HERE,
) -> Deduplication:
    """One outcome per fingerprint, in the total order (batch, source, id), whatever order they came in.

    Rules: "exact duplicate" (same media bytes, question, choices, span and kind of trace),
    "near-duplicate image" or "near-duplicate video" (decided by pHash: `measured` is the distance; else the
    agreement of tiles, SSIM, or the cosine of embeddings). `twin` is the id of the kept trajectory in the
    output, `detail` names both media. `vectors` are the media's descriptors, `embeddings` what a learned
    encoder makes of them; without either only pHash finds candidates. Candidates are looked at wherever the
    engine runs. Raises what the decoders raise for one that must be looked at.
    """
    ordered = sorted(fingerprints, key=lambda f: (total_order(f.trajectory), f.id))
    media: dict[str, MediaFingerprint] = {}
    for found in ordered:
        for medium in found.media:
            media.setdefault(medium.media.sha256, medium)
    near = candidates(list(media.values()), settings, vectors, embeddings)
    corpus = _Corpus(media, judged(media, near, partial(Judge, settings, pixels, frames), engine))
    parameters = settings.model_dump(include=PARAMETERS)
    if embeddings is not None:
        parameters |= settings.model_dump(include=ENCODED) | {"encoder": embeddings.encoder}
    return Deduplication(tuple(corpus.admit(found, parameters) for found in ordered), tuple(corpus.edges))


@dataclass(slots=True)
class _Blocked:
    """A removed medium: the earlier medium it resembles, the evidence, and the kept one behind both."""

    resembles: str
    evidence: Evidence
    root: str


@dataclass(slots=True)
class _Corpus:
    """What stands so far. Media are keyed by sha256; trajectories by the ids they leave with."""

    media: Mapping[str, MediaFingerprint]
    near: Mapping[str, Mapping[str, Evidence]]
    edges: list[Edge] = field(default_factory=list)
    asked: dict[Asked, str] = field(default_factory=dict)
    keeper: dict[str, str] = field(default_factory=dict)
    group: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, _Blocked] = field(default_factory=dict)

    def admit(self, found: Fingerprint, parameters: Mapping[str, object]) -> Outcome[Trajectory]:
        """Keep the next trajectory of the order, or say which earlier one it repeats."""
        asked = _asked(found)
        if asked in self.asked:
            return Rejected(found.id, STAGE, "exact duplicate", 0.0, 0.0, twin=self.asked[asked])
        shas = [m.media.sha256 for m in found.media]
        for sha in shas:
            if (blocked := self._blocked(sha)) is not None:
                return self._removal(found, sha, blocked)
        group = next((self.group[sha] for sha in shas if sha in self.group), shas[0])
        identity = record_id(STAGE, VERSION, parameters, [found.id], [found.trajectory.id, group])
        kept = replace(found.trajectory, id=identity, parents=(found.id,), group=group)
        self.asked[asked] = identity
        for sha in shas:
            self.keeper.setdefault(sha, identity)
            self.group.setdefault(sha, group)
        return Accepted(found.id, (kept,))

    def _blocked(self, sha: str) -> _Blocked | None:
        """Why a medium may not enter; None where nothing that came before resembles it."""
        if sha in self.keeper or sha in self.blocked:
            return self.blocked.get(sha)
        for earlier, evidence in self.near.get(sha, {}).items():
            if earlier not in self.keeper and earlier not in self.blocked:
                continue
            root = self.blocked[earlier].root if earlier in self.blocked else earlier
            blocks = sha not in self.blocked
            if blocks:
                self.blocked[sha] = _Blocked(earlier, evidence, root)
            told = (evidence.signal, evidence.measured, evidence.threshold, evidence.distance)
            self.edges.append(Edge(sha, earlier, *told, root, blocks))
        return self.blocked.get(sha)

    def _removal(self, found: Fingerprint, sha: str, blocked: _Blocked) -> Rejected:
        evidence = blocked.evidence
        bits = "" if evidence.distance == FAR else f" at {evidence.distance} bits"
        return Rejected(
            found.id,
            STAGE,
            f"near-duplicate {self.media[sha].media.kind}",
            measured=evidence.measured,
            threshold=evidence.threshold,
            twin=self.keeper[blocked.root],
            detail=f"{evidence.signal}: {sha} resembles {blocked.resembles}{bits}",
        )


def _asked(found: Fingerprint) -> Asked:
    question = found.trajectory.question
    return (
        tuple(m.sha256 for m in question.media),
        " ".join(question.text.split()),
        question.choices,
        question.span,
        found.trajectory.kind,
    )
