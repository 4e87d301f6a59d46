"""`pixelis dedup`: near-duplicates in a folder of anyone's images and videos, with a page of groups."""

import argparse
import base64
import hashlib
import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment

from assets import console
from assets.stage import Project, StageError
from pixelis_pipeline.ledger.files import replace
from pixelis_pipeline.records import Accepted, Failed, Rejected

if TYPE_CHECKING:
    from pixelis_pipeline.curation.folder import Group, Seen

EXAMPLES = """
examples:
  pixelis dedup photos                                 what is there twice, and the page dedup.html
  pixelis dedup training --against benchmark           which training files stand in a benchmark
  pixelis dedup photos --json found.json --out p.html

What is found: copies re-encoded, rescaled, recoloured, brightened, blurred; cuts down to 80 % of a side;
films re-encoded, at another rate, or trimmed. What is not: flipped or turned copies, collages, a watermark
over more than a few per cent of the picture (docs/LEAKAGE.md has the shares). Nothing is moved or deleted.

The file to keep is the first of its group by path; with --against all that stand there. A run that was
stopped goes on: what was seen is remembered under data/.work/dedup until a file changes.
Exit status: 0; 1 where --against found something, or a file could not be read for now.
"""

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Duplicates in {{ folder }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
section { border-top: 1px solid #ccc; padding: 1rem 0; } .row { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; width: 12.5rem; } img { max-width: 100%; border: 1px solid #ddd; }
figcaption { font-size: .8rem; overflow-wrap: anywhere; } .keep { font-weight: 600; color: #14683a; }
table { border-collapse: collapse; font-size: .85rem; }
td, th { padding: .1rem .8rem .1rem 0; text-align: left; }
@media (prefers-color-scheme: dark) {
  body { background: #16181b; color: #ddd; } .keep { color: #6fd69b; } }
</style>
<h1>Duplicates in {{ folder }}</h1>
<p>{{ seen }} files compared{% if against %} with those of {{ against }}{% endif %};
{{ groups|length }} groups; {{ spare }} files could go. {{ refused|length }} files could not be read.</p>
{% for group in groups %}<section><h2>Group {{ loop.index }}</h2><div class="row">
{% for file in group.files %}<figure>{% if file.picture %}<img alt="" src="{{ file.picture }}">{% endif %}
<figcaption><span{% if file.keep %} class="keep"{% endif %}>{{ file.path }}</span><br>
{{ file.size }}{% if file.keep %}, keep{% endif %}</figcaption></figure>{% endfor %}</div>
<table><tr><th>one<th>other<th>evidence<th>value<th>threshold</tr>
{% for link in group.links %}<tr><td>{{ link.first }}<td>{{ link.second }}<td>{{ link.signal }}
<td>{{ "%.3g"|format(link.measured) }}<td>{{ "%.3g"|format(link.threshold) }}</tr>
{% endfor %}</table></section>
{% endfor %}
{% if refused %}<h2>Not read</h2><table><tr><th>file<th>reason</tr>
{% for path, why in refused %}<tr><td>{{ path }}<td>{{ why }}</tr>{% endfor %}</table>{% endif %}
</html>
"""


def processes(text: str) -> int:
    """A number of processes as written on the command line."""
    if not text.isdigit() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes, 1 to 1024")
    return int(text)


def declare(commands: Any) -> None:
    """Add `dedup` to the subcommands of an argument parser."""
    dedup = commands.add_parser(
        "dedup",
        help="near-duplicates in any folder of images and videos",
        description="Find what is there twice in a folder, or stands in another one, and say on what "
        "evidence. Needs no project: any folder will do.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    dedup.add_argument("folder", type=Path)
    dedup.add_argument("--against", type=Path, metavar="FOLDER", help="only what stands in this folder too")
    dedup.add_argument("--out", type=Path, default=Path("dedup.html"), help="the page (default dedup.html)")
    dedup.add_argument("--json", type=Path, metavar="FILE", help="the groups for programs")
    dedup.add_argument("--workers", type=processes, default=0, help="processes (default: one a core)")


def show(project: Project, given: argparse.Namespace) -> int:
    """Run the command."""
    from pixelis_pipeline.curation import folder
    from pixelis_pipeline.engine.journal import journal
    from pixelis_pipeline.media.errors import MediaError

    seen: list[Seen] = []
    refused: list[tuple[str, str]] = []

    def closed(error: OSError) -> None:
        refused.append((str(error.filename), f"cannot be read: {error.strerror}"))

    try:
        theirs = folder.files(given.against.resolve(), closed) if given.against else []
        held_there = set(theirs)
        ours = [path for path in folder.files(given.folder.resolve(), closed) if path not in held_there]
    except NotADirectoryError as error:
        raise StageError(str(error)) from error
    if given.against and not theirs:
        raise StageError(f"{given.against} holds no image or video: there is nothing to compare with")
    if not ours:
        beside = f" that is not in {given.against} too" if given.against else ""
        unread = "".join(f"; {path} {why}" for path, why in refused[:1])
        raise StageError(f"{given.folder} holds no image or video{beside}{unread}")
    for place in filter(None, (given.out, given.json)):
        if not place.absolute().parent.is_dir() or place.is_dir():
            raise StageError(f"{place} cannot be written: give the name of a file in a folder that is there")
    if given.json and given.json.absolute() == given.out.absolute():
        raise StageError(f"--out and --json both name {given.out}")
    limits = project.settings.media
    asked = f"{given.folder.resolve()}|{given.against}"
    name = hashlib.sha256(os.fsencode(asked)).hexdigest()[:16]
    log = project.scratch("dedup", name) / "journal.jsonl"
    failed = len(refused)
    paths = [*theirs, *ours]
    with journal(log, folder.Seen) as held, console.progress("looking", len(paths)) as advance:
        engine = project.settings.engine
        if given.workers:
            engine = engine.model_copy(update={"workers": given.workers})
        for outcome in folder.look_at_all(paths, limits, held, engine):
            advance(1)
            match outcome:
                case Accepted(records=records):
                    seen += records
                case Rejected(of=of, detail=detail):
                    refused.append((of, detail))
                case Failed(of=of, error=why):
                    refused.append((of, why))
                    failed += 1
    try:
        found = folder.groups(seen, project.settings.curation, limits, frozenset(map(str, theirs)))
    except MediaError as error:
        log.unlink(missing_ok=True)  # it knows the file as it was
        raise StageError(f"{error}; run again, all files will be looked at anew") from error
    kept = _kept(found, frozenset(map(str, theirs)))
    try:
        _write(project, given, seen, found, kept, refused)
    except OSError as error:
        raise StageError(f"{given.out}: {error.strerror or error}") from error
    _say(given, seen, found, kept, refused)
    return int(bool(failed or (given.against and found)))


def _kept(found: "list[Group]", theirs: frozenset[str]) -> frozenset[str]:
    """The files that stay: all of the other folder, else the first of each group."""
    first = {group.files[0].id for group in found}
    return frozenset(first | {each.id for group in found for each in group.files if each.id in theirs})


def _printed(name: str) -> str:
    """A file's name on one line of a terminal, and no order to it."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)


def _say(
    given: argparse.Namespace,
    seen: "list[Seen]",
    found: "list[Group]",
    kept: frozenset[str],
    refused: list[tuple[str, str]],
) -> None:
    signals = Counter(link.signal for group in found for link in group.links)
    spare = sum(each.id not in kept for group in found for each in group.files)
    for group in found[:20]:
        console.say(_printed(group.files[0].id))
        for link in group.links:
            one, other = _printed(link.first), _printed(link.second)
            console.say(f"  {other}  is one with {one}: {link.signal} {link.measured:.3g}")
    if len(found) > 20:
        console.say(f"... and {len(found) - 20} more groups")
    for path, why in refused[:20]:
        console.error(_printed(f"not read: {path}: {why}"))
    told = ", ".join(f"{count} by {signal}" for signal, count in signals.most_common())
    console.say(
        f"{len(seen)} files compared, {len(found)} groups, {spare} files could go"
        f"{f' ({told})' if told else ''}; {len(refused)} could not be read. Page: {given.out}"
    )


def _write(
    project: Project,
    given: argparse.Namespace,
    seen: "list[Seen]",
    found: "list[Group]",
    kept: frozenset[str],
    refused: list[tuple[str, str]],
) -> None:
    page = Environment(autoescape=True).from_string(PAGE)
    shown = [
        {"files": [_shown(project, each, each.id in kept) for each in group.files], "links": group.links}
        for group in found
    ]
    html = page.render(
        folder=given.folder,
        against=given.against,
        seen=len(seen),
        groups=shown,
        spare=sum(each.id not in kept for group in found for each in group.files),
        refused=refused,
    )
    replace(given.out, html.encode("utf-8", "replace"))
    if given.json:
        rows = [
            {
                "keep": group.files[0].id,
                "files": [each.id for each in group.files],
                "could go": [each.id for each in group.files if each.id not in kept],
                "links": [asdict(link) for link in group.links],
            }
            for group in found
        ]
        told = {"compared": len(seen), "groups": rows, "not read": dict(refused)}
        replace(given.json, json.dumps(told, indent=1).encode() + b"\n")


def _shown(project: Project, each: "Seen", keep: bool) -> dict[str, Any]:
    from pixelis_pipeline.curation.folder import thumbnail
    from pixelis_pipeline.media.errors import MediaError

    media = each.fingerprint.media
    try:
        picture = base64.b64encode(thumbnail(each, project.settings.media)).decode()
    except (MediaError, OSError):
        picture = ""
    size = f"{media.width} x {media.height}, {each.bytes / 1024:,.0f} KB"
    return {
        "path": each.id,
        "keep": keep,
        "size": size if media.kind == "image" else f"{media.frames} s of film, {each.bytes / 1024:,.0f} KB",
        "picture": f"data:image/webp;base64,{picture}" if picture else "",
    }
