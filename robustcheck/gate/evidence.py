"""What a report says about one check on one contestant: where it is measured, and whether the report bears it out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from robustcheck.errors import ReportError
from robustcheck.gate.checks import Check, Place
from robustcheck.reporting.axis import is_noisy
from robustcheck.reporting.outcomes import Contestant, Outcomes, Weights, area_weights, point_weights
from robustcheck.reporting.report import Comparison, OperatingPoint, PointResult

_SAME = 1e-6
_SAME_POINT = 1e-9
_AS_SHOWN = 1e-3
"""Tables show with four digits what an illuminance is as an exposure, and checks are copied from them."""


@dataclass(frozen=True)
class Evidence(Outcomes):
    """A report's outcomes, found by what a check asks for.

    Accuracies that the predictions do not bear out are a ReportError.
    """

    def point(self, contestant: Contestant, place: Place) -> PointResult | None:
        """What the report says at an operating point; None where it says nothing."""
        found = [each for each in contestant.result.points if _is_at(each.point, place)]
        if place.value is None:
            return next(iter(found), None)
        value = place.value
        return min(found, key=lambda each: abs(_on_axis(each.point, place) - value), default=None)

    def concerned(self, contestants: Sequence[Contestant], place: Place | None) -> list[Contestant]:
        """Those whose sensor was read on the axis that a check names; all of them where none was."""
        on_it = [
            each
            for each in contestants
            if place is not None and any(_is_on_axis(point.point, place) for point in each.result.points)
        ]
        return on_it or list(contestants)

    def weights(self, contestant: Contestant, check: Check) -> Weights | None:
        """The operating points that a check is measured from; None where one is missing.

        Of a regression: those of the accuracy that may have become worse.
        """
        assert check.place is not None
        if check.place.kind == "area":
            weights = area_weights(contestant.result)
        else:
            point = self.point(contestant, check.place)
            weights = None if point is None else point_weights(point.point)
        if weights is None or check.rule != "drop":
            return weights
        return {"clean": (1.0, False), **{name: (-weight, noisy) for name, (weight, noisy) in weights.items()}}

    def check_accuracy(self, contestant: Contestant, check: Check, value: float) -> None:
        """ReportError unless a measured accuracy is the one that the report states."""
        where: Comparison | None = contestant.result.area
        if check.rule == "accuracy" and check.place is not None:
            point = self.point(contestant, check.place)
            where = None if point is None else point.comparison
        rows = () if where is None else where.rows
        stated = next((row.accuracy for row in rows if row.activation == contestant.activation), None)
        if stated is None or abs(stated - value) > _SAME:
            raise ReportError(
                f"report: expected an accuracy of {value:.6g}, as its predictions have it, for {contestant.activation} "
                f"in {contestant.result.model}, got {stated}; make the report again"
            )


def _is_on_axis(point: OperatingPoint, place: Place) -> bool:
    """Whether a point was asked for on a place's axis: light is one axis, as an exposure or an illuminance."""
    light = ("exposure", "lux")
    return point.kind == place.kind or (point.kind in light and place.kind in light)


def _on_axis(point: OperatingPoint, place: Place) -> float:
    """Where a point is, in the unit of a place on its axis; NaN where the report does not say."""
    value = {"lux": point.lux, "exposure": point.exposure}.get(place.kind, point.asked)
    return math.nan if value is None else value


def _is_at(point: OperatingPoint, place: Place) -> bool:
    if place.value is None or not is_noisy(point) or not _is_on_axis(point, place):
        return place.value is None and point.kind == place.kind
    tolerance = _SAME_POINT if point.kind == place.kind else _AS_SHOWN
    return math.isclose(_on_axis(point, place), place.value, rel_tol=tolerance)
