"""Which code made a version: a hash over a stage and everything first-party that it uses.

Of its own module a stage uses what its names lead to: functions, classes and module-level values, and what
those name in turn. Of other modules it uses the whole file, and the packages they lie in.

Left out on purpose: `settings`, because what it resolves to for a stage is hashed apart and a new default
elsewhere must not make every artifact stale; the ledger, the running of stages and the processes that
trainings run in, because they move records and do not make them.
"""

import ast
import hashlib
import inspect
import os
import platform
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.records import Json

FIRST_PARTY = ("assets", "training", "evaluation", "pixelis_pipeline")
LEFT_OUT = (
    "pixelis_pipeline.settings",
    "pixelis_pipeline.ledger",
    "assets.stage",
    "assets.running",
    "assets.child",
    "training.child",
    "training.launch",
)

ROOT = Path(__file__).resolve().parent.parent.parent


@cache
def _file(module: str) -> Path | None:
    """A first-party module's file, found without importing anything; None for a name that is no module."""
    stem = ROOT.joinpath(*module.split("."))
    candidates = (stem.with_suffix(".py"), stem / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _first_party(module: str) -> bool:
    """Whether a module counts: ours, and not (inside) one that is left out."""
    left_out = any(module == each or module.startswith(f"{each}.") for each in LEFT_OUT)
    return module.split(".")[0] in FIRST_PARTY and not left_out


def _imports(tree: ast.AST) -> Iterator[str]:
    """First-party modules that are imported anywhere in `tree`, also inside functions."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from filter(_first_party, names)


@cache
def _module(module: str) -> tuple[str, tuple[str, ...]]:
    """(digest of the module's source and data files beside it, modules it imports)."""
    path = _file(module)
    if path is None:  # `from package import name` where name is no module
        return "", ()
    source = path.read_bytes()
    beside = b"".join(each.read_bytes() for each in _templates(path.parent))
    return hashlib.sha256(source + beside).hexdigest(), tuple(_imports(ast.parse(source)))


@cache
def _templates(folder: Path) -> list[Path]:
    """Files that a package's modules read: beside them, or in a subfolder that is no package."""
    folders = [
        folder,
        *(f for f in sorted(folder.iterdir()) if f.is_dir() and not (f / "__init__.py").exists()),
    ]
    return [path for f in folders for path in sorted(f.glob("*")) if path.suffix in (".jinja", ".css", ".js")]


Used = tuple[str, ast.AST]  # a piece of a module: its source (none for an import) and its tree


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a module-level statement makes or may change."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            trees: list[ast.AST] = list(targets)
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            trees = [target]
        case _:  # a bare call or a block may change whatever it names
            trees = [statement]
    return {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _pieces(path: Path) -> dict[str, list[Used]]:
    """What each module-level name of a file leads to."""
    source = path.read_text()
    lines = source.splitlines()
    pieces: dict[str, list[Used]] = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                name = alias.asname or alias.name.split(".")[0]
                pieces.setdefault(name, []).append(("", ast.Import([alias])))
        elif isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                one = ast.ImportFrom(statement.module, [alias], statement.level)
                pieces.setdefault(alias.asname or alias.name, []).append(("", one))
        else:
            first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", ()))])
            text = "\n".join(lines[first - 1 : statement.end_lineno])
            for name in _bound(statement):
                pieces.setdefault(name, []).append((text, statement))
    return pieces


def _parts(function: Callable[..., Any]) -> tuple[set[str], set[str]]:
    """(sources of the function and of all it uses in its own module, first-party modules they use)."""
    pieces = _pieces(Path(inspect.getsourcefile(function) or ""))
    whole = textwrap.dedent(inspect.getsource(function))
    todo: list[Used] = [(whole, ast.parse(whole))]
    sources: set[str] = set()
    modules: set[str] = set()
    while todo:
        source, tree = todo.pop()
        if source in sources:
            continue
        if source:
            sources.add(source)
        modules.update(_imports(tree))
        for name in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}:
            todo.extend(pieces.get(name, ()))
    return sources, modules - {function.__module__}


def code_version(function: Callable[..., Any]) -> str:
    """16 hex digits over a function, what it uses of its own module, and the closure of its first-party
    imports, also of those inside functions, with the packages they lie in."""
    sources, modules = _parts(function)
    todo = [*modules, function.__module__.rpartition(".")[0]]
    digests: dict[str, str] = {}
    while todo:
        module = todo.pop()
        if module not in digests and _first_party(module):
            digests[module], imported = _module(module)
            todo.extend([*imported, module.rpartition(".")[0]])
    whole = [sorted(sources), sorted((m, d) for m, d in digests.items() if d)]
    return hashlib.sha256(repr(whole).encode()).hexdigest()[:16]


def _git(root: Path, *arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else b""


@cache
def git_state(root: Path) -> Json:
    """The commit and, where the tree differs from it, a hash of the difference, untracked files with their
    contents included (data/ left out)."""
    commit = _git(root, "rev-parse", "HEAD").decode().strip()
    rest = ("--", ".", ":(exclude)data", ":(exclude)dvc.lock")
    dirt = _git(root, "diff", "HEAD", "--no-ext-diff", "--full-index", *rest)
    listed = _git(root, "ls-files", "--others", "--exclude-standard", "-z", *rest)
    for name in sorted(listed.split(b"\0")):
        path = root / os.fsdecode(name)
        if path.is_file():
            dirt += name + b"\0" + sha256(path).encode()
    return {"commit": commit, "dirty": hashlib.sha256(dirt).hexdigest()[:16] if dirt else ""}


@cache
def environment(root: Path) -> str:
    """16 hex digits over the environment lock and the interpreter's version."""
    lock = root / "environment" / "main.txt"
    text = lock.read_bytes() if lock.is_file() else b""
    return hashlib.sha256(text + platform.python_version().encode()).hexdigest()[:16]
