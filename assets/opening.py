"""`pixelis batch`: opening a batch of this project, and which there are."""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from assets import batches, console
from assets.batches import BatchError
from assets.catalogue import STAGES
from assets.stage import Project
from pixelis_pipeline.settings import SOURCES


def check(project: Project, sources: Sequence[str]) -> None:
    """BatchError where a new batch of these sources would not know what is new. It takes what no batch before
    it took; so those must have read the folder that settings name now."""
    for source in sources:
        path = project.settings.sources[source].path
        standing = project.partitions(STAGES[f"raw/{source}"])
        if not path or not standing:
            continue
        record = project.ledger.record(f"raw/{source}", standing[-1])
        seen = record.resolved.get(f"sources.{source}", {}).get("path") if record else None
        if seen != path:
            raise BatchError(
                f"raw/{source} [{standing[-1]}] has not read {path} yet, so what is new cannot be told: "
                f"`pixelis run --asset raw/{source}` first"
            )


def open_batch(project: Project, name: str, sources: Sequence[str] = ()) -> bool:
    """Open the batch `name` for `sources` (all, where none are named). False where it stands already;
    BatchError where it cannot be opened."""
    chosen = sources or SOURCES
    if name not in batches.read(project.root):
        check(project, chosen)
    return batches.add(project.root, name, chosen, project.settings.batches)


def declare(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `batch` to the program's commands."""
    batch = commands.add_parser(
        "batch",
        help="open a batch: more data beside what stands",
        description="A batch is read, planned, asked for and replayed by itself; what stands is not run "
        "again. The embedded world draws another seed for it; of a folder it takes the records that no "
        "batch before it took.",
    )
    what = batch.add_subparsers(dest="what", required=True, metavar="WHAT")
    opened = what.add_parser("open", help="open one; `pixelis run` then makes it")
    opened.add_argument("name", nargs="?", help="must sort after every other batch; default: the time")
    opened.add_argument("--source", nargs="+", choices=SOURCES, default=[], help="only of these sources")
    what.add_parser("list", help="every batch and its sources, in their order")


def show(project: Project, given: argparse.Namespace) -> int:
    """Open a batch or list them. 1 where it cannot be opened."""
    if given.what == "list":
        for batch in project.batches:
            console.say(f"{batch}: {', '.join(project.sources(batch))}")
        return 0
    name = given.name or batches.name_at(datetime.now(UTC), project.batches)
    try:
        fresh = open_batch(project, name, given.source)
    except BatchError as error:
        console.error(str(error))
        return 1
    console.say(f"opened {name}: `pixelis run` makes it" if fresh else f"{name} is open already")
    return 0
