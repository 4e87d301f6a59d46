"""SEG by the `sam2` package, in an environment of its own (`.tools/sam2`): beside us its wheel would
install a top-level package `training`, and it brings hydra. A child process holds the model; messages are
JSON and raw bytes (see sam2_child.py), never pickles.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import tempfile
import threading
import weakref
from pathlib import Path
from typing import IO, Any

import numpy as np

from pixelis_pipeline.tools.contract import (
    Observation,
    SegArguments,
    ToolError,
    Workspace,
    pixels_of,
    to_pixels,
)
from pixelis_pipeline.tools.seg import NOTHING, segmented, spots_of

ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("sam2_child.py")
HOW = "build it with `make sam2` (environment/sam2.in)"
SIZES = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
CONFIGS = {
    f"{release}_hiera_{size}": f"configs/{release}/{release}_hiera_{short}.yaml"
    for release in ("sam2", "sam2.1")
    for size, short in SIZES.items()
}


class Sam2Package:
    """The weights file of the folder `weights` under its published name, its tensors saved as safetensors
    (such as sam2.1_hiera_large.safetensors), on a torch device. `python`: the environment's interpreter.

    ValueError where the file or the environment is not there.
    """

    def __init__(self, weights: str, device: str = "cpu", python: Path | None = None) -> None:
        self._python = python or ROOT / ".tools" / "sam2" / "bin" / "python"
        self._library = _library(self._python)
        self._file, self._config = _weights(weights)
        with self._file.open("rb") as file:
            self._digest = hashlib.file_digest(file, "sha256").hexdigest()
        # What answers runs elsewhere, where no code digest of ours sees it.
        self._program = hashlib.sha256(CHILD.read_bytes()).hexdigest()[:8]
        self._device = device
        self._child: _Child | None = None
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        name = f"{self._library} {self._file.stem}"
        return f"seg-sam2-package/2 {name} weights={self._digest[:16]} on {self._device} by {self._program}"

    def __call__(self, workspace: Workspace, arguments: SegArguments) -> Observation:
        pixels = np.ascontiguousarray(pixels_of(workspace, arguments))
        height, width = pixels.shape[:2]
        request = {
            "width": width,
            "height": height,
            "box": None if arguments.box is None else to_pixels(arguments.box, width, height),
            "points": spots_of(arguments, width, height),
        }
        answer, bits = self._asked(request, pixels.tobytes())
        mask = np.unpackbits(np.frombuffer(bits, np.uint8), count=height * width).astype(bool)
        if not mask.any():
            raise ToolError(NOTHING)
        confidence = round(min(max(float(answer["score"]), 0.0), 1.0), 3)
        return segmented(mask.reshape(height, width), confidence, self.version, arguments)

    def _asked(self, request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        """The child's answer. RuntimeError where it failed or died; the next call starts another."""
        with self._lock:
            if self._child is None or self._child.of != os.getpid():  # a fork must not share its pipes
                # -P: the script's folder holds a sam2.py of ours, which must not shadow the package
                self._child = _Child(
                    [str(self._python), "-P", str(CHILD), self._config, str(self._file), self._device]
                )
            try:
                return self._child.ask(request, payload)
            except BaseException:  # also a time limit's: the answer still under way is nobody's
                self._child.end()
                self._child = None
                raise


class _Child:
    """A running sam2_child.py, started by process `of`, and its messages."""

    def __init__(self, command: list[str]) -> None:
        self.of = os.getpid()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
        )
        self.end = weakref.finalize(self, _stop, self._process, self.of)
        self._greeted = False

    def ask(self, request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        if not self._greeted:
            self._heard()
            self._greeted = True
        to, line = self._process.stdin, json.dumps({**request, "bytes": len(payload)}).encode()
        assert to is not None
        try:
            to.write(line + b"\n" + payload)
            to.flush()
        except BrokenPipeError:
            raise RuntimeError(f"the sam2 process ended: {self._last_words()}") from None
        return self._heard()

    def _heard(self) -> tuple[dict[str, Any], bytes]:
        source: IO[bytes] | None = self._process.stdout
        assert source is not None
        line = source.readline()
        if not line:
            raise RuntimeError(f"the sam2 process ended: {self._last_words()}")
        message = json.loads(line)
        payload = source.read(message["bytes"])
        if "error" in message:
            raise RuntimeError(f"sam2: {message['error']}")
        return message, payload

    def _last_words(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 400))
        return self._log.read().decode(errors="replace").strip() or "without a word"


def _stop(process: "subprocess.Popen[bytes]", of: int) -> None:
    if os.getpid() == of:  # a fork inherits this finaliser, not the process
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()


def _library(python: Path) -> str:
    """The sam2 release of an environment, for a version. ValueError where there is none."""
    if not python.is_file():
        raise ValueError(f"tools.seg: the sam2 package's environment {python.parents[1]} is not there; {HOW}")
    found = sorted(python.parents[1].glob("lib/python*/site-packages/[sS][aA][mM]*2-*.dist-info"))
    if not found:
        raise ValueError(f"tools.seg: {python.parents[1]} has no sam2 package; {HOW}")
    return found[0].name.removesuffix(".dist-info").replace("-", " ")


def _weights(folder: str) -> tuple[Path, str]:
    """The one weights file of a folder, and sam2's configuration for it. ValueError where it is not known."""
    found = [Path(folder) / f"{name}.safetensors" for name in CONFIGS]
    found = [file for file in found if folder and file.is_file()]
    if len(found) != 1:
        some = "more than one" if found else "none"
        raise ValueError(
            f"tools.seg.weights: of the files {', '.join(CONFIGS)} (.safetensors) the folder {folder!r} must "
            f"hold one; it holds {some}. Published .pt files are pickles and are not loaded: save their "
            '"model" once with safetensors.torch.save_file'
        )
    return found[0], CONFIGS[found[0].stem]
