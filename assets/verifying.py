"""`pixelis verify`: artifacts, run records and media, hashed again; stable stages made again on request."""

from collections.abc import Iterator
from dataclasses import fields
from hashlib import sha256
from typing import Any

from assets import console
from assets.catalogue import STAGES
from assets.running import derive, resolved
from assets.stage import Project, Stage
from pixelis_pipeline.ledger import artifact, verify
from pixelis_pipeline.ledger.chain import Input, RunRecord
from pixelis_pipeline.ledger.verify import Finding
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.records import canonical
from pixelis_pipeline.synthesis.asking.store import AnswerStore, StoreError
from pixelis_pipeline.synthesis.response import Response

NOT_DERIVED = "not derived: "


def _otherwise(project: Project, stage: Stage, record: RunRecord) -> str:
    """Why making a version again would prove nothing; empty where it would."""
    if not stage.stable:
        return "not the same bytes on every run"
    if stage.code != record.code:
        return "code differs"
    values = resolved(project, stage, record.partition)
    return "" if sha256(canonical(values)).hexdigest() == record.settings else "settings differ"


def _again(project: Project, stage: Stage, record: RunRecord, found: Finding) -> Finding:
    """The finding about an intact version, after it was made again."""
    if why := _otherwise(project, stage, record):
        return Finding(found.node, "intact", NOT_DERIVED + why)
    version = derive(project, record)
    if version != record.version:
        return Finding(found.node, "changed", f"the same inputs and code now make {version[:12]}")
    return Finding(found.node, "re-derived")


def _media(project: Project, stage: Stage, record: RunRecord) -> Iterator[Finding]:
    """The media that an artifact points to. Packs inside artifacts were hashed with them."""
    folder = project.ledger.folder(record.asset, record.partition, record.version)
    records: Iterator[Any] = artifact.records(folder, stage.record)
    for each in records:
        for media in each.media:
            if "!/" in media.path:
                continue
            try:
                project.media.data(media)
            except MediaError as error:
                gone = error.rule == "missing media"
                node = f"{media.kind} {media.path}"
                yield Finding(node, "missing" if gone else "changed", str(error))


def _answers(project: Project, record: RunRecord) -> Iterator[Finding]:
    """The store of answers against the responses that were hashed, and its requests against their keys. An
    answer that is gone takes nothing with it: the artifact holds the words."""
    folder = project.ledger.folder(record.asset, record.partition, record.version)
    responses = {each.request: each for each in artifact.records(folder, Response)}
    with AnswerStore(project.root) as store:
        try:
            answered = sorted(store.answered(responses))
        except StoreError as error:
            yield Finding(f"answers {store.path}", "changed", str(error))
            return
        for key in answered:
            try:
                store.request(key)
                answer = store.read(key)
            except StoreError as error:
                yield Finding(f"answer {key}", "changed", str(error))
                continue
            said = responses[key]
            if (answer.text, answer.model, answer.finish) != (said.text, said.model, said.finish):
                detail = f"{store.path} does not hold what {record.asset} [{record.partition}] does"
                yield Finding(f"answer {key}", "changed", detail)


def _beyond(project: Project, stage: Stage, record: RunRecord) -> Iterator[Finding]:
    """What an intact artifact stands on and does not hold itself. Media are looked at where they enter
    the graph."""
    if not stage.inputs and "media" in {f.name for f in fields(stage.record)}:
        yield from _media(project, stage, record)
    if stage.record is Response:
        yield from _answers(project, record)


def _judged(project: Project, record: RunRecord, found: Finding, sound: set[Input], again: bool) -> Finding:
    """The finding about a hashed version, with what its stage adds; `sound` are the intact versions."""
    stage = STAGES.get(record.asset)
    if not found.good or stage is None:
        return found
    if stage.attested:
        return Finding(found.node, "attested", "a teacher's words: kept as they came, never derivable")
    if not again:
        return found
    if not sound.issuperset(record.inputs):
        return Finding(found.node, "intact", f"{NOT_DERIVED}an input is not intact")
    return _again(project, stage, record, found)


def findings(project: Project, again: bool) -> Iterator[Finding]:
    """Every finding. Where a chain does not hold, nobody can say what is in force, and the chains are all."""
    chains = list(verify.chains(project.ledger))
    yield from chains
    if not all(each.good for each in chains):
        return
    records = verify.in_force(project.ledger)
    hashed: list[Finding] = []
    with project.progress("hash", len(records)) as advance:
        for record in records:
            hashed.append(verify.version(project.ledger, record))
            advance(1)
    pairs = list(zip(records, hashed, strict=True))
    sound = {Input(r.asset, r.partition, r.version) for r, found in pairs if found.good}
    with project.progress("verify", len(records)) as advance:
        for record, found in pairs:
            yield _judged(project, record, found, sound, again)
            if found.good and record.asset in STAGES:
                yield from _beyond(project, STAGES[record.asset], record)
            advance(1)
    yield from verify.pointers(project.ledger)


def show(project: Project, *, derive: bool) -> int:
    """Print what is not good, then the labels by number. 1 if anything is missing or changed."""
    labels: dict[str, int] = {}
    for each in findings(project, derive):
        labels[each.label] = labels.get(each.label, 0) + 1
        if not each.good:
            console.error(f"{each.label}: {each.node}: {each.detail}")
        elif each.detail.startswith(NOT_DERIVED):
            console.say(f"{each.node}: {each.detail}")
    if not labels:
        console.say("nothing to verify yet: `pixelis run` makes the first versions")
    console.say(", ".join(f"{count} {label}" for label, count in sorted(labels.items())))
    return int(bool(labels.keys() & {"missing", "changed"}))
