"""Proof that a training was completed: a manifest of what it made, written last.

proof.json holds the key of the order it answers, the sha256 and size of every file under `made/` beside it,
and what the training said of itself. It is written whole or not at all, after everything it names, so that
it stands only where nothing was left to do. An exit status proves nothing: a process may also end with 0
before its time.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from pixelis_pipeline.ledger import files
from pixelis_pipeline.records import Json, canonical

PROOF, MADE = "proof.json", "made"


class ProofError(ValueError):
    """No proof, or one that the files do not bear out; the message says which file and how."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was made: `weights` is the sha256 of the policy's weights, `result` what the job returned beside
    it, `files` what lies under `made/`: {path: {"sha256", "bytes"}}."""

    order: str
    weights: str
    result: Json
    files: Json


def _paths(made: Path) -> dict[str, Path]:
    found = sorted(path for path in made.rglob("*") if path.is_file())
    return {path.relative_to(made).as_posix(): path for path in found}


def write(folder: Path, order: str, result: Json) -> None:
    """Prove that `order` was carried out in `folder`. `result` is plain JSON and names the weights' sha256
    as "weights": KeyError without."""
    paths = _paths(folder / MADE)
    files.sync_all(list(paths.values()))
    proof = {
        "order": order,
        "weights": result["weights"],
        "result": {name: value for name, value in result.items() if name != "weights"},
        "files": {
            name: {"sha256": files.sha256(path), "bytes": path.stat().st_size} for name, path in paths.items()
        },
    }
    files.replace(folder / PROOF, canonical(proof))


def check(folder: Path, order: str) -> Proof:
    """The proof in `folder`, held against every byte it speaks of.

    Raises ProofError where there is none, it is of another order, a file is missing, changed or not named,
    or no file has the sha256 that the weights are said to have.
    """
    try:
        proof = Proof(**json.loads((folder / PROOF).read_bytes()))
    except FileNotFoundError as error:
        raise ProofError(f"there is no {PROOF}") from error
    except (ValueError, TypeError) as error:
        raise ProofError(f"{PROOF} cannot be read: {error}") from error
    if proof.order != order:
        raise ProofError(f"{PROOF} is of the order {proof.order[:16]}, not of {order[:16]}")
    paths = _paths(folder / MADE)
    if strange := sorted(set(paths) ^ set(proof.files)):
        raise ProofError(
            f"{strange[0]} is {'not named in' if strange[0] in paths else 'missing from'} {PROOF}"
        )
    digests = {name: files.sha256(path) for name, path in paths.items()}
    for name, digest in digests.items():
        if digest != proof.files[name]["sha256"]:
            raise ProofError(f"{name} is not what {PROOF} says: its sha256 is {digest[:16]}")
    if proof.weights not in digests.values():
        raise ProofError(f"no file is the weights that {PROOF} names, {proof.weights[:16]}")
    return proof
