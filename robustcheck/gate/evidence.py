"""What a report says about one check on one contestant: where it is measured, and whether the report bears it out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from robustcheck.errors import ReportError
from robustcheck.gate.checks import Check, Place
from robustcheck.reporting.axis import is_noisy
from robustcheck.reporting.outcomes import Contestant, Outcomes, Weights, area_weights, point_weights
from robustcheck.reporting.report import Comparison, OperatingPoint, PointResult

_SAME = 1e-6


@dataclass(frozen=True)
class Evidence(Outcomes):
    """A report's outcomes, found by what a check asks for.

    Accuracies that the predictions do not bear out are a ReportError.
    """

    def point(self, contestant: Contestant, place: Place) -> PointResult | None:
        """What the report says at an operating point; None where it says nothing."""
        found = (each for each in contestant.result.points if _is_at(each.point, place))
        return next(found, None)

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


def _is_at(point: OperatingPoint, place: Place) -> bool:
    if place.value is None:
        return point.kind == place.kind
    value = point.lux if place.kind == "lux" else point.asked if point.kind == place.kind else None
    return is_noisy(point) and value is not None and math.isclose(value, place.value, rel_tol=1e-9)
