"""Replay: every recorded call is run again, and the trace is kept only if it told the truth.

Two kinds of record are held to two standards. A teacher claims what a tool would return; a claim agrees
or not by the tolerance table. What a tool itself returned (a policy's rollout, a trace that was replayed
before) is evidence, with its digest in `Step.artifact`: under the same tool version the call must return
exactly that again. The evidence is `Step.replayed` where a replay filled it in, else `Step.output`; the
claim stays in `output` beside it, because the thoughts that follow were written with the claim in view.
"""

from collections.abc import Mapping
from dataclasses import replace

from pixelis_pipeline.columns import to_row
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.records import (
    Accepted,
    Failed,
    Json,
    Outcome,
    Rejected,
    Step,
    Trajectory,
    canonical,
    record_id,
)
from pixelis_pipeline.settings import ReplaySettings
from pixelis_pipeline.tools.contract import Observation, ToolCrash, Workspace
from pixelis_pipeline.tools.opening import Open
from pixelis_pipeline.tools.registry import NO_TOOL, Registry
from pixelis_pipeline.verify.decisive import decisive
from pixelis_pipeline.verify.refusal import DIFFERS, INVALID, OTHER_VERSION, SAME, STAGE, refusal
from pixelis_pipeline.verify.tolerance import Measured, compare

VERSION = 2


def replay(
    trajectory: Trajectory, registry: Registry, open_media: Open, settings: ReplaySettings
) -> Outcome[Trajectory]:
    """Run a trajectory's calls again, in order, in a fresh workspace, and judge it by its kind.

    Accepted: a new trajectory whose steps carry the re-run outputs, their digests and tool versions, the
    measured agreement, the verdict and `decisive`. Rejected, by the first of: altered, the media cannot be
    decoded (its rule), unknown action, arguments, no tool yet, other version, invalid call: X, replay
    differs: X, trap does not spring, wrong answer, right answer, no error to correct, does not repair, no
    evidence. Failed: a backend broke, or the media are gone or changed.
    """
    if altered(trajectory):
        why = "its id is not the hash of its content: it was altered since it was recorded"
        return Rejected(trajectory.id, STAGE, "altered", detail=why, record=to_row(trajectory))
    if not trajectory.question.media:
        return Rejected(trajectory.id, STAGE, "no media", record=to_row(trajectory))
    try:
        workspace = open_media(trajectory.question.media)
        versions = registry.versions
        steps = tuple(_again(step, workspace, registry, versions, settings) for step in trajectory.steps)
    except MediaError as error:
        if error.passing:
            return Failed(trajectory.id, STAGE, str(error), record=to_row(trajectory))
        return Rejected(trajectory.id, STAGE, error.rule, detail=str(error), record=to_row(trajectory))
    except ToolCrash as error:
        return Failed(trajectory.id, STAGE, str(error), record=to_row(trajectory))
    flags = decisive(trajectory.question, _counted(trajectory, steps), trajectory.answer)
    steps = tuple(replace(step, decisive=flag) for step, flag in zip(steps, flags, strict=True))
    judged = replace(trajectory, steps=steps, parents=(trajectory.id,))
    refused = refusal(judged)
    if refused is not None:
        return replace(refused, of=trajectory.id, record=to_row(judged))
    return Accepted(trajectory.id, (replace(judged, id=identity(judged)),))


def _counted(trajectory: Trajectory, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps that may decide something. The error of a self-correction looked at the wrong thing: it is
    no mask of those that are counted, and what only it refers to has led nowhere."""
    if trajectory.kind != "self-correction":
        return steps
    return tuple(replace(step, valid=False) if step.flawed else step for step in steps)


def identity(judged: Trajectory) -> str:
    """The id of a replayed trajectory: a hash of all that replay let through, tool versions included.

    Media count by their digest, not by where a user's files lie; what fingerprinting adds does not count.
    """
    placeless = tuple(replace(each, path="") for each in judged.question.media)
    question = replace(judged.question, media=placeless)
    content = to_row(replace(judged, id="", question=question, batch="", phash=(), information=()))
    return record_id(STAGE, VERSION, {}, judged.parents, content)


def altered(trajectory: Trajectory) -> bool:
    """Whether a record of this stage is no longer what its id was made of.

    Records of this stage have verdicts. Those that de-duplication passed on (they have a `group`) carry
    ids of later stages, which say nothing of the content.
    """
    replayed = any(step.verdict for step in trajectory.steps) and not trajectory.group
    return replayed and identity(trajectory) != trajectory.id


def _again(
    step: Step,
    workspace: Workspace,
    registry: Registry,
    versions: Mapping[str, str],
    settings: ReplaySettings,
) -> Step:
    """The step with what its call returns now. Raises ToolCrash, MediaError."""
    seen = registry.call(workspace, step.action)
    version = versions.get(step.action.name, "")
    if step.tool_version and step.tool_version != version:
        return replace(step, verdict=OTHER_VERSION, replayed=seen.output, valid=seen.valid)
    kept = _kept(step, seen)
    step = replace(step, replayed=seen.output, valid=seen.valid, tool_version=version, artifact=seen.artifact)
    if not seen.valid:
        return replace(step, verdict=_invalid(step.output, seen) if kept else INVALID)
    measured = Measured("artifact", 0.0, 1.0)
    if kept:
        try:
            measured = compare(step.action.name, step.output, seen.output, settings)
        except (KeyError, TypeError) as error:  # what any claim may hold is looked at there; this is ours
            raise ToolCrash(f"{step.action.name}: {version} returned no such output: {error!r}") from error
    return replace(
        step,
        metric=measured.metric,
        measured=measured.value,
        threshold=measured.threshold,
        verdict=SAME if measured.same else DIFFERS,
    )


def _kept(step: Step, seen: Observation) -> bool:
    """Whether a tool's recorded evidence is what its call returns now, and the digest is the digest of it.
    A teacher's claim is no evidence, so there is nothing to keep."""
    if not (step.artifact or step.replayed):
        return True
    recorded = step.replayed or step.output
    return step.artifact == seen.artifact and canonical(recorded) == canonical(seen.output)


def _invalid(claimed: Json, seen: Observation) -> str:
    """A call that fails as the trace says it failed has told the truth."""
    if seen.output["kind"] == "unavailable":
        return NO_TOOL
    told = isinstance(claimed, dict) and claimed.get("error") == seen.output["error"]
    return SAME if told and all(seen.output.get(key) == claimed[key] for key in claimed) else INVALID
