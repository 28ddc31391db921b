"""The benchmark's table: a row for each figure, what it must reach, and the Markdown that the document holds."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from measuring import Spread

PACKAGES = ("robustcheck", "torch", "numba", "numpy", "analogvnn", "onnxruntime", "timm")


@dataclass(frozen=True)
class Bound:
    """What a figure must reach: a smallest value, a largest one, or both; `text` says it where the numbers do not."""

    low: float | None = None
    high: float | None = None
    text: str = ""

    def holds(self, value: float) -> bool:
        """Whether the value is within.

        >>> Bound(low=4).holds(4.0), Bound(high=1.35).holds(1.4)
        (True, False)
        """
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def said(self, unit: str) -> str:
        """The bound in words.

        >>> Bound(low=3.6, high=4.2).said("×"), Bound(low=4).said("×")
        ('3.6 to 4.2 ×', '≥ 4 ×')
        """
        if self.text:
            return self.text
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g} {unit}"
        return f"≥ {self.low:g} {unit}" if self.low is not None else f"≤ {self.high:g} {unit}"


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        what: what was measured.
        figure: its median and quartiles.
        unit: `×` for a ratio, else `ms`, `s`, `%`, …
        floor: what it must reach; None where nothing was promised.
        goal: what it should reach.
        seen: the absolute figures behind it, in words.
    """

    what: str
    figure: Spread
    unit: str = "×"
    floor: Bound | None = None
    goal: Bound | None = None
    seen: str = ""

    @property
    def verdict(self) -> str:
        """What the figure reached, in words; empty where nothing was promised."""
        value = self.figure.median
        if self.floor is None:
            return ""
        if not self.floor.holds(value):
            return "**missed**"
        if self.goal is None:
            return "met"
        return "goal met" if self.goal.holds(value) else "floor met"


def at_least(floor: float, goal: float | None = None) -> tuple[Bound, Bound | None]:
    """Floor and goal of a figure that should be large."""
    return Bound(low=floor), None if goal is None else Bound(low=goal)


def at_most(floor: float, goal: float | None = None) -> tuple[Bound, Bound | None]:
    """Floor and goal of a figure that should be small."""
    return Bound(high=floor), None if goal is None else Bound(high=goal)


def number(value: float) -> str:
    """Three digits, none of them lost to an exponent.

    >>> number(7.9312), number(1234.5), number(0.04567)
    ('7.93', '1234', '0.0457')
    """
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def milliseconds(seconds: Sequence[float]) -> str:
    """The median of some seconds, in words."""
    found = statistics.median(seconds)
    return f"{number(found * 1e3)} ms" if found < 10 else f"{number(found)} s"


def markdown(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| measured | median | quartiles | runs | floor | goal | | behind it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figure = row.figure
        cells = (
            row.what,
            f"{number(figure.median)} {row.unit}",
            f"{number(figure.low)} to {number(figure.high)}" if figure.count > 1 else "",
            str(figure.count),
            row.floor.said(row.unit) if row.floor else "",
            row.goal.said(row.unit) if row.goal else "",
            row.verdict,
            row.seen,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine(load: float) -> str:
    """What the figures were measured on: processor, cores, versions, and the load when the run began."""
    packages = []
    for package in PACKAGES:
        try:
            packages.append(f"{package} {version(package).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return (
        f"Measured on {_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, {', '.join(packages)}. Load average when the run began: {load:.2f}."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "an unnamed processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "an unnamed processor"


def put(document: str, name: str, text: str) -> str:
    """The document with the text between the markers `<!-- NAME -->` and `<!-- /NAME -->`.

    >>> put("a <!-- t -->old<!-- /t --> b", "t", "new")
    'a <!-- t -->\\n\\nnew\\n\\n<!-- /t --> b'

    Raises:
        ValueError: the markers are not in it.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if start not in document or end not in document:
        raise ValueError(f"expected {start} and {end} in the document")
    before, _, rest = document.partition(start)
    return f"{before}{start}\n\n{text.strip()}\n\n{end}{rest.partition(end)[2]}"
