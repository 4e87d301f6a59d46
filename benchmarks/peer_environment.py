"""A released package in an environment of its own below `.tools/peers`, because it must not share ours."""

import subprocess
import sys
from importlib.metadata import version as installed
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".tools" / "uv" / "bin" / "uv"
PEERS = ROOT / ".tools" / "peers"


# What imagededup's hashes and searches import, in the versions that stand here, so that both decode alike.
HASHING = ("numpy", "pillow", "PyWavelets", "scikit-learn", "scipy", "tqdm")


def python_of(package: str, version: str) -> Path | None:
    """The Python that can import `package` in exactly this version, installed now if it is not there yet;
    None, with a word on standard error, where the package index is out of reach."""
    return _python(package, version, [[f"{package}=={version}"]])


def imagededup_python() -> Path | None:
    """A Python with imagededup 0.3.3.post2 and what its hashes and searches need, torch not among it; None as
    with `python_of`."""
    version = "0.3.3.post2"
    needed = [f"{name}=={installed(name)}" for name in HASHING]
    return _python("imagededup", version, [needed, ["--no-deps", f"imagededup=={version}"]])


def _python(package: str, version: str, installs: list[list[str]]) -> Path | None:
    place = PEERS / package
    python, mark = place / "bin" / "python", place / ".ready"
    told = " ".join(each for some in installs for each in some)
    if mark.is_file() and mark.read_text() == told:
        return python
    pip = [UV, "pip", "install", "--quiet", "--python", python]
    commands = (
        [UV, "venv", "--quiet", "--clear", "--python", sys.executable, place],
        *([*pip, *i] for i in installs),
    )
    try:
        for command in commands:
            subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, cwd=ROOT)
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        print(f"{package}=={version} is absent: {said[-1] if said else error}", file=sys.stderr)
        return None
    mark.write_text(told)
    return python
