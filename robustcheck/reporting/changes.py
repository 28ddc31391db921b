"""What changed between two reports: every accuracy that both hold, significantly or not, and what their studies differ in.

A difference is the second report's accuracy less the first's. Its interval, by the bounds of
`robustcheck.analysis.bounds`, is at 95 % for all comparisons at once: each side of each is bounded at
0.05 / (2 m), with m their number (Bonferroni; Dunn 1961, doi 10.1080/01621459.1961.10482090). So where nothing changed,
some difference is called better or worse in at most one pair of reports in twenty. Networks that are the same in both,
cell by cell and outcome by outcome, are unchanged: they differ by exactly 0, and take no part of the error rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from robustcheck.errors import ReportError
from robustcheck.reporting.axis import axis_of, ordered
from robustcheck.reporting.outcomes import (
    Contestant,
    Estimate,
    Measure,
    Outcomes,
    area_weights,
    difference,
    point_weights,
)
from robustcheck.reporting.report import Comparison, Report, Result, SensorSummary
from robustcheck.reporting.tables import row_of
from robustcheck.study.differences import differences

ALPHA = 0.05
_SAME = 1e-6
_HASH_DIGITS = 12
_OF_DATA = ("spec", "sha256", "classes", "shape", "counts", "split_seed", "fixed_test", "preprocessing")
_OF_MODEL = ("spec", "sha256", "parameters", "weights", "input", "activation")
_NOT_OF_SENSOR = {"key", "name", "title", "assumed", "numbers", "operating_points"}

Mark = Literal["better", "worse", "within noise", "unchanged", "no interval"]
"""`no interval`: a report lacks the predictions that would give one."""


@dataclass(frozen=True)
class Change:
    """One accuracy in both reports.

    Attributes:
        model: key in the first report.
        sensor: key of the sensor.
        activation: canonical spec, or `as is`.
        point: label of the operating point; `area` for the mean over the curve.
        before: accuracy in the first report, 0 to 1.
        after: in the second.
        difference: `after` less `before`.
        lower: of an interval that holds for all differences at once; None where there is none.
        upper: of it.
        mark: `better` and `worse` where the interval is above or below 0.
    """

    model: str
    sensor: str
    activation: str
    point: str
    before: float
    after: float
    difference: float
    lower: float | None
    upper: float | None
    mark: Mark


@dataclass(frozen=True)
class Changes:
    """Two reports, compared.

    Attributes:
        before: title of the first.
        after: title of the second.
        changes: in the first report's order, the mildest operating point first.
        comparisons: differences with intervals, which share the error rate.
        only_before: what the first report alone holds, in words.
        only_after: what the second alone holds.
        studies: what differs between the studies, a line a field: `field: first → second`.
    """

    before: str
    after: str
    changes: tuple[Change, ...]
    comparisons: int
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    studies: tuple[str, ...]

    def count(self, mark: Mark) -> int:
        """How many changes have this mark."""
        return sum(each.mark == mark for each in self.changes)


@dataclass(frozen=True)
class _Pair:
    """An accuracy in both reports, before its interval: None stands for no difference at all."""

    before: Measure
    after: Measure
    point: str
    accuracies: tuple[float, float]
    estimate: Estimate | Literal["missing"] | None


def compare_reports(before: Report, after: Report) -> Changes:
    """Compare two reports, accuracy by accuracy.

    Models are known by their keys, a sole model in each by being that; sensors by their keys; operating points by what
    was asked for. Areas are compared where they are over the same operating points.

    Raises:
        ReportError: a report contradicts itself: its predictions do not bear out its accuracies.
    """
    pairs = list(_pairs(before, after))
    comparisons = sum(isinstance(each.estimate, Estimate) for each in pairs)
    matched = _matched(before, after)
    return Changes(
        before=before.title,
        after=after.title,
        changes=tuple(_change(each, comparisons) for each in pairs),
        comparisons=comparisons,
        only_before=tuple(_only(before, after, [(one, other) for one, other in matched])),
        only_after=tuple(_only(after, before, [(other, one) for one, other in matched])),
        studies=tuple(_studies(before, after, matched)),
    )


def _matched(before: Report, after: Report) -> list[tuple[Result, Result]]:
    """The results of one model on one sensor that both reports hold."""
    sole = len(before.models) == len(after.models) == 1
    return [
        (one, other)
        for one in before.results
        for other in after.results
        if (sole or one.model == other.model) and one.sensor.key == other.sensor.key
    ]


def _pairs(before: Report, after: Report) -> Iterator[_Pair]:
    first, second = Outcomes(before), Outcomes(after)
    for one, other in _matched(before, after):
        for activation in (each.spec for each in before.activations):
            mine, theirs = (
                Measure(first, Contestant(one, activation), {}),
                Measure(second, Contestant(other, activation), {}),
            )
            for (label, comparison, weights), (_, compared, weighed) in _places(one, other):
                row, twin = row_of(comparison, activation), row_of(compared, activation)
                if row is not None and twin is not None:
                    yield _paired(
                        Measure(first, mine.contestant, weights),
                        Measure(second, theirs.contestant, weighed),
                        label,
                        (row.accuracy, twin.accuracy),
                    )


def _paired(before: Measure, after: Measure, point: str, accuracies: tuple[float, float]) -> _Pair:
    whole = all(each.outcomes.complete(each.contestant) for each in (before, after))
    estimate = difference(after, before) if whole else "missing"
    value = 0.0 if estimate is None else accuracies[1] - accuracies[0] if estimate == "missing" else estimate.value
    if abs(value - (accuracies[1] - accuracies[0])) > _SAME:
        raise ReportError(
            f"report: expected accuracies that differ by {value:.6g} at {point}, as their predictions have it, for "
            f"{before.contestant.activation}, got {accuracies[0]} and {accuracies[1]}; make the reports again"
        )
    return _Pair(before, after, point, accuracies, estimate)
