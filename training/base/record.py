"""The run record that ships beside the base checkpoint."""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path

from pixelis_pipeline.agent import nano
from pixelis_pipeline.agent.policy import WEIGHTS
from pixelis_pipeline.records import Json

ROOT = Path(__file__).parents[2]
CODE = (
    *(
        f"training/base/{name}.py"
        for name in ("data", "initial", "objective", "reels", "scenes", "skills", "train")
    ),
    *("training/checkpoint.py", "training/schedule.py"),
    *(
        f"pixelis_pipeline/agent/{name}.py"
        for name in ("batch", "film", "grammar", "nano", "pixels", "render", "tokenizer")
    ),
    *(f"pixelis_pipeline/world/{name}.py" for name in ("clip", "grounds", "lettering", "scene", "shapes")),
)


def code_digest() -> str:
    """sha256 over the sources that decide the weights: what trains, what renders, what draws."""
    total = hashlib.sha256()
    for name in CODE:
        total.update(f"{name}\0".encode() + (ROOT / name).read_bytes() + b"\0")
    return total.hexdigest()


def write(folder: Path, model: nano.Model, done: Json, skills: Json) -> None:
    """Write run.json: what was run (`done` of a training), what it reached (`skills`), and the hashes of
    the code it began with (and of each other code that went on with it) and of the weights."""
    record = {
        **{name: done[name] for name in ("run", "step", "seconds", "code", "curve")},
        "parameters": nano.parameters(model),
        "held_out": skills,
        "weights": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy")},
        "host": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    (folder / "run.json").write_text(json.dumps(record, indent=1) + "\n")
