"""Bars of accuracy in character cells: full to the lower end of an interval, shaded to its upper end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from robustcheck.reporting.chart_data import accuracy_range
from robustcheck.reporting.point_axis import Record
from robustcheck.reporting.record import Interval
from robustcheck.reporting.report import Row

BLOCKS, ASCII = ("█", "▒"), ("#", "-")
"""What is full and what is shaded: as block characters, and in every encoding."""
_LEAST_SPAN = 5.0


@dataclass(frozen=True)
class Scale:
    """What bars are drawn to: accuracies at their left and right ends, as fractions, and their signs.

    Attributes:
        low: at the left end.
        high: at the right end.
        width: between them [character cells].
        signs: `BLOCKS` or `ASCII`.
    """

    low: float
    high: float
    width: int
    signs: tuple[str, str] = BLOCKS

    def bar(self, row: Row) -> str:
        """The accuracy of a row as so many cells, with its interval; without one it is full up to the accuracy.

        An interval has one shaded cell at least.

        >>> interval = Interval(lower=0.5, upper=0.75)
        >>> row = Row(
        ...     activation="relu", accuracy=0.6, networks=interval, samples=None, per_seed=(0.6,), rank=1, converged=1
        ... )
        >>> Scale(low=0, high=1, width=8, signs=ASCII).bar(row)
        '####--  '
        """
        interval = band(row)
        full, shaded = self.signs
        if interval is None:
            return (full * self._cells(row.accuracy)).ljust(self.width)
        start = min(self._cells(interval.lower), self.width - 1)
        end = max(self._cells(interval.upper), start + 1)
        return (full * start + shaded * (end - start)).ljust(self.width)

    def _cells(self, accuracy: float) -> int:
        share = (accuracy - self.low) / (self.high - self.low)
        return round(self.width * min(max(share, 0.0), 1.0))


def scale_of(rows: Iterable[Row], chance: float, width: int, signs: tuple[str, str]) -> Scale | None:
    """The scale that holds the intervals of all rows: down to 0 where they come near chance; None without rows."""
    found = [(row.accuracy, band(row)) for row in rows]
    if not found:
        return None
    lowest = min(accuracy if interval is None else interval.lower for accuracy, interval in found)
    highest = max(accuracy if interval is None else interval.upper for accuracy, interval in found)
    ends: Record = {"lower": 100 * lowest, "upper": 100 * highest}
    low, high = accuracy_range([ends], chance)
    return Scale(low / 100, max(high, low + _LEAST_SPAN) / 100, width, signs)


def band(row: Row) -> Interval | None:
    """The interval over trained networks; of one network, that over test samples and draws."""
    return row.networks or row.samples
