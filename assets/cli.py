"""The command `pixelis`. Dagster is imported by `run` alone: what the ledger knows can be asked for
where Dagster is not installed."""

import argparse
import sys
from collections.abc import Sequence
from operator import attrgetter

from assets import console, trying
from assets.stage import Project, StageError, home
from pixelis_pipeline.ledger.chain import TamperedChain
from pixelis_pipeline.ledger.ledger import LedgerError, MissingVersion
from pixelis_pipeline.settings import SettingsError, load, provenance
from pixelis_pipeline.sources.contract import LayoutError

EXAMPLES = """
a first walk:
  pixelis run                                  the whole graph, and the report at its end
  pixelis status                               what is there, what is stale, what failed
  pixelis trace accuracy/sft/capabilities/all  from a reported number to pixels and licences
  pixelis verify                               hash everything again; a flipped byte is named
  make ui                                      look at it in Dagster
  pixelis tools try SEG --image a.jpg --box 100 100 500 500    one call on a picture of yours

settings: pixelis.toml beside workspace.yaml, or variables such as PIXELIS_SOURCES__SA1B__SEED=8;
`pixelis settings` prints them with where each number comes from.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pixelis",
        description="From raw media to a benchmark report, every step a version that can be walked back.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--profile", help="embedded (default), tiny, workstation or cluster; or set PIXELIS_PROFILE"
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

    trying.declare(commands)
    commands.add_parser("settings", help="numbers and their provenance: S paper, D derived, M mirror, P ours")
    commands.add_parser("graph", help="write dvc.yaml and the generated pages of docs/ from the code")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. 0 is success, 1 a finding or a failed run, 2 a mistake in the call."""
    given = _parser().parse_args(arguments)
    try:
        project = Project(home(), load(home(), given.profile), console.progress)
        return _COMMANDS[given.command](project, given)
    except (SettingsError, LayoutError, StageError, MissingVersion, TamperedChain, LedgerError) as error:
        console.error(str(error))
        return 1
    except KeyboardInterrupt:
        console.error("stopped; what is committed stays, run again to go on")
        return 130


def _run(project: Project, given: argparse.Namespace) -> int:
    from assets import driver

    return driver.run(project, to=given.to or (), asset=given.asset, partition=given.partition)


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
    "status": _status,
    "trace": _trace,
    "verify": _verify,
    "gc": _gc,
    "tools": _tools,
    "settings": _settings,
    "graph": _graph,
}

if __name__ == "__main__":
    sys.exit(main())
