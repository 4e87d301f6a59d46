"""Long work of a stage in a process of its own: started, followed, ended, and believed only with proof.

The process (`training.child`) dies with this one, and is ended where it says nothing for
`operations.silence_seconds`. What it needs it is told by a file and a short list of environment variables.
Its folder is named by all that decides the outcome, so that what it had saved is gone on from by the same
work only; whatever it prints is in the folder's `log.txt`, which errors name.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from assets.live import Live
from assets.running import resolved
from assets.stage import Advance, StageError, Work
from pixelis_pipeline.ledger import files
from pixelis_pipeline.records import Json, canonical
from pixelis_pipeline.settings import entire
from training import proof
from training.child import Job, Order

LOOK = 0.2  # seconds between two looks at what it says
LAST_WORDS = 2.0  # seconds for a silent process to write down where it stands
HELD = 10.0  # seconds that the folder may stay held: a process ends a moment after its parent
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM)
# What a training may need of the environment. Keys and tokens are in none of these.
PASSED = (
    *("PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "XDG_CACHE_HOME"),
    *("VIRTUAL_ENV", "LD_LIBRARY_PATH", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE"),
)
PASSED_PREFIXES = ("CUDA_", "NVIDIA_", "NCCL_", "TORCH_", "PYTORCH_", "TRITON_")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Killed(StageError):
    """The process was killed from outside, for want of memory say. Run again it goes on from its last
    checkpoint."""


class Done:
    """What a proven job made: files under `made`, and what it says of itself in `proof`."""

    def __init__(self, folder: Path, proven: proof.Proof) -> None:
        self.made, self.proof = folder / proof.MADE, proven

    def into(self, folder: Path) -> None:
        """Put what was made into `folder` too. It also stays here, so that a kill before the commit does
        not cost the training."""
        shutil.copytree(self.made, folder, copy_function=_linked, dirs_exist_ok=True)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # the file system knows no second names
        shutil.copy2(source, target)


@contextmanager
def run(work: Work, job: Job, threads: int, processes: int = 1, sharded: bool = False) -> Iterator[Done]:
    """Have `job` done for `work` by a process with so many threads, going on from what an interrupted one
    had saved; where it had finished, its proof stands for it. With more `processes` it launches that many,
    over which weights are split where they are `sharded`.

    Raises StageError where it fails, says nothing for too long, or ends without proof that holds; Killed
    where it is killed from outside. The message names the log.
    """
    key = key_of(work)
    with ExitStack() as stack:
        place = work.scratch
        if work.afresh:
            place = Path(stack.enter_context(TemporaryDirectory(dir=place)))
        folder = place / key[:16]
        folder.mkdir(exist_ok=True)
        lock = _held(folder)
        stack.callback(os.close, lock)
        try:
            proven = proof.check(folder, key)
        except proof.ProofError:
            (folder / proof.PROOF).unlink(missing_ok=True)
            order = replace(_order(work, job, key, folder), processes=processes, sharded=sharded)
            _have_done(work, order, threads, lock)
            try:
                proven = proof.check(folder, key)
            except proof.ProofError as error:
                raise _failure(work, folder, f"ended without proof of completion: {error}") from error
        yield Done(folder, proven)


def proven(work: Work) -> Done | None:
    """What a finished process made for `work`; None where it is still to be done."""
    key = key_of(work)
    folder = work.scratch / key[:16]
    try:
        return Done(folder, proof.check(folder, key))
    except proof.ProofError:
        return None


def key_of(work: Work) -> str:
    """sha256 over all that decides the outcome."""
    values = resolved(work.project, work.stage, work.partition)
    decisive = [work.stage.key, work.partition, [asdict(i) for i in work.inputs], work.stage.code, values]
    return sha256(canonical(decisive)).hexdigest()


def _order(work: Work, job: Job, key: str, folder: Path) -> Order:
    read = dict.fromkeys(each.asset for each in work.inputs)
    return Order(
        key=key,
        job=f"{job.__module__}:{job.__qualname__}",
        inputs={asset: [str(each) for each in work.folders(asset)] for asset in read},
        root=str(work.project.root),
        tree=entire(work.settings),
        folder=str(folder),
        tracked=str(work.project.root / "data" / "tracking" / work.stage.key / work.partition / key[:16]),
        parent=os.getpid(),
    )


def _held(folder: Path) -> int:
    """A descriptor that keeps the folder ours. The process inherits it: as long as it lives no other one
    works here."""
    until = time.monotonic() + HELD
    while (lock := files.try_lock(folder / "lock")) is None:
        if time.monotonic() > until:
            raise StageError(f"another process is at this very work; it holds {folder}")
        time.sleep(LOOK)
    return lock


def _failure(work: Work, folder: Path, what: str, kind: type[StageError] = StageError) -> StageError:
    return kind(f"{work.stage.key} [{work.partition}]: its process {what}. Log: {folder / 'log.txt'}")


def _environment(threads: int) -> dict[str, str]:
    passed = {n: v for n, v in os.environ.items() if n in PASSED or n.startswith(PASSED_PREFIXES)}
    return (
        passed
        | dict.fromkeys(THREADS, str(threads))
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    )


@contextmanager
def _unwatched(messages: Path) -> Iterator[Mapping[str, str]]:
    """The environment of a Pipes session that nobody but this module listens to."""
    from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, DAGSTER_PIPES_MESSAGES_ENV_VAR, encode_param

    context = dict.fromkeys(
        (
            *("asset_keys", "code_version_by_asset_key", "provenance_by_asset_key", "partition_key"),
            *("partition_key_range", "partition_time_window", "job_name"),
        )
    )
    data = context | {"run_id": "", "retry_number": 0, "extras": {}}
    yield {
        DAGSTER_PIPES_CONTEXT_ENV_VAR: encode_param({"data": data}),
        DAGSTER_PIPES_MESSAGES_ENV_VAR: encode_param({"path": str(messages)}),
    }


def _have_done(work: Work, order: Order, threads: int, lock: int) -> None:
    """Start the process and follow it to its end."""
    folder = Path(order.folder)
    messages = folder / "messages.jsonl"
    messages.write_bytes(b"")
    order.write(folder / "order.json")
    watched = work.watch.session(messages) if work.watch else _unwatched(messages)
    with watched as session, (folder / "log.txt").open("ab") as log, _Listener(work, messages) as listener:
        process = subprocess.Popen(
            [sys.executable, "-m", "training.child", str(folder / "order.json")],
            env=_environment(threads) | dict(session),
            pass_fds=[lock],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # an interrupt at the terminal is this process' to answer
        )
        try:
            _follow(work, folder, process, listener)
        finally:
            with suppress(ProcessLookupError):  # it and what it may have started
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode and not (folder / proof.PROOF).is_file():
        if -process.returncode in FROM_OUTSIDE:
            what = f"was killed ({signal.Signals(-process.returncode).name})"
            raise _failure(work, folder, f"{what}; run again it goes on from what it had saved", Killed)
        raise _failure(work, folder, f"ended with exit status {process.returncode}{listener.raised}")


def _follow(work: Work, folder: Path, process: "subprocess.Popen[bytes]", listener: "_Listener") -> None:
    """Listen until the process has ended. StageError where it is silent for too long."""
    limit = work.settings.operations.silence_seconds
    ended = False
    while not ended:
        ended = process.poll() is not None  # before its last words are heard
        listener.listen()
        if not ended and time.monotonic() - listener.heard > limit:
            process.send_signal(signal.SIGUSR1)
            with suppress(subprocess.TimeoutExpired):
                process.wait(LAST_WORDS)
            what = f"said nothing for {limit:g} s (operations.silence_seconds) and was ended"
            raise _failure(work, folder, f"{what}; where it stood is in the log")
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK)


class _Listener:
    """Hears what a process says and passes it on: to the progress bar, and to who watches the work.

    heard   when it said something last (`time.monotonic`)
    raised  the exception that ended it, in words
    """

    def __init__(self, work: Work, messages: Path) -> None:
        self.heard, self.raised = time.monotonic(), ""
        self._work, self._messages, self._stack = work, messages, ExitStack()
        self._live = Live(work.settings.operations.curve_seconds, self.heard)
        self._advance: Advance | None = None

    def __enter__(self) -> "_Listener":
        self._said = self._stack.enter_context(self._messages.open("rb"))
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def listen(self) -> None:
        """Take in what was said since the last time."""
        while (line := self._said.readline()).endswith(b"\n"):
            self.heard = time.monotonic()
            message = json.loads(line)
            if message["method"] == "report_custom_message":
                self._progress(**message["params"]["payload"])
            else:
                self._other(message)
        self._said.seek(-len(line), os.SEEK_CUR)  # a line that is still being written

    def _progress(self, step: int, of: int, scalars: Mapping[str, float]) -> None:
        before = self._live.step
        self._live.add(self.heard, step, of, scalars)
        self._advance = self._advance or self._stack.enter_context(self._work.progress(of))
        self._advance(step - before)
        if self._work.watch and self._live.due():
            self._work.watch.show(self._live.description, self._live.numbers, self._live.curves)

    def _other(self, message: Json) -> None:
        if message["method"] == "closed" and (error := (message["params"] or {}).get("exception")):
            self.raised = f", {error['message'].strip()}"
        if self._work.watch:
            self._work.watch.hear(message)
