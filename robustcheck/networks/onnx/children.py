"""Starts the child process that checks and runs ONNX files, bounds it, and reads what it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from robustcheck.errors import InvalidValueError, ModelError, UnsafeFileError
from robustcheck.networks.onnx.arrays import load_arrays, save_arrays

Array = np.ndarray[Any, Any]
Optimisation = Literal["all", "disabled"]

SECONDS: Final = 120.0
MEMORY: Final = 8 * 2**30
COMMAND: Final = [sys.executable, "-P", "-m", "robustcheck.networks.onnx.child"]


@dataclass(frozen=True, eq=False)
class Trial:
    """What ONNX Runtime did with a file.

    Attributes:
        inputs: what went in, by name.
        outputs: what came out, by name; what is no tensor of numbers is left out.
        values: the floats between the nodes of the main graph (its local functions inlined), where asked for.
        optimisation: how far ONNX Runtime rewrote the graph, 'all' or 'disabled'.
        version: of ONNX Runtime.
    """

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    values: dict[str, Array]
    optimisation: str
    version: str


@dataclass(frozen=True, eq=False)
class Request:
    """A file, and what is wanted of it; see `run_trial`. Without `run` it is only checked."""

    path: Path
    run: bool = False
    inputs: Mapping[str, Array] | None = None
    hint: tuple[int, int, int] | None = None
    values: bool = False
    optimisation: Optimisation = "all"
    threads: int = 1
    seconds: float = SECONDS
    memory: int = MEMORY


@dataclass(frozen=True, eq=False)
class Answer:
    """What the child says of a file that is fit to be read.

    Attributes:
        digest: SHA-256 of the bytes that were checked.
        external: whether tensors lie in other files.
        notes: what the user should know.
        inferred: the model with all shapes that could be inferred, without initialisers.
        inlined: the model with its local functions inlined, without large initialisers; None where it has none.
        trial: None where the file was only checked.
    """

    digest: str
    external: bool
    notes: tuple[str, ...]
    inferred: bytes
    inlined: bytes | None
    trial: Trial | None


@dataclass(frozen=True, eq=False)
class Child:
    """A child at work on requests, each with a folder for its results."""

    process: subprocess.Popen[bytes]
    requests: Sequence[Request]
    folders: Sequence[Path]
    fork: bool

    def answer(self) -> Answer:
        """Wait for what it says of its only file; raises ModelError."""
        result = self.answers()[0]
        if isinstance(result, ModelError):
            raise result
        return result

    def answers(self) -> list[Answer | ModelError]:
        """Wait for what it says of each file."""
        late = False
        try:
            self.process.communicate(timeout=sum(request.seconds for request in self.requests) + 5 * self.fork)
        except subprocess.TimeoutExpired:
            late = True
            _kill(self.process)
        return [
            _answer(request, folder, self._ending(folder, late))
            for request, folder in zip(self.requests, self.folders, strict=True)
        ]

    def _ending(self, folder: Path, late: bool) -> int | None:
        if self.fork and (folder / "ending.json").is_file():
            ending: int | None = json.loads((folder / "ending.json").read_text(encoding="utf-8"))["code"]
            return ending
        return None if late else self.process.returncode


@contextlib.contextmanager
def started(requests: Sequence[Request], *, fork: bool = False) -> Iterator[Child]:
    """A child that works while the body runs; it is killed and its files are removed at the end, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="robustcheck-onnx-") as home:
        folders = [Path(home, str(index)) for index in range(len(requests))]
        jobs = [_job(request, folder) for request, folder in zip(requests, folders, strict=True)]
        with Path(home, "log").open("wb") as log:
            process = subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps({"jobs": jobs, "fork": fork}).encode())
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdin = None
            yield Child(process, requests, folders, fork)
        finally:
            _kill(process)


def _environment() -> dict[str, str]:
    # One thread each keeps the address space small; the rest makes the child find this very package, and keeps
    # ONNX Runtime from taking settings out of the model.
    here = str(Path(__file__).resolve().parents[3])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, "ORT_LOAD_CONFIG_FROM_MODEL": "0"}


def _kill(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def check_request(request: Request) -> None:
    """Raise InvalidValueError for what cannot be asked."""
    if request.values and request.optimisation != "disabled":
        remedy = "optimised graphs have other values between their nodes"
        raise InvalidValueError(
            "optimisation", expected="'disabled' with values", got=request.optimisation, remedy=remedy
        )
    for name, array in (request.inputs or {}).items():
        if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
            raise InvalidValueError(f"input {name!r}", expected="an array of numbers", got=array.dtype.name)


def _job(request: Request, folder: Path) -> dict[str, Any]:
    check_request(request)
    folder.mkdir()
    if request.inputs is not None:
        native = {
            name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in request.inputs.items()
        }
        save_arrays(folder, "given", native)
    return {
        "path": str(request.path.absolute()),
        "folder": str(folder),
        "mode": "run" if request.run else "check",
        "given": request.inputs is not None,
        "hint": request.hint,
        "values": request.values,
        "optimisation": request.optimisation,
        "threads": request.threads,
        "seconds": request.seconds,
        "memory": request.memory,
    }


def _answer(request: Request, folder: Path, code: int | None) -> Answer | ModelError:
    found = folder / "result.json"
    try:
        result = json.loads(found.read_text(encoding="utf-8")) if code == 0 and found.is_file() else None
        if result is None:
            return ModelError(f"{request.path}: {_why(request, folder, code)}")
        if "error" in result:
            return (UnsafeFileError if result["unsafe"] else ModelError)(f"{request.path}: {result['error']}")
        trial = None
        if request.run:
            inputs, outputs, values = (load_arrays(folder, stem) for stem in ("inputs", "outputs", "values"))
            trial = Trial(inputs, outputs, values, request.optimisation, result["version"])
        inlined = folder / "inlined.onnx"
        return Answer(
            result["digest"],
            result["external"],
            tuple(result["notes"]),
            (folder / "inferred.onnx").read_bytes(),
            inlined.read_bytes() if inlined.is_file() else None,
            trial,
        )
    except (OSError, ValueError, KeyError) as error:
        return ModelError(f"{request.path}: what the child wrote cannot be read: {error}; is the disk full?")


def _why(request: Request, folder: Path, code: int | None) -> str:
    log = next((path for path in (folder / "log", folder.parent / "log") if path.is_file()), None)
    said = "" if log is None else log.read_bytes()[-4000:].decode("utf-8", errors="replace").strip()
    last = said.splitlines()[-1][:300] if said else "it said nothing"
    if code is None or (sys.platform != "win32" and code == -signal.SIGXCPU):
        return f"expected to be read and run within {request.seconds:g} s, it took longer; give more seconds"
    if "bad_alloc" in said or "MemoryError" in said or "Failed to allocate" in said:
        return (
            f"needs more than {request.memory / 2**30:.1f} GiB of memory; the file is absurd, or needs a higher limit"
        )
    if code < 0:
        name = signal.Signals(-code).name
        return f"the child that read it was ended by {name} ({last}); the file is damaged or hostile, export it again"
    return f"the child that read it failed with code {code} ({last}); export it again"
