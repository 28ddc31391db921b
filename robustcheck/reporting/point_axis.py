"""The axis of a chart that holds a result's operating points: its ends, its ticks, and what is marked on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from robustcheck.reporting.axis import Axis
from robustcheck.reporting.report import OperatingPoint, PointResult, Row, SensorSummary
from robustcheck.reporting.wording import number, plain, telling_digits

Record = dict[str, float | str | bool | None]
Lines = Mapping[str, Sequence[tuple[PointResult, Row]]]

_MOST_TICKS = 9
_MOST_DOUBLE_TICKS = {True: 8, False: 4}
_SPACE = {True: 0.13, False: 0.27}
_LETTER = 5.8
_LEAST_WIDTH = 1e-3


@dataclass(frozen=True)
class PointAxis:
    """An axis of operating points with places for `clean` and `quantised only` beside the mildest.

    Attributes:
        axis: what it is an axis of.
        low: its left end.
        high: its right end.
        step: distance between `clean` and `quantised only`; in decades where the axis is logarithmic.
        still: where those two stand.
        values: the operating points with noise, rising.
        eps: error probability at each value of another axis; empty where the sensors on it differ.
    """

    axis: Axis
    low: float
    high: float
    step: float
    still: dict[str, float]
    values: tuple[float, ...]
    eps: dict[float, float]

    @classmethod
    def of(cls, lines: Lines, axis: Axis, wide: bool) -> PointAxis | None:
        """The axis that holds every operating point; None where there is none."""
        met = [each.point for found in lines.values() for each, _ in found]
        if not met:
            return None
        values = sorted({value for point in met if (value := axis.value(point)) is not None})
        kinds = [kind for kind in ("clean", "quantised") if any(point.kind == kind for point in met)]
        places = [_place(value, axis) for value in values] or [0.0]
        first, last = places[0], places[-1]
        width = last - first
        step = (width if width > _LEAST_WIDTH else 0.5) * _SPACE[wide]
        mildest, away = (first, -step) if axis.harm_rises else (last, step)
        still = {kind: mildest + away * (len(kinds) - index) for index, kind in enumerate(kinds)}
        ends = [first, last, *still.values()]
        # Room beyond the mildest end, and beyond the other one too where a single point would stand on it.
        room = [step * 0.45, step * 0.45 if width <= _LEAST_WIDTH else 0.0]
        left, right = room if axis.harm_rises else reversed(room)
        low, high = _value(min(ends) - left, axis), _value(max(ends) + right, axis)
        at = {kind: _value(place, axis) for kind, place in still.items()}
        return cls(axis, low, high, step, at, tuple(values), _eps(met, axis))

    def moved(self, value: float, steps: float) -> float:
        """A place some steps to the right of a value, short enough for a page."""
        place = _place(value, self.axis) + steps * self.step
        return _value(place, self.axis) if self.axis.log else round(place, 6)

    def ticks(self, wide: bool) -> list[float]:
        """Where labels stand."""
        most = _MOST_DOUBLE_TICKS[wide] if self.eps else _MOST_TICKS
        return [*self.still.values(), *self.values[:: math.ceil(len(self.values) / most) or 1]]

    def label_expression(self, wide: bool) -> str:
        """The Vega expression that turns a tick into its label: the value, and in a second line the EP there."""
        words = {"clean": "'clean'", "quantised": "['quantised', 'only']" if wide else "'quant.'"}
        labels = {at: words[kind] for kind, at in self.still.items()}
        digits = telling_digits(self.values, 2)
        if self.eps:
            labels |= {value: f"['{number(value, digits)}', 'EP {ep:.3g}']" for value, ep in self.eps.items()}
        elif self.axis.log:
            labels |= {value: f"'{number(value, digits)}'" for value in self.values}
        tests = "".join(f"datum.value == {at!r} ? {label} : " for at, label in labels.items())
        return tests + "format(datum.value, '~g')"

    def named(self, sensors: Sequence[SensorSummary]) -> list[Record]:
        """The operating points that profiles name and that lie between those tested, rising.

        Fields: `at`, `name`, and `sensor`, the index of the one that names it, or None where all of them do.
        """
        if self.axis.name not in ("exposure", "lux", "signal"):
            return []
        owners: dict[tuple[float, str], list[int]] = {}
        for index, sensor in enumerate(sensors):
            for each in sensor.operating_points:
                value = each.lux if self.axis.name == "lux" else each.value
                if value is not None and self.values and self.values[0] <= value <= self.values[-1]:
                    owners.setdefault((value, plain(each.name)), []).append(index)
        return [
            {"at": value, "name": name, "sensor": None if len(who) == len(sensors) else who[0]}
            for (value, name), who in sorted(owners.items())
        ]

    def in_rows(self, records: Sequence[Record], width: float) -> list[Record]:
        """Names that begin at their places above the axis, each with the lowest `row` where it does not run into one
        to its right: so no line up to a name crosses another name.

        Args:
            records: what `named` gives.
            width: of the axis [pixels].
        """
        low, high = _place(self.low, self.axis), _place(self.high, self.axis)
        starts: list[float] = []
        placed: list[Record] = []
        for record in reversed(records):
            start = width * (_place(float(record["at"] or self.low), self.axis) - low) / (high - low)
            end = start + _LETTER * (len(str(record["name"])) + 1)
            row = next((row for row, taken in enumerate(starts) if end <= taken), len(starts))
            starts[row : row + 1] = [start]
            placed.append({**record, "row": row})
        return placed


def _place(value: float, axis: Axis) -> float:
    return math.log10(value) if axis.log else value


def _value(place: float, axis: Axis) -> float:
    return float(f"{10**place:.6g}") if axis.log else place


def _eps(points: Iterable[OperatingPoint], axis: Axis) -> dict[float, float]:
    """The EP at each value of another axis, if there is exactly one everywhere."""
    found: dict[float, set[float | None]] = {}
    for point in points:
        if axis.name != "ep" and (value := axis.value(point)) is not None:
            found.setdefault(value, set()).add(point.ep)
    alone = {value: ep for value, eps in found.items() for ep in eps if ep is not None and len(eps) == 1}
    return alone if len(alone) == len(found) else {}
