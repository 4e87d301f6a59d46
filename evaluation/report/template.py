"""Templates rendered as pages that fetch nothing, with everything that is shown escaped."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluation.report import wording
from evaluation.scores import arm

HERE = Path(__file__).parent
FILTERS = (
    "policy_name",
    "control_name",
    "percent",
    "points",
    "bounds",
    "amount",
    "level",
    "each",
    "p_number",
    "p_value",
    "shows",
    "verdict",
    "brief",
    "heard",
    "signed",
)


def render(template: str, style: str, script: str = "", **view: Any) -> str:
    """The template with style sheet and script inlined; the page's security policy names both by their
    hash, so that nothing else can style it, run in it, or be fetched by it."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({name: getattr(wording, name) for name in FILTERS})
    environment.globals.update(call=wording.call, observation=wording.observation, arm=arm)
    return environment.get_template(template).render(
        style=Markup(style),
        script=Markup(script),
        style_hash=_policy_hash(style),
        script_hash=_policy_hash(script),
        **view,
    )


def _policy_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
