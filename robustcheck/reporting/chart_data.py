"""What charts are drawn from: plain records, ranges and ticks of axes, places of labels."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

from robustcheck.reporting.axis import asked_in, axis_of, noisy_points, trained_at
from robustcheck.reporting.marks import marked
from robustcheck.reporting.point_axis import Lines, PointAxis, Record
from robustcheck.reporting.report import Report, Result
from robustcheck.reporting.verdict import difference_from
from robustcheck.reporting.wording import number, percent, plain, span, telling_digits
from robustcheck.reporting.wording import points as signed

_ZOOM = 0.35
_MOST_POINTS = 3000


def series_numbers(report: Report) -> dict[str, int]:
    """What a page shows and hides by name, with its number: activations, or the sensors of an audit."""
    if report.kind == "audit":
        names = dict.fromkeys(result.sensor.key for result in report.results)
    else:
        names = dict.fromkeys(each.spec for each in report.activations)
    return {name: index for index, name in enumerate(names)}


def point_numbers(report: Report) -> dict[str, int]:
    """The operating points with noise of all results by what was asked for, each with its number."""
    found = dict.fromkeys(
        each.point.written(axis_of(result).digits) for result in report.results for _, each in noisy_points(result)
    )
    return {label: index for index, label in enumerate(found)}


def accuracy_records(report: Report, lines: Lines, labels: Mapping[str, str], axis: PointAxis) -> list[Record]:
    """One record a point of a line; accuracies in percent, intervals over networks or else over samples."""
    records: list[Record] = []
    series, points = series_numbers(report), point_numbers(report)
    for index, (name, found) in enumerate(lines.items()):
        # Clean accuracies of good networks nearly coincide, so their points stand side by side.
        aside = (index - (len(lines) - 1) / 2) * 0.55 / max(len(lines) - 1, 3)
        for each, row in found:
            band, value = row.networks or row.samples, axis.axis.value(each.point)
            label = axis.axis.label(each.point)
            told = f"{plain(labels[name])} at {label}: {percent(row.accuracy)} % ({span(band)})"
            x = axis.moved(axis.still[each.point.kind], aside) if value is None else axis.moved(value, 0)
            records.append(
                {
                    "series": plain(labels[name]),
                    "x": x,
                    "noisy": value is not None,
                    "accuracy": in_percent(row.accuracy),
                    "lower": in_percent(max(0.0, band.lower if band else row.accuracy)),
                    "upper": in_percent(min(1.0, band.upper if band else row.accuracy)),
                    "line": marked(series[name]),
                    "mark": marked(series[name], points.get(each.point.written(axis.axis.digits)), told),
                }
            )
    return records


def difference_records(report: Report, result: Result, current: str) -> dict[str, list[Record]]:
    """By activation, its difference from the current one at each operating point, in points and rising order."""
    found: dict[str, list[Record]] = {}
    numbers, places = series_numbers(report), point_numbers(report)
    points = sorted(noisy_points(result), key=lambda item: item[0])
    digits = telling_digits((value for value, _ in points), 3 if axis_of(result).log else 6)
    for each, (value, point) in itertools.product(report.activations, points):
        pair = difference_from(point.comparison, each.spec, current)
        if pair is not None:
            record: Record = {
                "series": plain(each.spec),
                "at": number(value, digits),
                "difference": in_percent(pair.difference),
                "lower": in_percent(pair.lower),
                "upper": in_percent(pair.upper),
                "significant": pair.significant,
                "mark": marked(
                    numbers[each.spec],
                    places.get(point.point.written(axis_of(result).digits)),
                    f"{plain(each.spec)} minus {plain(current)} at {axis_of(result).label(point.point)}: "
                    f"{signed(pair.difference)} points ({signed(pair.lower)} to {signed(pair.upper)})",
                ),
            }
            found.setdefault(each.spec, []).append(record)
    return found


def training_records(report: Report, result: Result) -> dict[str, list[Record]]:
    """By activation, the validation curves of its networks; long curves are thinned, their last epoch kept."""
    cells = [
        cell
        for cell in report.training
        if (cell.model, cell.sensor) == (result.model, result.sensor.key) and cell.validation_curve
    ]
    at_ep = asked_in(report) == "EP"
    kept = max(2, _MOST_POINTS // max(len(cells), 1))
    found: dict[str, list[Record]] = {}
    for each, (network, cell) in itertools.product(report.activations, enumerate(cells)):
        if cell.activation == each.spec:
            found.setdefault(each.spec, []).extend(
                {
                    "series": plain(each.spec),
                    "trained": plain(cell.train_ep if at_ep else trained_at(report, cell.sensor, cell.train_ep)),
                    "network": network,
                    "epoch": epoch + 1,
                    "accuracy": in_percent(cell.validation_curve[epoch]),
                    "converged": cell.converged,
                    "mark": marked(series_numbers(report)[each.spec]),
                }
                for epoch in thinned(len(cell.validation_curve), kept)
            )
    return found


def end_labels(records: Sequence[Record], gap: float, domain: tuple[float, float]) -> list[Record]:
    """Where the name of each line stands at its right end, pushed apart where names would overlap."""
    ends = {
        str(each["series"]): float(each["accuracy"] or 0)
        for each in sorted(records, key=lambda record: float(record["x"] or 0))
    }
    lines = {str(each["series"]): each["line"] for each in records}
    ordered = sorted(ends, key=lambda name: ends[name])
    placed = apart([ends[name] for name in ordered], gap, domain)
    return [
        {"series": name, "end": ends[name], "label": round(at, 3), "line": lines[name]}
        for name, at in zip(ordered, placed, strict=True)
    ]


def in_lines(name: str, width: int) -> list[str]:
    """A name in lines of at most `width` characters, broken behind slashes, commas and spaces where it can be.

    >>> in_lines("camera-imx477/4 bits/read_noise_e=25", 26)
    ['camera-imx477/4 bits/', 'read_noise_e=25']
    """
    lines = [""]
    for piece in re.findall(rf"[^/, ]{{1,{width - 1}}}[/, ]?|[/, ]", name):
        if len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def apart(values: Sequence[float], gap: float, domain: tuple[float, float]) -> list[float]:
    """Ascending values moved as little as need be until neighbours are a gap apart, by pooling those that collide.

    >>> apart([50.0, 50.0, 90.0], 4.0, (0.0, 100.0))
    [48.0, 52.0, 90.0]
    """
    pools: list[tuple[float, int]] = []
    for value in values:
        centre, size = value, 1
        while pools and centre - pools[-1][0] < gap * (size + pools[-1][1]) / 2:
            other, count = pools.pop()
            centre, size = (centre * size + other * count) / (size + count), size + count
            centre = min(max(centre, domain[0] + gap * (size - 1) / 2), domain[1] - gap * (size - 1) / 2)
        pools.append((centre, size))
    return [centre + gap * (index - (size - 1) / 2) for centre, size in pools for index in range(size)]


def near_chance(records: Sequence[Record], field: str, chance: float) -> bool:
    """Whether percentages come so near chance that the axis should reach down to it."""
    return min(float(each[field] or 0) for each in records) - 100 * chance < 100 * _ZOOM


def accuracy_range(records: Sequence[Record], chance: float) -> tuple[float, float]:
    """Bottom and top of the axis in percent: down to chance where the data come near it, else close to the data."""
    lowest = min(float(each["lower"] or 0) for each in records)
    highest = max(float(each["upper"] or 0) for each in records)
    if near_chance(records, "lower", chance):
        return 0.0, min(100.0, math.ceil(highest / 10) * 10.0)
    return math.floor(lowest / 5) * 5.0, min(100.0, math.ceil(highest / 5) * 5.0)


def thinned(length: int, kept: int) -> list[int]:
    """At most about `kept` of the indices below `length`, the last one among them.

    >>> thinned(10, 4)
    [0, 3, 6, 9]
    """
    stride = max(1, math.ceil(length / kept))
    return sorted({*range(0, length, stride), length - 1})


def in_percent(fraction: float) -> float:
    """A fraction in percent, short enough for a page."""
    return round(100 * fraction, 3)


def rounded(value: float) -> float | None:
    """A coordinate, or None where nothing can be drawn."""
    return round(value, 6) if math.isfinite(value) else None
