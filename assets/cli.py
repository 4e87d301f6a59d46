"""The command `pixelis`. Dagster is imported by `run` alone: what the ledger knows can be asked for
where Dagster is not installed."""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter

from assets import console, dedup, opening, trajectories, trying
from assets.stage import Project, StageError, home
from assets.study import command as study
from pixelis_pipeline.ledger.chain import TamperedChain
from pixelis_pipeline.ledger.ledger import LedgerError, MissingVersion
from pixelis_pipeline.settings import SettingsError, load, provenance
from pixelis_pipeline.sources.contract import LayoutError
from pixelis_pipeline.synthesis.asking.store import StoreError

EXAMPLES = """
a first walk:
  pixelis run                                  the whole graph, and the report at its end
  pixelis status                               what is there, what is stale, what failed
  pixelis trace accuracy/sft/capabilities/all  from a reported number to pixels and licences
  pixelis verify                               hash everything again; a flipped byte is named
  make ui                                      look at it in Dagster
  pixelis estimate                             what asking a paid teacher would cost, before it is asked
  pixelis trajectories                         what each phase of training did with a question, side by side
  pixelis dedup FOLDER                         near-duplicates in any folder of yours, with a page of them
  pixelis tools try SEG --image a.jpg --box 100 100 500 500    one call on a picture of yours

settings: pixelis.toml beside workspace.yaml, or variables such as PIXELIS_SOURCES__SA1B__SEED=8;
`pixelis settings` prints them with where each number comes from.
"""

ESTIMATE = """
how it is reckoned: prompt tokens are the text's bytes / 4, and 85 + 170 a tile of 512 x 512 for each picture
or video frame (OpenAI's rule; others count otherwise). Completion tokens are the mean of what this model
answered before ("from answers"), else a prior of 5.8 steps ("from prior"); "at most" is the cost if every
answer were as long as the limit that is sent. Dollars follow the price list in settings, in US dollars per
million tokens:

  [teacher.prices."grok-4"]
  prompt = 3.0          # yours: look them up
  completion = 15.0
  batch = 0.5           # the share of these that /v1/batches costs

time is the requests over teacher.requests_per_minute, where that is set.

  pixelis run --to synthesis_plan              make the plan; asks nobody
  pixelis estimate
  pixelis run --max-cost 20                    and no more than 20 dollars
"""


def _dollars(text: str) -> float:
    """A budget as written on the command line."""
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 < amount < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of dollars above 0")
    return amount


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pixelis",
        description="From raw media to a benchmark report, every step a version that can be walked back.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--profile",
        help="embedded (default), tiny, workstation, cluster, gpu80 or gpu80x8; or set PIXELIS_PROFILE",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="materialise what is stale",
        description="Materialise every stage whose inputs, code or settings changed, and skip the rest.",
    )
    run.add_argument(
        "--to",
        metavar="ASSET",
        nargs="+",
        help="make only these assets and what they need, e.g. training_splits",
    )
    run.add_argument("--asset", help="make this one asset only")
    run.add_argument("--partition", help="with --asset: only this partition, e.g. 000-sa1b")
    run.add_argument(
        "--jobs",
        type=dedup.processes,
        default=1,
        metavar="N",
        help="up to so many runs side by side, each in a process of its own (default 1). One at a time where "
        "the teacher has a budget: it is counted in one process",
    )
    run.add_argument(
        "--max-cost",
        type=_dollars,
        metavar="DOLLARS",
        help="end the asking before the teacher's answers have cost so much (teacher.max_cost for this run); "
        "the teacher needs a price. What is paid for is kept: the next run goes on from there",
    )

    commands.add_parser(
        "estimate",
        help="what asking the teachers will take, before it is asked",
        description="For each source: what is planned, what the store of answers already holds, and the "
        "tokens, dollars and time that the rest will take. Reads the plan (`pixelis run --to synthesis_plan` "
        "makes it), asks nobody and needs no key. `pixelis run` prints this too before it asks a paid "
        "endpoint.",
        epilog=ESTIMATE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands.add_parser("status", help="every artifact: version, counts, up to date or stale")

    trace = commands.add_parser(
        "trace",
        help="walk a record or a report cell back to media bytes and licences",
        description="Walk back from a record id (any unique beginning of it), a media sha256 or a report "
        "cell such as accuracy/sft/capabilities/all.",
    )
    trace.add_argument("id")
    trace.add_argument("--forward", action="store_true", help="walk the other way: what did this touch?")
    trace.add_argument("--all", action="store_true", help="every branch, not only the first few")

    verify = commands.add_parser(
        "verify",
        help="hash every artifact, record and medium again",
        description="Labels each node intact, re-derived, attested or missing. Anything missing or "
        "changed is named, and the exit status is 1.",
    )
    verify.add_argument("--derive", action="store_true", help="also make stable artifacts again and compare")

    gc = commands.add_parser(
        "gc",
        help="free versions that nothing in force needs",
        description="Shows what would be freed; frees it only with --yes. A version stays if the pointer "
        "names it, if one that stays was made from it, or if a git tag's pointer names it.",
    )
    gc.add_argument("--yes", action="store_true", help="free it")

    opening.declare(commands)
    trying.declare(commands)
    dedup.declare(commands)
    trajectories.declare(commands)
    study.declare(commands)
    commands.add_parser("settings", help="numbers and their provenance: S paper, D derived, M mirror, P ours")
    commands.add_parser("graph", help="write dvc.yaml and the generated pages of docs/ from the code")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. 0 is success, 1 a finding or a failed run, 2 a mistake in the call."""
    given = _parser().parse_args(arguments)
    try:
        project = Project(home(), load(home(), given.profile), console.progress)
        return _COMMANDS[given.command](project, given)
    except (
        SettingsError,
        LayoutError,
        StageError,
        MissingVersion,
        TamperedChain,
        LedgerError,
        StoreError,
    ) as error:
        console.error(str(error))
        return 1
    except KeyboardInterrupt:
        console.error("stopped; what is committed stays, run again to go on")
        return 130


def _run(project: Project, given: argparse.Namespace) -> int:
    from assets import driver, estimating

    if given.partition and not given.asset:
        raise StageError("--partition goes with --asset, e.g. --asset teacher_responses")
    project = replace(project, settings=estimating.limited(project.settings, given.max_cost))
    if estimating.due(project, given.to or (), given.asset):
        if not given.asset and (stopped := driver.run(project, to=(estimating.PLAN,))):
            return stopped
        estimating.show(project)
        estimating.require_keys(project)
    jobs, teacher = given.jobs, project.settings.teacher
    if jobs > 1 and (teacher.max_cost or teacher.max_tokens):
        console.say("one run at a time: the teacher has a budget, and one process counts it")
        jobs = 1
    return driver.run(
        project,
        to=given.to or (),
        asset=given.asset,
        partition=given.partition,
        jobs=jobs,
    )


def _estimate(project: Project, given: argparse.Namespace) -> int:
    from assets import estimating

    return estimating.show(project)


def _status(project: Project, given: argparse.Namespace) -> int:
    from assets import status

    return status.show(project)


def _trace(project: Project, given: argparse.Namespace) -> int:
    from assets import tracing

    return tracing.show(project, given.id, forward=given.forward, everything=given.all)


def _verify(project: Project, given: argparse.Namespace) -> int:
    from assets import verifying

    return verifying.show(project, derive=given.derive)


def _gc(project: Project, given: argparse.Namespace) -> int:
    from assets import freeing

    return freeing.show(project, free=given.yes)


def _tools(project: Project, given: argparse.Namespace) -> int:
    return trying.show(project, given)


def _settings(project: Project, given: argparse.Namespace) -> int:
    rows = [
        [name, str(attrgetter(name)(project.settings)), str(default), mark.code, mark.where]
        for name, default, mark in provenance()
    ]
    columns = ["setting", "in force", "default", "code", "source"]
    console.table("The numbers and where they come from", columns, rows)
    return 0


def _graph(project: Project, given: argparse.Namespace) -> int:
    from assets import generated

    for path in generated.write(project.root):
        console.say(f"wrote {path}")
    return 0


_COMMANDS = {
    "run": _run,
    "estimate": _estimate,
    "status": _status,
    "trace": _trace,
    "verify": _verify,
    "gc": _gc,
    "batch": opening.show,
    "tools": _tools,
    "dedup": dedup.show,
    "trajectories": trajectories.show,
    "study": study.show,
    "settings": _settings,
    "graph": _graph,
}

if __name__ == "__main__":
    sys.exit(main())
