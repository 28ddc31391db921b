"""Checks and runs ONNX files in a child process with limits on its time and memory, since a file may be hostile."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from robustcheck.errors import ModelError
from robustcheck.networks.onnx.children import (
    MEMORY,
    SECONDS,
    Answer,
    Array,
    Optimisation,
    Request,
    Trial,
    check_request,
    started,
)

__all__ = ["Answer", "Request", "Trial", "ask", "check_file", "check_many", "run_trial"]


def run_trial(
    path: str | Path,
    *,
    inputs: Mapping[str, Array] | None = None,
    hint: tuple[int, int, int] | None = None,
    values: bool = False,
    optimisation: Optimisation = "all",
    threads: int = 1,
    seconds: float = SECONDS,
    memory: int = MEMORY,
) -> Trial:
    """Check a file and run it once in ONNX Runtime on the CPU.

    Args:
        path: of the file.
        inputs: by name, cast to the types that the file asks for; made up where not given: floats uniform in [−1, 1],
            integers 0 or 1, two samples where the file leaves the batch open, the same in every run.
        hint: channels, height and width of made-up images where the file leaves them open.
        values: also return the floats between nodes; takes `optimisation='disabled'`.
        optimisation: how far ONNX Runtime may rewrite the graph.
        threads: how many an operator may use; sums may differ in their last digits with it.
        seconds: the longest that it may take.
        memory: the most bytes of address space that the child may use.

    Raises:
        ModelError: the file is not fit to be read, ONNX Runtime refuses or crashes, or a limit is reached.
        InvalidValueError: an input is no array of numbers, or `values` is asked for with optimisation.
    """
    request = Request(Path(path), True, inputs, hint, values, optimisation, threads, seconds, memory)
    trial = ask(request).trial
    assert trial is not None
    return trial


def check_file(path: str | Path, *, seconds: float = SECONDS, memory: int = MEMORY) -> Answer:
    """Check a file without running it; raises ModelError as `run_trial`."""
    return ask(Request(Path(path), seconds=seconds, memory=memory))


def check_many(requests: Sequence[Request]) -> list[Answer | ModelError]:
    """Check or run many files, each in a process of its own; one that is not fit gives its error in its place."""
    if not requests:
        return []
    if not hasattr(os, "fork"):
        return [_caught(request) for request in requests]
    for request in requests:
        check_request(request)
    with started(requests, fork=True) as child:
        return child.answers()


def ask(request: Request) -> Answer:
    """Check, or run, one file in a child; raises ModelError."""
    with started([request]) as child:
        return child.answer()


def _caught(request: Request) -> Answer | ModelError:
    try:
        return ask(request)
    except ModelError as error:
        return error
