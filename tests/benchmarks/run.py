"""Measures speed and memory beside what they must beat, and writes the tables of docs/performance.md.

Figures are ratios of contestants that take turns in one run. One that misses its floor is printed as it is.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import camera_speed
import growth_speed
import kernel_speed
import lidar_speed
import scenes_speed
import step_speed
import study_speed
from measuring import Spread, paired, say, spread, use_threads
from table import Bound, Row, at_least, at_most, machine, markdown, put

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
MARKER = "<!-- table -->"
ONNX_PROMISED = (
    (r"graph / torch \[x\]$", at_most(1.15)),
    (r"audit / ONNX Runtime, throughput \[x\]$", at_least(0.9)),
    (r"load and verify \[s\]$", at_most(2.0)),
)


@dataclass(frozen=True)
class Part:
    """A part of the benchmark: its heading, how it is measured in words, and what measures it."""

    heading: str
    note: str
    measure: Callable[[], list[Row]]


def onnx_rows(repeats: int) -> list[Row]:
    """ONNX graphs beside torch and ONNX Runtime, one thread."""
    import onnx_speed

    use_threads(1)
    found = []
    for name, value in onnx_speed.figures(paired, repeats).items():
        what, unit = name.removesuffix("]").rsplit(" [", 1)
        bounds: tuple[Bound | None, Bound | None] = (None, None)
        for pattern, promised in ONNX_PROMISED:
            if re.search(pattern, name):
                bounds = promised
        found.append(Row(what, Spread(value, value, value, 1), "×" if unit == "x" else unit, *bounds))
    return found


def start_rows(repeats: int) -> list[Row]:
    """Fresh processes."""
    found = []
    for what, arguments, bounds in (
        ("`robustcheck --help`", ["-m", "robustcheck", "--help"], at_most(1.0)),
        ("`import robustcheck`", ["-c", "import robustcheck"], (None, None)),
    ):
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
        found.append(Row(what, spread(seconds), "s", *bounds))
    compiled, kept = first_conversions()
    found.append(
        Row("first float32 conversion and mask, nothing compiled yet", spread([compiled]), "s", *at_most(10.0))
    )
    found.append(Row("the same in the next process", spread([kept]), "s"))
    return found


def first_conversions() -> tuple[float, float]:
    """Seconds that the loops take at their first use, with an empty cache on disk and then with a full one."""
    script = (
        "import time, torch\n"
        "from robustcheck.sensing.converter import Converter\n"
        "from robustcheck.sensing.kernels import cpu\n"
        "x = torch.rand(64, 4096, requires_grad=True)\n"
        "start = time.perf_counter()\n"
        "Converter('aod', 15, 0.1)(x, (1, 2), torch.arange(64), 0).sum().backward()\n"
        "cpu.set_threads(1)\n"
        "Converter('aod', 15, 0.1)(x, (1, 2), torch.arange(64), 0).sum().backward()\n"
        "print(time.perf_counter() - start)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        command = [sys.executable, "-c", script]
        runs = [
            subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
            for _ in range(2)
        ]
    return float(runs[0]), float(runs[1])


def parts(repeats: int | None = None, quick: bool = False) -> dict[str, Part]:
    """All that writes tables here, shortened where the run is quick."""

    def times(usual: int, short: int = 2) -> int:
        return repeats or (short if quick else usual)

    shape, size = ((8, 48, 32, 32), 8) if quick else (kernel_speed.SHAPE, 128)
    seconds, seeds = (0.3, 1) if quick else (10.0, 6)
    return {
        "kernel": Part(
            "The converter",
            "Wall time, without gradients. Torch and the kernel have the threads that the row says.",
            lambda: kernel_speed.rows(times(31), shape),
        ),
        "step": Part(
            "Training",
            "A step is forward, loss, backward and Adam, with GELU, all sites and weights noised. Epochs are in "
            "processor time. Memory is bytes of tensors alive, parameters and Adam's moments included.",
            lambda: step_speed.rows(times(7), size),
        ),
        "study": Part(
            "Studies",
            "Wall time of a whole study, from plan to report, the start of its processes included.",
            lambda: study_speed.rows(seconds, seeds),
        ),
        "growth": Part(
            "Growth",
            "Two processes that take turns, one with four times the other's work; wall time.",
            lambda: growth_speed.rows(times(3, 1), 1 if quick else 2),
        ),
        "onnx": Part(
            "ONNX graphs",
            "Wall time of one thread; medians of paired runs, of which no quartiles are kept.",
            lambda: onnx_rows(times(15)),
        ),
        "camera": Part(
            "Cameras",
            "Wall time, without gradients. `GaussNoise` is albumentations', image by image; getframes simulates the "
            "same sensor on linear light. Both use one thread.",
            lambda: camera_speed.rows(
                times(31), (4, 3, 32, 32) if quick else camera_speed.SHAPE, 64 if quick else 1024
            ),
        ),
        "lidar": Part(
            "LIDARs",
            "Wall time, without gradients.",
            lambda: [
                *lidar_speed.rows(times(101), 64 if quick else 1024),
                *scenes_speed.rows(times(7), 16 if quick else 800),
            ],
        ),
        "start": Part("Start", "Wall time of fresh processes.", lambda: start_rows(times(5))),
    }


def random_numbers(quick: bool) -> None:
    """The tests of the random numbers, which write docs/randomness.md themselves; a quick run only prints."""
    randomness = importlib.import_module("randomness")
    if quick:
        print(randomness.report(10**6))
    else:
        subprocess.run([sys.executable, str(randomness.__file__)], check=True)


def main() -> None:
    """Run what was asked for, print the tables, and write the document where everything was run."""
    every = [*parts(), "random"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help=f"some parts, with commas between: {','.join(every)}")
    parser.add_argument("--repeats", type=int, help="rounds of every part; each has its own number where absent")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: does it run?")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--out", type=Path, help="document with the table; docs/performance.md after a full run")
    options = parser.parse_args()
    asked = options.only.split(",") if options.only else every
    if unknown := set(asked) - set(every):
        parser.error(f"--only: expected some of {', '.join(every)}, got {', '.join(sorted(unknown))}")
    full = set(asked) == set(every) and not options.quick and options.repeats is None
    out = options.out or (DOCUMENT if full else None)
    if out and not (out.is_file() and MARKER in out.read_text(encoding="utf-8")):
        parser.error(f"--out: expected a document with the marker {MARKER}, got {out}")
    warnings.simplefilter("ignore")  # of the libraries that are measured
    text, figures = measured(asked, parts(options.repeats, options.quick))
    print(text)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if out:
        out.write_text(put(out.read_text(encoding="utf-8"), "table", text), encoding="utf-8")
        say(f"wrote {out}")
    if "random" in asked:
        random_numbers(options.quick)


def measured(asked: list[str], known: dict[str, Part]) -> tuple[str, dict[str, object]]:
    """The parts asked for: their tables as Markdown, and their figures."""
    lines = [machine(os.getloadavg()[0])]
    figures: dict[str, object] = {}
    began = time.perf_counter()
    for name, part in known.items():
        if name in asked:
            start = time.perf_counter()
            rows = part.measure()
            say(f"{name}: {time.perf_counter() - start:.0f} s")
            lines += [f"### {part.heading}", part.note, markdown(rows)]
            figures[name] = [asdict(row) | {"verdict": row.verdict} for row in rows]
    lines.append(f"These took {(time.perf_counter() - began) / 60:.1f} minutes.")
    return "\n\n".join(lines), figures


if __name__ == "__main__":
    main()
