"""`pixelis tools`: which backends there are, and one call tried on a file of yours, with a picture of it."""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets import console
from assets.stage import Project
from pixelis_pipeline.media.errors import MediaError
from pixelis_pipeline.media.files import probe
from pixelis_pipeline.records import Action, Json, Media
from pixelis_pipeline.settings import BackendSettings, ToolSettings

if TYPE_CHECKING:
    from pixelis_pipeline.tools.contract import Observation, Workspace

ACTIONS = ("SEG", "ZOOM", "TRK", "OCR", "TEMP", "PROP")
EXAMPLES = """
examples:
  pixelis tools                                                        what is there, what is missing
  pixelis tools try SEG --image cup.jpg --box 310 200 720 910          what stands out in a box
  pixelis tools try SEG --image cup.jpg --points 500 480               ... or under a point
  pixelis tools try ZOOM --image page.png --box 0 0 500 200 --scale 3
  pixelis tools try OCR --image page.png --out page.html               the whole page, as a web page
  pixelis tools try PROP --image cup.jpg --box 640 90 911 700 --pixels
  pixelis tools try OCR --video film.mp4 --frame 12 --box 0 800 999 999
  pixelis tools try TRK --video film.mp4 --box 100 300 240 520 --start 0 --end 40
  pixelis tools try TEMP --video film.mp4 --query "the red circle stops" --start 0 --end 8

Coordinates are 0-999 over the picture's width and height, as policies write them; with --pixels they are
pixels. Frames are counted from 0; TRK counts --start and --end in frames, TEMP in seconds, and both take the
whole video where they are left out. The backend is the one that pixelis.toml names: [tools.seg] backend = ...
Exit status: 0 a valid answer, 1 an invalid one or a backend that broke, 2 a mistake in the call.
"""
ADVICE = {
    "missing media": "give the path of a file that is there",
    "malformed name": "rename it",
    "too large": "raise media.bytes in pixelis.toml",
    "decompression bomb": "if you trust it, raise media.pixels in pixelis.toml",
    "too long": "raise media.seconds in pixelis.toml, or cut it",
    "wrong extension": "give it the extension of what it is",
    "truncated": "it is damaged: fetch it again",
    "not an image": "give a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM; a film goes after --video",
    "not a video": "give an MP4, MKV, WebM or AVI; a picture goes after --image",
    "unsupported pixels": "convert it to 8 or 16 bits of RGB or grey",
}


class Mistake(ValueError):
    """A call that cannot be tried as it stands; the text says what to do."""


def _number(text: str) -> float:
    return int(text) if text.lstrip("+-").isdigit() else float(text)


def declare(commands: Any) -> None:
    """Add `tools` to the subcommands of an argument parser."""
    raw = argparse.RawDescriptionHelpFormatter
    about = "List the backends of the six actions, or try one call on a file."
    tools = commands.add_parser(
        "tools",
        help="the backends of the actions; try a call on a picture",
        description=about,
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    inner = tools.add_subparsers(dest="tool_command", metavar="try")
    about = "Run one call through the settings' backend, say what a policy would read, and draw the result."
    tried = inner.add_parser("try", help=about, description=about, epilog=EXAMPLES, formatter_class=raw)
    tried.add_argument("action", choices=ACTIONS, type=str.upper, metavar="ACTION", help=", ".join(ACTIONS))
    media = tried.add_mutually_exclusive_group(required=True)
    media.add_argument("--image", type=Path, metavar="PATH")
    media.add_argument("--video", type=Path, metavar="PATH")
    tried.add_argument("--box", type=_number, nargs=4, metavar=("X0", "Y0", "X1", "Y1"))
    tried.add_argument("--points", type=_number, nargs="+", metavar="X Y", help="SEG: pairs of numbers")
    tried.add_argument("--pixels", action="store_true", help="the numbers are pixels instead of 0-999")
    tried.add_argument("--frame", type=int, metavar="N", help="which frame of the video; left out: 0")
    tried.add_argument("--start", type=_number, help="TRK: a frame; TEMP: seconds")
    tried.add_argument("--end", type=_number, help="TRK: the last frame, inclusive; TEMP: seconds")
    tried.add_argument("--query", help="TEMP: what is looked for")
    tried.add_argument("--scale", type=_number, help="ZOOM: 1-8")
    tried.add_argument(
        "--out", type=Path, metavar="FILE", help="FILE.png or FILE.html; left out: FILE.ACTION.png"
    )
    tried.add_argument("--json", action="store_true", help="the whole observation as JSON")


def show(project: Project, given: argparse.Namespace) -> int:
    """Carry out `pixelis tools ...`; returns the exit status."""
    if given.tool_command is None:
        return _list(project.settings.tools)
    try:
        return _try(project, given)
    except Mistake as mistake:
        console.error(str(mistake))
        return 2


def _list(chosen: ToolSettings) -> int:
    from pixelis_pipeline.tools import backends

    rows = []
    for action in ACTIONS:
        ours: BackendSettings = getattr(chosen, action.lower())
        for name in sorted({*backends.known(action), ours.backend}, key=lambda name: name != ours.backend):
            settings = ours if name == ours.backend else BackendSettings(backend=name)
            try:
                version = _built(action, settings).version
                usable, told = "yes", version if len(version) < 90 else f"{version[:88]} …"
            except Exception as error:  # whatever keeps somebody's backend from being built is the answer
                usable, told = "no", " ".join(str(error).split())
            rows.append([action, name, "in use" if settings is ours else "", usable, told])
    console.table(
        "actions and their backends", ["action", "backend", "", "usable", "version, or what is missing"], rows
    )
    console.say(
        "\nchosen in pixelis.toml: [tools.seg] backend = ..., weights = ...; tried by: pixelis tools try SEG"
    )
    return 0


def _built(action: str, chosen: BackendSettings) -> Any:
    """The one backend; the others of the set are embedded ones, which cost nothing to build."""
    from pixelis_pipeline.tools import backends

    return backends.build(ToolSettings().model_copy(update={action.lower(): chosen}))[action]


@dataclass(frozen=True, slots=True)
class Trial:
    """A call and what came of it."""

    action: Action
    workspace: "Workspace"
    seen: "Observation"
    milliseconds: float
    version: str


def _try(project: Project, given: argparse.Namespace) -> int:
    from assets import sheet
    from pixelis_pipeline.tools.contract import ToolCrash

    media = _read(given.image or given.video, "image" if given.image else "video", project)
    out = given.out or Path(f"{Path(media.path).stem}.{given.action}.png")
    if out.suffix.lower() not in (".png", ".html"):
        raise Mistake(f"--out {out}: give a name that ends in .png or .html")
    if out.exists() and out.samefile(media.path):
        raise Mistake(f"--out {out}: this is the file to look at; give another name")
    try:
        trial = _called(project, media, Action(given.action, _arguments(given, media)))
    except ToolCrash as crash:
        console.error(f"the backend broke: {crash}")
        return 1
    except MediaError as error:
        raise Mistake(_advised(given.image or given.video, error)) from error
    try:
        out.write_bytes(sheet.page(trial) if out.suffix.lower() == ".html" else sheet.picture(trial))
    except OSError as error:
        raise Mistake(f"--out {out}: {error.strerror}; give a place that can be written") from error
    for line in [json.dumps(sheet.whole(trial))] if given.json else sheet.lines(trial):
        console.say(line)
    if not given.json:
        console.say(f"{'picture':<12}{out}")
    return 0 if trial.seen.valid else 1


def _advised(path: Path, error: MediaError) -> str:
    advice = ADVICE.get(error.rule)
    return f"{path}: {error}" + (f"; {advice}" if advice else "")


def _read(path: Path, kind: str, project: Project) -> Media:
    """The file's record: its size is checked before it is read, its dimensions before it is decoded."""
    try:
        media = probe(path, project.settings.media)
    except MediaError as error:
        raise Mistake(_advised(path, error)) from error
    except OSError as error:
        raise Mistake(f"{path}: {error.strerror}") from error
    if media.kind != kind:
        raise Mistake(
            f"{path} is a{'n' if media.kind == 'image' else ''} {media.kind}: give it after --{media.kind}"
        )
    return media


def _called(project: Project, media: Media, action: Action) -> Trial:
    from pixelis_pipeline.tools.opening import opened
    from pixelis_pipeline.tools.registry import Registry

    settings = project.settings.tools
    try:
        tool = _built(action.name, getattr(settings, action.name.lower()))
    except Exception as error:  # whatever another package's entry point raises
        raise Mistake(
            f"{error if str(error) else repr(error)}; `pixelis tools` says what can be used here"
        ) from error
    workspace = opened(project.media, [media])
    began = time.perf_counter()
    seen = Registry({action.name: tool}, settings).call(workspace, action)
    return Trial(action, workspace, seen, 1000 * (time.perf_counter() - began), tool.version)


def _arguments(given: argparse.Namespace, media: Media) -> Json:
    """The call's arguments on the wire. What does not belong to the action stays in: the answer says so."""
    arguments: Json = {
        name: getattr(given, name)
        for name in ("frame", "start", "end", "query", "scale")
        if getattr(given, name) is not None
    }
    if given.points is not None and len(given.points) % 2:
        raise Mistake("--points takes pairs of numbers: X Y X Y ...")
    if given.box is not None:
        arguments["box"] = _on_wire(given.box, given, media)
    if given.points is not None:
        wire = _on_wire(given.points, given, media)
        arguments["points"] = [wire[k : k + 2] for k in range(0, len(wire), 2)]
    if media.kind == "video" and given.action in ("TRK", "TEMP"):
        last = media.frames - 1 if given.action == "TRK" else media.frames / max(media.fps, 1e-9)
        arguments = {"start": 0, "end": last} | arguments
    return arguments


def _on_wire(numbers: list[float], given: argparse.Namespace, media: Media) -> list[float]:
    """x, y, x, y, ... as they stand, or of pixels as wire coordinates."""
    from pixelis_pipeline.tools.contract import WIRE

    if not given.pixels:
        return numbers
    sides = [media.width, media.height] * (len(numbers) // 2)
    if any(not 0 <= number <= side for number, side in zip(numbers, sides, strict=True)):
        raise Mistake(f"outside the picture, which has {media.width}x{media.height} pixels")
    return [round(number * WIRE / side) for number, side in zip(numbers, sides, strict=True)]
