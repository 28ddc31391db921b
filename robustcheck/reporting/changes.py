"""What changed between two reports: each accuracy that both hold, and what their studies differ in.

A difference is the second report's accuracy less the first's. Its interval, by the bounds of
`robustcheck.analysis.bounds`, is at 95 % for all comparisons at once: each side of each is bounded at
0.05 / (2 m), with m their number (Bonferroni; Dunn 1961, doi 10.1080/01621459.1961.10482090). So where nothing changed,
some difference is called better or worse in at most one pair of reports in twenty. Networks that are the same in both,
with the same outcomes sample by sample, are unchanged: they differ by exactly 0, and take no part of the error rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from robustcheck.errors import ReportError
from robustcheck.reporting.axis import axis_of, noisy_points, ordered
from robustcheck.reporting.outcomes import (
    Contestant,
    Estimate,
    Measure,
    Outcomes,
    Weights,
    area_weights,
    difference,
    point_weights,
)
from robustcheck.reporting.report import Comparison, Report, Result, SensorSummary
from robustcheck.reporting.tables import row_of
from robustcheck.reporting.wording import listed, sensor_name
from robustcheck.study.differences import differences

ALPHA = 0.05
_SAME = 1e-6
_HASH_DIGITS = 12
_MOST_LISTED = 12
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
class _Place:
    """Where both reports may have accuracies: an operating point, or the area over several."""

    label: str
    comparison: Comparison
    weights: Weights


@dataclass(frozen=True)
class _Pair:
    """An accuracy in both reports, before its interval is known.

    Attributes:
        change: without interval and mark.
        whole: whether both reports hold the predictions behind it.
        estimate: of the difference; None where there is no difference at all.
    """

    change: Change
    whole: bool
    estimate: Estimate | None


def compare_reports(before: Report, after: Report) -> Changes:
    """Compare two reports, accuracy by accuracy.

    Models are known by their keys, a sole model in each by being that; sensors by their keys; operating points by what
    was asked for. Areas are compared where they are over the same operating points.

    Raises:
        ReportError: a report contradicts itself: its predictions do not bear out its accuracies.

    >>> from robustcheck.content import shelf
    >>> report = Report.load(shelf("reports") / "lidar-vlp16" / "report.json")
    >>> changes = compare_reports(report, report)
    >>> len(changes.changes) == changes.count("unchanged"), changes.comparisons
    (True, 0)
    """
    matched = _matched(before, after)
    first, second = Outcomes(before), Outcomes(after)
    pairs = [pair for one, other in matched for pair in _pairs(first, second, one, other)]
    comparisons = sum(pair.estimate is not None for pair in pairs)
    return Changes(
        before=before.title,
        after=after.title,
        changes=tuple(_judged(pair, comparisons) for pair in pairs),
        comparisons=comparisons,
        only_before=tuple(_only(before, after, matched)),
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


def _places(result: Result) -> dict[Any, _Place]:
    """By what was asked for; an area by the operating points that it is over."""
    axis = axis_of(result)
    found: dict[Any, _Place] = {
        (each.point.kind, each.point.asked): _Place(axis.label(each.point), each.comparison, point_weights(each.point))
        for each in ordered(result)
    }
    weights = area_weights(result)
    if result.area is not None and weights is not None:
        over = ((each.point.kind, each.point.asked) for _, each in noisy_points(result))
        found["area", *over] = _Place("area", result.area, weights)
    return found


def _pairs(first: Outcomes, second: Outcomes, one: Result, other: Result) -> Iterator[_Pair]:
    here, there = _places(one), _places(other)
    for activation in (each.spec for each in first.report.activations):
        mine, theirs = Contestant(one, activation), Contestant(other, activation)
        whole = first.complete(mine) and second.complete(theirs)
        for place, twin in ((here[key], there[key]) for key in here if key in there):
            row, compared = row_of(place.comparison, activation), row_of(twin.comparison, activation)
            if row is None or compared is None:
                continue
            now, then = Measure(second, theirs, twin.weights), Measure(first, mine, place.weights)
            estimate = difference(now, then) if whole else None
            gain, measured = compared.accuracy - row.accuracy, 0.0 if estimate is None else estimate.value
            if whole and abs(measured - gain) > _SAME:
                raise ReportError(
                    f"report: expected accuracies of {activation} at {place.label} that differ by {measured:.6g}, as "
                    f"their predictions have it, got {row.accuracy} and {compared.accuracy}; make the reports again"
                )
            change = Change(
                one.model, one.sensor.key, activation, place.label, row.accuracy, compared.accuracy, gain,
                None, None, "no interval",
            )  # fmt: skip
            yield _Pair(change, whole, estimate)


def _judged(pair: _Pair, comparisons: int) -> Change:
    if not pair.whole:
        return pair.change
    if pair.estimate is None:
        return replace(pair.change, difference=0.0, lower=0.0, upper=0.0, mark="unchanged")
    alpha = ALPHA / 2 / comparisons
    lower = max(-1.0, pair.change.difference - pair.estimate.margin("below", alpha, skewed=False).total)
    upper = min(1.0, pair.change.difference + pair.estimate.margin("above", alpha, skewed=False).total)
    mark: Mark = "better" if lower > 0 else "worse" if upper < 0 else "within noise"
    return replace(pair.change, lower=lower, upper=upper, mark=mark)


def _only(report: Report, other: Report, matched: list[tuple[Result, Result]]) -> Iterator[str]:
    """What the first of two reports alone holds."""
    twins = [one for one, _ in matched]
    for result in report.results:
        if result not in twins:
            yield f"{result.model} on {sensor_name(result.sensor)}"
    others = {each.spec for each in other.activations}
    shared = [each.spec for each in report.activations if each.spec in others]
    yield from (f"activation {each.spec}" for each in report.activations if each.spec not in others)
    for one, twin in matched:
        here, there = _places(one), _places(twin)
        where = f"{one.model} on {sensor_name(one.sensor)}"
        if lacking := [place.label for key, place in here.items() if key not in there]:
            yield f"{listed(lacking, most=_MOST_LISTED)} of {where}"
        for place, compared in ((here[key], there[key]) for key in here if key in there):
            for name in shared:
                if row_of(place.comparison, name) is not None and row_of(compared.comparison, name) is None:
                    yield f"{name} at {place.label} of {where}"


def _studies(before: Report, after: Report, matched: list[tuple[Result, Result]]) -> Iterator[str]:
    """What differs between the studies, as far as it decides numbers."""
    yield from differences(_study(before), _study(after))
    models = {one.model: other.model for one, other in matched}
    for here, there in models.items():
        yield from differences(_model(before, here), _model(after, there), f"model {here}")
    sensors = {one.sensor.key: (one.sensor, other.sensor) for one, other in matched}
    for key, (mine, theirs) in sensors.items():
        yield from differences(_sensor(mine), _sensor(theirs), f"sensor {key}")


def _study(report: Report) -> dict[str, Any]:
    data = report.data.model_dump(mode="json", include=set(_OF_DATA))
    return {
        "kind": report.kind,
        "data": data | {"sha256": report.data.sha256[:_HASH_DIGITS]},
        "seeds": report.seeds,
        "draws": report.draws,
        "precision": report.precision,
        "policy": report.policy,
        "numerics": report.numerics,
        "versions": _versions(report),
    }


def _versions(report: Report) -> list[dict[str, str]]:
    """What made the cells; provenance is free in form, and a report may come from anywhere."""
    cells = report.provenance.get("cells")
    found = [each for each in cells if isinstance(each, dict)] if isinstance(cells, list) else []
    texts = ({name: value for name, value in each.items() if isinstance(value, str)} for each in found)
    return [each for each in texts if each]


def _model(report: Report, key: str) -> dict[str, Any]:
    for each in report.models:
        if each.key == key:
            found = each.model_dump(mode="json", include=set(_OF_MODEL))
            return found | {"sha256": each.sha256[:_HASH_DIGITS]}
    return {}


def _sensor(sensor: SensorSummary) -> dict[str, Any]:
    found = sensor.model_dump(mode="json", exclude=_NOT_OF_SENSOR)
    numbers = {each.name: each.value for each in sensor.numbers}
    return found | {"profile_sha256": sensor.profile_sha256[:_HASH_DIGITS], "numbers": numbers}
