"""A released package in an environment of its own below `.tools/peers`, because it must not share ours."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".tools" / "uv" / "bin" / "uv"
PEERS = ROOT / ".tools" / "peers"


def python_of(package: str, version: str) -> Path | None:
    """The Python that can import `package` in exactly this version, installed now if it is not there yet;
    None, with a word on standard error, where the package index is out of reach."""
    place = PEERS / package
    python, mark = place / "bin" / "python", place / ".ready"
    if mark.is_file() and mark.read_text() == version:
        return python
    commands = (
        [UV, "venv", "--quiet", "--clear", "--python", sys.executable, place],
        [UV, "pip", "install", "--quiet", "--python", python, f"{package}=={version}"],
    )
    try:
        for command in commands:
            subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, cwd=ROOT)
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        print(f"{package}=={version} is absent: {said[-1] if said else error}", file=sys.stderr)
        return None
    mark.write_text(version)
    return python
