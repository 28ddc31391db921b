"""How a study's time and memory grow with four times the samples, error probabilities, draws or cells."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from measuring import Spread, peak_bytes, say, spread
from study_speed import Fields, audit_study, run_once, training_study
from table import Bound, Row, number

from robustcheck.study import runner
from robustcheck.study.cells import load_study
from robustcheck.study.plan import Study
from robustcheck.study.store import Store

GROWN = ("samples", "EPs", "draws", "cells")


def images_file(path: Path, train: int, test: int) -> str:
    """An npz file of digits repeated in turn, its classes equally large: so many images to train on and to test on."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    by_class = [np.flatnonzero(bunch.target == label) for label in range(10)]
    rows = np.array([by_class[i % 10][i // 10 % len(by_class[i % 10])] for i in range(train + test)])
    images, labels = (bunch.images[rows] / 16).astype(np.float32), bunch.target[rows].astype(np.int64)
    np.savez(path, images=images[:train], labels=labels[:train], test_images=images[train:], test_labels=labels[train:])
    return f"npz:{path}"


def growth_pair(kind: str, folder: Path, size: int) -> tuple[Fields, Fields]:
    """A study, and one with four times the samples, EPs, draws or cells; `size` sets how long they take.

    The splits that are evaluated are multiples of 640, which the fixed chunks of 128 divide.
    """
    few = images_file(folder / "few.npz", 3200, 640)
    many = images_file(folder / "many.npz", 12800, 2560)
    both = ("relu", "gelu")
    if kind == "samples":
        small, large = (training_study(data, activations=both, seeds=1, epochs=size) for data in (few, many))
    elif kind == "cells":
        small, large = (training_study(few, activations=both, seeds=n, epochs=size) for n in (1, 4))
    elif kind == "EPs":
        small, large = (audit_study(few, eps=n, draws=12 * size) for n in (4, 16))
    else:
        small, large = (audit_study(few, eps=4, draws=n * size) for n in (12, 48))
    return small, large


def timed(fields: Fields) -> float:
    """Seconds of a study in this process, from plan to report."""
    return run_once(fields, 1)[0]


def resident() -> int:
    """The most bytes that this process has held in memory since it began."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def tensors_alive(fields: Fields) -> int:
    """Peak bytes of tensors that running the study's cells makes; the data set and the models are there before."""
    study = Study.create(**fields)
    loaded = load_study(study)
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), study.document()) as store:
        return peak_bytes(lambda: runner.run(loaded, store))


def rows(repeats: int = 3, size: int = 2) -> list[Row]:
    """Time and memory of four times the work, for each way to have more; two fresh processes that take turns."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in GROWN:
            found += _growth(kind, Path(folder), repeats, size)
            say(f"growth: {kind}")
    return found


def _growth(kind: str, folder: Path, repeats: int, size: int) -> list[Row]:
    pair, light = growth_pair(kind, folder, size), growth_pair(kind, folder, 1)
    with ExitStack() as stack:
        # Spawned: a process that has used the kernel must not be forked.
        workers = [stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn"))) for _ in pair]
        for ready in [worker.submit(timed, light[0]) for worker in workers]:
            ready.result()
        seconds = [_in_turn(workers, timed, pair) for _ in range(repeats)]
        memory = [worker.submit(resident).result() for worker in workers]
        tensors = _in_turn(workers, tensors_alive, light)
    few, many = (spread(column) for column in zip(*seconds, strict=True))
    found = [
        Row(
            f"{kind} × 4: time",
            spread(large / small for small, large in seconds),
            "×",
            Bound(low=3.6, high=4.2),
            None,
            f"{number(few.median)} s, {number(many.median)} s",
        )
    ]
    for what, (small, large) in (("peak of tensor memory", tensors), ("peak of resident memory", memory)):
        grown = large / small
        seen = f"{small / 2**20:.1f} MiB, {large / 2**20:.1f} MiB"
        found.append(Row(f"{kind} × 4: {what}", Spread(grown, grown, grown, 1), "×", Bound(high=1.1), None, seen))
    return found


def _in_turn(
    workers: list[ProcessPoolExecutor], measure: Callable[[Fields], float], pair: tuple[Fields, Fields]
) -> list[float]:
    return [worker.submit(measure, fields).result() for worker, fields in zip(workers, pair, strict=True)]
