"""What charts are drawn from: plain records, ranges and ticks of axes, places of labels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from robustcheck.reporting.axis import asked_in, axis_of, noisy_points, trained_at
from robustcheck.reporting.point_axis import Lines, PointAxis, Record
from robustcheck.reporting.report import Report, Result
from robustcheck.reporting.verdict import difference_from
from robustcheck.reporting.wording import plain

_ZOOM = 0.35
_MOST_POINTS = 3000


def accuracy_records(lines: Lines, labels: Mapping[str, str], axis: PointAxis) -> list[Record]:
    """One record a point of a line; accuracies in percent, intervals over networks or else over samples."""
    records: list[Record] = []
    for index, (name, found) in enumerate(lines.items()):
        # Clean accuracies of good networks nearly coincide, so their points stand side by side.
        aside = (index - (len(lines) - 1) / 2) * 0.55 / max(len(lines) - 1, 3)
        for each, row in found:
            band, value = row.networks or row.samples, axis.axis.value(each.point)
            x = axis.moved(axis.still[each.point.kind], aside) if value is None else axis.moved(value, 0)
            records.append(
                {
                    "series": plain(labels[name]),
                    "x": x,
                    "noisy": value is not None,
                    "accuracy": in_percent(row.accuracy),
                    "lower": in_percent(max(0.0, band.lower if band else row.accuracy)),
                    "upper": in_percent(min(1.0, band.upper if band else row.accuracy)),
                }
            )
    return records


def difference_records(report: Report, result: Result, current: str) -> dict[str, list[Record]]:
    """By activation, its difference from the current one at each operating point, in points and rising order."""
    found: dict[str, list[Record]] = {}
    points = sorted(noisy_points(result), key=lambda item: item[0])
    for each, (value, point) in itertools.product(report.activations, points):
        pair = difference_from(point.comparison, each.spec, current)
        if pair is not None:
            record: Record = {
                "series": plain(each.spec),
                "at": f"{value:.3g}" if axis_of(result).log else f"{value:g}",
                "difference": in_percent(pair.difference),
                "lower": in_percent(pair.lower),
                "upper": in_percent(pair.upper),
                "significant": pair.significant,
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
                    "trained": plain(cell.train_ep if at_ep else trained_at(cell.train_ep)),
                    "network": network,
                    "epoch": epoch + 1,
                    "accuracy": in_percent(cell.validation_curve[epoch]),
                    "converged": cell.converged,
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
    ordered = sorted(ends, key=lambda name: ends[name])
    placed = apart([ends[name] for name in ordered], gap, domain)
    return [
        {"series": name, "end": ends[name], "label": round(at, 3)} for name, at in zip(ordered, placed, strict=True)
    ]


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
