"""A report, or what changed between two, as comma-separated values (RFC 4180).

The first line names the columns; lines end in CRLF; the text is UTF-8 without a byte order mark. Numbers are written as
Python does, in full, accuracies as fractions; a cell without a value is empty. Text comes from files that others wrote,
and a spreadsheet takes a cell that begins with one of = + - @ for a formula: such text has an apostrophe before it,
also where spaces come first. Control characters, tabs among them, are replaced as in every other rendering.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields

from robustcheck.reporting.axis import axis_of, ordered
from robustcheck.reporting.changes import Change, Changes
from robustcheck.reporting.record import Interval
from robustcheck.reporting.report import Comparison, OperatingPoint, Report, Result, Row
from robustcheck.reporting.wording import plain

Cell = str | float | int | None

COLUMNS = (
    *("model", "sensor", "activation", "point", "kind", "value", "ep", "exposure", "lux", "bits", "signal"),
    *("accuracy", "networks_lower", "networks_upper", "samples_lower", "samples_upper"),
    *("rank", "leads", "wins", "networks", "converged", "clean", "quantised", "draw_error", "sample_error"),
)
"""Of a report, before `seed_0`, `seed_1` and so on: the accuracy of each trained network."""

_FORMULA = tuple("=+-@＝＋－＠")


def report_csv(report: Report) -> str:
    """One row a model × sensor × activation × operating point, and one for each area; columns as in `COLUMNS`.

    `kind` is what was asked for (`ep`, `exposure`, `lux`, `signal`, `clean`, `quantised`) or `area`, and `value` how
    much of it; `ep` to `signal` say what the point is otherwise. `networks_…` is the 95 % interval over trained
    networks, `samples_…` that over test samples and draws. `leads` and `wins` are 1 or 0, and empty, as is the rank,
    where nothing was compared.

    >>> from robustcheck.content import shelf
    >>> report = Report.load(shelf("reports") / "lidar-vlp16" / "report.json")
    >>> first = next(csv.DictReader(io.StringIO(report_csv(report))))
    >>> first["sensor"], first["point"]
    ('lidar-vlp16', 'clean')
    """
    seeds = max((len(row.per_seed) for result in report.results for row in _rows(result)), default=0)
    lines = [
        [*_named(result, row, point), *_numbers(row, comparison), *_padded(row.per_seed, seeds)]
        for result in report.results
        for point, comparison in _comparisons(result)
        for row in comparison.rows
    ]
    return _written([[*COLUMNS, *(f"seed_{index}" for index in range(seeds))], *lines])


def changes_csv(changes: Changes) -> str:
    """One row a change; the columns are the fields of `Change`.

    >>> change = Change("=cmd", "adc-4bit", "as is", "EP 0.5", 0.75, 0.5, -0.25, -0.375, -0.125, "worse")
    >>> print(changes_csv(Changes("a", "b", (change,), 1, (), (), ())).replace("\\r\\n", "\\n"), end="")
    model,sensor,activation,point,before,after,difference,lower,upper,mark
    '=cmd,adc-4bit,as is,EP 0.5,0.75,0.5,-0.25,-0.375,-0.125,worse
    """
    return _written([[each.name for each in fields(Change)], *map(astuple, changes.changes)])


def _comparisons(result: Result) -> list[tuple[OperatingPoint | None, Comparison]]:
    """At each operating point, and over all of them."""
    found: list[tuple[OperatingPoint | None, Comparison]] = [(each.point, each.comparison) for each in ordered(result)]
    return [*found, (None, result.area)] if result.area is not None else found


def _rows(result: Result) -> Iterable[Row]:
    return (row for _, comparison in _comparisons(result) for row in comparison.rows)


def _named(result: Result, row: Row, point: OperatingPoint | None) -> list[Cell]:
    named: list[Cell] = [result.model, result.sensor.key, row.activation]
    if point is None:
        return [*named, "area", "area", *[None] * 6]
    label = axis_of(result).label(point)
    return [*named, label, point.kind, point.asked, point.ep, point.exposure, point.lux, point.bits, point.signal]


def _numbers(row: Row, comparison: Comparison) -> list[Cell]:
    compared, precision = bool(comparison.pairs), row.precision
    return [
        row.accuracy,
        *_ends(row.networks),
        *_ends(row.samples),
        row.rank if compared else None,
        int(row.activation in comparison.leaders) if compared else None,
        int(row.activation == comparison.winner) if compared else None,
        len(row.per_seed),
        row.converged,
        row.clean,
        row.quantised,
        None if precision is None else precision.draw_error,
        None if precision is None else precision.sample_error,
    ]


def _ends(interval: Interval | None) -> tuple[Cell, Cell]:
    return (None, None) if interval is None else (interval.lower, interval.upper)


def _padded(values: Sequence[float], length: int) -> list[Cell]:
    return [*values, *[None] * (length - len(values))]


def _written(lines: Iterable[Iterable[Cell]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerows([_safe(cell) if isinstance(cell, str) else cell for cell in line] for line in lines)
    return text.getvalue()


def _safe(text: str) -> str:
    """Text that no spreadsheet runs."""
    text = plain(text)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
