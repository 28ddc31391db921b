"""Draws chart specifications to SVG and PNG: the same bytes each time, no browser, no network."""

from __future__ import annotations

import hashlib
import itertools
import re
from pathlib import Path
from typing import Any

import vl_convert

from robustcheck.errors import InvalidValueError
from robustcheck.reporting.files import write
from robustcheck.reporting.marks import shown
from robustcheck.reporting.palette import Theme, config

_TAG = re.compile(r"<[a-zA-Z][^<>]*>")
_NOISE = re.compile(r' (?:class|role|aria-[a-z]+|pointer-events)="[^"]*"')
_LONG_NUMBER = re.compile(r"(\d\.\d\d)\d+")
_IDENTIFIER = re.compile(r'(id="|url\(#)((?:clip|gradient)_?\d+)')


def svg(chart: Any, theme: Theme = "light") -> str:
    """The chart as SVG text: the same bytes each time, with identifiers that differ between charts.

    The theme `page` leaves out the title, takes its colours from the custom properties of `palette.variables`, and
    gives marks that are `marked` the attributes `data-series`, `data-point` and `data-tip`.
    """
    drawn = vl_convert.vegalite_to_svg(_specification(chart, theme), allowed_base_urls=[])
    return _renamed(_TAG.sub(lambda tag: _LONG_NUMBER.sub(r"\1", _NOISE.sub("", shown(tag[0]))), drawn))


def png(chart: Any) -> bytes:
    """The chart as a PNG on white ground, two pixels a point."""
    return bytes(vl_convert.vegalite_to_png(_specification(chart, "light"), scale=2, allowed_base_urls=[]))


def save(chart: Any, path: str | Path) -> None:
    """Write the chart as `.svg` or `.png`.

    Raises:
        InvalidValueError: another suffix.
        ReportError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".svg", ".png"):
        raise InvalidValueError("chart file", expected="a name that ends in .svg or .png", got=path.name)
    write(path, png(chart) if suffix == ".png" else svg(chart).encode())


def _specification(chart: Any, theme: Theme) -> dict[str, Any]:
    # Validation takes most of the time of a large chart; the tests do it.
    specification: dict[str, Any] = chart.to_dict(validate=False)
    if theme == "page":
        specification.pop("title", None)
    return {**specification, "config": config(theme)}


def _renamed(text: str) -> str:
    """The renderer numbers its clip paths through the life of the process; number them within the chart instead."""
    digest = hashlib.sha256(_IDENTIFIER.sub("", text).encode()).hexdigest()[:8]
    names: dict[str, str] = {}
    counter = itertools.count()

    def name(match: re.Match[str]) -> str:
        if match[2] not in names:
            names[match[2]] = f"c{digest}-{next(counter)}"
        return match[1] + names[match[2]]

    return _TAG.sub(lambda tag: _IDENTIFIER.sub(name, tag[0]), text)
