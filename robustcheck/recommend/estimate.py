"""What the chosen activation gains on the test split, estimated once it has been chosen."""

from __future__ import annotations

import numpy as np

from robustcheck.analysis.ranking import rank
from robustcheck.recommend.document import Gain
from robustcheck.reporting.axis import axis_of, ordered
from robustcheck.reporting.report import Comparison, Report


def gains(report: Report, chosen: str, current: str) -> tuple[Gain, ...]:
    """The difference from the model's own activation at each operating point, and over the area.

    The pair was chosen before the test split was looked at, so that each interval is that of one paired t-test over the
    seeds (`ranking.rank` of two), and none is corrected for the others.

    Args:
        report: of one model behind one sensor, with both activations.
        chosen: canonical spec.
        current: of the model's own.
    """
    (result,) = report.results
    axis = axis_of(result)
    samples = report.data.counts["test"]
    found = [(axis.label(each.point), each.comparison) for each in ordered(result)]
    if result.area is not None:
        found.append(("area", result.area))
    return tuple(_gain(point, comparison, chosen, current, samples) for point, comparison in found)


def _gain(point: str, comparison: Comparison, chosen: str, current: str, samples: int) -> Gain:
    by_seed = {row.activation: row.per_seed for row in comparison.rows}
    ranking = rank(np.array([by_seed[chosen], by_seed[current]]).T, [chosen, current], samples=samples)
    (pair,) = ranking.pairs
    return Gain(
        point=point,
        current=ranking.mean[1],
        chosen=ranking.mean[0],
        difference=pair.difference,
        lower=pair.lower,
        upper=pair.upper,
    )
