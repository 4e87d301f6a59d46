"""What a tried call shows: lines for a terminal, one picture, one web page, or JSON."""

import base64
import html
import textwrap
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from pixelis_pipeline.records import Json, Step

if TYPE_CHECKING:
    from assets.trying import Trial

SIDE, LETTERS, MARGIN = 768, 14, 8  # pixels


def whole(trial: "Trial") -> Json:
    """The observation with its call, for programs."""
    seen = trial.seen
    return {
        "action": trial.action.name,
        "arguments": trial.action.arguments,
        "valid": seen.valid,
        "text": seen.text,
        "output": seen.output,
        "confidence": seen.confidence,
        "artifact": seen.artifact,
        "version": trial.version,
        "milliseconds": round(trial.milliseconds, 1),
    }


def fields(trial: "Trial") -> list[tuple[str, str]]:
    """(name, value) of what a person wants to know."""
    seen = trial.seen
    kind = "yes" if seen.valid else f"no: {seen.output['kind']}"
    measured = [(name, str(value)) for name, value in seen.output.items() if trial.action.name == "PROP"]
    spans = [
        f"{start:.1f}-{end:.1f} s, score {score:.2f}" for start, end, score in seen.output.get("spans", ())
    ]
    return [
        ("call", f"{trial.action.name} {trial.action.arguments}"),
        ("reads", seen.text),
        *(measured if seen.valid else []),
        *([("spans", "; ".join(spans))] if spans else []),
        ("valid", kind),
        ("confidence", f"{seen.confidence:.3f}"),
        ("version", trial.version),
        ("time", f"{trial.milliseconds:.0f} ms, loading included"),
    ]


def lines(trial: "Trial") -> list[str]:
    """The fields in two columns."""
    return [f"{name:<12}{value}" for name, value in fields(trial)]


def drawn(trial: "Trial") -> Image.Image:
    """The media with the call drawn on it."""
    from pixelis_pipeline.verify.draw import draw_trace

    step = Step("", trial.action, trial.seen.output, valid=trial.seen.valid)
    return Image.open(BytesIO(draw_trace(trial.workspace, [step], max_side=SIDE))).convert("RGB")


def crop(trial: "Trial") -> Image.Image | None:
    """The image that ZOOM made, at most as large as the picture."""
    if trial.seen.image is None:
        return None
    made = Image.fromarray(np.ascontiguousarray(trial.seen.image))
    made.thumbnail((SIDE, SIDE))
    return made


def picture(trial: "Trial") -> bytes:
    """PNG bytes: the media with the call on it, ZOOM's crop, and the answer in words."""
    from pixelis_pipeline.world.lettering import font

    parts = [part for part in (drawn(trial), crop(trial)) if part is not None]
    width = max(360, *(part.width for part in parts))
    face = font("DejaVuSansMono", LETTERS)
    columns = int((width - 2 * MARGIN) / face.getlength("m"))
    told = [line for each in lines(trial) for line in textwrap.wrap(each[:1000], columns) or [""]]
    high = sum(part.height + MARGIN for part in parts)
    sheet = Image.new("RGB", (width, high + len(told) * (LETTERS + 5) + MARGIN), "white")
    pen, y = ImageDraw.Draw(sheet), 0
    for part in parts:
        sheet.paste(part, (0, y))
        y += part.height + MARGIN
    for line in told:
        pen.text((MARGIN, y), line, fill=(30, 30, 30), font=face)
        y += LETTERS + 5
    held = BytesIO()
    sheet.save(held, "PNG")
    return held.getvalue()


def page(trial: "Trial") -> bytes:
    """A web page of one file that needs nothing else."""
    pictures = "".join(
        f'<img src="{_embedded(part)}" alt="">' for part in (drawn(trial), crop(trial)) if part
    )
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in fields(trial)
    )
    style = "body{font:15px sans-serif;margin:2em}th{text-align:left;padding-right:1em;vertical-align:top}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{trial.action.name}</title>'
        f"<style>{style}img{{max-width:100%;margin-right:1em}}</style>{pictures}<table>{rows}</table></html>\n"
    ).encode()


def _embedded(part: Image.Image) -> str:
    held = BytesIO()
    part.save(held, "PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"
