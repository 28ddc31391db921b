"""The child process that checks and runs ONNX files under limits: `python -m robustcheck.networks.onnx.child`.

It reads jobs as JSON from its standard input, and leaves what it found in each job's folder. It never imports torch,
which would double the time that it takes to start.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from robustcheck.errors import ModelError, UnsafeFileError
from robustcheck.networks.onnx.arrays import load_arrays, save_arrays
from robustcheck.networks.onnx.checking import check

_MOST_WRITTEN = 4 * 2**30


def main() -> None:
    """Do the jobs that stand on the standard input, each in a process of its own where there are several."""
    request: dict[str, Any] = json.load(sys.stdin)
    jobs: list[dict[str, Any]] = request["jobs"]
    # The parent waits for the end of this process by the pipe at its standard output, where nothing else must write.
    os.dup(1)
    os.dup2(2, 1)
    if not request["fork"]:
        work(jobs[0])
        return
    _warm()
    for job in jobs:
        _in_fork(job)


def work(job: dict[str, Any]) -> None:
    """Check, and run, one file; leaves result.json, in which `error` says why there is no more."""
    folder = Path(job["folder"])
    limit(job["memory"], job["seconds"] * max(job["threads"], 1))
    try:
        result = _results(job, folder)
    except (ModelError, UnsafeFileError) as error:
        result = {"error": str(error), "unsafe": isinstance(error, UnsafeFileError)}
    except MemoryError:
        result = {"error": f"needs more than {job['memory'] / 2**30:.1f} GiB of memory", "unsafe": False}
    except Exception as error:  # whatever foreign code raises at a hostile file
        text = " ".join(f"{type(error).__name__}: {error}".split())
        result = {"error": f"not a valid ONNX file: {text[:400]}; export it again", "unsafe": False}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def limit(memory: int, seconds: float) -> None:
    """Limit this process, where the platform has limits, to bytes of memory and seconds of processor time."""
    if sys.platform == "win32":
        return
    import resource

    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: min(memory, _MOST_WRITTEN),
        resource.RLIMIT_CPU: int(seconds) + 1,
        resource.RLIMIT_AS: memory,
    }
    for what, most in limits.items():
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))


def _results(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    path = Path(job["path"])
    data = path.read_bytes()
    checked = check(data, path.parent)
    (folder / "inferred.onnx").write_bytes(checked.inferred)
    if checked.inlined is not None:
        (folder / "inlined.onnx").write_bytes(checked.inlined)
    result = {"digest": checked.digest, "external": checked.external, "notes": checked.notes}
    if job["mode"] == "check":
        return result
    from robustcheck.networks.onnx.session import VERSION, run

    given = load_arrays(folder, "given") if job["given"] else None
    hint = None if job["hint"] is None else tuple(job["hint"])
    ran = run(path, data if job["values"] else None, given, hint, job["optimisation"], job["threads"])
    save_arrays(folder, "inputs", ran.inputs)
    save_arrays(folder, "outputs", ran.outputs)
    save_arrays(folder, "values", ran.values)
    return {**result, "version": VERSION}


def _warm() -> None:
    # Modules, and onnx's table of operators, are loaded once for all of the processes that fork.
    import onnx.defs

    import robustcheck.networks.onnx.session  # noqa: F401

    onnx.defs.has("Relu")


def _in_fork(job: dict[str, Any]) -> None:
    folder = Path(job["folder"])
    started = time.monotonic()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            work(job)
            code = 0
        finally:
            os._exit(code)
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            ending: dict[str, Any] = {"code": os.waitstatus_to_exitcode(status)}
            break
        if time.monotonic() - started > job["seconds"]:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            ending = {"code": None}
            break
        time.sleep(0.001)
    (folder / "ending.json").write_text(json.dumps(ending), encoding="utf-8")


if __name__ == "__main__":
    main()
