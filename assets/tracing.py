"""`pixelis trace`: a record or a report cell, walked back to media bytes and licences."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from assets import console
from assets.examples import reason
from assets.stage import Project
from pixelis_pipeline.columns import from_row
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.ledger.walk import Index, Node, UnknownId
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.records import Media, Origin

BRANCHES = 3


def _inner(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A row and the records nested in it, outermost first."""
    yield row
    for name in ("question", "trajectory"):
        if isinstance(row.get(name), dict):
            yield from _inner(row[name])


def _words(row: dict[str, Any]) -> str:
    """A few words that tell a person which record this is."""
    shown = [f"{row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"] if "low" in row else []
    for inner in _inner(row):
        text = inner.get("text") or inner.get("question")
        if isinstance(text, str) and text and "request" not in inner:
            shown.append(text)
            break
    if row.get("answer"):
        shown.append(f"answer {row['answer']!r}")
    if row.get("request"):
        shown.append(f"teacher request {row['request'][:12]}")
    return " · ".join(shown)


def _label(project: Project, node: Node, row: dict[str, Any]) -> str:
    record = project.ledger.record(node.asset, node.partition, node.version)
    run = f" by run record {record.sequence:06d}-{record.hash[:8]}" if record else ""
    where = f"{node.asset} [{node.partition}]"
    return escape(f"{where} {node.id[:48]} in version {node.version[:12]}{run} {_words(row)}")


def _media(project: Project, row: dict[str, Any]) -> Iterator[str]:
    """Each medium of a record, hashed again, with its licence."""
    for inner in _inner(row):
        if not inner.get("media") or "origin" not in inner:
            continue
        origin = from_row(Origin, inner["origin"])
        for each in inner["media"]:
            media = from_row(Media, each)
            try:
                state = f"{len(project.media.data(media))} bytes intact"
            except MediaError as error:
                state = f"NOT INTACT: {error}"
            yield escape(
                f"{media.kind} {media.path} sha256 {media.sha256} {state} · {origin.source} record "
                f"{origin.record} · licence {origin.licence} · role {origin.role}"
            )
        return


@dataclass
class Walk:
    """One walk back: what it goes over, what it has shown, and whether a parent was not to be found."""

    project: Project
    index: Index
    everything: bool
    seen: set[str] = field(default_factory=set)
    broken: bool = False

    def grow(self, node: Node, tree: Tree) -> None:
        """Show a record under `tree`, and under it what it was made from."""
        row = node.row()
        branch = tree.add(_label(self.project, node, row))
        if node.id in self.seen:
            branch.add("(shown above)")
            return
        self.seen.add(node.id)
        for line in refused(self.index, node.id):
            branch.add(escape(line))
        known = [above for above in map(self.index.get, node.parents) if above]
        for above in known if self.everything else known[:BRANCHES]:
            self.grow(above, branch)
        if len(known) > BRANCHES and not self.everything:
            branch.add(f"… and {len(known) - BRANCHES} more (--all)")
        for line in (*self._gaps(node), *self._counted(row)):
            branch.add(escape(line))
        if not known:
            for line in _media(self.project, row):
                branch.add(line)

    def _gaps(self, node: Node) -> Iterator[str]:
        """The parents that no artifact on this disk holds. A run that read no version has its parents
        outside of the graph, and then the walk ends here as it should."""
        record = self.project.ledger.record(node.asset, node.partition, node.version)
        if record is not None and not record.inputs:
            return
        gone = [key for key in node.parents if self.index.get(key) is None]
        self.broken |= bool(gone)
        for key in gone if self.everything else gone[:BRANCHES]:
            where = "which is not on this disk: `dvc checkout` or `dvc pull` may bring it back"
            yield f"made from {key}, {where}"
        if len(gone) > BRANCHES and not self.everything:
            yield f"… and {len(gone) - BRANCHES} more that are not on this disk (--all)"

    def _counted(self, row: dict[str, Any]) -> Iterator[str]:
        """The versions that a row of the quality funnel was counted in, and records that were refused in
        them: what to trace next."""
        for told in row.get("counted", ()):
            place, version = told.rsplit(" ", 1)
            asset, partition = place.removesuffix("]").split(" [")
            yield f"counted in {told}"
            refused = artifact.rejected(self.project.ledger.folder(asset, partition, version))
            for each in islice(refused, None if self.everything else BRANCHES):
                yield f"  refused there: {each.of} by {each.rule}"


def refused(index: Index, key: str) -> Iterator[str]:
    """Where a record was refused, by which rule, and on what evidence."""
    for place, why in index.refusals.get(key, ()):
        parts = [f"REFUSED by {place}: {why.rule}", reason(why), f"twin {why.twin}" * bool(why.twin)]
        yield " · ".join(filter(None, parts))


def _spread(project: Project, index: Index, node: Node, tree: Tree, seen: set[str]) -> None:
    branch = tree.add(_label(project, node, node.row()))
    for line in refused(index, node.id):
        branch.add(escape(line))
    for below in index.children.get(node.id, []):
        if below.id not in seen:
            seen.add(below.id)
            _spread(project, index, below, branch, seen)


def _showing(index: Index, sha256: str) -> list[Node]:
    """The raw records that show a medium."""
    return [
        node
        for node in index.current.values()
        if node.asset.startswith(("raw/", "benchmarks/"))
        and any(media["sha256"].startswith(sha256) for media in node.row().get("media", []))
    ]


def show(project: Project, key: str, *, forward: bool, everything: bool) -> int:
    """Print the walk. 1 if nothing is known by that id, or the walk back meets a gap."""
    index = Index(project.ledger)
    try:
        starts = [index.find(key)]
    except UnknownId as error:
        starts = _showing(index, key) if len(key) >= 8 else []
        if not starts and key in index.refusals:
            for line in refused(index, key):
                console.say(line)
            return 0
        if not starts:
            console.error(str(error))
            return 1
    tree = Tree(escape(f"{key} touched" if forward else f"{key} comes from"))
    walk = Walk(project, index, everything)
    for node in starts:
        if forward:
            _spread(project, index, node, tree, walk.seen)
        else:
            walk.grow(node, tree)
    console.OUT.print(tree)
    return int(walk.broken)
