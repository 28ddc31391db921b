"""Whole studies: how they scale with processes, and what the runner itself costs a cell."""

from __future__ import annotations

import ctypes
import json
import math
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import Spread, say, spread, use_threads
from table import Bound, Row, at_least, number

from robustcheck.reporting.produce import run_study
from robustcheck.study.plan import Study
from robustcheck.study.store import FILE_NAME

ACTIVATIONS = ("relu", "leaky_relu", "gelu", "silu")
SENSOR = {"spec": "adc-4bit", "placement": "network", "range": "unit"}
Fields = dict[str, Any]


def training_study(data: str, *, activations: tuple[str, ...], seeds: int, epochs: int, draws: int = 2) -> Fields:
    """A comparison on 8 × 8 images, trained from scratch with noise at every site."""
    return {
        "models": [{"spec": "digits-convnet"}],
        "data": {"spec": data},
        "sensors": [SENSOR],
        "eps": (0.45, 0.6),
        "activations": activations,
        "seeds": seeds,
        "draws": draws,
        "training": {"mode": "scratch", "train_ep": "mixed", "epochs": epochs, "learning_rates": (0.01,)},
    }


def audit_study(data: str, *, eps: int, draws: int) -> Fields:
    """An audit with so many error probabilities and draws, noise at every site."""
    return {
        "kind": "audit",
        "models": [{"spec": "digits-convnet"}],
        "data": {"spec": data},
        "sensors": [SENSOR],
        "eps": tuple(round(0.1 + 0.8 * (i + 1) / (eps + 1), 6) for i in range(eps)),
        "draws": draws,
    }


@dataclass(frozen=True)
class CellTime:
    """When a cell ran, in seconds of one clock, as the store has it."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start


def cell_times(folder: Path) -> list[CellTime]:
    """The cells of a folder's store in the order of their start."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as database:
        found = [json.loads(text) for (text,) in database.execute("SELECT environment FROM cells")]
    cells = [CellTime(each["finished"] - each["seconds"], each["finished"]) for each in found]
    return sorted(cells, key=lambda cell: cell.start)


def gaps(cells: list[CellTime]) -> list[float]:
    """Seconds between the end of a cell and the start of the next in the same process.

    The store does not say which process ran a cell. A cell follows the one that ended last of those that were over when
    it started; the sum of the gaps is the same for every way to match them.

    >>> [round(gap, 3) for gap in gaps([CellTime(0, 1), CellTime(0, 2), CellTime(1.01, 3), CellTime(2.02, 4)])]
    [0.01, 0.02]
    """
    clock_error = 0.002  # the store rounds to milliseconds
    ends: list[float] = []
    found = []
    for cell in sorted(cells, key=lambda each: each.start):
        over = [end for end in ends if end <= cell.start + clock_error]
        if over:
            ends.remove(max(over))
            found.append(max(0.0, cell.start - max(over)))
        ends.append(cell.end)
    return found


def keep_freed_memory() -> None:
    """What workers are born with (glibc), for this process too: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-1, 2**30)
        mallopt(-3, 2**30)


def run_once(fields: Fields, jobs: int) -> tuple[float, list[CellTime]]:
    """Run a study in a folder of its own: seconds from plan to report, and its cells."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        report = run_study(Study.create(**fields), folder, jobs=jobs)
        seconds = time.perf_counter() - start
        assert not report.failures, report.failures
        return seconds, cell_times(Path(folder))


def epochs_for(seconds: float) -> int:
    """Epochs with which the shortest cell of the study of 24 takes at least so long on this machine."""
    shortest = {}
    for epochs in (1, 2, 10):  # the first run is for compilers and caches
        fields = training_study("digits", activations=ACTIVATIONS, seeds=1, epochs=epochs)
        shortest[epochs] = min(cell.seconds for cell in run_once(fields, 1)[1])
    slope = max(1e-3, (shortest[10] - shortest[2]) / 8)
    return max(2, math.ceil(2 + (1.15 * seconds - shortest[2]) / slope))


def rows(seconds: float = 10.0, seeds: int = 6) -> list[Row]:
    """24 cells with one process and with two; wall time of the whole study, from plan to report."""
    use_threads(1)
    fields = training_study("digits", activations=ACTIVATIONS, seeds=seeds, epochs=epochs_for(seconds))
    walls, cells = {}, {}
    keep_freed_memory()
    for jobs in (1, 2):
        walls[jobs], cells[jobs] = run_once(fields, jobs)
        say(f"study: {len(cells[jobs])} cells, --jobs {jobs}: {walls[jobs]:.0f} s")
    faster = walls[1] / walls[2]
    busy = {jobs: [cell.seconds for cell in cells[jobs]] for jobs in cells}
    count, shortest, longest = len(busy[1]), min(busy[1]), max(busy[1])
    slower = sum(busy[2]) / sum(busy[1])
    found = [
        Row(
            f"{count} cells of {number(shortest)} to {number(longest)} s: times faster with --jobs 2 than --jobs 1",
            Spread(faster, faster, faster, 1),
            "×",
            *at_least(1.8, 1.95),
            f"{walls[1]:.1f} s, {walls[2]:.1f} s",
        ),
        Row(
            "the same: a cell's own time with --jobs 2 over that with --jobs 1 (what the two share: memory, cache)",
            Spread(slower, slower, slower, 1),
            seen=f"cells together {sum(busy[1]):.1f} s, {sum(busy[2]):.1f} s",
        ),
    ]
    for jobs in (1, 2):
        between = gaps(cells[jobs])
        mean_cell = sum(busy[jobs]) / count
        found.append(
            Row(
                f"the runner's own time a cell, --jobs {jobs}",
                spread(gap * 1e3 for gap in between),
                "ms",
                Bound(high=max(20.0, 0.02 * mean_cell * 1e3), text="≤ 2 % or 20 ms"),
                None,
                f"mean {number(sum(between) / len(between) * 1e3)} ms, which is "
                f"{number(sum(between) / len(between) / mean_cell * 100)} % of a cell's {number(mean_cell)} s",
            )
        )
    return found
